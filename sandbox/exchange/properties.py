"""The properties of a mail, by FieldURI and by MAPI tag, and how each is shown."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

from sandbox.exchange.mailbox import Mailbox
from sandbox.exchange.soap import Element, clean, find, t
from sandbox.graph.mailbox import Item
from sandbox.graph.showing import attachments


def instant(at: datetime) -> str:
    """Write a time, to the second as EWS does."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dated(message: EmailMessage) -> datetime | None:
    """Read a mail's Date."""
    try:
        return parsedate_to_datetime(str(message["Date"])).astimezone(UTC)
    except (TypeError, ValueError):
        return None


def people(message: EmailMessage, name: str) -> list[tuple[str, str]]:
    """Read a header's addresses: (name, address)."""
    return [pair for pair in getaddresses([str(v) for v in message.get_all(name, [])]) if pair[1]]


def item_id(item: Item) -> Element:
    """Return a mail's id."""
    return t("ItemId", Id=item.moving_id, ChangeKey=f"CQAAA{item.arrived}")


@dataclass
class View:
    """A mail with what its properties are made of."""

    mailbox: Mailbox
    item: Item

    def __post_init__(self) -> None:
        self.message = self.item.message

    def header(self, name: str) -> str:
        """Return a header on one line."""
        return clean(" ".join(str(self.message.get(name, "")).split()))

    def text(self, tag: str, value: str) -> Element | None:
        """Return an element, or None for no value."""
        return t(tag, clean(value)) if value else None

    def mailboxes(self, tag: str, name: str, most: int = 1000) -> Element | None:
        """Return a header's people."""
        shown = [
            t(
                "Mailbox",
                t("Name", clean(who) or address),
                t("EmailAddress", address),
                t("RoutingType", "SMTP"),
            )
            for who, address in people(self.message, name)[:most]
        ]
        return t(tag, *shown) if shown else None

    @property
    def submitter(self) -> str:
        """Name the header that says who submitted it."""
        return "Sender" if people(self.message, "Sender") else "From"

    def body(self) -> Element:
        """Return the text, of any kind."""
        part = self.message.get_body(("html", "plain"))
        kind = "HTML" if part is not None and part.get_content_type() == "text/html" else "Text"
        return t("Body", clean(str(part.get_content())) if part is not None else "", BodyType=kind)

    def headers(self) -> Element | None:
        """Return the headers, where the mail came through transport."""
        if not self.item.internet_headers:
            return None
        shown = [
            t("InternetMessageHeader", clean(" ".join(str(value).split())), HeaderName=name)
            for name, value in self.message.items()
        ]
        return t("InternetMessageHeaders", *shown)

    def attachments(self) -> Element | None:
        """Return what is attached, without its content."""
        parts = attachments(self.message)
        shown = [attachment(self.item, part, number) for number, part in enumerate(parts)]
        return t("Attachments", *shown) if shown else None

    def bcc(self) -> Element | None:
        """Return hidden recipients: of mail that its owner sent or writes."""
        return self.mailboxes("BccRecipients", "Bcc") if self.item.sent_by_us or self.item.draft else None


def view_of(mailbox: Mailbox, item: Item) -> View:
    """Return a mail's view; its bytes never change, so it is parsed once."""
    known = mailbox.views.get(item.id)
    if known is None or known.item is not item:
        known = mailbox.views[item.id] = View(mailbox, item)
    return known


def attachment(item: Item, part: EmailMessage, number: int) -> Element:
    """Return an attachment without its content."""
    return t(
        "ItemAttachment" if part.get_content_type() == "message/rfc822" else "FileAttachment",
        t("AttachmentId", Id=f"{item.moving_id}.{number}"),
        t("Name", clean(part.get_filename() or "")),
        t("ContentType", part.get_content_type()),
        t("Size", str(len(bytes_of(part)))),
        t("IsInline", "true" if part.get_content_disposition() == "inline" else "false"),
    )


def bytes_of(part: EmailMessage) -> bytes:
    """Return an attachment's content; message/delivery-status is groups of fields."""
    payload = part.get_payload(decode=True)
    if part.is_multipart() and part.get_content_type() != "message/rfc822":
        return b"".join(group.as_bytes() for group in part.iter_parts())
    return payload if isinstance(payload, bytes) else b""


def extended(wanted: Element, value: str) -> Element:
    """Return an extended property with its value."""
    attributes: dict[str, Any] = dict(wanted.attrib)
    return t("ExtendedProperty", t("ExtendedFieldURI", **attributes), t("Value", clean(value)))


def _transport_headers(view: View) -> str:
    if not view.item.internet_headers:
        return ""
    return view.item.raw.partition(b"\r\n\r\n")[0].decode("utf-8", "replace") + "\r\n"


TAGS: dict[int, Callable[[View], str]] = {
    0x007D: _transport_headers,
    0x0E06: lambda v: instant(v.item.received_at),
    0x0E07: lambda v: str(1 * v.item.read | 8 * v.item.draft | 4 * v.item.sent_by_us),
    0x0E08: lambda v: str(len(v.item.raw)),
    0x0E1D: lambda v: v.header("Subject").removeprefix("Re: "),
    0x0E23: lambda v: str(v.item.arrived),
    0x0E69: lambda v: _flag(v.item.read),
    0x1035: lambda v: v.header("Message-ID"),
    0x1039: lambda v: v.header("References"),
    0x1042: lambda v: v.header("In-Reply-To"),
    0x001A: lambda _: "IPM.Note",
    0x0037: lambda v: v.header("Subject"),
}
"""MAPI properties by tag, https://learn.microsoft.com/openspecs/exchange_server_protocols/ms-oxprops."""


def value_of(view: View, wanted: Element) -> str:
    """Return the value of a property that an ExtendedFieldURI names, or an empty string."""
    if wanted.get("DistinguishedPropertySetId") == "InternetHeaders":
        return view.header(str(wanted.get("PropertyName")))
    tag = wanted.get("PropertyTag")
    number = int(tag, 16 if tag.lower().startswith("0x") else 10) if tag else 0
    return TAGS[number](view) if number in TAGS else view.item.extended.get(_key(wanted), "")


def _key(wanted: Element) -> str:
    return "|".join(f"{name}={value}" for name, value in sorted(wanted.attrib.items()))


def keep_properties(item: Item, given: Iterable[Element]) -> None:
    """Remember extended properties that a client sets."""
    for one in given:
        wanted, value = find(one, "t:ExtendedFieldURI"), find(one, "t:Value")
        if wanted is not None and value is not None:
            item.extended[_key(wanted)] = value.text or ""


PROPERTIES: list[tuple[str, str, Callable[[View], Element | None]]] = [
    (
        "item:MimeContent",
        "never",
        lambda v: t("MimeContent", base64.b64encode(v.item.raw).decode(), CharacterSet="UTF-8"),
    ),
    ("item:ItemId", "IdOnly", lambda v: item_id(v.item) if v.item.id else None),
    (
        "item:ParentFolderId",
        "AllProperties",
        lambda v: t("ParentFolderId", Id=v.item.folder) if v.item.folder else None,
    ),
    ("item:ItemClass", "AllProperties", lambda v: t("ItemClass", _class(v))),
    ("item:Subject", "Default", lambda v: v.text("Subject", v.header("Subject"))),
    ("item:Body", "Default-of-one", View.body),
    ("item:Attachments", "Default-of-one", View.attachments),
    ("item:DateTimeReceived", "AllProperties", lambda v: t("DateTimeReceived", instant(v.item.received_at))),
    ("item:Size", "Default", lambda v: t("Size", str(len(v.item.raw)))),
    ("item:InReplyTo", "AllProperties", lambda v: v.text("InReplyTo", v.header("In-Reply-To"))),
    ("item:IsDraft", "AllProperties", lambda v: t("IsDraft", "true" if v.item.draft else "false")),
    ("item:InternetMessageHeaders", "never", View.headers),
    (
        "item:DateTimeSent",
        "Default",
        lambda v: t("DateTimeSent", instant(dated(v.message) or v.item.received_at)),
    ),
    ("item:DateTimeCreated", "AllProperties", lambda v: t("DateTimeCreated", instant(v.item.received_at))),
    ("item:DisplayTo", "AllProperties", lambda v: t("DisplayTo", v.header("To"))),
    (
        "item:HasAttachments",
        "Default",
        lambda v: t("HasAttachments", "true" if attachments(v.message) else "false"),
    ),
    ("extended", "", lambda _: None),
    ("item:LastModifiedTime", "AllProperties", lambda v: t("LastModifiedTime", instant(v.item.received_at))),
    (
        "item:ConversationId",
        "AllProperties",
        lambda v: t("ConversationId", Id=v.item.conversation),
    ),
    (
        "message:Sender",
        "AllProperties",
        lambda v: v.mailboxes("Sender", v.submitter, 1),
    ),
    ("message:ToRecipients", "AllProperties", lambda v: v.mailboxes("ToRecipients", "To")),
    ("message:CcRecipients", "AllProperties", lambda v: v.mailboxes("CcRecipients", "Cc")),
    ("message:BccRecipients", "AllProperties", View.bcc),
    ("message:From", "Default", lambda v: v.mailboxes("From", "From", 1)),
    (
        "message:InternetMessageId",
        "AllProperties",
        lambda v: v.text("InternetMessageId", v.header("Message-ID")),
    ),
    ("message:IsRead", "Default", lambda v: t("IsRead", _flag(v.item.read))),
    ("message:References", "AllProperties", lambda v: v.text("References", v.header("References"))),
]
"""FieldURI, smallest base shape that has it, how it is shown; in the order of ItemType and MessageType."""


def _flag(value: object) -> str:
    return "true" if value else "false"


def _class(view: View) -> str:
    return "REPORT.IPM.Note.NDR" if view.message.get_content_type() == "multipart/report" else "IPM.Note"
