"""The mailboxes of Gmail in the mail world: mail comes in and goes out by SMTP, pushes go out."""

import re
import secrets
from collections.abc import Iterable
from datetime import datetime

from sandbox.google.accounts import Accounts
from sandbox.google.mailbox import Item, Mailbox, Watch
from sandbox.google.push import PubSub
from sandbox.google.quota import Quota
from sandbox.google.uploads import Uploads
from sandbox.mail import hand_over, head, recipients, replaced, trace, without


class Gmail:
    """What the API reads and writes.

    Attributes:
        sent: mails handed over, as they went out.
    """

    def __init__(self, accounts: Accounts, pubsub: PubSub, mx: tuple[str, int]) -> None:
        self.accounts, self.pubsub = accounts, pubsub
        self.directory, self.faults, self.now = accounts.directory, accounts.faults, accounts.now
        self.quota, self.uploads = Quota(self.faults, self.now), Uploads()
        self.mailboxes: dict[str, Mailbox] = {}
        self.sent: list[bytes] = []
        self._mx = mx

    def add_mailbox(self, address: str) -> Mailbox:
        """Give somebody a mailbox."""
        box = self.mailboxes.setdefault(address.lower(), Mailbox(address.lower()))
        box.tell = lambda labels: self._tell(box, labels)
        return box

    def knows(self, address: str) -> bool:
        """Whether mail to this address arrives: aliases and a +detail count, suspended accounts do not."""
        return self._account(address) is not None

    def _account(self, address: str) -> str | None:
        plain = re.sub(r"\+[^@]*@", "@", address.lower())
        for user in self.directory.users.values():
            if plain in {user.address, *user.aliases} and user.address in self.mailboxes:
                return None if user.suspended else user.address
        return None

    # Mail

    def arrive(
        self,
        address: str,
        raw: bytes,
        label: str = "INBOX",
        at: datetime | None = None,
        *,
        sent: bool = False,
    ) -> Item:
        """Put a mail into a mailbox (with no label at all where it is "") and tell whoever watches."""
        return self.mailboxes[address.lower()].add(raw, label, at=at, sent=sent, quiet=False)

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:
        """Take a mail in, with Gmail's verdict about the sender on top. Raises LookupError."""
        address = self._account(recipient)
        if address is None:
            raise LookupError(f"Nobody is called {recipient}.")
        message, box = head(raw), self.mailboxes[address]
        message_id = str(message.get("Message-ID", "")).strip()
        own = [item for item in box.listed("SENT") if message_id and item.message_id == message_id]
        if own:
            # A mail to oneself is one message, with the labels of both.
            box.label(own[-1], add=("INBOX", "UNREAD"))
            return
        domain = str(message.get("From", "")).rpartition("@")[2].strip("> ").lower()
        word = "fail" if domain in self.faults.forged else "pass"
        envelope = f"Delivered-To: {recipient}\r\nReturn-Path: <{envelope_from}>\r\n".encode()
        verdict = (
            f"Authentication-Results: mx.google.com;\r\n"
            f"       dkim={word} header.i=@{domain} header.s=s1 header.b=abcdefgh;\r\n"
            f"       spf={word} (google.com: domain of {envelope_from} designates 127.0.0.1 as permitted"
            f" sender) smtp.mailfrom={envelope_from};\r\n"
            f"       dmarc={word} (p=REJECT sp=REJECT dis=NONE) header.from={domain}\r\n"
        )
        self.arrive(address, envelope + trace("mx.google.com") + verdict.encode() + raw)

    def send_as_user(self, address: str, raw: bytes) -> Item:
        """The person sends in Gmail herself: a copy lies in SENT, and the mail is delivered."""
        item = self.arrive(address, raw, sent=True)
        self.transport(address.lower(), without(raw, "Bcc"), recipients(head(raw)))
        return item

    def change_draft_as_user(self, address: str, draft: Item, raw: bytes) -> Item:
        """The person changes a draft in Gmail and leaves it there: the same draft, with a new message."""
        box = self.mailboxes[address.lower()]
        [name] = [name for name, id_ in box.drafts.items() if id_ == draft.id]
        box.remove(draft)
        item = box.add(raw, "DRAFT", thread=draft.thread)
        box.drafts[name] = item.id
        return item

    def send_draft_as_user(self, address: str, draft: Item, raw: bytes) -> Item:
        """The person changes a draft to `raw` and sends it in Gmail: a new message, in the draft's thread."""
        if self.faults.recomposed:
            raw = replaced(raw, "Message-ID", f"<CA{secrets.token_urlsafe(36)}@mail.gmail.com>")
            raw = without(raw, "References", "In-Reply-To")
        box = self.mailboxes[address.lower()]
        box.remove(draft)
        item = box.add(raw, sent=True, thread=draft.thread, quiet=False)
        self.transport(address.lower(), without(raw, "Bcc"), recipients(head(raw)))
        return item

    def transport(self, address: str, raw: bytes, to: list[str]) -> None:
        """Hand a mail over by SMTP; who is refused is reported to the sender."""
        self.sent.append(raw)
        for report in hand_over(self._mx, address, to, raw):
            self.arrive(address, report)

    # Pushes

    def publish(self, box: Mailbox, watch: Watch) -> None:
        """Push the mailbox's history id to whoever watches."""
        if watch.until > self.now() and box.address not in self.faults.dead_watches:
            self.pubsub.publish(watch.topic, box.address, box.history_id)

    def _tell(self, box: Mailbox, labels: Iterable[str]) -> None:
        for watch in list(box.watches.values()):
            meant = bool(watch.label_ids & set(labels))
            if not watch.label_ids or meant != watch.exclude:
                self.publish(box, watch)
