"""One request: who asks, whose mailboxes that opens, and the operation it names."""

import email
import email.policy
import re
from email.utils import parseaddr
from typing import Protocol, override

from sandbox.exchange import soap
from sandbox.exchange.mailbox import Faults, Mailbox
from sandbox.exchange.shapes import Shape
from sandbox.exchange.soap import Call, Element, EwsError, find, local
from sandbox.exchange.writing import Writing
from sandbox.graph.mailbox import Folder, Item
from sandbox.mail import recipients
from sandbox.web import Reply

LARGEST = 35 * 1024 * 1024


_PARTS = {
    "Items": {"CreateItem", "GetItem", "UpdateItem", "MoveItem"},
    "Attachments": {"GetAttachment", "CreateAttachment"},
}
"""What an answer must have, even an empty one."""


class Server(Protocol):
    """What a request needs of its Exchange."""

    faults: Faults
    impersonators: set[str]

    def addresses(self) -> list[str]: ...
    def mailbox(self, address: str) -> Mailbox: ...
    def owner(self, id_: str) -> tuple[Mailbox, Item] | None: ...
    def post(self, mailbox: Mailbox, raw: bytes, copy: str) -> Item: ...


class Served(Writing):
    """One request, and what its user may reach."""

    def __init__(self, exchange: Server, call: Call, user: str) -> None:
        self.exchange, self.call = exchange, call
        if call.impersonated:
            if user not in exchange.impersonators:
                words = "The account does not have permission to impersonate the requested user."
                raise EwsError("ErrorImpersonateUserDenied", words)
            if call.impersonated not in exchange.addresses():
                raise EwsError("ErrorNonExistentMailbox", "No mailbox with such guid.")
        self.user = call.impersonated or user

    def answer(self) -> Reply:
        """Do what is asked."""
        name = self.call.operation
        do = getattr(self, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)
        if do is None:
            raise EwsError("ErrorInvalidRequest", f"{name} is not simulated.")
        faults = self.exchange.faults
        if planned := faults.errors.get(name):
            code = planned.pop(0)
            return self._refused(faults.busy() if code == "ErrorServerBusy" else EwsError(code))
        try:
            return soap.answer(name, list(do(self.call.body)))
        except EwsError as error:
            return self._refused(error)

    def _refused(self, error: EwsError) -> Reply:
        name = self.call.operation
        return soap.answer(name, [soap.refused(name, error, *self._rest(name))])

    def _rest(self, name: str) -> list[Element]:
        """Return what an error's message has besides the error."""
        if name == "SyncFolderItems" and not self.exchange.faults.bare_errors:
            return [soap.m("SyncState"), soap.m("IncludesLastItemInRange", "true")]
        return [soap.m(part) for part, names in _PARTS.items() if name in names]

    @override
    def place(self, id_: Element) -> tuple[Mailbox, Folder]:
        address = find(id_, "t:Mailbox/t:EmailAddress")
        named = ((address.text or "") if address is not None else "").lower() or self.user
        key = str(id_.get("Id"))
        boxes = [self._open(named)] if local(id_) == "DistinguishedFolderId" else self._reachable()
        for mailbox in boxes:
            folder = mailbox.place(key)
            if folder and folder.id in self.exchange.faults.closed:
                raise EwsError("ErrorAccessDenied", "Access is denied. Check credentials and try again.")
            if folder:
                return mailbox, folder
        raise EwsError("ErrorFolderNotFound", "The specified folder could not be found in the store.")

    @override
    def item(self, id_: Element) -> tuple[Mailbox, Item]:
        key = str(id_.get("Id"))
        if not re.fullmatch(r"[A-Za-z0-9+/_=-]{16,}", key):
            raise EwsError("ErrorInvalidIdMalformed", "Id is malformed.")
        found = self.exchange.owner(key)
        if found is None or found[0] not in self._reachable():
            raise EwsError("ErrorItemNotFound", "The specified object was not found in the store.")
        if code := self._bad().get(found[1].id):
            raise EwsError(code, "The item cannot be shown.")
        return found

    def _bad(self) -> dict[str, str]:
        """Return the mails that cannot be shown, as this request asks for them."""
        faults, content = self.exchange.faults, Shape.of(self.call.body, "ItemShape").content
        return {**faults.bad_mails, **faults.bad_contents} if content else faults.bad_mails

    @override
    def names(self) -> list[str]:
        return self.exchange.addresses()

    @override
    def submit(self, mailbox: Mailbox, raw: bytes, *, copy: str) -> None:
        message = email.message_from_bytes(raw, policy=email.policy.SMTP)
        sender = parseaddr(str(message.get("From", "")))[1].lower()
        if not recipients(message):
            raise EwsError("ErrorMissingRecipients", "At least one recipient is needed.")
        if len(raw) > LARGEST:
            raise EwsError("ErrorMessageSizeExceeded", "The message exceeds the maximum supported size.")
        if sender not in {"", self.user} and "send_as" not in self.exchange.mailbox(sender).access.get(
            self.user, ()
        ):
            raise EwsError(
                "ErrorSendAsDenied", "The user account does not have the right to send as this mailbox."
            )
        self.exchange.post(mailbox, raw, copy)
        if self.exchange.faults.lost_answers > 0:
            self.exchange.faults.lost_answers -= 1
            raise ConnectionAbortedError

    def _open(self, address: str) -> Mailbox:
        if address not in self.exchange.addresses():
            raise EwsError("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.")
        mailbox = self.exchange.mailbox(address)
        if mailbox not in self._reachable():
            raise EwsError("ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        return mailbox

    def _reachable(self) -> list[Mailbox]:
        every = [self.exchange.mailbox(address) for address in self.exchange.addresses()]
        return [
            one for one in every if self.user == one.address or "full_access" in one.access.get(self.user, ())
        ]
