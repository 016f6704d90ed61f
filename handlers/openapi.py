"""OpenAPI 3.1, generated from the registered routes and the shapes in `shared.contract`. Pure."""

import re
from http import HTTPStatus
from typing import Any

import msgspec

from handlers import parameters, schemas
from handlers.http import ANONYMOUS, ENDPOINTS, Endpoint, Reply
from shared.contract import ProblemResource, Secret

_ABOUT = """\
The e-mail side of Zalion: mail of a case leaves through its user's own mailbox, and every answer to it \
appears in the case by itself.

A call needs `Authorization: Bearer <token>`, unless anyone, a browser or a provider makes it; the token \
tells the organisation, the user and the roles. What fails is answered with a problem (RFC 9457): `code` is \
for programs, `field` names what is wrong, and `fix` says what somebody can do about it. Unknown fields and \
query parameters are refused, and texts of a query are printable. A list goes on with `nextCursor` as the \
next `cursor`, until that is null. Times are RFC 3339, in answers in UTC.
"""
_TAGS = {
    "cases": "Cases, their members, and their e-mails: sending, drafts, the timeline.",
    "mailboxes": "Users' own mailboxes: connecting them, looking into them, deciding about held mail.",
    "integrations": "Which mail systems IT has approved, and what it has set for them.",
    "domains": "Sender domains that the organisation has proven to be its own.",
    "audit": "Who did what.",
    "consent": "Where browsers come back to from an administrator's consent.",
    "oauth": "Where browsers come back to from a user's sign-in.",
    "notifications": "What mail systems call when there is news.",
    "service": "Health, and this document.",
}
"""By the first part of a path."""

_MEDIA = {None: "", str: "text/html", bytes: "application/octet-stream"}
"""Of what is not JSON."""

_STRING = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}
_PROBLEM = {
    "description": "A problem (RFC 9457).",
    "content": {
        "application/problem+json": {"schema": {"$ref": schemas.REFERENCE.format(name="ProblemResource")}}
    },
}
_WAIT = _PROBLEM | {
    "description": "A problem (RFC 9457) that passes by itself.",
    "headers": {
        "Retry-After": {
            "required": True,
            "description": "Seconds until it is worth another try.",
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}
_NO_TOKEN = _PROBLEM | {
    "description": "A problem (RFC 9457): no token, or none that is valid. Repeat the call with a new one."
}
_PAGE = {"description": "A page that says why.", "content": {"text/html": {"schema": _STRING}}}
_CORRELATION = {
    "description": "What our logs, jobs and audit records call this request: the `X-Correlation-Id` that it "
    "came with (8 to 64 letters, digits and . _ -), else a new one.",
    "schema": _STRING,
}


def document(url: str = "") -> dict[str, Any]:
    """Return the document; `url` is any URL of this app and gives the server's base."""
    used = (shape for e in ENDPOINTS for shape in (e.body, *(reply.shape for reply in _replies(e))))
    shapes = [shape for shape in used if shape not in {None, bytes}]
    described, components = msgspec.json.schema_components(
        [*shapes, ProblemResource, Secret], ref_template=schemas.REFERENCE
    )
    schemas.complete(components)
    by_shape = dict(zip([repr(shape) for shape in shapes], described, strict=False))
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        path = "/" + re.sub(r"\{(\w+)\??(:\w+)?\}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, by_shape)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Zalion e-mail integration", "version": "1", "description": _ABOUT},
        "servers": [{"url": url.partition("/api/")[0] + "/api"}],
        "tags": [{"name": name, "description": told} for name, told in _TAGS.items()],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {"X-Correlation-Id": _CORRELATION},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(endpoint: Endpoint, by_shape: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [_tag(endpoint)],
        "summary": endpoint.summary,
        "description": "\n\n".join(filter(None, (endpoint.details, f"Who: {endpoint.who}."))),
        "parameters": parameters.of(endpoint),
        "responses": _responses(endpoint, by_shape),
    }
    if endpoint.who in ANONYMOUS:
        operation["security"] = []
    if endpoint.body:
        operation["requestBody"] = _required("application/json", by_shape[repr(endpoint.body)])
    if endpoint.form:
        fields = {field.name: {**_STRING, "description": field.purpose} for field in endpoint.form}
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        operation["requestBody"] = _required("application/x-www-form-urlencoded", schema)
    return operation


def _tag(endpoint: Endpoint) -> str:
    first = endpoint.path.partition("/")[0]
    return first if first in _TAGS else "service"


def _required(media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema}}}


def _replies(endpoint: Endpoint) -> tuple[Reply, ...]:
    media = _MEDIA.get(endpoint.answer, "application/json")
    return (Reply(endpoint.status, media, endpoint.answer), *endpoint.also)


def _responses(endpoint: Endpoint, by_shape: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for reply in _replies(endpoint):
        described = responses.setdefault(str(reply.status), {"description": HTTPStatus(reply.status).phrase})
        if reply.media:
            schema = _BINARY if reply.shape is bytes else by_shape[repr(reply.shape)]
            described.setdefault("content", {})[reply.media] = {"schema": schema}
        if reply.headers:
            described["headers"] = {name: {"schema": _STRING} for name in reply.headers}
    if endpoint.who not in ANONYMOUS:
        responses["401"] = _NO_TOKEN
    if endpoint.who == "browser":
        responses["default"] = _PAGE
    else:
        responses = {"429": _WAIT, "503": _WAIT, **responses, "default": _PROBLEM}
    correlated = {"X-Correlation-Id": {"$ref": "#/components/headers/X-Correlation-Id"}}
    return {
        status: {**answer, "headers": {**answer.get("headers", {}), **correlated}}
        for status, answer in sorted(responses.items())
    }
