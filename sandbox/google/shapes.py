"""What Gmail shows of a message: minimal, metadata, full, raw, and single attachments."""

import html
import json
import secrets
from collections.abc import Iterable
from email.message import Message
from typing import Any

from sandbox.google.discovery import selected
from sandbox.google.headers import b64, decoded, unb64
from sandbox.google.mailbox import Item, Mailbox
from sandbox.google.parts import content, shown_name, walk
from sandbox.google.problems import invalid

SNIPPET = 200


def shown(
    mailbox: Mailbox, item: Item, how: str, names: Iterable[str] = (), mask: str = ""
) -> dict[str, Any]:
    """Return the resource in one of the four formats; `names` choose the headers of metadata.

    What `mask` leaves out is not counted as read.
    """
    body: dict[str, Any] = {
        "id": item.id,
        "threadId": item.thread,
        "labelIds": sorted(item.labels),
        "snippet": html.escape(item.text[:SNIPPET], quote=False),
        "sizeEstimate": len(item.raw),
        "historyId": str(item.history_id),
        "internalDate": str(int(item.received_at.timestamp() * 1000)),
    }
    if how == "raw":
        body["raw"] = b64(item.raw)
    elif how == "full":
        body["payload"] = _part(item, item.message, "")
    elif how == "metadata":
        wanted = {name.lower() for name in names}
        message = item.head
        headers = [one for one in _headers(message) if not wanted or one["name"].lower() in wanted]
        body["payload"] = {"mimeType": message.get_content_type(), "headers": headers}
    if how in {"raw", "full"} and _holds_content(selected(body, mask)):
        mailbox.bodies_read[item.id] += 1
    return body


def _holds_content(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_content, value))
    if not isinstance(value, dict):
        return False
    return not {"raw", "data", "snippet"}.isdisjoint(value) or any(map(_holds_content, value.values()))


def attachment(mailbox: Mailbox, item: Item, key: str) -> dict[str, Any]:
    """Return an attachment's content. Raises Problem."""
    try:
        told = json.loads(unb64(key.removeprefix("ANGjdJ")))
    except ValueError as error:
        raise invalid("Invalid attachment token") from error
    found = dict(walk(item.message, "")).get(told.get("part"))
    if told.get("item") != item.id or found is None:
        raise invalid("Invalid attachment token")
    mailbox.bodies_read[item.id] += 1
    data = content(found)
    return {"size": len(data), "data": b64(data)}


def _part(item: Item, part: Message, number: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "partId": number,
        "mimeType": part.get_content_type(),
        "filename": shown_name(part),
        "headers": _headers(part),
    }
    nested = [one for one in part.get_payload() if isinstance(one, Message)] if part.is_multipart() else []
    if part.get_content_maintype() == "multipart":
        made["body"] = {"size": 0}
    else:
        data = content(part)
        made["body"] = {"size": len(data)}
        if made["filename"]:
            # A new one each time: attachment ids cannot be kept.
            token = json.dumps({"item": item.id, "part": number, "now": secrets.token_hex(4)})
            made["body"]["attachmentId"] = "ANGjdJ" + b64(token.encode())
        else:
            made["body"]["data"] = b64(data)
    if nested:
        prefix = f"{number}." if number else ""
        made["parts"] = [_part(item, one, f"{prefix}{n}") for n, one in enumerate(nested)]
    return made


def _headers(part: Message) -> list[dict[str, str]]:
    return [{"name": name, "value": decoded(value)} for name, value in part.items()]
