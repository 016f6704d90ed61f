"""Attachments: listed, read, added at once or in pieces.

https://learn.microsoft.com/graph/outlook-large-attachments
"""

import base64
import email
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.composing import attach
from sandbox.graph.mailbox import Item
from sandbox.graph.permissions import READ, WRITE
from sandbox.graph.problems import GraphError
from sandbox.graph.showing import attachment_json, attachments
from sandbox.mail import AS_READ
from sandbox.web import Reply, Request

MOST = 4 * 1024 * 1024
"""Octets of a request."""

LARGEST = 150 * 1024 * 1024
LEAST = 3 * 1024 * 1024
"""Octets of a file between which an upload session is possible."""


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
    _check_draft(item)
    grow(item, call.request.json)
    call.mailbox.changed(item)
    return Reply(201, _public(_of(item)[-1]))


def create_upload(call: Call, message: str) -> Reply:
    """Begin to attach a large file."""
    item = call.item(message)
    call.allow(WRITE)
    _check_draft(item)
    asked = call.request.json.get("AttachmentItem") or call.request.json["attachmentItem"]
    if asked["size"] < LEAST:
        raise GraphError(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize")
    if asked["size"] > LARGEST:
        raise GraphError(400, "ErrorAttachmentSizeLimitExceeded")

    def done(data: bytes) -> None:
        grow(item, {**asked, "contentBytes": base64.b64encode(data).decode()})
        call.mailbox.changed(item)

    url = call.graph.uploads.begin(asked["size"], done)
    until = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Reply(201, {"uploadUrl": url, "expirationDateTime": until, "nextExpectedRanges": ["0-"]})


def expanded(call: Call, item: Item) -> list[dict[str, Any]]:
    """Return a message's attachments with their content, for $expand=attachments."""
    call.mailbox.bodies_read[item.id] += 1
    return [_public(one) for one in _of(item)]


def grow(item: Item, shown: Mapping[str, Any]) -> None:
    """Add a file to a message."""
    message = email.message_from_bytes(item.raw, policy=AS_READ)
    attach(message, shown)
    item.raw = message.as_bytes()


def _check_draft(item: Item) -> None:
    if not item.draft:
        raise GraphError(400, "ErrorInvalidOperation", "Attachments can be added to drafts only.")


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
        """Take a piece, tell what is still missing, or end it."""
        if "authorization" in request.headers:
            return Reply(401, {"error": {"code": "Unauthorized", "message": "Send no Authorization header."}})
        key = request.path.rpartition("/")[2]
        upload = self._open.get(key)
        if upload is None:
            return Reply(404, {"error": {"code": "ErrorItemNotFound", "message": "No such upload."}})
        if request.method == "PUT":
            return self._piece(key, upload, request)
        if request.method == "DELETE":
            del self._open[key]
            return Reply(204)
        return Reply(200, {"nextExpectedRanges": [f"{len(upload.data)}-"]})

    def _piece(self, key: str, upload: _Upload, request: Request) -> Reply:
        place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("content-range", ""))
        if not place or int(place[1]) != len(upload.data) or len(request.body) > MOST:
            return Reply(416, {"error": {"code": "InvalidRange", "message": "Not the expected range."}})
        upload.data += request.body
        if len(upload.data) < upload.size:
            return Reply(200, {"nextExpectedRanges": [f"{len(upload.data)}-"]})
        del self._open[key]
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
    call.mailbox.bodies_read[item.id] += found["contentType"] != "message/delivery-status"  # fields, no text
    return found


def _selected(call: Call, shown: Mapping[str, Any]) -> dict[str, Any]:
    names = call.request.query.get("$select", "").split(",")
    with_item = "itemattachment/item" in call.request.query.get("$expand", "").lower()
    found = _public(shown, with_item=with_item)
    if names != [""]:
        found = {k: v for k, v in found.items() if k in {*names, "@odata.type", "id", "item"}}
    return found


def _public(shown: Mapping[str, Any], *, with_item: bool = False) -> dict[str, Any]:
    skipped = {"_content"} if with_item else {"_content", "item"}
    return {k: v for k, v in shown.items() if k not in skipped and v is not None}
