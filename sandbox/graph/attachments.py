"""Attachments: listed, read, added at once or in pieces.

https://learn.microsoft.com/graph/outlook-large-attachments
"""

import base64
import email
import email.policy
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.composing import attach
from sandbox.graph.mailbox import Item
from sandbox.graph.permissions import READ, WRITE
from sandbox.graph.problems import GraphError
from sandbox.graph.showing import attachment_json, attachments
from sandbox.web import Reply, Request

MOST = 4 * 1024 * 1024
"""Octets of a request."""

LEAST = 3 * 1024 * 1024
"""Octets from which on an upload session is possible."""


def listed(call: Call, message: str) -> Reply:
    """List a message's attachments; their content too, unless $select leaves it out."""
    item = call.item(message)
    call.allow(READ)
    names = call.request.query.get("$select", "").split(",")
    if "contentBytes" in names or names == [""]:
        call.mailbox.bodies_read[item.id] += 1
    return Reply(body={"value": [_selected(call, one) for one in _of(item)]})


def one(call: Call, message: str, attachment: str) -> Reply:
    """Show an attachment."""
    return Reply(body=_selected(call, _found(call, message, attachment)))


def content(call: Call, message: str, attachment: str) -> Reply:
    """Give out an attachment's bytes."""
    found = _found(call, message, attachment)
    return Reply(200, found["_content"], {"Content-Type": found["contentType"]})


def add(call: Call, message: str) -> Reply:
    """Attach a file to a draft."""
    item = call.item(message)
    call.allow(WRITE)
    body = call.request.json
    grow(item, body)
    shown = {k: v for k, v in body.items() if k != "contentBytes"}
    return Reply(201, {**shown, "id": f"ATT{len(attachments(item.message)) - 1}="})


def create_upload(call: Call, message: str) -> Reply:
    """Begin to attach a large file."""
    item = call.item(message)
    call.allow(WRITE)
    asked = call.request.json["AttachmentItem"]
    if asked["size"] < LEAST:
        raise GraphError(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize")

    def done(data: bytes) -> None:
        encoded = base64.b64encode(data).decode()
        grow(
            item,
            {"name": asked["name"], "contentBytes": encoded, "contentType": "application/octet-stream"},
        )

    url = call.graph.uploads.begin(asked["size"], done)
    begun = {
        "uploadUrl": url,
        "expirationDateTime": "2099-01-01T00:00:00Z",
        "nextExpectedRanges": ["0-"],
    }
    return Reply(201, begun)


def grow(item: Item, shown: Mapping[str, Any]) -> None:
    """Add a file to a message."""
    message = email.message_from_bytes(item.raw, policy=email.policy.SMTP)
    attach(message, shown)
    item.raw = message.as_bytes()


@dataclass
class _Upload:
    size: int
    done: Callable[[bytes], None]
    data: bytes = b""


class Uploads:
    """Uploads under way; their URLs are themselves the permission."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: dict[str, _Upload] = {}

    def begin(self, size: int, done: Callable[[bytes], None]) -> str:
        """Return the pre-authenticated URL for so many octets."""
        key = secrets.token_urlsafe(24)
        self._open[key] = _Upload(size, done)
        return f"{self._url}/upload/{key}"

    def take(self, request: Request) -> Reply:
        """Take a piece."""
        if "authorization" in request.headers:
            return Reply(401, {"error": {"code": "Unauthorized", "message": "Send no Authorization header."}})
        upload = self._open.get(request.path.rpartition("/")[2])
        if upload is None:
            return Reply(404)
        place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("content-range", ""))
        if not place or int(place[1]) != len(upload.data) or len(request.body) > MOST:
            return Reply(416, {"error": {"code": "InvalidRange", "message": "Not the expected range."}})
        upload.data += request.body
        if len(upload.data) < upload.size:
            return Reply(200, {"nextExpectedRanges": [f"{len(upload.data)}-"]})
        upload.done(upload.data)
        return Reply(201, None, {"Location": f"{self._url}/v1.0/attachments/done"})


def _of(item: Item) -> list[dict[str, Any]]:
    return [attachment_json(part, number) for number, part in enumerate(attachments(item.message))]


def _found(call: Call, message: str, attachment: str) -> dict[str, Any]:
    item = call.item(message)
    call.allow(READ)
    found = next((one for one in _of(item) if one["id"] == attachment), None)
    if found is None:
        raise GraphError(404, "ErrorItemNotFound", "The attachment was not found.")
    call.mailbox.bodies_read[item.id] += 1
    return found


def _selected(call: Call, shown: Mapping[str, Any]) -> dict[str, Any]:
    names = call.request.query.get("$select", "").split(",")
    expanded = "itemattachment/item" in call.request.query.get("$expand", "").lower()
    found = {k: v for k, v in shown.items() if k != "_content" and (k != "item" or expanded)}
    if names != [""]:
        found = {k: v for k, v in found.items() if k in {*names, "@odata.type", "id", "item"}}
    return {k: v for k, v in found.items() if v is not None}
