"""What EWS shows of folders, mails and attachments: the properties a request names, in the schema's order."""

import base64
from dataclasses import dataclass, field
from email.message import EmailMessage

from sandbox.exchange.mailbox import Mailbox
from sandbox.exchange.properties import PROPERTIES, attachment, bytes_of, extended, instant, value_of, view_of
from sandbox.exchange.soap import Element, EwsError, find, find_all, local, t, yes
from sandbox.graph.mailbox import Folder, Item
from sandbox.mail import AS_READ

CONTENT = {"item:MimeContent", "item:Body", "item:UniqueBody", "item:TextBody", "item:NormalizedBody"}
NOT_IN_LISTS = (
    CONTENT
    | {"item:Attachments", "item:InternetMessageHeaders", "message:ToRecipients"}
    | {
        "message:CcRecipients",
        "message:BccRecipients",
    }
)
"""FindItem and SyncFolderItems do not give these: GetItem does."""

DISTINGUISHED = {
    "calendar",
    "contacts",
    "deleteditems",
    "drafts",
    "inbox",
    "junkemail",
    "outbox",
    "sentitems",
    "tasks",
}


@dataclass
class Shape:
    """What a request asks for.

    Attributes:
        base: IdOnly, Default or AllProperties.
        fields: the names of its FieldURIs.
        extended: its ExtendedFieldURI elements.
    """

    base: str = "IdOnly"
    fields: set[str] = field(default_factory=set)
    extended: list[Element] = field(default_factory=list)

    @classmethod
    def of(cls, body: Element, name: str) -> "Shape":
        """Read a request's ItemShape, FolderShape or AttachmentShape."""
        shape = find(body, f"m:{name}")
        if shape is None:
            return cls("Default")
        base, mime = find(shape, "t:BaseShape"), find(shape, "t:IncludeMimeContent")
        named = find_all(shape, "t:AdditionalProperties/*")
        fields = {str(one.get("FieldURI")) for one in named if local(one) == "FieldURI"}
        if mime is not None and yes(mime.text):
            fields.add("item:MimeContent")
        extended = [one for one in named if local(one) == "ExtendedFieldURI"]
        return cls(base.text or "IdOnly" if base is not None else "Default", fields, extended)

    @property
    def headers(self) -> bool:
        """Whether anything of a mail is asked for but its id and when it came."""
        return bool(self.extended or self.fields - {"item:DateTimeReceived"}) or self.base != "IdOnly"

    @property
    def content(self) -> bool:
        """Whether somebody's text is asked for."""
        return bool(self.fields & CONTENT) or self.base != "IdOnly"

    def wants(self, name: str, base: str) -> bool:
        """Whether a property is to be shown that belongs to this base shape."""
        shapes = {"IdOnly": {"IdOnly"}, "Default": {"IdOnly", "Default"}}
        return name in self.fields or base in shapes.get(self.base, {"IdOnly", "Default", "AllProperties"})

    def listed(self) -> "Shape":
        """Return what FindItem and SyncFolderItems give of it. Raises EwsError as they do."""
        if asked := self.fields & NOT_IN_LISTS:
            raise EwsError(
                "ErrorInvalidPropertyRequest", f"Not in this operation: {', '.join(sorted(asked))}."
            )
        return self


def show_folder(mailbox: Mailbox, folder: Folder, shape: Shape) -> Element:
    """Return a folder. Only mail folders have an unread count that anybody reads."""
    parent, inside = mailbox.parent(folder), mailbox.listed(folder.id)
    kind = {"IPF.Appointment": "CalendarFolder", "IPF.Contact": "ContactsFolder", "IPF.Task": "TasksFolder"}
    shown: list[tuple[str, str, Element | None]] = [
        ("folder:ParentFolderId", "Default", t("ParentFolderId", Id=parent.id) if parent else None),
        ("folder:FolderClass", "Default", t("FolderClass", mailbox.class_of(folder))),
        ("folder:DisplayName", "Default", t("DisplayName", folder.name)),
        ("folder:TotalCount", "Default", t("TotalCount", str(len(inside)))),
        ("folder:ChildFolderCount", "Default", t("ChildFolderCount", str(len(mailbox.below(folder))))),
    ]
    made = t(kind.get(mailbox.class_of(folder), "Folder"), t("FolderId", Id=folder.id, ChangeKey="AQAAAA=="))
    made.extend(one for name, base, one in shown if one is not None and shape.wants(name, base))
    for wanted in shape.extended:
        if (wanted.get("PropertyTag") or "").lower() == "0x670a":
            made.append(extended(wanted, instant(mailbox.changed_at(folder))))
    if shape.wants("folder:DistinguishedFolderId", "AllProperties") and folder.well_known in DISTINGUISHED:
        made.append(t("DistinguishedFolderId", folder.well_known))
    if shape.wants("folder:UnreadCount", "Default") and local(made) in {"Folder", "TasksFolder"}:
        made.append(t("UnreadCount", str(sum(not item.read for item in inside))))
    return made


def show_item(mailbox: Mailbox, item: Item, shape: Shape) -> Element:
    """Return a mail; each time that more than its id and time is given out is counted."""
    mailbox.headers_read[item.id] += shape.headers
    view = view_of(mailbox, item)
    made = t("Message")
    for name, base, make in PROPERTIES:
        if name == "extended":
            found = ((wanted, value_of(view, wanted)) for wanted in shape.extended)
            made.extend(extended(wanted, value) for wanted, value in found if value)
        elif shape.wants(name, base) and (shown := make(view)) is not None:
            made.append(shown)
    return made


def show_attachment(item: Item, part: EmailMessage, number: int, shape: Shape) -> Element:
    """Return an attachment with its content. An attached mail is an item of its own, text and all."""
    made = attachment(item, part, number)
    if part.get_content_type() == "message/rfc822":
        raw = part.get_content().as_bytes(policy=AS_READ)
        inner = Item("", "", raw, item.received_at, 0)
        asked = Shape("Default", shape.fields | {"item:Body"}, shape.extended)  # it cannot be left out
        made.append(show_item(Mailbox(""), inner, asked))
    else:
        made.append(t("Content", base64.b64encode(bytes_of(part)).decode()))
    return made
