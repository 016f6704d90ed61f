"""One mailbox of Exchange Online: folders, items, threads, and a log of changes for delta.

Raw bytes are the truth of every item; what Graph shows as JSON is read from them.
"""

import base64
import email
import email.policy
import hashlib
import itertools
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

WELL_KNOWN = {
    "inbox": "Inbox",
    "sentitems": "Sent Items",
    "drafts": "Drafts",
    "deleteditems": "Deleted Items",
    "junkemail": "Junk Email",
    "outbox": "Outbox",
    "archive": "Archive",
}
SKIPPED_HEADERS = {"bcc"}


@dataclass
class Folder:
    """A folder; `id` never changes."""

    id: str
    name: str
    well_known: str = ""
    parent: str = ""


@dataclass
class Item:
    """A message. `id` is the immutable one, `moving_id` changes with every move."""

    id: str
    folder: str
    raw: bytes
    received_at: datetime
    arrived: int
    draft: bool = False
    sent_by_us: bool = False
    moving_id: str = field(default_factory=lambda: new_id("AQMk"))
    extended: dict[str, str] = field(default_factory=dict)
    internet_headers: bool = True
    visible: bool = True

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        return email.message_from_bytes(self.raw, policy=email.policy.default)


@dataclass(frozen=True)
class Change:
    """One entry of the log: an item came into, was changed in, or left a folder."""

    number: int
    folder: str
    item: str
    kind: str


class Mailbox:
    """A mailbox.

    Attributes:
        bodies_read: how often the content of an item was given out, by immutable id.
        enabled: whether Graph serves it (MailboxNotEnabledForRESTAPI).
        access: address -> what it may do here beside its owner: `full_access`, `send_as`, `send_on_behalf`.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.enabled = True
        self.bodies_read: Counter[str] = Counter()
        self.access: dict[str, set[str]] = {}
        self.folders: dict[str, Folder] = {}
        self.items: dict[str, Item] = {}
        self.changes: list[Change] = []
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        for key, name in WELL_KNOWN.items():
            self.add_folder(name, key)

    def grant_access(self, address: str, *rights: str) -> None:
        """Let somebody else in."""
        self.access.setdefault(address.lower(), set()).update(rights)

    def add_folder(self, name: str, well_known: str = "", parent: str = "") -> Folder:
        """Add a folder."""
        folder = Folder(new_id("AAMkF"), name, well_known, parent)
        self.folders[folder.id] = folder
        return folder

    def folder(self, key: str) -> Folder | None:
        """Return a folder by id, well-known name or display name."""
        return self.folders.get(key) or next(
            (f for f in self.folders.values() if key.lower() in {f.well_known, f.name.lower()}), None
        )

    def add(
        self,
        raw: bytes,
        folder: str = "inbox",
        *,
        at: datetime | None = None,
        draft: bool = False,
        sent: bool = False,
        visible: bool = True,
    ) -> Item:
        """Put a mail into a folder, made if it is not there. Sent mail shows no internetMessageHeaders."""
        with self.lock:
            place = self.folder(folder) or self.add_folder(folder)
            number = next(self._numbers)
            item = Item(
                new_id("AAkALg"),
                place.id,
                raw,
                at or datetime.now(UTC),
                number,
                draft,
                sent,
                internet_headers=not (sent or draft),
                visible=visible,
            )
            message = item.message
            item.extended = {
                "string 0x1042": str(message.get("In-Reply-To", "")),
                "string 0x1039": " ".join(str(message.get("References", "")).split()),
            }
            self.items[item.id] = item
            if visible:
                self.changes.append(Change(number, place.id, item.id, "created"))
            return item

    def show(self, item: Item) -> None:
        """Let an item appear that was late."""
        with self.lock:
            item.visible, item.arrived = True, next(self._numbers)
            self.changes.append(Change(item.arrived, item.folder, item.id, "created"))

    def find(self, id_: str) -> Item | None:
        """Return an item by either of its ids."""
        found = self.items.get(id_) or next((i for i in self.items.values() if i.moving_id == id_), None)
        return found if found and found.visible else None

    def move(self, item: Item, folder: str) -> None:
        """Move an item; its immutable id stays."""
        with self.lock:
            place = self.folder(folder) or self.add_folder(folder)
            self.changes.append(Change(next(self._numbers), item.folder, item.id, "removed"))
            item.folder, item.moving_id = place.id, new_id("AQMk")
            self.changes.append(Change(next(self._numbers), place.id, item.id, "created"))

    def remove(self, item: Item) -> None:
        """Delete for good."""
        with self.lock:
            self.changes.append(Change(next(self._numbers), item.folder, item.id, "removed"))
            del self.items[item.id]

    def listed(self, folder: str | None = None) -> list[Item]:
        """Return the visible items of a folder, or all."""
        with self.lock:
            return [i for i in self.items.values() if i.visible and folder in {None, i.folder}]

    def conversation_of(self, message: EmailMessage) -> str:
        """Return the thread: that of a mail it refers to, else one made of id or subject."""
        known = {str(i.message.get("Message-ID", "")): i for i in self.items.values()}
        mentioned = [
            *str(message.get("In-Reply-To", "")).split(),
            *str(message.get("References", "")).split(),
        ]
        for id_ in mentioned:
            if id_ in known and known[id_].message.get("Message-ID") != message.get("Message-ID"):
                return self.conversation_of(known[id_].message)
        root = mentioned[-1] if mentioned else str(message.get("Message-ID", message.get("Subject", "")))
        return "AAQk" + hashlib.sha256(f"{self.address}{root}".encode()).hexdigest()[:40] + "="


def new_id(prefix: str) -> str:
    """Make an id such as Exchange's: case-sensitive, with = at its end."""
    return prefix + base64.urlsafe_b64encode(secrets.token_bytes(36)).decode() + "A="


def to_json(mailbox: Mailbox, item: Item, *, immutable: bool) -> dict[str, Any]:
    """Return everything Graph could show of an item; `_extended` and `_item` are for us."""
    message = item.message
    sender = _recipients(message, "from")[:1]
    body = message.get_body(("html", "plain"))
    content = body.get_content() if body is not None else ""
    return {
        "@odata.etag": f'W/"{item.arrived}"',
        "id": item.id if immutable else item.moving_id,
        "createdDateTime": _time(item.received_at),
        "lastModifiedDateTime": _time(item.received_at),
        "changeKey": f"CQAAA{item.arrived}",
        "categories": [],
        "receivedDateTime": _time(item.received_at),
        "sentDateTime": _time(_date(message) or item.received_at),
        "hasAttachments": any(not p.get("Content-ID") for p in attachments(message)),
        "internetMessageId": str(message.get("Message-ID", "")),
        "subject": str(message.get("Subject", "")),
        "bodyPreview": content[:255],
        "importance": "normal",
        "parentFolderId": item.folder,
        "conversationId": mailbox.conversation_of(message),
        "conversationIndex": "AQHb",
        "isDeliveryReceiptRequested": False,
        "isReadReceiptRequested": False,
        "isRead": item.sent_by_us,
        "isDraft": item.draft,
        "webLink": f"https://outlook.office365.com/owa/?ItemID={item.id}",
        "inferenceClassification": "focused",
        "body": {"contentType": "html" if _is_html(body) else "text", "content": content},
        "uniqueBody": {"contentType": "text", "content": content},
        "sender": sender[0] if sender else None,
        "from": sender[0] if sender else None,
        "toRecipients": _recipients(message, "to"),
        "ccRecipients": _recipients(message, "cc"),
        "bccRecipients": _recipients(message, "bcc"),
        "replyTo": _recipients(message, "reply-to"),
        "flag": {"flagStatus": "notFlagged"},
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


def from_json(sender: str, body: Mapping[str, Any]) -> EmailMessage:
    """Compose the mail of a JSON message."""
    message = EmailMessage(policy=email.policy.SMTP)
    asked = (body.get("from") or {}).get("emailAddress", {}).get("address", sender)
    message["From"] = asked
    for name, key in (("To", "toRecipients"), ("Cc", "ccRecipients"), ("Bcc", "bccRecipients")):
        people = [_shown(one["emailAddress"]) for one in body.get(key) or ()]
        if people:
            message[name] = ", ".join(people)
    message["Subject"] = body.get("subject", "")
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = body.get("internetMessageId") or f"<{secrets.token_hex(16)}@sandbox.outlook.com>"
    for header in body.get("internetMessageHeaders") or ():
        message[header["name"]] = header["value"]
    content = body.get("body") or {}
    subtype = "html" if str(content.get("contentType", "")).lower() == "html" else "plain"
    message.set_content(content.get("content", ""), subtype=subtype)
    for one in body.get("attachments") or ():
        attach(message, one)
    return message


def attach(message: EmailMessage, shown: Mapping[str, Any]) -> None:
    """Add a fileAttachment's content."""
    main, _, sub = str(shown.get("contentType") or "application/octet-stream").partition("/")
    content = base64.b64decode(shown.get("contentBytes") or "")
    if main == "text":
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=shown["name"]
        )
    else:
        message.add_attachment(content, maintype=main, subtype=sub or "octet-stream", filename=shown["name"])


def recipients(message: EmailMessage) -> list[str]:
    """Return every address a mail goes to."""
    values = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return list(dict.fromkeys(address.lower() for _, address in getaddresses(values) if address))


def _shown(person: Mapping[str, str]) -> str:
    return f'"{person["name"]}" <{person["address"]}>' if person.get("name") else person["address"]


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
