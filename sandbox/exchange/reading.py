"""The operations that look: folders, lists, mails, attachments, changes, names."""

from collections.abc import Iterator

from sandbox.exchange.mailbox import Mailbox
from sandbox.exchange.queries import named, ordered, paged, restriction
from sandbox.exchange.shapes import Shape, show_attachment, show_folder, show_item
from sandbox.exchange.soap import Element, EwsError, find, find_all, local, m, message, refused, t
from sandbox.graph.mailbox import Change, Folder, Item
from sandbox.graph.showing import attachments

MOST_CHANGES = 512


class Reading:
    """What one request reads. `place`, `item` and `mailboxes` are the server's, for who asks.

    A subclass says what may be reached.
    """

    user: str

    def place(self, id_: Element) -> tuple[Mailbox, Folder]:
        """Return a folder. Raises EwsError."""
        raise NotImplementedError

    def item(self, id_: Element) -> tuple[Mailbox, Item]:
        """Return a mail. Raises EwsError."""
        raise NotImplementedError

    def names(self) -> list[str]:
        """Return the addresses of everybody."""
        raise NotImplementedError

    def get_folder(self, body: Element) -> Iterator[Element]:
        """GetFolder: one answer a folder."""
        shape = Shape.of(body, "FolderShape")
        for id_ in find_all(body, "m:FolderIds/*"):
            try:
                mailbox, folder = self.place(id_)
            except EwsError as error:
                yield refused("GetFolder", error, m("Folders"))
            else:
                yield message("GetFolder", m("Folders", show_folder(mailbox, folder, shape)))

    def find_folder(self, body: Element) -> Iterator[Element]:
        """FindFolder: below each folder, or all the way down."""
        shape, deep = Shape.of(body, "FolderShape"), body.get("Traversal") == "Deep"
        view = find(body, "m:IndexedPageFolderView")
        for id_ in find_all(body, "m:ParentFolderIds/*"):
            mailbox, folder = self.place(id_)
            found = (one for one in _below(mailbox, folder, deep=deep) if named(body, one.name))
            shown = [show_folder(mailbox, one, shape) for one in found]
            yield message("FindFolder", paged(view, shown, "Folders"))

    def find_item(self, body: Element) -> Iterator[Element]:
        """FindItem: a page of each folder; never anything of a body."""
        shape, view = Shape.of(body, "ItemShape").listed(), find(body, "m:IndexedPageItemView")
        for id_ in find_all(body, "m:ParentFolderIds/*"):
            try:
                mailbox, folder = self.place(id_)
            except EwsError as error:
                yield refused("FindItem", error)
                continue
            matches = restriction(mailbox, body)
            found = ordered(mailbox, body, [item for item in mailbox.listed(folder.id) if matches(item)])
            shown = [show_item(mailbox, item, shape) for item in found]
            yield message("FindItem", paged(view, shown, "Items", mailbox.most_found))

    def get_item(self, body: Element) -> Iterator[Element]:
        """GetItem: one answer a mail; each time somebody's text is given out is counted."""
        shape = Shape.of(body, "ItemShape")
        for id_ in find_all(body, "m:ItemIds/*"):
            try:
                mailbox, item = self.item(id_)
            except EwsError as error:
                yield refused("GetItem", error, m("Items"))
                continue
            mailbox.bodies_read[item.id] += shape.content
            whole = Shape(
                shape.base, shape.fields | ({"item:Body", "item:Attachments"} if shape.content else set())
            )
            whole.extended = shape.extended
            asked = shape if "item:MimeContent" in shape.fields else whole
            yield message("GetItem", m("Items", show_item(mailbox, item, asked)))

    def sync_folder_items(self, body: Element) -> Iterator[Element]:
        """SyncFolderItems: what came into, or left, a folder since the sync state."""
        shape = Shape.of(body, "ItemShape").listed()
        id_, state, most = (
            find(body, f"m:{name}") for name in ("SyncFolderId", "SyncState", "MaxChangesReturned")
        )
        size = int(most.text or 0) if most is not None else 0
        if not 0 < size <= MOST_CHANGES:
            raise EwsError(
                "ErrorInvalidSyncStateData" if size else "ErrorSchemaValidation", "MaxChangesReturned"
            )
        if id_ is None:
            raise EwsError("ErrorSchemaValidation", "SyncFolderId is missing.")
        mailbox, folder = self.place(id_[0])
        changes, told, complete = mailbox.sync(
            folder.id, (state.text or "") if state is not None else "", size
        )
        shown = [_changed(mailbox, change, shape) for change in changes]
        yield message(
            "SyncFolderItems",
            m("SyncState", told),
            m("IncludesLastItemInRange", "true" if complete else "false"),
            m("Changes", *shown),
        )

    def get_attachment(self, body: Element) -> Iterator[Element]:
        """GetAttachment: one answer an attachment, with its content."""
        shape = Shape.of(body, "AttachmentShape")
        for id_ in find_all(body, "m:AttachmentIds/t:AttachmentId"):
            name, _, number = str(id_.get("Id")).rpartition(".")
            try:
                mailbox, item = self.item(t("ItemId", Id=name))
                part = attachments(item.message)[int(number)]
            except (EwsError, ValueError, IndexError):
                gone = EwsError("ErrorInvalidAttachmentId", "The attachment does not exist.")
                yield refused("GetAttachment", gone, m("Attachments"))
                continue
            mailbox.bodies_read[item.id] += part.get_content_type() == "message/rfc822"  # it has a text
            yield message("GetAttachment", m("Attachments", show_attachment(item, part, int(number), shape)))

    def convert_id(self, body: Element) -> Iterator[Element]:
        """ConvertId: clients use it to see whether anybody is there; ids stay as they are."""
        for id_ in find_all(body, "m:SourceIds/*"):
            if local(id_) != "AlternateId" or id_.get("Id") == "DUMMY":
                yield refused("ConvertId", EwsError("ErrorInvalidIdMalformed", "Id is malformed."))
                continue
            attributes = {
                "Format": body.get("DestinationFormat"),
                "Id": id_.get("Id"),
                "Mailbox": id_.get("Mailbox") or self.user,
            }
            alternate = t("AlternateId", **attributes)
            alternate.set("{http://www.w3.org/2001/XMLSchema-instance}type", "t:AlternateIdType")
            renamed = m("AlternateId")
            renamed.attrib.update(alternate.attrib)
            yield message("ConvertId", renamed)

    def resolve_names(self, body: Element) -> Iterator[Element]:
        """ResolveNames: users whose address begins with the entry."""
        entry = find(body, "m:UnresolvedEntry")
        wanted = ((entry.text or "") if entry is not None else "").lower().removeprefix("smtp:")
        found = [address for address in self.names() if wanted and address.startswith(wanted)]
        if not found:
            none = EwsError("ErrorNameResolutionNoResults", "No results were found.")
            yield refused("ResolveNames", none)
            return
        shown = [
            t(
                "Resolution",
                t(
                    "Mailbox",
                    t("Name", address.partition("@")[0]),
                    t("EmailAddress", address),
                    t("RoutingType", "SMTP"),
                    t("MailboxType", "Mailbox"),
                ),
            )
            for address in found[:100]
        ]
        attributes = {"TotalItemsInView": str(len(shown)), "IncludesLastItemInRange": "true"}
        yield message("ResolveNames", m("ResolutionSet", *shown, **attributes))


def _below(mailbox: Mailbox, folder: Folder, *, deep: bool) -> Iterator[Folder]:
    for one in mailbox.below(folder):
        yield one
        if deep:
            yield from _below(mailbox, one, deep=True)


def _changed(mailbox: Mailbox, change: Change, shape: Shape) -> Element:
    item = mailbox.items.get(change.item)
    if item is None or item.folder != change.folder:
        return t("Delete", t("ItemId", Id=change.moving_id))
    return t("Update" if change.kind == "updated" else "Create", show_item(mailbox, item, shape))
