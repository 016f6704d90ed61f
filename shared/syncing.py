"""Keeping a mailbox and its cases in step: lease, pages, decisions, cursor. A notice is only a hint.

Lease and cursor are one record, so a worker that lost the lease cannot move the cursor. Who finds
the lease taken leaves a mark, and the holder looks once more: ten notices cost two looks. The cursor
moves after its page is filed; everything before that is safe to repeat.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from shared import audit, jobs, subscribing
from shared.app import App
from shared.consenting import needs_consent
from shared.errors import (
    Busy,
    ConsentRequired,
    CursorExpired,
    RateLimited,
    Temporary,
    ZalionError,
)
from shared.filing import Filer
from shared.findings import Findings
from shared.jobs import Job
from shared.late_looks import LateLooks
from shared.leasing import LEASE, Lease, LeaseLost
from shared.model import Envelope, Mailbox, Problem, digest
from shared.providers.base import Cursor, Receiver
from shared.seeing import Seen

LONGEST = timedelta(minutes=4)
"""A look that takes longer, or a page, is gone on with by another job: twice this is less than a session
with a mail server, or a worker, may last (`network.Timeouts`, host.json)."""

GO_ON_DELAY = 2
"""Seconds: longer than it takes to give the lease back."""

OFTEN = timedelta(seconds=15)
"""So long may pages without mail go by before the way they have come is written down."""

MOST_PASSED = 400
"""When a page is broken off, at most so many finished mails are remembered; the largest page has 200."""

PATIENCE = 3
"""So often the fetching of one mail may fail before it is held and its mailbox goes on."""


def sync(
    app: App,
    org_id: str,
    mailbox_id: str,
    *,
    look: Sequence[str] = (),
    actor: str = "system",
    pushed: bool = False,
) -> Counter[str]:
    """Look at one mailbox and file what belongs; returns how many mails had which outcome.

    Does nothing for a mailbox that is not active. Raises Temporary, RateLimited or ConsentRequired
    after noting it at the mailbox; nothing is lost, the cursor stays before what was not filed.
    """
    lease = Lease.take(app, org_id, mailbox_id, look)
    if lease is None:
        return Counter()
    # under the lease, which `interrupted` ends: a mailbox disconnected at this moment is seen here or there
    mailbox = app.records.find(org_id, Mailbox, mailbox_id)
    if mailbox is None or mailbox.value.state != "active" or mailbox.value.receives_with is None:
        lease.give_back()
        return Counter()
    run = _Run(app, org_id, mailbox.value, lease, actor)
    try:
        with app.receiving(org_id, mailbox.value, leased=True) as receiver:
            run.everything(receiver)
    except ZalionError as error:
        run.fail(error)
        if isinstance(error, ConsentRequired):
            needs_consent(app, org_id, mailbox, error)
        raise
    except Exception:  # a bug: the host's next try must find the lease free, or it would count as done
        run.fail(ZalionError("An error on our side stopped the last look; we have been told."))
        raise
    run.mind_push(pushed=pushed)
    return run.found.counts


@dataclass
class _Run:
    """One look at one mailbox."""

    app: App
    org_id: str
    mailbox: Mailbox
    lease: Lease
    actor: str
    filer: Filer | None = None
    filed: set[str] = field(default_factory=set)
    passed: dict[str, None] = field(default_factory=dict)
    late: bool = False
    unfinished: bool = False
    rests: float = 0

    def __post_init__(self) -> None:
        self.found = Findings(self.app, self.mailbox, self.actor)
        self.ends_at = self.app.clock() + LONGEST
        self.passed = dict.fromkeys(self.lease.held.value.passed)

    def everything(self, receiver: Receiver) -> None:
        """Walk the pages, then look for late answers, until nobody asks for another look, or time is up."""
        state = self.lease.held.value
        hopeless = state.stuck if state.tries >= PATIENCE else ""
        self.filer = filer = Filer(
            self.app,
            self.org_id,
            self.mailbox,
            receiver,
            self.actor,
            self.lease.learn,
            Seen(state.newest, state.newest),
            hopeless,
        )
        late = LateLooks(self.app, self.lease, receiver, self.found, partial(self._handle_late, filer))
        while True:
            cursor = self._pages(receiver, filer)
            if not self.unfinished and (rest := late.look(self.ends_at)) is not None:
                self.unfinished, self.rests = True, rest
            if self.unfinished:
                self._go_on_later(cursor, filer)
                return
            done = {"synced_at": self.app.clock(), "passed": (), "rest_until": None}
            if self.lease.release(self.found.read("done"), **self._so_far(cursor, filer), **done):
                return

    def _go_on_later(self, cursor: Cursor | None, filer: Filer) -> None:
        """Leave the rest to another job; enqueued first, so that dying here ends nothing."""
        delay = GO_ON_DELAY + self.rests
        jobs.put(self.app, Job("sync", self.org_id, self.mailbox.id, actor=self.actor), delay=delay)
        until = self.app.clock() + timedelta(seconds=self.rests) if self.rests else None
        passed = tuple(self.passed)[-MOST_PASSED:]
        progress = {**self._so_far(cursor, filer), "passed": passed, "rest_until": until}
        self.lease.give_back(self.found.read("unfinished"), **progress)

    def _so_far(self, cursor: Cursor | None, filer: Filer) -> dict[str, Any]:
        """What is noted of a look that no mail broke."""
        told = {"problem": self.found.problem, "stuck": "", "tries": 0}
        return {"cursor": cursor, "newest": filer.seen.newest, **told}

    def fail(self, error: ZalionError) -> None:
        """Note why the look ended early, and give the lease back whatever was asked for meanwhile."""
        noted = {
            "problem": Problem(error.code, error.detail, error.fix),
            "rest_until": self._rest(error),
            **self._tried(error),
        }
        try:
            self.lease.give_back(self.found.read(error.code), **noted)
        except LeaseLost:  # what was read until then is on record all the same
            audit.commit(self.app, self.org_id, self.found.read("interrupted"))

    def _tried(self, error: ZalionError) -> dict[str, Any]:
        """Which mail broke the look, and how often; what stops the whole mailbox is no fault of its mail."""
        if isinstance(error, RateLimited | Busy | ConsentRequired):
            return {}
        state, stuck = self.lease.held.value, self.filer.fetching if self.filer else ""
        again = stuck == state.stuck
        return {"stuck": stuck, "tries": state.tries + 1 if stuck and again else 1 if stuck else 0}

    def _rest(self, error: ZalionError) -> datetime | None:
        """Until when everybody leaves the mailbox alone: calls made meanwhile count against us, too."""
        if not isinstance(error, RateLimited):
            return None
        return self.app.clock() + timedelta(seconds=error.retry_after)

    def mind_push(self, *, pushed: bool) -> None:
        """Have the mailbox's push seen to, where this look has shown the need.

        A look that is still catching up says nothing about push.
        """
        late = self.late and not self.unfinished
        event = subscribing.needs(
            self.app, self.mailbox, pushed=pushed, late=late, found=bool(self.found.counts)
        )
        if event:
            jobs.put(self.app, Job("subscribe", self.org_id, self.mailbox.id, event=event))

    def _pages(self, receiver: Receiver, filer: Filer) -> Cursor | None:
        try:
            return self._walk(receiver, filer)
        except CursorExpired as expired:
            self.passed.clear()
            event = self.found.restarted(expired.detail)
            self.lease.save(event, cursor=expired.resume, passed=())
        try:
            return self._walk(receiver, filer)
        except CursorExpired as expired:
            raise Temporary("The mailbox keeps changing under our eyes.", retry_after=300) from expired

    def _walk(self, receiver: Receiver, filer: Filer) -> Cursor | None:
        cursor = Cursor(self.lease.held.value.cursor) if self.lease.held.value.cursor else None
        self.found.begin_again()
        for page in receiver.pages(cursor, self.mailbox.since):
            if not self._whole(filer, page.envelopes):
                break
            cursor = page.cursor
            self.found.refused += page.refused
            self.found.missing += page.missing
            if page.unreadable:
                self.lease.save(self.found.given_up(page.unreadable), cursor=cursor)
            self.rests = page.rest
            if page.rest or self.app.clock() > self.ends_at:
                self.unfinished = True
                break
            if page.envelopes or page.refused or self.lease.age > OFTEN:
                self.lease.save(cursor=cursor, newest=filer.seen.newest, until=self.app.clock() + LEASE)
        return cursor

    def _whole(self, filer: Filer, envelopes: Sequence[Envelope]) -> bool:
        """Handle a page, unless that takes too long: then the next look passes what this one is done with.

        Of a report about other mail, which had to be fetched to know that, nothing else is kept.
        """
        latest, refs = self.app.clock() + LONGEST, [digest(envelope.ref) for envelope in envelopes]
        for envelope, ref in zip(envelopes, refs, strict=True):
            if ref in self.passed:
                filer.seen.passed_over(envelope)
                continue
            if self.app.clock() > latest:
                self.unfinished = True
                return False
            self._handle(filer, envelope)
            self.passed[ref] = None
        self.passed = {ref: None for ref in self.passed if ref not in refs}
        return True

    def _handle(self, filer: Filer, envelope: Envelope) -> None:
        self.lease.keep()
        outcome = filer.handle(envelope)
        self.found.counts[outcome] += 1
        if outcome == "file":
            self.filed.add(envelope.ref)
        if self.lease.held.value.synced_at:  # before the first whole look all mail is old
            self.late |= subscribing.is_late(envelope.received_at, self.app.clock())

    def _handle_late(self, filer: Filer, envelope: Envelope) -> None:
        if envelope.ref not in self.filed:  # among what answers a mail, the mail itself is shown, too
            self._handle(filer, envelope)
