"""What a route is asked for beside its body, for OpenAPI: in its path, its query, its headers. Pure."""

import re
from datetime import datetime
from typing import Any

import msgspec

from handlers.calls import FIRST_YEAR, LAST_YEAR, LONGEST_NUMBER, LONGEST_TEXT, Query
from handlers.http import ANONYMOUS, Endpoint
from shared import drafts
from shared.contract import CaseId
from shared.providers import registry

_STRING = {"type": "string"}
_TYPES: dict[type, dict[str, Any]] = {
    str: _STRING,
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}
_IN_PATH: dict[str, tuple[str, dict[str, Any]]] = {
    "attachmentId": (
        "`id` of one of the e-mail's `attachments`.",
        {"type": "integer", "minimum": 0, "maximum": 10**LONGEST_NUMBER - 1},
    ),
    "caseId": ("The case, by Zalion's id of it.", msgspec.json.schema(CaseId)),
    "domain": ("A domain of the organisation, such as `company.example`.", _STRING),
    "draftId": ("`id` in the answer of POST /cases/{caseId}/drafts.", _STRING),
    "emailId": ("`id` of an e-mail of this case.", _STRING),
    "mailboxId": ("`id` of a mailbox, as GET /mailboxes lists it.", _STRING),
    "provider": ("A mail system.", {**_STRING, "enum": [*registry.names()]}),
    "reviewId": ("`id` of a held mail, as GET /mailboxes/{mailboxId}/reviews lists it.", _STRING),
}
_IN_HEADERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "Visible ASCII. A new one for each mail, the same one where a request is repeated.",
        "schema": {
            **_STRING,
            "minLength": 1,
            "maxLength": drafts.LONGEST_KEY,
            "pattern": f"^{drafts.KEY.pattern}$",
        },
    }
}
_YEARS = f"With its zone; years {FIRST_YEAR} to {LAST_YEAR - 1}."


def of(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Return the parameters of a route."""
    names = re.findall(r"\{(\w+)", endpoint.path)
    return [
        *(_needed(name, "path", *_IN_PATH[name]) for name in names),
        *(_asked(query, checked=endpoint.who not in ANONYMOUS) for query in endpoint.query),
        *({"name": name, "in": "header", "required": True, **_IN_HEADERS[name]} for name in endpoint.headers),
    ]


def _needed(name: str, place: str, purpose: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "description": purpose, "schema": schema}


def _asked(query: Query, *, checked: bool) -> dict[str, Any]:
    """Return one of the query; what providers and browsers bring is not `checked` by its length."""
    purpose = f"{query.purpose} {_YEARS}" if query.type is datetime else query.purpose
    schema = _schema(query)
    if checked and query.type is str:
        schema = {**schema, "maxLength": LONGEST_TEXT}
    return {"name": query.name, "in": "query", "description": purpose, "schema": schema}


def _schema(query: Query) -> dict[str, Any]:
    if query.type is int:
        return {"type": "integer", "minimum": 1, "maximum": query.most, "default": query.default}
    return _TYPES[query.type]
