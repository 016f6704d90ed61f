"""The right to look at a mailbox: one worker at a time, and with it the cursor that only its holder may move.

Lease and cursor are one record. Who finds the lease taken leaves a mark, and the holder looks once more.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared import audit, lateness
from shared.app import App
from shared.errors import (
    Busy,
    Raced,
)
from shared.model import Late, SyncState
from shared.storage.base import Add, Move, Save, Stored, Write

LEASE = timedelta(minutes=5)
"""Longer than any page should take; extended with every page."""

PROVEN = timedelta(seconds=1)
"""So old may the proof be that the lease is still ours when the next mail is handled."""


@dataclass
class Lease:
    """The right to look at a mailbox, and the cursor that only its holder may move.

    Attributes:
        beside: Message-IDs that are known to lie beside the record.
    """

    app: App
    org_id: str
    held: Stored[SyncState]
    proven_at: datetime
    beside: dict[str, None] = field(default_factory=dict)

    @classmethod
    def take(cls, app: App, org_id: str, mailbox_id: str, look: Sequence[str] = ()) -> "Lease | None":
        """Take the lease; where another holds it, mark that one more look is wanted.

        Either way `look` is added to what is still to be looked for. Raises Busy while the mailbox rests;
        and while another holds the lease, so that the job comes back when it has run out: a holder that
        died looks no more. Returns None where another job comes back for that already.
        """
        holder, marking = secrets.token_hex(8), False
        for _ in range(5):
            stored = app.records.find(org_id, SyncState, mailbox_id)
            state = stored.value if stored else SyncState(mailbox_id)
            if stored and state.holder == holder:  # our own taking, whose answer was lost on the way
                return cls(app, org_id, stored, app.clock())
            if state.rest_until and (rest := state.rest_until - app.clock()) > timedelta():
                raise Busy("The provider asked us to wait.", retry_after=rest.total_seconds())
            now = app.clock()
            busy = state.until if state.holder and state.until and state.until > now else None
            # a mark that may be our own, its answer lost: nobody else is known to come back
            watched = not marking and state.watched_until is not None and state.watched_until > now
            marking = busy is not None and not watched
            if busy and watched and state.again and {*look} <= {*state.look}:
                return None
            state, waiting = lateness.remembered(state, look)
            left = bool(state.holder)  # by one that died, and with it perhaps what it learnt
            new = replace(state, holder=holder, until=now + LEASE, again=False, more=state.more or left)
            if busy:
                new = replace(state, again=True, watched_until=state.watched_until if watched else busy)
            try:
                etag, *_ = app.records.commit(org_id, Move(stored, new) if stored else Add(new), *waiting)
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
        self._change(lambda state: (replace(state, **changes), [*extra]))

    def learn(self, message_id: str) -> list[Write]:
        """Note a Message-ID that became known late; returns the write to commit with what made it known.

        Our next write takes it into the record; should we die before, who takes the lease over looks there.
        """
        self.beside[message_id] = None
        return [Save(Late(self.held.value.mailbox_id, message_id))]

    def looked_for(
        self, message_ids: Sequence[str], *extra: Write, withheld: Collection[str] = frozenset()
    ) -> None:
        """Forget what was looked for, and count a look that did not see all that answers the `withheld`.

        Others may have been added meanwhile, and what lies beside the record finds room in it. Where nothing
        is left, the next write says so: should we die before, it is looked for once more.
        """
        now = self.app.clock()

        def change(state: SyncState) -> tuple[SyncState, list[Write]]:
            new = lateness.looked_for(state, message_ids, withheld, now)
            return replace(new, more=new.more and self._read_beside()), [*extra]

        state = self.held.value
        if state.more or self.beside or extra or withheld or {*state.look} - {*message_ids}:
            self._change(change)
        else:
            self.held = Stored(change(state)[0], self.held.etag)

    def _read_beside(self) -> bool:
        found, more = lateness.beside(self.app, self.org_id, self.held.value.mailbox_id)
        self.beside.update(dict.fromkeys(found))
        return more

    def _change(self, change: Callable[[SyncState], tuple[SyncState, list[Write]]]) -> None:
        for _ in range(5):
            try:
                return self._commit(*change(self.held.value))
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
        new, moved = lateness.taken_in(new, self.beside, lateness.MOST_MOVED - len(extra))
        try:
            etag, *_ = self.app.records.commit(self.org_id, Move(self.held, new), *extra, *moved)
            self.held = Stored(new, etag)
        except Raced:
            self.held = self._unheard(new, extra)
        self.proven_at = self.app.clock()
        self.beside = {id_: None for id_ in self.beside if id_ not in new.look}

    def _unheard(self, new: SyncState, extra: Sequence[Write]) -> Stored[SyncState]:
        """Return the record where it was written, and only the answer was lost on the way. Raises Raced.

        Others may have marked it since; what we tell the audit is nobody else's.
        """
        found = self.app.records.get(self.org_id, SyncState, new.mailbox_id)
        told = audit.told(extra)
        done = audit.is_on_record(self.app, self.org_id, told) if told else found.value == new
        if not done or (new.holder and found.value.holder != new.holder):
            raise Raced
        audit.tell(extra)
        return found

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
    if stored is None:
        return []
    more = stored.value.more or bool(stored.value.holder)  # it may leave what it learnt beside the record
    ended = replace(stored.value, holder="", until=None, more=more, passed=())
    return [Move(stored, replace(ended, **changes))]


def interrupting(app: App, org_id: str, mailbox_id: str, changes: Mapping[str, Any], *writes: Write) -> None:
    """Carry out a change of a mailbox, and end the look that still reads it as it was. Raises Raced.

    Args:
        writes: the change, and the record that tells of it.
    """
    for _ in range(5):
        with suppress(Raced):  # the look moved on, or somebody changed the mailbox: then it stays so
            if all_ := [*writes, *interrupted(app, org_id, mailbox_id, **changes)]:
                audit.commit(app, org_id, *all_)
            return
    raise Raced
