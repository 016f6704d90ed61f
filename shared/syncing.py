"""Keeping a mailbox and its cases in step: lease, pages, decisions, cursor. A notice is only a hint.

Lease and cursor are one record, so a worker that lost the lease cannot move the cursor. Who finds
the lease taken leaves a mark, and the holder looks once more: ten notices cost two looks. The cursor
moves after its page is filed; everything before that is safe to repeat.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared import audit, jobs, subscribing
from shared.app import App
from shared.consenting import needs_consent
from shared.errors import (
    Busy,
    ConsentRequired,
    CursorExpired,
    Raced,
    RateLimited,
    Temporary,
    ZalionError,
)
from shared.filing import Filer
from shared.jobs import Job
from shared.model import Envelope, Mailbox, Problem, SyncState
from shared.providers.base import Cursor, Receiver
from shared.storage.base import Add, Move, Stored, Write

LEASE = timedelta(minutes=5)
"""Longer than any page should take; extended with every page."""

LOOKED_AT = 20
"""So many late Message-IDs are looked for at once."""

MOST_LATE = 200
"""So many are remembered; a record is not a queue."""

LONGEST = timedelta(minutes=4)
"""A look that takes longer, or a page, is gone on with by another job: twice this is less than a session
with a mail server, or a worker, may last (`network.Timeouts`, host.json)."""

GO_ON_DELAY = 2
"""Seconds: longer than it takes to give the lease back."""

PROVEN = timedelta(seconds=1)
"""So old may the proof be that the lease is still ours when the next mail is handled."""

OFTEN = timedelta(seconds=15)
"""So long may pages without mail go by before the way they have come is written down."""

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
    return run.counts


@dataclass
class Lease:
    """The right to look at a mailbox, and the cursor that only its holder may move."""

    app: App
    org_id: str
    held: Stored[SyncState]
    proven_at: datetime

    @classmethod
    def take(cls, app: App, org_id: str, mailbox_id: str, look: Sequence[str] = ()) -> "Lease | None":
        """Take the lease; where another holds it, mark that one more look is wanted.

        Either way `look` is added to what is still to be looked for. Raises Busy while the mailbox rests;
        and while another holds the lease, so that the job comes back when it has run out: a holder that
        died looks no more. Returns None where another job comes back for that already.
        """
        for _ in range(5):
            stored = app.records.find(org_id, SyncState, mailbox_id)
            state = stored.value if stored else SyncState(mailbox_id)
            if state.rest_until and (rest := state.rest_until - app.clock()) > timedelta():
                raise Busy("The provider asked us to wait.", retry_after=rest.total_seconds())
            now = app.clock()
            busy = state.until if state.holder and state.until and state.until > now else None
            watched = state.watched_until is not None and state.watched_until > now
            if busy and watched and state.again and {*look} <= {*state.look}:
                return None
            state = replace(state, look=_merged(state.look, look))
            new = replace(state, holder=secrets.token_hex(8), until=now + LEASE, again=False)
            if busy:
                new = replace(state, again=True, watched_until=state.watched_until if watched else busy)
            try:
                [etag] = app.records.commit(org_id, Move(stored, new) if stored else Add(new))
            except Raced:
                continue
            if not busy:
                return cls(app, org_id, Stored(new, etag), now)
            if watched:
                return None
            raise Busy("Another worker looks at this mailbox.", retry_after=(busy - now).total_seconds())
        raise Raced

    def keep(self) -> None:
        """Make sure, at hardly any cost, that it is still ours. Raises Raced when it is not.

        A page of large mails may take longer than the lease, and a mailbox may be disconnected meanwhile.
        """
        now, until = self.app.clock(), self.held.value.until
        if until is None or until - now < LEASE / 2:
            self.save(until=now + LEASE)
        elif now - self.proven_at > PROVEN:
            self._read_again()

    @property
    def age(self) -> timedelta:
        """Since when it was not extended."""
        return self.app.clock() - ((self.held.value.until or self.app.clock()) - LEASE)

    def save(self, *extra: Write, **changes: Any) -> None:
        """Write changes together with `extra`. Raises Raced when another worker took the lease over."""
        self._change(lambda state: replace(state, **changes), extra)

    def look_for(self, message_id: str) -> None:
        """Remember a Message-ID that became known late, until it was looked for."""
        self._change(lambda state: replace(state, look=_merged(state.look, [message_id])))

    def looked_for(self, message_ids: Sequence[str]) -> None:
        """Forget what was looked for; others may have been added meanwhile."""
        gone = {*message_ids}
        self._change(lambda state: replace(state, look=tuple(id_ for id_ in state.look if id_ not in gone)))

    def _change(self, change: Callable[[SyncState], SyncState], extra: Sequence[Write] = ()) -> None:
        for _ in range(5):
            try:
                return self._commit(change(self.held.value), extra)
            except Raced:
                self._read_again()
        raise Raced

    def release(self, *extra: Write, **changes: Any) -> bool:
        """Give the lease back; returns False, still holding it, when another look was asked for meanwhile."""
        try:
            self._commit(replace(self.held.value, holder="", until=None, **changes), extra)
        except Raced:
            self._read_again()
            self.save(again=False, **changes)
            return False
        return True

    def give_back(self, *extra: Write, **changes: Any) -> None:
        """Give it back whatever was asked for meanwhile, because this worker cannot give it."""
        while not self.release(*extra, **changes):
            pass

    def _commit(self, new: SyncState, extra: Sequence[Write]) -> None:
        etag, *_ = self.app.records.commit(self.org_id, Move(self.held, new), *extra)
        self.held, self.proven_at = Stored(new, etag), self.app.clock()

    def _read_again(self) -> None:
        found = self.app.records.get(self.org_id, SyncState, self.held.value.mailbox_id)
        if found.value.holder != self.held.value.holder:
            raise LeaseLost
        self.held, self.proven_at = found, self.app.clock()


class LeaseLost(Raced):
    """Another worker holds the lease, or somebody ended the look."""

    def __init__(self) -> None:
        super().__init__("The lease of this mailbox was taken over.")


def interrupted(app: App, org_id: str, mailbox_id: str, **changes: Any) -> list[Write]:
    """Return the writes that end a look under way, and change what is known of the mailbox's reading.

    To be committed with the change of the mailbox that asks for it; Raced where the look has moved on.
    """
    stored = app.records.find(org_id, SyncState, mailbox_id)
    return [Move(stored, replace(stored.value, holder="", until=None, **changes))] if stored else []


def interrupting(app: App, org_id: str, mailbox_id: str, changes: Mapping[str, Any], *writes: Write) -> None:
    """Carry out a change of a mailbox, and end the look that still reads it as it was. Raises Raced."""
    for _ in range(5):
        with suppress(Raced):  # the look moved on, or somebody changed the mailbox: then it stays so
            app.records.commit(org_id, *writes, *interrupted(app, org_id, mailbox_id, **changes))
            return
    raise Raced


def _merged(known: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*known, *new]))[-MOST_LATE:]


@dataclass
class _Run:
    """One look at one mailbox."""

    app: App
    org_id: str
    mailbox: Mailbox
    lease: Lease
    actor: str
    filer: Filer | None = None
    counts: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    late: bool = False
    unfinished: bool = False

    def __post_init__(self) -> None:
        self.ends_at = self.app.clock() + LONGEST

    def everything(self, receiver: Receiver) -> None:
        """Walk the pages, then the late evidence, until nobody asks for another look, or time is up."""
        state = self.lease.held.value
        hopeless = state.stuck if state.tries >= PATIENCE else ""
        self.filer = filer = Filer(
            self.app, self.org_id, self.mailbox, receiver, self.actor, self.lease.look_for, hopeless
        )
        while True:
            cursor = self._pages(receiver, filer)
            self._late_evidence(receiver, filer)
            if self.unfinished:
                self._go_on_later(cursor)
                return
            done = {
                "cursor": cursor,
                "synced_at": self.app.clock(),
                "problem": self._withheld(),
                "stuck": "",
                "tries": 0,
                "rest_until": None,
            }
            if self.lease.release(self._read("done"), **done):
                return

    def _withheld(self) -> Problem | None:
        """Say that the provider keeps mails from us, while it gives others."""
        if not self.refused:
            return None
        fix = "Zalion asks for them again at each look, for some time. Ask your provider if it stays."
        return Problem("mail_refused", f"The provider did not give {self.refused} of the mails.", fix)

    def _go_on_later(self, cursor: Cursor | None) -> None:
        """Leave the rest to another job; enqueued first, so that dying here ends nothing."""
        jobs.put(self.app, Job("sync", self.org_id, self.mailbox.id, actor=self.actor), delay=GO_ON_DELAY)
        progress = {"cursor": cursor, "problem": None, "stuck": "", "tries": 0, "rest_until": None}
        self.lease.give_back(self._read("unfinished"), **progress)

    def fail(self, error: ZalionError) -> None:
        """Note why the look ended early, and give the lease back whatever was asked for meanwhile."""
        noted = {
            "problem": Problem(error.code, error.detail, error.fix),
            "rest_until": self._rest(error),
            **self._tried(error),
        }
        try:
            self.lease.give_back(self._read(error.code), **noted)
        except LeaseLost:  # what was read until then is on record all the same
            self.app.records.commit(self.org_id, self._read("interrupted"))

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
        """Have the mailbox's push seen to, where this look has shown the need."""
        event = subscribing.needs(
            self.app, self.mailbox, pushed=pushed, late=self.late, found=bool(self.counts)
        )
        if event:
            jobs.put(self.app, Job("subscribe", self.org_id, self.mailbox.id, event=event))

    def _pages(self, receiver: Receiver, filer: Filer) -> Cursor | None:
        try:
            return self._walk(receiver, filer)
        except CursorExpired as expired:
            event = self._event("mailbox.restarted", "done", detail=expired.detail)
            self.lease.save(event, cursor=expired.resume, restarted_at=self.app.clock())
        try:
            return self._walk(receiver, filer)
        except CursorExpired as expired:
            raise Temporary("The mailbox keeps changing under our eyes.", retry_after=300) from expired

    def _walk(self, receiver: Receiver, filer: Filer) -> Cursor | None:
        cursor = Cursor(self.lease.held.value.cursor) if self.lease.held.value.cursor else None
        for page in receiver.pages(cursor, self.mailbox.since):
            if not self._whole(filer, page.envelopes):
                break
            cursor = page.cursor
            self.refused += page.refused
            if page.unreadable:
                self.lease.save(self._given_up(page.unreadable), cursor=cursor)
            if self.app.clock() > self.ends_at:
                self.unfinished = True
                break
            if page.envelopes or self.lease.age > OFTEN:
                self.lease.save(cursor=cursor, until=self.app.clock() + LEASE)
        return cursor

    def _whole(self, filer: Filer, envelopes: Sequence[Envelope]) -> bool:
        """Handle a page, unless that takes too long: what was filed of it is known the next time."""
        latest = self.app.clock() + LONGEST
        for envelope in envelopes:
            if self.app.clock() > latest:
                self.unfinished = True
                return False
            self._handle(filer, envelope)
        return True

    def _handle(self, filer: Filer, envelope: Envelope) -> None:
        self.lease.keep()
        self.counts[filer.handle(envelope)] += 1
        self.late |= subscribing.is_late(envelope.received_at, self.app.clock())

    def _late_evidence(self, receiver: Receiver, filer: Filer) -> None:
        """A Message-ID we learnt late may have been answered before: one look, nothing kept in between."""
        while (wanted := self.lease.held.value.look[:LOOKED_AT]) and not self.unfinished:
            for envelope in receiver.look(wanted):
                self._handle(filer, envelope)
            self.lease.looked_for(wanted)
            self.unfinished = self.app.clock() > self.ends_at

    def _given_up(self, mails: int) -> Add:
        return self._event(
            "mailbox.mail_given_up",
            "unreadable",
            counts={"unreadable": mails},
            detail="The mail server has refused to show the headers of this mail to several looks; "
            "whether it belongs to a case only its owner can see, in the own mail program.",
        )

    def _read(self, outcome: str) -> Add:
        return self._event("mailbox.read", outcome, counts=dict(self.counts + Counter(refused=self.refused)))

    def _event(
        self, event: str, outcome: str, *, counts: dict[str, int] | None = None, detail: str = ""
    ) -> Add:
        return audit.entry(
            self.app,
            event,
            actor=self.actor,
            outcome=outcome,
            mailbox_id=self.mailbox.id,
            counts=counts,
            detail=detail,
        )
