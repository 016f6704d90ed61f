"""The post side of Exchange Online: mailboxes, mail that comes in, mail that leaves by SMTP."""

import email
import email.policy
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sandbox.graph.faults import Faults
from sandbox.graph.mailbox import Item, Mailbox
from sandbox.graph.notifying import Notifier
from sandbox.graph.problems import GraphError
from sandbox.mail import date_822, hand_over, recipients, without

if TYPE_CHECKING:
    from sandbox.graph.contract import Contract


class Exchange:
    """Mailboxes, and the post between them and the world.

    Attributes:
        notifier: subscriptions, and the faults of notifications.
        sent: mails handed over, as they went out.
        contract: see `Graph`.
    """

    def __init__(self, mx: tuple[str, int], ca: str) -> None:
        self.faults = Faults()
        self.contract: Contract | None = None
        self.notifier = Notifier(ca, self._check)
        self.sent: list[bytes] = []
        self._mx = mx
        self._mailboxes: dict[str, Mailbox] = {}
        self._late: list[tuple[Mailbox, Item]] = []

    def add_mailbox(self, address: str) -> Mailbox:
        """Give somebody a mailbox."""
        return self._mailboxes.setdefault(address.lower(), Mailbox(address.lower()))

    def mailbox(self, address: str) -> Mailbox:
        """Return somebody's mailbox. Raises KeyError."""
        return self._mailboxes[address.lower()]

    def find_mailbox(self, address: str) -> Mailbox | None:
        """Return somebody's mailbox."""
        return self._mailboxes.get(address.lower())

    def knows(self, address: str) -> bool:
        """Whether mail to this address arrives, with or without a +detail."""
        return _plain(address) in self._mailboxes

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:  # noqa: ARG002 - the post's call
        """Take a mail in, as Exchange Online does: with its verdict about the sender on top."""
        sender = email.message_from_bytes(raw)["From"] or ""
        domain = sender.rpartition("@")[2].strip("> ").lower()
        word = "fail" if domain in self.faults.forged else "pass"
        verdict = (
            f"Authentication-Results: spf={word} (sender IP is 127.0.0.1) smtp.mailfrom={domain};\r\n"
            f" dkim={word} (signature was verified) header.d={domain};dmarc={word} action=none\r\n"
            f" header.from={domain};compauth={word} reason=100\r\n"
        )
        trace = f"Received: from mail.sandbox.example by outlook.sandbox; {date_822()}\r\n"
        self.arrive(_plain(recipient), verdict.encode() + trace.encode() + raw)

    def arrive(
        self,
        address: str,
        raw: bytes,
        folder: str = "inbox",
        at: datetime | None = None,
        *,
        sent: bool = False,
    ) -> Item:
        """Put a mail into a mailbox and tell whoever subscribed."""
        mailbox = self.mailbox(address)
        item = mailbox.add(raw, folder, at=at, sent=sent)
        self._tell(mailbox, item)
        return item

    def send_as_user(self, address: str, raw: bytes) -> Item:
        """The person sends from Outlook herself: it is delivered, and a copy lies in Sent Items."""
        message = email.message_from_bytes(raw, policy=email.policy.SMTP)
        self._transport(address, raw, recipients(message))
        return self.arrive(address, raw, "sentitems", sent=True)

    def release_sent_copies(self) -> None:
        """Let the Sent copies appear that were late."""
        self.faults.late_sent_copy = False
        late, self._late = self._late, []
        for mailbox, item in late:
            mailbox.show(item)
            self._tell(mailbox, item)

    def move(self, address: str, item: Item, folder: str) -> None:
        """Move a mail, by the user's hand or a rule; notifications call it created (docs#11710)."""
        mailbox = self.mailbox(address)
        mailbox.move(item, folder)
        self._tell(mailbox, item)

    def inbox(self, address: str) -> list[bytes]:
        """Return what lies in somebody's inbox, oldest first."""
        mailbox = self.mailbox(address)
        place = mailbox.folder("inbox")
        return [item.raw for item in mailbox.listed(place.id if place else None)]

    def submit(
        self,
        mailbox: Mailbox,
        raw: bytes,
        sender: str = "",
        *,
        draft: Item | None = None,
        keep: bool = True,
        extended: Mapping[str, str] | None = None,
    ) -> None:
        """Take a mail from its sender, file the copy, hand the mail over. Raises GraphError."""
        to = recipients(email.message_from_bytes(raw, policy=email.policy.SMTP))
        if not to:
            raise GraphError(400, "ErrorInvalidRecipients", "At least one recipient isn't valid.")
        if len(raw) > self.faults.largest:
            raise GraphError(400, "ErrorMessageSizeExceeded", "The message exceeds the maximum size.")
        changed = self._changed(raw)
        if keep or draft:
            self._file_copy(mailbox, changed, draft, extended or {})
        self._transport(sender or mailbox.address, without(changed, "bcc"), to)

    def _file_copy(
        self, mailbox: Mailbox, raw: bytes, draft: Item | None, extended: Mapping[str, str]
    ) -> None:
        """Put the copy into Sent Items, now or later; a draft's immutable id stays."""
        late = self.faults.late_sent_copy
        copy = mailbox.add(raw, "sentitems", sent=True, visible=not late)
        copy.extended |= {**(draft.extended if draft else {}), **extended}
        if draft:
            mailbox.replace(draft, copy)
        if late:
            self._late.append((mailbox, copy))
        else:
            self._tell(mailbox, copy)

    def _changed(self, raw: bytes) -> bytes:
        head, _, body = raw.partition(b"\r\n\r\n")
        if self.faults.rewrite_message_id:
            final = f"Message-ID: <{secrets.token_hex(16)}@AM0PR01.eurprd01.prod.outlook.com>".encode()
            head = re.sub(rb"(?im)^message-id:[^\r]*(?:\r\n[ \t][^\r]*)*", final, head)
        if self.faults.rewrite_date:
            head = re.sub(rb"(?im)^date:[^\r]*", f"Date: {date_822()}".encode(), head)
        raw = head + b"\r\n\r\n" + body
        return without(raw, "x-[^:]*") if self.faults.drop_x_headers else raw

    def _transport(self, sender: str, raw: bytes, to: list[str]) -> None:
        self.sent.append(raw)
        for report in hand_over(self._mx, sender, to, raw):
            self.arrive(sender, report)

    def _check(self, notification: Any) -> None:
        if self.contract:
            self.contract.check_notification(notification)

    def changed(self, mailbox: Mailbox, item: Item) -> None:
        """Note that an item was changed, and tell it."""
        mailbox.changed(item)
        self._tell(mailbox, item, "updated")

    def remove(self, mailbox: Mailbox, item: Item) -> None:
        """Delete a mail for good, and tell it."""
        mailbox.remove(item)
        self._tell(mailbox, item, "deleted")

    def _tell(self, mailbox: Mailbox, item: Item, what: str = "created") -> None:
        folder = mailbox.folders[item.folder]
        places = {folder.id, folder.well_known} - {""}
        self.notifier.tell(mailbox.address, item, what, places)


def _plain(address: str) -> str:
    """Return an address without its +detail."""
    return re.sub(r"\+[^@]*@", "@", address.lower())
