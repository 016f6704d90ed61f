"""A promised message and its state, changed only from the version that was read.

Handing it over and filing its copy are claimed strictly; what has happened afterwards is written over
whatever else was written meanwhile, as long as the claim is still ours.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared import audit, logs, scheduling
from shared.app import App
from shared.errors import Raced, RateLimited, Temporary, ZalionError
from shared.knowing import find
from shared.model import Message, MessageState, OutboxItem, Problem
from shared.storage.base import Add, Move, Remove, Save, Stored, Write

HANDOVER = timedelta(minutes=15)
"""A hand-over that has not come back by then is dead: longer than every time-out of a sender together."""

GIVE_UP, LAST_TRY = timedelta(hours=24), timedelta(hours=1)
"""How long a mail may wait; and how long after that a last attempt still begins."""

TRIES, PAUSE = 5, 0.2
"""How often a fact is written down, and the seconds between, growing, where the store is away."""

PAUSES = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60)]
"""Between attempts; people wait for their mail, so it starts faster than RFC 5321 §4.5.4.1 asks of relays."""

PARTLY = "partly_refused"

UNCERTAIN_FIX = "Ask the recipient, or look into Sent, before sending it again: it may have arrived."


@dataclass
class Promised:
    """One promised message.

    `message` is the version that the next write insists on. `found` is what its claim and time were then,
    `own` what this worker wrote when it claimed it: anything else is another worker's. `riding` goes with
    the next fact that is written down, for no operation of its own.
    """

    app: App
    org_id: str
    message: Stored[Message]
    found: tuple[str, datetime | None] = field(init=False)
    own: tuple[str, datetime | None] | None = field(default=None, init=False)
    riding: list[Write] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.found = _claim(self.message.value)

    def begin(self, refused: Mapping[str, str], *counting: Write, counted_at: datetime | None = None) -> None:
        """`queued -> sending`, or Raced. What anybody has of it before the first time proves nothing.

        Args:
            refused: recipients that will not get it, with the server's words.
            counting: counts it as of `counted_at`, where that is counted.
        """
        old = self.message.value
        planted = () if old.claim else old.deliveries
        self.take(
            HANDOVER,
            *counting,
            state="sending",
            attempts=old.attempts + 1,
            counted_at=counted_at,
            error=partly(refused),
            deliveries=tuple(replace(fact, unproven=True) for fact in planted) or old.deliveries,
        )

    def take(self, span: timedelta, *writes: Write, **changes: Any) -> None:
        """Have the next step to ourselves for a while, or Raced.

        An answer lost on the way is told from a lost race by our claim.
        """
        old, until = self.message.value, self.app.clock() + span
        new = replace(old, next_at=until, claim=secrets.token_hex(8), **changes)
        self.own = _claim(new)
        try:
            etag, *_ = self.app.records.commit(
                self.org_id, Move(self.message, new), Save(self.item(until)), *writes
            )
        except Raced:
            now = find(self.app, self.org_id, old.conversation_id, old.id)
            if now is None or now.value != new:
                raise
            self.message = now
        else:
            self.message = Stored(new, etag)

    def ours(self, message: Message) -> bool:
        """Whether the state we read is still the one we may change: untouched, or under our own claim."""
        return message.state in {"queued", "sending"} and _claim(message) in {self.found, self.own}

    def surely(
        self, change: Callable[[Message], Message | None], *writes: Write, first: bool = False
    ) -> None:
        """Write a fact over whatever else was written meanwhile, unless `change` sees that it is not ours.

        What happened outside must not be forgotten because the store was away for a moment.

        Args:
            first: raise Raced where anything else was written.
        """
        for tries in range(TRIES):
            new = change(self.message.value)
            if new is None:
                return
            try:
                etag, *_ = self.app.records.commit(
                    self.org_id, Move(self.message, new), *writes, *self.riding
                )
            except Raced:
                if first:
                    raise
                message = self.message.value
                found = find(self.app, self.org_id, message.conversation_id, message.id)
                if found is None:
                    return
                self.message = found
                if found.value == new:  # it was ours, and its answer lost
                    audit.tell([*writes, *self.riding])
                    self.riding.clear()
                    return
            except Temporary:
                if tries == TRIES - 1:
                    raise
                time.sleep(PAUSE * (tries + 1))
            else:
                self.message = Stored(new, etag)
                self.riding.clear()
                return
        raise Raced

    def too_old(self, grace: timedelta = timedelta()) -> bool:
        """Whether it has waited longer than anybody would, and `grace`."""
        return self.app.clock() - self.message.value.received_at > GIVE_UP + grace

    def fail(self, problem: Problem) -> None:
        """It did not leave and never will."""
        self._end("failed", problem)

    def give_up(self, last: Problem | None) -> None:
        """It never left, and is too old to leave now; `last` is what kept it, where anybody said so."""
        detail = f"Not sent within {GIVE_UP.total_seconds() / 3600:.0f} hours. {last.detail if last else ''}"
        self.fail(Problem("gave_up", detail.strip(), (last and last.fix) or "Send it again."))

    def uncertain(self, error: ZalionError | None) -> None:
        """Whether it left will never be known here."""
        detail = error.detail if error else "The worker stopped during the hand-over."
        self._end("uncertain", Problem("outcome_unknown", detail, UNCERTAIN_FIX))

    def _end(self, state: MessageState, problem: Problem) -> None:
        def change(message: Message) -> Message | None:
            if not self.ours(message) or arrived(message):  # somebody has got it: the next look says so
                return None
            return replace(message, state=state, error=problem, next_at=None)

        self.surely(change, Remove(self.item()), self.event(f"message.{state}", problem.code))

    def postpone(self, error: ZalionError, pause: timedelta) -> None:
        """It certainly did not leave: back to `queued` for a later attempt, or `failed` after a day.

        Who asks us to wait knows for how long; else each pause is longer than the one before.
        """
        if self.too_old():
            self.give_up(Problem(error.code, error.detail, error.fix))
            return
        attempts = 0 if isinstance(error, RateLimited) else self.message.value.attempts
        at = self.app.clock() + max(pause, PAUSES[min(attempts, len(PAUSES) - 1)])
        at = min(at, self.message.value.received_at + GIVE_UP + LAST_TRY / 2)  # the last attempt

        def change(message: Message) -> Message | None:
            if not self.ours(message):
                return None
            tried = message.attempts + (message.state == "queued")
            problem = Problem(error.code, error.detail, error.fix)
            return replace(message, state="queued", next_at=at, attempts=tried, error=problem)

        self.surely(change, Save(self.item(at)), self.event("message.postponed", error.code))
        self._swept(at)

    def later(
        self,
        pause: timedelta,
        wanted: Callable[[Message], bool] = lambda _: True,
        why: ZalionError | None = None,
    ) -> None:
        """The same step again after a pause; `why` is shown meanwhile, but hides nobody it did not reach."""
        at = self.app.clock() + pause

        def change(message: Message) -> Message | None:
            if not wanted(message):
                return None
            told = message.error is not None and message.error.code == PARTLY
            error = Problem(why.code, why.detail, why.fix) if why and not told else message.error
            return replace(message, next_at=at, attempts=message.attempts + 1, error=error)

        self.surely(change, Save(self.item(at)))
        self._swept(at)

    def _swept(self, at: datetime) -> None:
        """Have the outbox looked at then; where that cannot be noted now, the sweep that is noted does it."""
        try:
            scheduling.promise_sweep(self.app, self.org_id, at)
        except Temporary as error:
            logs.log("sweep.lost", email_id=self.message.value.id, code=error.code)

    def note(self, event: str) -> None:
        """Put a step on record that changes nothing."""
        self.app.records.commit(self.org_id, self.event(event))

    def item(self, not_before: datetime | None = None) -> OutboxItem:
        """Make the outbox record of this message."""
        return OutboxItem.of(self.message.value, not_before or self.message.value.received_at)

    def event(self, event: str, outcome: str = "done") -> Add:
        """Make the audit record of a step."""
        message = self.message.value
        return audit.entry(
            self.app,
            event,
            actor="system",
            outcome=outcome,
            mailbox_id=message.mailbox_id,
            case_id=message.case_id,
            email_id=message.id,
        )


def arrived(message: Message) -> bool:
    """Whether a copy proves that it left: one that somebody has since its hand-over first began."""
    return bool(message.claim) and any(not fact.unproven for fact in message.deliveries)


def partly(refused: Mapping[str, str]) -> Problem | None:
    """Say whom a mail did not reach; None where it reached all."""
    if not refused:
        return None
    told = "; ".join(f"{address}: {words}" for address, words in refused.items())
    return Problem(PARTLY, told, "Send to them again: later where it says 4.., else with a correct address.")


def _claim(message: Message) -> tuple[str, datetime | None]:
    return message.claim, message.next_at
