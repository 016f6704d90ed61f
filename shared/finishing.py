"""What is left to do once a promised mail has left: write that down, and see that a copy lies in Sent."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared import consenting, jobs, logs
from shared.errors import (
    Conflict,
    ConsentRequired,
    InvalidRequest,
    NotFound,
    Rejected,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.jobs import Job
from shared.keeping import bytes_of
from shared.model import Alias, Delivery, Mailbox, Message, digest
from shared.promises import PARTLY, PAUSES, Promised, partly
from shared.providers.base import Receipt, SentFolder
from shared.storage.base import Remove, Save, Stored, Write

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
        # enqueued before the id is written down, and seen after it: a crash in between loses no look
        final, learnt = self._learnt(told)
        done = copied and learnt is not None
        writes: list[Write] = [Remove(self.item())] if done else []
        writes += [*(learnt or ()), self.event("message.sent")]
        filing_until = None if done else self.app.clock() + COPYING
        self.surely(lambda message: _as_sent(message, receipt, final, filing_until), *writes)
        if not done:
            self.finish(learnt=learnt is not None)

    def _learnt(self, final: str | None) -> tuple[str | None, list[Write] | None]:
        """Return a Message-ID that we had not planned, and what makes it known; answers to it are looked for.

        The writes are None where that cannot be seen to now: it never keeps `sent` from being written. The id
        is None where another mail has it: the server is wrong, or lies to have that mail's answers.
        """
        if final is None or final == self.message.value.planned_id:
            return final, []
        try:
            planned = self.app.records.get(self.org_id, Alias, digest(self.message.value.planned_id or ""))
            taken = self.app.records.find(self.org_id, Alias, digest(final))
            if taken and taken.value.email_id != planned.value.email_id:
                logs.log("id.taken", email_id=self.message.value.id)
                return None, []
            if self.mailbox and self.mailbox.value.receives_with:
                job = Job("sync", self.org_id, self.mailbox.value.id, look=(final,))
                jobs.put(self.app, job, delay=LOOK_DELAY)
        except Temporary as error:
            logs.log("id.not_learnt", email_id=self.message.value.id, code=error.code)
            return final, None
        return final, [Save(replace(planned.value, message_id=final))]

    def finish(self, *, learnt: bool = False) -> None:
        """Do what is left to do after it was sent; never fails the message.

        A Message-ID that we had not planned is made known, unless it is `learnt`. A copy is put into Sent,
        once, for senders whose server does not.
        """
        if not learnt:
            _, writes = self._learnt(self.message.value.message_id)
            if writes is None:
                self.later(PAUSES[1])
                return
            if writes:
                self.app.records.commit(self.org_id, *writes)
        delivered = None
        try:
            if self.mailbox and self.app.has_sent_folder(self.mailbox.value):
                delivered = self._kept(self.mailbox.value)
        except (Temporary, ConsentRequired, Conflict) as error:
            self.refused_in(error)
            if not self.too_old():
                self.later(PAUSES[1])
                return
            self.note("message.copy_missing")
        except (Rejected, Unsupported, InvalidRequest, NotFound):
            self.note("message.copy_missing")
        self.surely(lambda message: _with_copy(message, delivered), Remove(self.item()))

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

    def _kept(self, mailbox: Mailbox) -> Delivery | None:
        """Find our copy in Sent, or put it there; None where the server is still to do that."""
        message = self.message.value
        consenting.insist(mailbox)
        with self.app.sent_folder(self.org_id, mailbox) as sent:
            there = self.searched(sent)
            if there:
                return Delivery(mailbox.id, there.ref)
            if self.files_copy():
                return None
            raw = self.raw or bytes_of(self.app, self.org_id, message)
            return Delivery(mailbox.id, sent.keep_sent(raw, message.sent_at or message.received_at))


def _as_sent(message: Message, receipt: Receipt, final: str | None, filing_until: datetime | None) -> Message:
    """The message as it left; a bounce that was faster keeps its word."""
    known = message.error if message.error and message.error.code == PARTLY else None
    planned = message.message_id
    return replace(
        message,
        state="failed" if message.state == "failed" else "sent",
        next_at=filing_until,
        error=message.error if message.state == "failed" else partly(receipt.refused) or known,
        message_id=final or planned,
        references=(*message.references, planned) if final and planned else message.references,
    )


def _with_copy(message: Message, delivery: Delivery | None) -> Message:
    """The message once its copy is filed, or never will be."""
    message = replace(message, next_at=None)
    if delivery is None or delivery.mailbox_id in {known.mailbox_id for known in message.deliveries}:
        return message
    return replace(message, deliveries=(*message.deliveries, delivery))
