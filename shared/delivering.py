"""Keeping a promise: hand the message over once, then see that a copy lies in Sent.

State machine of a promised message, every step conditional on the version read:
`queued -> sending` (committed by the sender right before the first byte that could make it leave)
`-> sent | failed | uncertain`, or back to `queued` when it certainly did not leave. Whoever finds
`sending` after its time looks into Sent; what cannot be known there is `uncertain` and never sent again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from shared import consenting, jobs, relaying, scheduling
from shared.app import App
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
from shared.finishing import COPYING, Finishing
from shared.jobs import Job
from shared.keeping import bytes_of
from shared.knowing import find
from shared.model import (
    Mailbox,
    Message,
    Problem,
)
from shared.promises import LAST_TRY, PAUSES, arrived
from shared.providers.base import NOBODY, Receipt
from shared.relaying import Counting
from shared.storage.base import Move, Remove, Save

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
        case "queued" | "sending" if arrived(message.value) and not waits:
            delivery.sent(Receipt(), copied=False)
        case "queued" if not waits and delivery.too_old(
            LAST_TRY
        ):  # before whatever it is that workers die of
            delivery.give_up(message.value.error)
        case "queued" if not waits:
            delivery.hand_over()
        case "sending" if not waits:
            delivery.look()
        case "sent" | "failed" if message.value.next_at:  # a bounce may come before the copy is filed
            if not waits:
                delivery.take(COPYING)
                delivery.finish()
        case "failed" | "uncertain":
            app.records.commit(org_id, Remove(delivery.item()))


def hasten(app: App, org_id: str, mailbox_id: str = "") -> None:
    """Try waiting mail now, because what it waited for was put right or has ended.

    Args:
        mailbox_id: whose mail; "" for all of the organisation's.
    """
    at = app.clock()
    for item in scheduling.outbox(app, org_id):
        wanted = mailbox_id in {"", item.mailbox_id}
        message = find(app, org_id, item.conversation_id, item.email_id) if wanted else None
        if message is None or message.value.state != "queued":
            continue
        now = replace(message.value, next_at=at)
        try:
            app.records.commit(org_id, Move(message, now), Save(replace(item, not_before=at)))
        except Raced:
            continue  # somebody is at it
        job = Job("deliver", org_id, item.email_id, conversation_id=item.conversation_id)
        jobs.put(app, job)


@dataclass
class _Delivery(Finishing):
    """One message on its way."""

    counting: Counting | None = None

    @property
    def _connected(self) -> Mailbox | None:
        """The mailbox, unless it is gone."""
        box = self.mailbox
        return box.value if box and box.value.state != "disconnected" else None

    def hand_over(self) -> None:
        """Send, and turn whatever comes of it into the message's state."""
        mailbox = self._connected
        if mailbox is None:
            self.fail(Problem("disconnected", "The mailbox was disconnected before the mail left."))
            return
        try:
            self.counting = relaying.judge(self.app, self.org_id, mailbox, self.message.value)
            receipt, copied = self._leave(mailbox)
        except (Raced, Busy):
            raise  # another worker was faster, or has its turn; the queue tries again
        except OutcomeUnknown as error:
            self.look(error, first=True)
        except ConsentRequired as error:
            self.postpone(error, PAUSES[2])
            self.refused_in(error)
        except Temporary as error:
            self.postpone(error, timedelta(seconds=error.retry_after))
        except (InvalidRequest, Conflict) as error:  # a setting or secret that somebody can put right
            self.postpone(error, PAUSES[1])
        except (Rejected, Unsupported, NotFound) as error:
            self._refused(error)
        else:
            self.sent(receipt, copied=copied)

    def look(self, error: ZalionError | None = None, *, first: bool = False) -> None:
        """The hand-over broke or its worker died: only a copy of the mail can tell what came of it.

        What is too old is `uncertain` until one does: a look that breaks keeps nobody in the dark for ever.
        """
        mailbox = self._connected
        if mailbox is None:
            self.uncertain(error)
            return
        if error is None and self.too_old():
            self.uncertain(None)
        try:
            copy = self._find_copy()
            slow = first and self.files_copy()
        except Raced:
            raise
        except ZalionError as problem:  # whatever keeps us from looking may be put right within the day
            self.refused_in(problem)
            if self.too_old():
                self.uncertain(error or problem)
            else:
                self.later(COPY_APPEARS if isinstance(problem, Busy) else PAUSES[1], self.ours, problem)
            return
        if copy:
            self.sent(copy, copied=True)
        elif slow:
            self.later(COPY_APPEARS, self.ours)
        elif error is None and self.message.value.draft and not self.too_old():
            self._leave_again(mailbox)
        else:
            self.uncertain(error)

    def _leave_again(self, mailbox: Mailbox) -> None:
        """Hand over a draft of which nobody knows whether it left: it ends by leaving, so it cannot twice.

        No rule judges it any more: it may have left.
        """
        try:
            receipt, copied = self._leave(mailbox)
        except (Raced, Busy):
            raise
        except Rejected as error:  # it was still there
            self.fail(Problem(error.code, error.detail, error.fix))
        except Unsupported as error:
            self.uncertain(error)
        except NotFound:
            self.uncertain(NotFound(DRAFT_GONE.detail))
        except ZalionError as error:
            self.refused_in(error)
            self.later(COPY_APPEARS, self.ours, error)
        else:
            self.sent(receipt, copied=copied)

    def _leave(self, mailbox: Mailbox) -> tuple[Receipt, bool]:
        """Let it leave; also tells whether the provider files the copy."""
        old, let_go = self.message.value, partial(self._let_go, mailbox)
        consenting.insist(mailbox)
        if old.draft:
            with self.app.drafting(self.org_id, mailbox) as drafter:
                raw = bytes_of(self.app, self.org_id, old)
                return drafter.send(old.draft, raw, old.leaves_to, let_go), True
        with self.app.sending(self.org_id, mailbox, self.riding) as sender:
            self.raw = bytes_of(self.app, self.org_id, old)
            sent_from = old.sender.address if old.sender else ""
            return sender.send(self.raw, sent_from, old.leaves_to, let_go), sender.files_copy

    def _let_go(self, mailbox: Mailbox, refused: Mapping[str, str] = NOBODY) -> None:
        """Begin the hand-over, and count it where mails are: who leaves at the same moment takes turns."""
        again = partial(relaying.let_go, self.app, self.org_id, mailbox, self.message.value)
        counting, self.counting = self.counting, None
        if counting is None or not counting.holds(self.app.clock()):
            counting = again()
        relaying.in_turn(
            self.app,
            self.org_id,
            counting,
            again,
            lambda counting: self.begin(refused, *counting.writes, counted_at=counting.at),
        )

    def _find_copy(self) -> Receipt | None:
        if self.mailbox is None or not self.app.has_sent_folder(self.mailbox.value):
            return None
        consenting.insist(self.mailbox.value)
        with self.app.sent_folder(self.org_id, self.mailbox.value) as sent:
            return self.searched(sent)

    def _refused(self, error: ZalionError) -> None:
        """It did not leave and will not; a draft that is no more was never handed over by us."""
        gone = isinstance(error, NotFound) and self.message.value.draft
        self.fail(DRAFT_GONE if gone else Problem(error.code, error.detail, error.fix))
