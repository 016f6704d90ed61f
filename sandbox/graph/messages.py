"""One message: read, drafted, changed, moved, deleted.

https://learn.microsoft.com/graph/api/resources/message
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.composing import compose, rewritten
from sandbox.graph.paging import selected
from sandbox.graph.permissions import BASIC, READ, WRITE
from sandbox.graph.problems import GraphError
from sandbox.web import Reply, Request

MOST_HEADERS = 5
MARKS = {"isRead", "categories", "importance", "flag", "inferenceClassification", "@odata.etag"}


def one(call: Call, message: str) -> Reply:
    """Show a message."""
    item = call.item(message)
    call.allow(BASIC)
    return Reply(body=selected(call, call.shown(item)))


def content(call: Call, message: str) -> Reply:
    """Give out a message as MIME."""
    item = call.item(message)
    call.allow(READ)
    call.mailbox.bodies_read[item.id] += 1
    return Reply(200, item.raw, {"Content-Type": "text/plain"})


def draft(call: Call, _folder: str = "") -> Reply:
    """Make a draft, of JSON or of MIME."""
    call.allow(WRITE)
    raw = written(call, call.request.json if is_json(call.request) else {})
    made = call.mailbox.add(raw, "drafts", draft=True)
    made.extended |= properties(call.request)
    return Reply(201, selected(call, call.shown(made), {}))


def patch(call: Call, message: str) -> Reply:
    """Change a message: what a mail says in a draft only, how it is marked in any."""
    item = call.item(message)
    call.allow(WRITE)
    body = call.request.json
    if not item.draft and not {*body} <= MARKS:
        raise GraphError(400, "ErrorInvalidPropertySet", "Only drafts can be changed.")
    item.read = body.get("isRead", item.read)
    item.categories = body.get("categories", item.categories)
    item.importance = body.get("importance", item.importance)
    item.flag = (body.get("flag") or {}).get("flagStatus", item.flag)
    if not {*body} <= MARKS:
        item.raw = rewritten(item.raw, body)
    call.graph.changed(call.mailbox, item)
    return Reply(body=selected(call, call.shown(item), {}))


def delete(call: Call, message: str) -> Reply:
    """Delete a message."""
    item = call.item(message)
    call.allow(WRITE)
    call.graph.remove(call.mailbox, item)
    return Reply(204)


def move(call: Call, message: str) -> Reply:
    """Move a message to another folder."""
    item = call.item(message)
    call.allow(WRITE)
    call.graph.move(call.mailbox.address, item, call.folder(call.request.json["destinationId"]).id)
    return Reply(201, selected(call, call.shown(item), {}))


def is_json(request: Request) -> bool:
    """Whether the body is JSON, or the base64 of MIME."""
    return not request.headers.get("content-type", "").startswith("text/plain")


def written(call: Call, body: Mapping[str, Any]) -> bytes:
    """Return the mail a request holds: as MIME, or as this JSON. Raises GraphError."""
    if is_json(call.request):
        check_headers(body)
        return compose(call.mailbox.address, body).as_bytes()
    try:
        raw = base64.b64decode(call.request.body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise GraphError(400, "ErrorMimeContentInvalidBase64String") from error
    return re.sub(rb"\r\n|\r|\n", b"\r\n", raw)


def check_headers(body: Mapping[str, Any]) -> None:
    """Headers of one's own: at most five, and their names begin with x-. Raises GraphError."""
    headers = body.get("internetMessageHeaders") or ()
    if len(headers) > MOST_HEADERS:
        raise GraphError(400, "InvalidInternetMessageHeaderCollection", "Maximum number of headers is 5.")
    if not all(each["name"].lower().startswith("x-") for each in headers):
        raise GraphError(400, "InvalidInternetMessageHeader", "Header names should start with 'x-'.")


def properties(request: Request) -> dict[str, str]:
    """Return the extended properties that a request sets: id in lower case -> value."""
    if not request.headers.get("content-type", "").startswith("application/json") or not request.body:
        return {}
    body = request.json.get("message", request.json)
    return {each["id"].lower(): each["value"] for each in body.get("singleValueExtendedProperties") or ()}
