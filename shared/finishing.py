"""What is left to do once a promised mail has left: write that down, and see that a copy lies in Sent."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeGuard

from shared import consenting, jobs, logs, mime
from shared.errors import (
    Conflict,
    ConsentRequired,
    InvalidRequest,
    NotFound,
    Raced,
    Rejected,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.jobs import Job
from shared.keeping import bytes_of
from shared.model import COPY_MISSING, Alias, Delivery, Mailbox, Message, Problem, digest
from shared.promises import PARTLY, PAUSES, Promised, partly
from shared.providers.base import Receipt, SentFolder
from shared.storage.base import Add, Remove, Save, Stored, Write

COPYING = timedelta(minutes=15)
"""So long one worker has the filing of the copy to itself (two would file two): longer than any session."""

LOOK_DELAY = 2
"""Seconds: longer than the write that follows takes."""


@dataclass
class Finishing(Promised):
    """A promised message, and the mailbox it leaves from."""

    mailbox: Stored[Mailbox] | None
    raw: bytes = b""

    def sent(self, receipt: Receipt, *, copied: bool) -> None:
        """Write down that it left; then, where the server files no copy, file one."""
        told = receipt.message_id if receipt.message_id != self.message.value.message_id else None
        copied = copied or self.mailbox is None or not self.app.has_sent_folder(self.mailbox.value)
        done = copied and self._look_for(told)
        writes: list[Write] = [Remove(self.item())] if done else []
        filing_until = None if done else self.app.clock() + COPYING
        self._left(receipt, told, filing_until, *writes, self.event("message.sent"))
        if not done:
            self.finish()

    def _left(
        self, receipt: Receipt, final: str | None, filing_until: datetime | None, *writes: Write
    ) -> None:
        """Write `sent`, and make a Message-ID that we had not planned known: no other mail may have it."""

        def change(message: Message) -> Message:
            return _as_sent(message, receipt, final, filing_until)

        if not self._unplanned(final):
            self.surely(change, *writes)
            return
        try:
            self.surely(change, *writes, Add(self._alias(final)), first=True)
        except Raced:  # rarely: a look that saw the copy was faster, or the id is another mail's
            known = self.app.records.find(self.org_id, Alias, digest(final))
            if known and known.value.email_id != self.message.value.id:
                logs.log("id.taken", email_id=self.message.value.id)
                final = None  # the server is wrong, or lies to have that mail's answers
            self.surely(change, *writes, *([Save(self._alias(final))] if final else ()))

    def _alias(self, message_id: str) -> Alias:
        """Make what says that a Message-ID is this mail's."""
        message = self.message.value
        sender = message.sender.address if message.sender else ""
        print_ = mime.fingerprint_of(sender, message.sent_at or message.received_at, message.subject)
        return Alias(message_id, message.conversation_id, message.id, print_)

    def _unplanned(self, message_id: str | None) -> TypeGuard[str]:
        return message_id not in {None, self.message.value.planned_id}

    def _look_for(self, message_id: str | None) -> bool:
        """Have answers looked for that name an id before it is known; False where that cannot be seen to now.

        Enqueued before the id is written down, and seen after it: a crash in between loses no look.
        It never keeps `sent` from being written. Where a copy under the planned id lies, that is the sign.
        """
        if not self._unplanned(message_id) or self.mailbox is None or not self.mailbox.value.receives_with:
            return True
        try:
            job = Job("sync", self.org_id, self.mailbox.value.id, look=(message_id,))
            jobs.put(self.app, job, delay=LOOK_DELAY)
        except Temporary as error:
            logs.log("look.not_enqueued", email_id=self.message.value.id, code=error.code)
            return False
        return True

    def finish(self) -> None:
        """Do what is left to do after it was sent; never fails the message.

        A copy is put into Sent, once, for senders whose server does not.
        """
        copy = missing = None
        try:
            if self.mailbox and self.app.has_sent_folder(self.mailbox.value):
                copy = self._kept(self.mailbox.value)
        except (Temporary, ConsentRequired, Conflict) as error:
            self.refused_in(error)
            if not self.too_old():
                self.later(PAUSES[min(self.message.value.attempts + 1, len(PAUSES) - 1)])
                return
            missing = self._missing(error)
        except Unsupported as error:
            if self._keeps_copies():
                missing = self._missing(error)
            else:  # so it is with all mails of this mailbox, which says so: `can`
                self.note("message.copy_missing")
        except (Rejected, InvalidRequest, NotFound) as error:
            missing = self._missing(error)
        is_sign = copy is not None and copy.message_id == self.message.value.planned_id
        if not is_sign and not self._look_for(self.message.value.message_id):
            self.later(PAUSES[1])
            return
        delivered = Delivery(self.mailbox.value.id, copy.ref) if self.mailbox and copy else None
        self.surely(lambda message: _with_copy(message, delivered, missing), Remove(self.item()))

    def _missing(self, error: ZalionError) -> Problem:
        """Put on record that Sent has no copy, and never will; returns what tells it."""
        self.note("message.copy_missing")
        detail = f"It was sent, but no copy of it could be put into Sent. {error.detail}"
        return Problem(COPY_MISSING, detail, error.fix or "Do not send it again; the case has its text.")

    def _keeps_copies(self) -> bool:
        """Whether what receives takes copies at all."""
        name = self.mailbox.value.receives_with if self.mailbox else None
        return name is not None and self.app.provider(name).keeps_copies

    def refused_in(self, error: ZalionError) -> None:
        """Mark the mailbox where its server or provider lets us in no longer."""
        if isinstance(error, ConsentRequired) and self.mailbox:
            consenting.needs_consent(self.app, self.org_id, self.mailbox, error)

    def files_copy(self) -> bool:
        """Whether what sends puts a copy into Sent by itself."""
        if self.mailbox is None:
            return False
        with self.app.sending(self.org_id, self.mailbox.value) as sender:
            return sender.files_copy

    def searched(self, sent: SentFolder) -> Receipt | None:
        """Look for our own copy; that we have looked into the mailbox goes on record with what follows.

        A copy that we put there has the Message-ID we had planned, one of the server's perhaps another.
        """
        self.riding.append(self.event("mailbox.sent_searched"))
        message = self.message.value
        ids = dict.fromkeys(filter(None, (message.planned_id, message.message_id)))
        return next(filter(None, map(sent.find_sent, ids)), None)

    def _kept(self, mailbox: Mailbox) -> Receipt | None:
        """Find our copy in Sent, or put it there; None where the server is still to do that."""
        message = self.message.value
        consenting.insist(mailbox)
        with self.app.sent_folder(self.org_id, mailbox) as sent:
            there = self.searched(sent)
            if there:
                return there
            if self.files_copy():
                return None
            raw = self.raw or bytes_of(self.app, self.org_id, message)
            ref = sent.keep_sent(raw, message.sent_at or message.received_at)
            return Receipt(ref, message.planned_id)


def _as_sent(message: Message, receipt: Receipt, final: str | None, filing_until: datetime | None) -> Message:
    """The message as it left; a bounce that was faster keeps its word."""
    known = message.error if message.error and message.error.code == PARTLY else None
    planned = message.message_id
    return replace(
        message,
        state="failed" if message.state == "failed" else "sent",
        next_at=filing_until,
        attempts=0,
        error=message.error if message.state == "failed" else partly(receipt.refused) or known,
        message_id=final or planned,
        references=(*message.references, planned) if final and planned else message.references,
    )


def _with_copy(message: Message, delivery: Delivery | None, missing: Problem | None) -> Message:
    """The message once its copy is filed, or never will be."""
    message = replace(message, next_at=None, error=message.error or missing)
    if delivery is None or delivery.mailbox_id in {known.mailbox_id for known in message.deliveries}:
        return message
    return replace(message, deliveries=(*message.deliveries, delivery))
