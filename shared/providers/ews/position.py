"""Where the last look at a mailbox at Exchange stopped: the cursor, from the inside."""

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from shared.errors import CursorExpired
from shared.providers import positions
from shared.providers.ews.calls import Changes
from shared.providers.ews.folders import Layout

MOST_SEEN = 1000
"""So many mails are known to have been given out: what came between two looks, twice over."""

MOST_STATES = 100_000
"""Characters of all sync states together: half of a cursor (`positions.LONGEST`). One has some hundreds or
thousands, and nothing says how many it may have."""

MOST_SHUT = 500
"""So many folders are known to be shut: some are for good, and nothing says how many those may be."""

BEFORE = timedelta(days=1)
"""So long before it was refused for the first time a mail may have come in."""


@dataclass
class Position(positions.Position, positions.Patient):
    """What a cursor says.

    Attributes:
        states: folder -> its sync state; empty where that has no room: such a folder is read by time, as the
            other ones are, for as long as it is chosen.
        swept: when the last look through the other folders began that came to its end; set by the first look,
            however early it ends.
        seen: the mails given out of them since `sweep_from`, hashed.
        refused, tried: see `Patient`.
        chosen: folder that is chosen -> the id, hashed, of the one that bears or last bore its name.
        sweep_from: from when on the next look goes through the other folders: that is when the look before
            the last began. A mail that is moved while we look may be where we have been already, and keeps
            the time at which it came in. It moves with each page: a look that ends early has come that far.
        places: refused mail -> the folder, hashed, in which it was ours to read; none where it quotes our id.
        closed: whether the other folders were not to be looked into by the last look.
        shut: folder, hashed, that may not be searched -> from when on its mail is to be found once it opens
            again, and when that was noticed (both in seconds since 1970).
    """

    provider: ClassVar[str] = "ews"
    most_refused: ClassVar[int] = 30  # an id has 150 characters and more, and is written thrice
    states: dict[str, str] = field(default_factory=dict)
    swept: datetime | None = None
    seen: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    sweep_from: datetime | None = None
    places: dict[str, str] = field(default_factory=dict)
    closed: bool = False
    shut: dict[str, tuple[int, int]] = field(default_factory=dict)

    def begin(self, started: datetime, since: datetime) -> None:
        """Begin a look; the first one goes through the other folders from `since` on.

        The first look by a cursor without `sweep_from` does so from the last look on.
        """
        self.sweep_from = self.sweep_from or self.swept or since
        self.swept = self.swept or started

    def follow(self, layout: Layout, since: datetime) -> None:
        """Forget the folders that are not followed any more; one that is renamed stays chosen.

        What was refused in a folder that is not ours to read any more is not asked for again: if it quotes
        an id of ours, the sweep finds it. Others that are not closed any more are swept from `since` on.
        """
        if self.closed and not layout.closed:
            self.look_back(since)
        self.closed = layout.closed
        there = {*map(hashed, layout.names)}
        self.shut = {one: times for one, times in self.shut.items() if one in there}
        self.states = {name: state for name, state in self.states.items() if name in layout.watched}
        missing = {name: self.chosen[name] for name in layout.missing if name in self.chosen}
        self.chosen = missing | {name: hashed(id_) for name, id_ in layout.chosen.items()}
        ours = self.ours(layout) if layout.closed else {*self.ours(layout), ""}
        if private := {id_ for id_ in self.refused if self.places.get(id_, "") not in ours}:
            self._forget(private)

    def followed(self) -> set[str]:
        """Return the folders that have a sync state."""
        return {name for name, state in self.states.items() if state}

    def by_time(self, name: str) -> bool:
        """Whether a folder is to be followed, and its sync state has no room."""
        return self.states.get(name) == ""

    def reached(self, name: str, changes: Changes, since: datetime) -> None:
        """Note that these changes of a folder are given out.

        Where the state after them has no room, the sweep goes on: from `since`, if there are further ones.
        """
        self.shut.pop(self.chosen.get(name, ""), None)
        others = sum(len(state) for one, state in self.states.items() if one != name)
        self.states[name] = changes.state if others + len(changes.state) <= MOST_STATES else ""
        if self.by_time(name):
            self.see(one.id for one in changes.created)
            if not changes.complete:
                self.look_back(since)

    def ours(self, layout: Layout) -> set[str]:
        """Return the folders, hashed, of which all mail is ours to read: all, or those that are chosen.

        A chosen one that was renamed is read whole.
        """
        whole = (id_ for id_, name in layout.names.items() if not layout.bounded or name in layout.watched)
        return {*map(hashed, whole), *self.chosen.values()}

    def put(self, places: Mapping[str, str]) -> None:
        """Note where those of these mails that are refused were found."""
        known = {**self.places, **places}
        self.places = {id_: known[id_] for id_ in self.refused if known.get(id_)}

    def _forget(self, ids: Collection[str]) -> None:
        """Ask for refused mails no more; the next sweep may find them."""
        self.look_for(min(self.refused[id_] for id_ in ids))
        known = {*map(hashed, ids)}
        self.seen = [one for one in self.seen if one not in known]
        for id_ in ids:
            self.places.pop(id_, None)
            del self.refused[id_], self.tried[id_]

    def look_back(self, to: datetime) -> None:
        """Have the next sweep begin no later."""
        self.sweep_from = min(self.sweep_from or to, to)

    def look_for(self, refused_at: int) -> None:
        """Have the next sweep find a mail that was refused then for the first time, wherever it lies now."""
        self.look_back(datetime.fromtimestamp(refused_at, UTC) - BEFORE)

    def left_over(self) -> list[str]:
        """Return what a sweep that ended early gave out and this one passes over; the next one does not."""
        begun = self.sweep_from and self.swept and self.sweep_from > self.swept
        return self.seen if begun else []

    def see(self, ids: Iterable[str]) -> None:
        """Count mails as given out that a sweep may find."""
        self.seen = [*self.seen, *map(hashed, ids)][-MOST_SEEN:]

    def shut_out(self, folders: Iterable[str], after: datetime) -> None:
        """Note folders that may not be searched: what came since then is still to be found in them."""
        times = int(after.timestamp()), int(time.time())
        known = self.shut | {one: self.shut.get(one, times) for one in map(hashed, folders)}
        self.shut = dict([*known.items()][-MOST_SHUT:])

    def shut_lately(self) -> set[str]:
        """Return the folders, hashed, that are shut for no longer than a refused mail is asked for."""
        return {one for one, (_, noticed) in self.shut.items() if time.time() <= noticed + positions.WAITED}

    def to_search(self, layout: Layout, after: datetime) -> list[str]:
        """Return the folders in which mail may have come since then, or that may have opened again.

        One that is shut for long is asked for where others are, or it changed: it costs no request.
        """
        changed = layout.changed(after, self.followed())
        again = self.shut if changed else self.shut_lately()
        ids = dict.fromkeys(
            [*changed, *(id_ for id_ in layout.others(self.followed()) if hashed(id_) in again)]
        )
        ours = self.ours(layout)
        return [id_ for id_ in ids if not layout.closed or hashed(id_) in ours]

    def passed(self, until: datetime, ids: Iterable[str], opened: Iterable[str]) -> None:
        """Count mails of a sweep as given out, and all that came until then; also to what has `opened`."""
        self.see(ids)
        self.sweep_from = max(self.sweep_from or until, until)
        for one in self.shut.keys() & {*opened}:
            after, noticed = self.shut[one]
            self.shut[one] = max(after, int(until.timestamp())), noticed

    def settle(self, started: datetime, seen: Iterable[str], opened: Iterable[str]) -> None:
        """End the sweep of a look; `seen` may be found by the next one again."""
        for one in opened:
            self.shut.pop(one, None)
        self.seen = [*dict.fromkeys(seen)][-MOST_SEEN:]
        self.sweep_from, self.swept = self.swept, started

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Have a lost sync state start over with the folders that are followed, and not with the others."""
        try:
            yield
        except CursorExpired as expired:
            rest = replace(self, states={})
            raise CursorExpired(expired.detail, resume=rest.cursor) from expired


def hashed(id_: str) -> str:
    """Shorten an id to what tells it from the others of a mailbox."""
    return hashlib.sha256(id_.encode()).hexdigest()[:12]
