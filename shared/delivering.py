"""Keeping a promise: hand the message over once, then see that a copy lies in Sent.

State machine of a promised message, every step conditional on the version read:
`queued -> sending` (committed by the sender right before the first byte that could make it leave)
`-> sent | failed | uncertain`, or back to `queued` when it certainly did not leave. Whoever finds
`sending` after its time looks into Sent; what cannot be known there is `uncertain` and never sent again.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared import jobs, relaying, scheduling
from shared.app import App
from shared.consenting import needs_consent
from shared.errors import (
    Busy,
    Conflict,
    ConsentRequired,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Raced,
    Rejected,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.jobs import Job
from shared.keeping import bytes_of
from shared.knowing import find
from shared.model import (
    Alias,
    Delivery,
    Mailbox,
    Message,
    Problem,
    digest,
)
from shared.promises import PAUSES, Promised
from shared.providers.base import Receipt, SentFolder
from shared.storage.base import Move, Remove, Save, Stored, Write

COPYING = timedelta(minutes=15)
"""So long one worker has the filing of the copy to itself (two would file two): longer than any session."""

TURNS = 5
"""So often at most the beginning of a hand-over is written where others are counted at the same moment."""

LOOK_DELAY = 2
"""Seconds: longer than the write that follows takes."""

COPY_APPEARS = timedelta(minutes=1)
"""How long a provider that files its own copy may take before its absence means something."""


DRAFT_GONE = Problem(
    "draft_gone",
    "The draft is no more in the mailbox: it was sent or thrown away there.",
    "Look into Sent; if it is not there, write it anew.",
)


def deliver(app: App, job: Job) -> None:
    """Bring one promised message a step further; safe to repeat, alone or side by side.

    Never raises for what the mail system said: that becomes the message's state and its next attempt.
    """
    org_id = job.org_id
    message = app.records.find(org_id, Message, f"{job.case_id}!{job.id}") if job.case_id else None
    message = message or find(app, org_id, job.conversation_id, job.id)
    if message is None or message.value.mailbox_id is None:
        return
    stored = app.records.find(org_id, Mailbox, message.value.mailbox_id)
    delivery = _Delivery(app, org_id, message, stored)
    waits = message.value.next_at is not None and message.value.next_at > app.clock()
    match message.value.state:
        case "queued" if not waits:
            delivery.hand_over()
        case "sending" if not waits:
            delivery.look()
        case "sent" if message.value.next_at and not waits:
            delivery.take(COPYING)
            delivery.file_copy()
        case "failed" | "uncertain":
            app.records.commit(org_id, Remove(delivery.item()))


def hasten(app: App, org_id: str, mailbox_id: str) -> None:
    """Try a mailbox's waiting mail now, because its connection was put right or has ended."""
    for item in scheduling.outbox(app, org_id):
        message = find(app, org_id, item.conversation_id, item.email_id)
        if item.mailbox_id != mailbox_id or message is None or message.value.state != "queued":
            continue
        now = replace(message.value, next_at=None)
        try:
            app.records.commit(org_id, Move(message, now), Save(replace(item, not_before=app.clock())))
        except Raced:
            continue  # somebody is at it
        job = Job("deliver", org_id, item.email_id, conversation_id=item.conversation_id)
        jobs.put(app, job)


@dataclass
class _Delivery(Promised):
    """One message on its way, and its mailbox."""

    mailbox: Stored[Mailbox] | None
    raw: bytes = b""

    def hand_over(self) -> None:
        """Send, and turn whatever comes of it into the message's state."""
        if self.mailbox is None or self.mailbox.value.state == "disconnected":
            self.fail(Problem("disconnected", "The mailbox was disconnected before the mail left."))
            return
        try:
            relaying.judge(self.app, self.org_id, self.mailbox.value, self.message.value)
            receipt, copied = self._leave(self.mailbox.value)
        except (Raced, Busy):
            raise  # another worker was faster, or has its turn; the queue tries again
        except OutcomeUnknown as error:
            self.look(error, first=True)
        except ConsentRequired as error:
            needs_consent(self.app, self.org_id, self.mailbox, error)
            self.postpone(error, PAUSES[2])
        except Temporary as error:
            self.postpone(error, timedelta(seconds=error.retry_after))
        except (InvalidRequest, Conflict) as error:  # a setting or secret that somebody can put right
            self.postpone(error, PAUSES[1])
        except (Rejected, Unsupported, NotFound) as error:
            self._refused(error)
        else:
            self._sent(receipt, copied=copied)

    def look(self, error: ZalionError | None = None, *, first: bool = False) -> None:
        """The hand-over broke or its worker died: only the Sent folder can tell what came of it."""
        try:
            copy = self._find_copy()
            slow = first and self._files_copy()
        except Raced:
            raise
        except ZalionError as problem:  # whatever keeps us from looking may be put right within the day
            if self.too_old():
                self.uncertain(error or problem)
            else:
                self.later(COPY_APPEARS if isinstance(problem, Busy) else PAUSES[1], self.ours)
            return
        if copy:
            self._sent(copy, copied=True)
        elif slow:
            self.later(COPY_APPEARS, self.ours)
        elif error is None and self._leaves_once():
            self.hand_over()
        else:
            self.uncertain(error)

    def file_copy(self) -> None:
        """Put a copy into Sent, once, for senders whose server does not; never fails the message."""
        delivered = None
        try:
            if self.mailbox and self.app.has_sent_folder(self.mailbox.value):
                delivered = self._keep(self.mailbox.value)
        except (Temporary, ConsentRequired, Conflict):
            if not self.too_old():
                self.later(PAUSES[1])
                return
            self.note("message.copy_missing")
        except (Rejected, Unsupported, InvalidRequest, NotFound):
            self.note("message.copy_missing")
        self.surely(lambda message: _with_copy(message, delivered), Remove(self.item()))

    def _leave(self, mailbox: Mailbox) -> tuple[Receipt, bool]:
        """Let it leave; also tells whether the provider files the copy."""
        old = self.message.value
        if old.draft:
            with self.app.drafting(self.org_id, mailbox) as drafter:
                raw = bytes_of(self.app, self.org_id, old)
                return drafter.send(old.draft, raw, old.envelope_to, self._let_go), True
        with self.app.sending(self.org_id, mailbox, self.riding) as sender:
            self.raw = bytes_of(self.app, self.org_id, old)
            sent_from = old.sender.address if old.sender else ""
            return sender.send(self.raw, sent_from, old.envelope_to, self._let_go), sender.files_copy

    def _let_go(self) -> None:
        """Begin the hand-over, and count it where mails are: who leaves at the same moment takes turns."""
        for tries in range(1, TURNS + 1):
            counted = self.mailbox and relaying.let_go(self.app, self.org_id, self.mailbox.value)
            try:
                self.begin(*counted or ())
            except Raced:
                if not counted or tries == TURNS:
                    raise
            else:
                return

    def _leaves_once(self) -> bool:
        """Whether it may be handed over without knowing what came of that before: a draft ends by leaving."""
        return bool(self.message.value.draft and self.mailbox and not self.too_old())

    def _find_copy(self) -> Receipt | None:
        if self.mailbox is None or not self.app.has_sent_folder(self.mailbox.value):
            return None
        with self.app.sent_folder(self.org_id, self.mailbox.value) as sent:
            return self._searched(sent)

    def _files_copy(self) -> bool:
        if self.mailbox is None:
            return False
        with self.app.sending(self.org_id, self.mailbox.value) as sender:
            return sender.files_copy

    def _searched(self, sent: SentFolder) -> Receipt | None:
        """Look for our own copy; that we have looked into the mailbox goes on record with what follows."""
        self.riding.append(self.event("mailbox.sent_searched"))
        return sent.find_sent(self.message.value.message_id or "")

    def _keep(self, mailbox: Mailbox) -> Delivery:
        message = self.message.value
        with self.app.sent_folder(self.org_id, mailbox) as sent:
            there = self._searched(sent)
            if there:
                return Delivery(mailbox.id, there.ref)
            raw = self.raw or bytes_of(self.app, self.org_id, message)
            return Delivery(mailbox.id, sent.keep_sent(raw, message.sent_at or message.received_at))

    def _sent(self, receipt: Receipt, *, copied: bool) -> None:
        """Write down that it left; then, where the server files no copy, file one."""
        final = receipt.message_id if receipt.message_id != self.message.value.message_id else None
        copied = copied or self.mailbox is None or not self.app.has_sent_folder(self.mailbox.value)
        writes: list[Write] = [Remove(self.item())] if copied else []
        if final:
            writes.append(Save(self._alias(final)))
        writes.append(self.event("message.sent"))
        if final and self.mailbox and self.mailbox.value.receives_with:
            # enqueued before the id is written down, and seen after it: a crash in between loses no look
            job = Job("sync", self.org_id, self.mailbox.value.id, look=(final,))
            jobs.put(self.app, job, delay=LOOK_DELAY)
        filing_until = None if copied else self.app.clock() + COPYING
        self.surely(lambda message: _as_sent(message, receipt, final, filing_until), *writes)
        if not copied:
            self.file_copy()

    def _alias(self, message_id: str) -> Alias:
        message = self.message.value
        planned = self.app.records.get(self.org_id, Alias, digest(message.message_id or ""))
        return replace(planned.value, message_id=message_id)

    def _refused(self, error: ZalionError) -> None:
        """It cannot leave. A draft that is no more may have left by an earlier attempt."""
        gone = isinstance(error, NotFound) and self.message.value.draft
        if gone and self.message.value.attempts:
            self.look(error)
        else:
            self.fail(DRAFT_GONE if gone else Problem(error.code, error.detail, error.fix))


def _as_sent(message: Message, receipt: Receipt, final: str | None, filing_until: datetime | None) -> Message:
    """The message as it left; a bounce that was faster keeps its word."""
    refused = "; ".join(f"{address}: {words}" for address, words in receipt.refused.items())
    problem = Problem("partly_refused", refused, "Correct these addresses and send to them again.")
    planned = message.message_id
    return replace(
        message,
        state="failed" if message.state == "failed" else "sent",
        next_at=filing_until,
        error=message.error if message.state == "failed" else problem if refused else None,
        message_id=final or planned,
        references=(*message.references, planned) if final and planned else message.references,
    )


def _with_copy(message: Message, delivery: Delivery | None) -> Message:
    """The message once its copy is filed, or never will be."""
    message = replace(message, next_at=None)
    if delivery is None or delivery.mailbox_id in {known.mailbox_id for known in message.deliveries}:
        return message
    return replace(message, deliveries=(*message.deliveries, delivery))
