"""One message: read, drafted, changed, moved, deleted.

https://learn.microsoft.com/graph/api/resources/message
"""

import base64
import binascii
import email.policy
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.composing import compose
from sandbox.graph.paging import selected
from sandbox.graph.permissions import BASIC, READ, WRITE
from sandbox.graph.problems import GraphError
from sandbox.web import Reply, Request

MOST_HEADERS = 5


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
    made = call.mailbox.add(
        written(call, call.request.json if is_json(call.request) else {}), "drafts", draft=True
    )
    made.extended |= properties(call.request)
    return Reply(201, selected(call, call.shown(made), {}))


def patch(call: Call, message: str) -> Reply:
    """Change a draft."""
    item = call.item(message)
    call.allow(WRITE)
    if not item.draft:
        raise GraphError(400, "ErrorInvalidPropertySet", "Only drafts can be changed.")
    mail, body = deepcopy(item.message), call.request.json
    headers = {"Subject": body.get("subject"), "Message-ID": body.get("internetMessageId")}
    if "toRecipients" in body:
        headers["To"] = ", ".join(each["emailAddress"]["address"] for each in body["toRecipients"])
    for name, value in headers.items():
        if value is not None:
            del mail[name]
            mail[name] = value
    if "body" in body:
        html = str(body["body"].get("contentType", "")).lower() == "html"
        mail.set_content(body["body"]["content"], subtype="html" if html else "plain")
    item.raw = mail.as_bytes(policy=email.policy.SMTP)
    return Reply(body=selected(call, call.shown(item), {}))


def delete(call: Call, message: str) -> Reply:
    """Delete a message."""
    item = call.item(message)
    call.allow(WRITE)
    call.mailbox.remove(item)
    return Reply(204)


def move(call: Call, message: str) -> Reply:
    """Move a message to another folder."""
    item = call.item(message)
    call.allow(WRITE)
    call.mailbox.move(item, call.folder(call.request.json["destinationId"]).id)
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
