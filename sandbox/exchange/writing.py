"""The operations that change something: drafts, sending, moving, deleting, folders."""

import base64
import email
import email.policy
from collections.abc import Iterator

from sandbox.exchange.mailbox import Mailbox
from sandbox.exchange.properties import item_id, keep_properties
from sandbox.exchange.reading import Reading
from sandbox.exchange.shapes import Shape, show_folder
from sandbox.exchange.soap import Element, EwsError, find, find_all, m, message, refused, t, yes
from sandbox.graph.attachments import grow
from sandbox.graph.composing import attach, compose


class Writing(Reading):
    """What one request changes. `submit` hands a mail to transport."""

    def submit(self, mailbox: Mailbox, raw: bytes, *, copy: str) -> None:
        """Send a mail; `copy` is the folder that keeps it, or empty. Raises EwsError."""
        raise NotImplementedError

    def create_item(self, body: Element) -> Iterator[Element]:
        """CreateItem: SaveOnly gives ids, SendOnly and SendAndSaveCopy give none."""
        how, folder = str(body.get("MessageDisposition")), find(body, "m:SavedItemFolderId")
        for given in find_all(body, "m:Items/*"):
            try:
                yield message("CreateItem", m("Items", self._create(given, how, folder)))
            except EwsError as error:
                yield refused("CreateItem", error, m("Items"))

    def _create(self, given: Element, how: str, folder: Element | None) -> Element | None:
        mailbox, place = self.place(
            folder[0] if folder is not None else t("DistinguishedFolderId", Id=_default(how))
        )
        raw = _written(mailbox.address, given)
        if how == "SaveOnly":
            item = mailbox.add(raw, place.id, draft=not _is_finished(given), sent=False)
            keep_properties(item, find_all(given, "t:ExtendedProperty"))
            return t("Message", item_id(item))
        self.submit(mailbox, raw, copy=place.id if how == "SendAndSaveCopy" else "")
        return None

    def send_item(self, body: Element) -> Iterator[Element]:
        """SendItem: a draft leaves; its copy goes where the request says, or nowhere."""
        folder, saved = find(body, "m:SavedItemFolderId"), yes(body.get("SaveItemToFolder"))
        for id_ in find_all(body, "m:ItemIds/*"):
            try:
                mailbox, draft = self.item(id_)
                _, place = self.place(
                    folder[0] if folder is not None else t("DistinguishedFolderId", Id="sentitems")
                )
                self.submit(mailbox, draft.raw, copy=place.id if saved else "")
                mailbox.remove(draft)
                yield message("SendItem")
            except EwsError as error:
                yield refused("SendItem", error)

    def create_attachment(self, body: Element) -> Iterator[Element]:
        """CreateAttachment: to a draft, whose bytes are written anew."""
        parent = find(body, "m:ParentItemId")
        if parent is None:
            raise EwsError("ErrorSchemaValidation", "ParentItemId is missing.")
        mailbox, item = self.item(parent)
        for number, given in enumerate(find_all(body, "m:Attachments/*")):
            grow(item, _file(given))
            mailbox.views.pop(item.id, None)
            made = t("AttachmentId", Id=f"{item.moving_id}.{number}", RootItemId=item.moving_id)
            yield message("CreateAttachment", m("Attachments", t("FileAttachment", made)))

    def update_item(self, body: Element) -> Iterator[Element]:
        """UpdateItem: read or not, and extended properties; whatever else is taken and shows nowhere."""
        for change in find_all(body, "m:ItemChanges/t:ItemChange"):
            try:
                mailbox, item = self.item(change[0])
            except EwsError as error:
                yield refused("UpdateItem", error, m("Items"))
                continue
            given = "t:Updates/t:SetItemField/t:Message"
            keep_properties(item, find_all(change, f"{given}/t:ExtendedProperty"))
            for read in find_all(change, f"{given}/t:IsRead"):
                item.read = yes(read.text)
            mailbox.changed(item)
            yield message(
                "UpdateItem", m("Items", t("Message", item_id(item))), m("ConflictResults", t("Count", "0"))
            )

    def move_item(self, body: Element) -> Iterator[Element]:
        """MoveItem: a mail has another id afterwards."""
        target = find(body, "m:ToFolderId")
        if target is None:
            raise EwsError("ErrorSchemaValidation", "ToFolderId is missing.")
        for id_ in find_all(body, "m:ItemIds/*"):
            try:
                mailbox, item = self.item(id_)
                mailbox.move(item, self.place(target[0])[1].id)
                yield message("MoveItem", m("Items", t("Message", item_id(item))))
            except EwsError as error:
                yield refused("MoveItem", error, m("Items"))

    def delete_item(self, body: Element) -> Iterator[Element]:
        """DeleteItem: for good, or into Deleted Items."""
        for id_ in find_all(body, "m:ItemIds/*"):
            try:
                mailbox, item = self.item(id_)
            except EwsError as error:
                yield refused("DeleteItem", error)
                continue
            if body.get("DeleteType") == "MoveToDeletedItems":
                mailbox.move(item, "deleteditems")
            else:
                mailbox.remove(item)
            yield message("DeleteItem")

    def create_folder(self, body: Element) -> Iterator[Element]:
        """CreateFolder: below another."""
        parent = find(body, "m:ParentFolderId")
        if parent is None:
            raise EwsError("ErrorSchemaValidation", "ParentFolderId is missing.")
        mailbox, above = self.place(parent[0])
        for given in find_all(body, "m:Folders/*"):
            name = find(given, "t:DisplayName")
            made = mailbox.add_folder((name.text or "") if name is not None else "", parent=above.id)
            yield message("CreateFolder", m("Folders", show_folder(mailbox, made, Shape())))


def _default(how: str) -> str:
    return "drafts" if how == "SaveOnly" else "sentitems"


def _is_finished(given: Element) -> bool:
    """Whether a client files a mail that is none to be written on: message flags without UNSENT (8)."""
    for one in find_all(given, "t:ExtendedProperty"):
        path, value = find(one, "t:ExtendedFieldURI"), find(one, "t:Value")
        if path is not None and value is not None and int(str(path.get("PropertyTag", "0")), 0) == 0x0E07:
            return not int(value.text or 0) & 8
    return False


def _written(sender: str, given: Element) -> bytes:
    """Return the bytes of a new mail: what MimeContent says, else what its properties say."""
    mime = find(given, "t:MimeContent")
    if mime is not None:
        try:
            return base64.b64decode(mime.text or "", validate=True)
        except ValueError as error:
            raise EwsError("ErrorMimeContentInvalidBase64String", "MimeContent is no base64.") from error
    made = compose(sender, {**_texts(given), **_people(given)})
    for name, tag in (("In-Reply-To", "InReplyTo"), ("References", "References")):
        if (value := find(given, f"t:{tag}")) is not None:
            made[name] = value.text or ""
    for one in find_all(given, "t:ExtendedProperty"):
        path, value = find(one, "t:ExtendedFieldURI"), find(one, "t:Value")
        if (
            path is not None
            and value is not None
            and path.get("DistinguishedPropertySetId") == "InternetHeaders"
        ):
            made[str(path.get("PropertyName"))] = value.text or ""
    for file in find_all(given, "t:Attachments/t:FileAttachment"):
        attach(made, _file(file))
    return made.as_bytes(policy=email.policy.SMTP)


def _texts(given: Element) -> dict[str, object]:
    subject, body, message_id = (
        find(given, f"t:{name}") for name in ("Subject", "Body", "InternetMessageId")
    )
    content = (
        {"contentType": body.get("BodyType", "Text"), "content": body.text or ""} if body is not None else {}
    )
    return {
        "subject": (subject.text or "") if subject is not None else "",
        "body": content,
        **({"internetMessageId": message_id.text} if message_id is not None else {}),
    }


def _people(given: Element) -> dict[str, object]:
    lists = {"toRecipients": "ToRecipients", "ccRecipients": "CcRecipients", "bccRecipients": "BccRecipients"}
    found: dict[str, object] = {
        key: [_person(one) for one in find_all(given, f"t:{tag}/t:Mailbox")] for key, tag in lists.items()
    }
    author = find(given, "t:From/t:Mailbox")
    return found if author is None else {**found, "from": _person(author)}


def _person(one: Element) -> dict[str, dict[str, str]]:
    name, address = find(one, "t:Name"), find(one, "t:EmailAddress")
    shown = {"name": (name.text or "") if name is not None else ""}
    return {"emailAddress": {**shown, "address": (address.text or "") if address is not None else ""}}


def _file(given: Element) -> dict[str, str]:
    name, kind, content = (find(given, f"t:{tag}") for tag in ("Name", "ContentType", "Content"))
    return {
        "name": (name.text or "file") if name is not None else "file",
        "contentType": (kind.text or "") if kind is not None else "",
        "contentBytes": (content.text or "") if content is not None else "",
    }
