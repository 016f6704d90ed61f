"""What Graph shows of a mail as JSON: read from its raw bytes.

https://learn.microsoft.com/graph/api/resources/message
"""

import base64
import re
from datetime import UTC, datetime
from email.message import EmailMessage, MIMEPart
from email.utils import getaddresses, parsedate_to_datetime
from functools import lru_cache
from html import unescape
from typing import Any

from sandbox.graph.mailbox import Item, parsed

SKIPPED_HEADERS = {"bcc"}

QUOTED = "\r\n\r\n________________________________\r\n"
"""What stands between an answer and the mail it answers."""

CONTENT = {"body", "bodyPreview", "uniqueBody"}
HIDDEN = {"uniqueBody", "internetMessageHeaders"}
"""What is shown only where $select names it."""


def message_json(item: Item, *, immutable: bool) -> dict[str, Any]:
    """Return everything Graph could show of an item; `_extended` and `_item` are for us."""
    written = _written(item.raw)
    received = _time(item.received_at)
    return {
        **written,
        "@odata.etag": f'W/"{item.arrived}"',
        "id": item.id if immutable else item.moving_id,
        "createdDateTime": received,
        "lastModifiedDateTime": received,
        "changeKey": f"CQAAA{item.arrived}",
        "categories": item.categories,
        "receivedDateTime": received,
        "sentDateTime": written["sentDateTime"] or received,
        "importance": item.importance,
        "parentFolderId": item.folder,
        "conversationId": item.conversation,
        "conversationIndex": _index(item),
        "isRead": item.read,
        "isDraft": item.draft,
        "webLink": f"https://outlook.office365.com/owa/?ItemID={item.id}",
        "flag": {"flagStatus": item.flag},
        "internetMessageHeaders": written["internetMessageHeaders"] if item.internet_headers else None,
        "_extended": item.extended,
        "_item": item,
    }


@lru_cache(512)
def _written(raw: bytes) -> dict[str, Any]:
    """Return what the mail itself says."""
    message = parsed(raw)
    author = _recipients(message, "from")[:1]
    sender = _recipients(message, "sender")[:1] or author
    sent_at = _date(message)
    body = message.get_body(("html", "plain"))
    content = _text(body) if body is not None else ""
    html = body is not None and body.get_content_type() == "text/html"
    text = plain(content) if html else content
    return {
        "sentDateTime": _time(sent_at) if sent_at else None,
        "hasAttachments": any(not part.get("Content-ID") for part in attachments(message)),
        "internetMessageId": str(message.get("Message-ID", "")),
        "subject": str(message.get("Subject", "")),
        "bodyPreview": text[:255],
        "isDeliveryReceiptRequested": False,
        "isReadReceiptRequested": False,
        "inferenceClassification": "focused",
        "body": {"contentType": "html" if html else "text", "content": content},
        "uniqueBody": {"contentType": "text", "content": text.partition(QUOTED)[0]},
        "sender": sender[0] if sender else None,
        "from": author[0] if author else None,
        "toRecipients": _recipients(message, "to"),
        "ccRecipients": _recipients(message, "cc"),
        "bccRecipients": _recipients(message, "bcc"),
        "replyTo": _recipients(message, "reply-to"),
        "internetMessageHeaders": [
            {"name": name, "value": " ".join(str(value).split())}
            for name, value in message.items()
            if name.lower() not in SKIPPED_HEADERS
        ],
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


def _text(part: MIMEPart) -> str:
    """Return a part's text, also of a charset that nobody knows."""
    try:
        return str(part.get_content())
    except LookupError:
        return bytes(part.get_payload(decode=True) or b"").decode("latin-1")


def _index(item: Item) -> str:
    """What its sender wrote, else 22 octets and five for every answer (MS-OXOMSG 2.2.1.3)."""
    if given := str(item.message.get("Thread-Index", "")).strip():
        return given
    depth = len(str(item.message.get("References", "")).split())
    guid = base64.urlsafe_b64decode(item.conversation)[-16:]
    return base64.b64encode(b"\x01" + bytes(5) + guid + bytes(5 * depth)).decode()


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
