"""Lists, $select and $expand, and links to go on with.

https://learn.microsoft.com/graph/query-parameters
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from sandbox.graph import odata
from sandbox.graph.attachments import expanded
from sandbox.graph.call import Call
from sandbox.graph.permissions import READ
from sandbox.graph.problems import GraphError
from sandbox.graph.showing import CONTENT, HIDDEN, plain
from sandbox.web import Reply

DEFAULT_PAGE, LARGEST_PAGE = 10, 1000
INTERNAL = {"_extended", "_item"}
ALWAYS = ("@odata.etag", "id")


def page(call: Call, items: list[Any], show: Callable[[Any], Any]) -> Reply:
    """Answer with the part of a list that was asked for, and a link to the next."""
    query = call.request.query
    size = top(call)
    start = int(query.get("$skip", 0)) if "$skiptoken" not in query else unpacked(query["$skiptoken"])["skip"]
    body: dict[str, Any] = {"value": [show(one) for one in items[start : start + size]]}
    if query.get("$count") == "true":
        body["@odata.count"] = len(items)
    if start + size < len(items):
        rest = {k: v for k, v in query.items() if k not in {"$skiptoken", "$skip"}}
        body["@odata.nextLink"] = link(call, {**rest, "$skiptoken": packed({"skip": start + size})})
    return Reply(body=body)


def top(call: Call, query: Mapping[str, str] | None = None) -> int:
    """Return how many may be on a page. Raises GraphError."""
    preferred = re.search(r"odata\.maxpagesize=(\d+)", call.request.headers.get("prefer", ""))
    asked = (call.request.query if query is None else query).get("$top")
    text = asked or (preferred[1] if preferred else str(DEFAULT_PAGE))
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_PAGE:
        raise GraphError(400, "ErrorInvalidUrlQuery", "$top must be between 1 and 1000.")
    return int(text)


def link(call: Call, query: Mapping[str, str]) -> str:
    """Return the URL of this request with another query, also from within a batch."""
    path = call.request.path.removeprefix("/v1.0").lstrip("/")
    words = "&".join(f"{quote(name, safe='$')}={quote(value)}" for name, value in query.items())
    return f"{call.graph.base}/{path}?{words}"


def selected(call: Call, shown: Mapping[str, Any], query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Apply $select and $expand; without Mail.Read nothing of the content is shown. Raises GraphError."""
    query = call.request.query if query is None else query
    names = odata.names(query.get("$select", ""))
    hidden = INTERNAL | (HIDDEN - {*names})
    found = {
        name: value for name, value in shown.items() if (name in names or not names) and name not in hidden
    }
    found |= {name: shown[name] for name in ALWAYS}
    if not call.may(READ):
        found = {name: value for name, value in found.items() if name not in CONTENT}
    if CONTENT & {*found}:
        call.mailbox.bodies_read[shown["_item"].id] += 1
    if "body" in found and 'outlook.body-content-type="text"' in call.request.headers.get("prefer", ""):
        found["body"] = _as_text(found["body"])
    found |= _expanded(call, shown, query.get("$expand", ""))
    return {name: value for name, value in found.items() if value is not None}


def _as_text(body: Mapping[str, str]) -> dict[str, str]:
    content = plain(body["content"]) if body["contentType"] == "html" else body["content"]
    return {"contentType": "text", "content": content}


def _expanded(call: Call, shown: Mapping[str, Any], expand: str) -> dict[str, Any]:
    if not expand:
        return {}
    call.allow(READ)
    if expand.partition("(")[0] == "attachments":
        return {"attachments": expanded(call, shown["_item"])}
    if expand.partition("(")[0] != "singleValueExtendedProperties":
        raise GraphError(400, "RequestBroker--ParseUri", f"Could not find a property named '{expand[:40]}'.")
    ids = re.findall(r"id eq '([^']+)'", expand)
    values = [{"id": i, "value": shown["_extended"].get(i.lower(), "")} for i in ids]
    values = [one for one in values if one["value"]]
    return {"singleValueExtendedProperties": values} if values else {}


def packed(value: Any) -> str:
    """Write an opaque token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def unpacked(text: str) -> Any:
    """Read an opaque token. Raises GraphError."""
    try:
        return json.loads(base64.urlsafe_b64decode(text))
    except (ValueError, binascii.Error) as error:
        raise GraphError(400, "syncStateInvalid") from error
