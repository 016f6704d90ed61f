"""Keeping a mailbox and its cases in step: lease, pages, decisions, cursor. A notice is only a hint.

Lease and cursor are one record, so a worker that lost the lease cannot move the cursor. Who finds
the lease taken leaves a mark, and the holder looks once more: ten notices cost two looks. The cursor
moves after its page is filed; everything before that is safe to repeat.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared import audit, jobs, subscribing
from shared.app import App
from shared.consenting import needs_consent
from shared.errors import (
    Busy,
    ConsentRequired,
    CursorExpired,
    NotFound,
    RateLimited,
    Rejected,
    Temporary,
    Withheld,
    ZalionError,
)
from shared.filing import Filer
from shared.findings import Findings
from shared.jobs import Job
from shared.leasing import LEASE, Lease, LeaseLost
from shared.model import Envelope, Mailbox, Problem, digest
from shared.providers.base import Cursor, Receiver
from shared.seeing import Seen

LOOKED_AT = 2
"""So many late Message-IDs are looked for at once: at Gmail one costs 2,600 of a minute's 6,000 units at most
(`google.answers.EACH`), and more than a minute has would fail each time."""

LONGEST = timedelta(minutes=4)
"""A look that takes longer, or a page, is gone on with by another job: twice this is less than a session
with a mail server, or a worker, may last (`network.Timeouts`, host.json)."""

GO_ON_DELAY = 2
"""Seconds: longer than it takes to give the lease back."""

OFTEN = timedelta(seconds=15)
"""So long may pages without mail go by before the way they have come is written down."""

WITHHELD, WITHHELD_LOOKS = timedelta(days=2), 10
"""So long, and in so many looks, is looked for what a provider keeps from us: a paused mailbox looks less."""

MOST_PASSED = 400
"""Of so many mails of a page that is broken off is noted that we are done with them; the largest has 200."""

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
        """Walk the pages, then the late evidence, until nobody asks for another look, or time is up."""
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
        while True:
            cursor = self._pages(receiver, filer)
            self._late_evidence(receiver, filer)
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

        What a look finds that is one of many, catching up, tells nothing of push.
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

    def _late_evidence(self, receiver: Receiver, filer: Filer) -> None:
        """A Message-ID we learnt late may have been answered before: one look, nothing kept in between."""
        put_off: set[str] = set()
        if self.lease.held.value.more:
            self.lease.looked_for(())  # reads what lies beside the record
        while wanted := [id_ for id_ in self.lease.held.value.look if id_ not in put_off][:LOOKED_AT]:
            if self.unfinished:
                return
            self.rests = receiver.rest()
            if self.rests:
                self.unfinished = True
                return
            put_off |= self._looked_for(receiver, filer, wanted)
            self.unfinished = self.app.clock() > self.ends_at

    def _looked_for(self, receiver: Receiver, filer: Filer, wanted: Sequence[str]) -> frozenset[str]:
        """Look once; returns what is to be looked for again, because the provider kept mails from us.

        A look that breaks keeps everything from us: it counts, or one mail could break it for ever.
        """
        withheld, mails, broke = frozenset[str](), 0, None
        try:
            for envelope in _shown(receiver, wanted):
                if envelope.ref not in self.filed:  # among what answers it, the mail itself is shown, too
                    self._handle(filer, envelope)
        except Withheld as error:
            withheld, mails = error.message_ids, error.mails
        except _LookBroke as error:
            withheld, broke = frozenset(wanted), error.error
        again = frozenset(id_ for id_ in withheld if not self._hopeless(id_))
        self.found.refused += mails if again else 0
        told = [self.found.given_up(mails)] if again != withheld else []
        self.lease.looked_for(wanted, *told, withheld=again)
        if broke and again:
            raise broke
        return again

    def _hopeless(self, message_id: str) -> bool:
        """Whether what may answer it was kept from us long enough, and in looks enough, to go on without."""
        since, looks = self.lease.held.value.withheld.get(message_id, (self.app.clock(), 0))
        return looks >= WITHHELD_LOOKS and self.app.clock() - since > WITHHELD


class _LookBroke(Exception):
    def __init__(self, error: ZalionError) -> None:
        super().__init__(error.code)
        self.error = error


def _shown(receiver: Receiver, wanted: Sequence[str]) -> Iterator[Envelope]:
    """Yield what a look shows; what breaks the look itself, and no handling of a mail, is told apart."""
    try:
        yield from receiver.look(wanted)
    except (Withheld, Busy):
        raise
    except (Temporary, Rejected, NotFound) as error:
        raise _LookBroke(error) from error
