"""What Graph shows of a mail as JSON: read from its raw bytes.

https://learn.microsoft.com/graph/api/resources/message
"""

import base64
import email
import email.policy
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from functools import lru_cache
from typing import Any

from sandbox.graph.mailbox import Item, Mailbox

SKIPPED_HEADERS = {"bcc"}


def message_json(mailbox: Mailbox, item: Item, *, immutable: bool) -> dict[str, Any]:
    """Return everything Graph could show of an item; `_extended` and `_item` are for us."""
    read = _read(item.raw)
    conversation = mailbox.conversation_of(item.raw)
    return {
        **read,
        "@odata.etag": f'W/"{item.arrived}"',
        "id": item.id if immutable else item.moving_id,
        "createdDateTime": _time(item.received_at),
        "lastModifiedDateTime": _time(item.received_at),
        "changeKey": f"CQAAA{item.arrived}",
        "categories": [],
        "receivedDateTime": _time(item.received_at),
        "sentDateTime": read["sentDateTime"] or _time(item.received_at),
        "importance": "normal",
        "parentFolderId": item.folder,
        "conversationId": conversation,
        "conversationIndex": _index(conversation),
        "isDeliveryReceiptRequested": False,
        "isReadReceiptRequested": False,
        "isRead": item.sent_by_us,
        "isDraft": item.draft,
        "webLink": f"https://outlook.office365.com/owa/?ItemID={item.id}",
        "inferenceClassification": "focused",
        "flag": {"flagStatus": "notFlagged"},
        "internetMessageHeaders": read["internetMessageHeaders"] if item.internet_headers else None,
        "_extended": item.extended,
        "_item": item,
    }


@lru_cache(5000)
def _read(raw: bytes) -> Mapping[str, Any]:
    """Return what the bytes themselves tell; a list shows hundreds of mails."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    sender = _recipients(message, "from")[:1]
    body = message.get_body(("html", "plain"))
    content = body.get_content() if body is not None else ""
    sent_at = _date(message)
    return {
        "sentDateTime": _time(sent_at) if sent_at else None,
        "hasAttachments": any(not p.get("Content-ID") for p in attachments(message)),
        "internetMessageId": str(message.get("Message-ID", "")),
        "subject": str(message.get("Subject", "")),
        "bodyPreview": content[:255],
        "body": {"contentType": "html" if _is_html(body) else "text", "content": content},
        "uniqueBody": {"contentType": "text", "content": content},
        "sender": sender[0] if sender else None,
        "from": sender[0] if sender else None,
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
            "internetMessageId": str(inner.get("Message-ID", "")),
        }
    else:
        shown["contentId"] = (part.get("Content-ID") or "").strip("<>") or None
        shown["contentBytes"] = base64.b64encode(content).decode()
    return shown


def _index(conversation: str) -> str:
    """Return a conversation's index: 22 octets, as MS-OXOMSG section 2.2.1.3 has it for its first mail."""
    digest = hashlib.sha256(conversation.encode()).digest()
    return base64.b64encode(b"\x01" + digest[:21]).decode()


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


def _is_html(body: Any) -> bool:
    return body is not None and body.get_content_type() == "text/html"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
