"""Lists and the options of OData on them: $select, $expand, $top, $skip, $count, and links to go on with."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from sandbox.graph.call import Call
from sandbox.graph.permissions import READ
from sandbox.graph.problems import GraphError
from sandbox.web import Reply

DEFAULT_PAGE, LARGEST_PAGE = 10, 1000
CONTENT = {"body", "bodyPreview", "uniqueBody"}


def page(call: Call, items: list[Any], show: Callable[[Any], Any]) -> Reply:
    """Answer with the part of a list that was asked for, and a link to the next."""
    query = call.request.query
    top = int(query.get("$top", DEFAULT_PAGE))
    if not 1 <= top <= LARGEST_PAGE:
        raise GraphError(400, "ErrorInvalidUrlQuery", "$top must be between 1 and 1000.")
    start = int(query.get("$skip", 0)) if "$skiptoken" not in query else unpacked(query["$skiptoken"])["skip"]
    body: dict[str, Any] = {"value": [show(one) for one in items[start : start + top]]}
    if query.get("$count") == "true":
        body["@odata.count"] = len(items)
    if start + top < len(items):
        rest = {k: v for k, v in query.items() if k not in {"$skiptoken", "$skip"}}
        rest["$skiptoken"] = packed({"skip": start + top})
        link = "&".join(f"{quote(k, safe='$')}={quote(v)}" for k, v in rest.items())
        body["@odata.nextLink"] = f"{here(call)}?{link}"
    return Reply(body=body)


def here(call: Call) -> str:
    """Return the URL of this request without its query, also from within a batch."""
    return f"{call.graph.base}/{call.request.path.removeprefix('/v1.0').lstrip('/')}"


def selected(call: Call, shown: Mapping[str, Any], query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Apply $select and $expand; without Mail.Read nothing of the content is shown."""
    query = call.request.query if query is None else query
    names = query.get("$select", "").split(",") if query.get("$select") else []
    hidden = {"_extended", "_item", "uniqueBody", "internetMessageHeaders"} - {*names}
    found = {k: v for k, v in shown.items() if (k in names if names else True) and k not in hidden}
    found |= {"id": shown["id"], "@odata.etag": shown["@odata.etag"]}
    if not call.may(READ):
        found = {k: v for k, v in found.items() if k not in CONTENT}
    if CONTENT & {*found}:
        call.mailbox.bodies_read[shown["_item"].id] += 1
    found |= _expanded(call, shown, unquote(query.get("$expand", "")))
    return {k: v for k, v in found.items() if v is not None}


def _expanded(call: Call, shown: Mapping[str, Any], expand: str) -> dict[str, Any]:
    if "singleValueExtendedProperties" not in expand:
        return {}
    call.allow(READ)
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
