"""What Graph shows of a mail as JSON: read from its raw bytes.

https://learn.microsoft.com/graph/api/resources/message
"""

import base64
import hashlib
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from html import unescape
from typing import Any

from sandbox.graph.mailbox import Item

SKIPPED_HEADERS = {"bcc"}

QUOTED = "\r\n\r\n________________________________\r\n"
"""What stands between an answer and the mail it answers."""

CONTENT = {"body", "bodyPreview", "uniqueBody"}
HIDDEN = {"uniqueBody", "internetMessageHeaders"}
"""What is shown only where $select names it."""


def message_json(item: Item, *, immutable: bool) -> dict[str, Any]:
    """Return everything Graph could show of an item; `_extended` and `_item` are for us."""
    message = item.message
    sender = _recipients(message, "from")[:1]
    body = message.get_body(("html", "plain"))
    content = body.get_content() if body is not None else ""
    html = body is not None and body.get_content_type() == "text/html"
    text = plain(content) if html else content
    return {
        "@odata.etag": f'W/"{item.arrived}"',
        "id": item.id if immutable else item.moving_id,
        "createdDateTime": _time(item.received_at),
        "lastModifiedDateTime": _time(item.received_at),
        "changeKey": f"CQAAA{item.arrived}",
        "categories": item.categories,
        "receivedDateTime": _time(item.received_at),
        "sentDateTime": _time(_date(message) or item.received_at),
        "hasAttachments": any(not p.get("Content-ID") for p in attachments(message)),
        "internetMessageId": str(message.get("Message-ID", "")),
        "subject": str(message.get("Subject", "")),
        "bodyPreview": text[:255],
        "importance": item.importance,
        "parentFolderId": item.folder,
        "conversationId": item.conversation,
        "conversationIndex": _index(item),
        "isDeliveryReceiptRequested": False,
        "isReadReceiptRequested": False,
        "isRead": item.read,
        "isDraft": item.draft,
        "webLink": f"https://outlook.office365.com/owa/?ItemID={item.id}",
        "inferenceClassification": "focused",
        "body": {"contentType": "html" if html else "text", "content": content},
        "uniqueBody": {"contentType": "text", "content": text.partition(QUOTED)[0]},
        "sender": sender[0] if sender else None,
        "from": sender[0] if sender else None,
        "toRecipients": _recipients(message, "to"),
        "ccRecipients": _recipients(message, "cc"),
        "bccRecipients": _recipients(message, "bcc"),
        "replyTo": _recipients(message, "reply-to"),
        "flag": {"flagStatus": item.flag},
        "internetMessageHeaders": [
            {"name": name, "value": " ".join(str(value).split())}
            for name, value in message.items()
            if name.lower() not in SKIPPED_HEADERS
        ]
        if item.internet_headers
        else None,
        "_extended": item.extended,
        "_item": item,
    }


def plain(html: str) -> str:
    """Return the text of HTML, roughly."""
    return unescape(re.sub(r"<[^>]*>", "", html))


def attachments(message: EmailMessage) -> list[EmailMessage]:
    """Return the parts that Graph shows as attachments; nested mails too."""
    if message.get_content_type() == "multipart/report":
        return [part for part in message.iter_parts() if part.get_content_type() != "text/plain"]  # type: ignore[misc]
    return list(message.iter_attachments()) if message.is_multipart() else []


def attachment_json(part: EmailMessage, number: int) -> dict[str, Any]:
    """Return an attachment with its content."""
    nested = part.get_content_type() == "message/rfc822"
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    if nested:
        content = part.get_content().as_bytes()
    elif part.is_multipart():  # message/delivery-status: groups of fields
        content = b"".join(group.as_bytes() for group in part.iter_parts())
    shown: dict[str, Any] = {
        "@odata.type": "#microsoft.graph.itemAttachment" if nested else "#microsoft.graph.fileAttachment",
        "id": f"ATT{number}=",
        "name": part.get_filename() or ("message" if nested else "attachment"),
        "contentType": part.get_content_type(),
        "size": len(content),
        "isInline": part.get_content_disposition() == "inline",
        "lastModifiedDateTime": _time(datetime.now(UTC)),
        "_content": content,
    }
    if nested:
        inner = part.get_content()
        shown["item"] = {
            "@odata.type": "#microsoft.graph.message",
            "id": "",
            "subject": str(inner.get("Subject", "")),
            "internetMessageId": str(inner.get("Message-ID", "")),
        }
    else:
        shown["contentId"] = (part.get("Content-ID") or "").strip("<>") or None
        shown["contentBytes"] = base64.b64encode(content).decode()
    return shown


def _index(item: Item) -> str:
    """A header of 22 octets and five more for every answer (MS-OXOMSG 2.2.1.3)."""
    depth = len(str(item.message.get("References", "")).split())
    digest = hashlib.sha256(item.conversation.encode()).digest()
    return base64.b64encode(digest[:22] + bytes(5 * depth)).decode()


def _recipients(message: EmailMessage, name: str) -> list[dict[str, Any]]:
    pairs = getaddresses([str(value) for value in message.get_all(name, [])])
    return [
        {"emailAddress": {"name": shown or address, "address": address}}
        for shown, address in pairs
        if address
    ]


def _date(message: EmailMessage) -> datetime | None:
    try:
        return parsedate_to_datetime(str(message["Date"])).astimezone(UTC)
    except (TypeError, ValueError):
        return None


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
