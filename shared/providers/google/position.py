"""What a cursor of Gmail's says: how far its history is dealt with, what is to be swept, what was refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from shared.providers import positions

OVERLAP = 600
"""Seconds that are swept again for late mail."""

LATE = 120
"""Seconds after which the search is trusted to know what came: it is behind the mailbox at times."""

MOST_SEEN = 500
"""So many ids are kept between two windows of a sweep: about 10 kB."""

MOST_IN_WINDOW = 5_000
"""So many while one is under way: about 100 kB, of the 875 that a record takes. Who has more in a second is
swept in the order of the list from there on."""


@dataclass
class Position(positions.Position, positions.Patient):
    """What a cursor says; times are seconds since 1970.

    Attributes:
        history: everything up to this record is dealt with, once there is nothing to sweep.
        swept: from when on the mailbox is still to be swept; 0 for nothing.
        again: until when the last sweep went, while it is to be repeated for late mail.
        seen: ids of the last mails that a sweep dealt with, all those of its window among them.
        lost: the record from which on history is gone, while the mailbox is swept for what changed since.
        told, told_at: the newest record that Gmail named in an earlier look, and when.
        refused, tried: see `Patient`.
        last: id of a mail up to which a sweep has dealt with all; empty while `seen` has them.
        number, upto: a record after `history`, and the id up to which its mails are dealt with, where it has
            more than a page: one action may move any number of mails.
    """

    provider: ClassVar[str] = "google"
    history: str = ""
    swept: int = 0
    again: int = 0
    seen: list[str] = field(default_factory=list)
    lost: str = ""
    told: str = ""
    told_at: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    last: str = ""
    number: str = ""
    upto: str = ""

    def without_history(self, named: str) -> Self:
        """Return where to go on when the history from here on is gone; `named` is Gmail's last record.

        History is read after a sweep only, so nothing but what changed since is to be swept for. A last
        record before this one is another mailbox's, under the same address: all of that is to be swept.
        """
        if self._is_after(named):
            return type(self)(history=named, swept=1)
        return replace(self, history=named, lost=self.history, swept=1, seen=[], told="", told_at=0)

    def left_of(self, number: str, ids: Iterable[str]) -> list[str]:
        """Return which mails of a record are still to be dealt with.

        They are in the order of their ids, which stays whatever Gmail lists the next time: some may be gone.
        """
        upto = _order(self.upto) if number == self.number else _order("")
        return sorted((id_ for id_ in {*ids} if _order(id_) > upto), key=_order)

    def reached(self, history: str, number: str = "", upto: str = "") -> None:
        """Count everything up to a record as dealt with, and the mails of the next up to an id."""
        self.history, self.number, self.upto = history, number, upto
        if self._is_after(self.told):  # it is behind us, however long ago that was
            self.told, self.told_at = "", 0

    def changed_after(self, end: int) -> int:
        """Return the record after which something happened to what is swept for in a window with this end.

        That is 0, for everything, also from where on the last sweep was to be repeated: what the search
        did not know then is older than the history that is gone.
        """
        again = 0 < self.again - OVERLAP < end
        return int(self.lost) if self.lost and not again else 0

    def left(self, ids: Sequence[str]) -> list[str]:
        """Return which mails of a window, oldest first, are still to be dealt with."""
        start = ids.index(self.last) + 1 if self.last in ids else 0
        known = {*self.seen, *self.refused}
        return [id_ for id_ in ids[start:] if id_ not in known]

    def saw(self, ids: Iterable[str]) -> None:
        """Count mails as dealt with that no sweep has come to."""
        self.seen = [*self.seen, *ids][-MOST_SEEN:]

    def passed(self, ids: Iterable[str]) -> None:
        """Count mails of a window as dealt with; none is forgotten before its end, or it would never end."""
        self.seen = [*self.seen, *ids]
        if len(self.seen) > MOST_IN_WINDOW:
            self.last, self.seen = self.seen[-1], self.seen[-MOST_SEEN:]

    def settle(self, listed: int) -> None:
        """End a window: forget all but the last mails, among them what it showed: the next may, too."""
        self.seen = self.seen[-max(MOST_SEEN, listed) :]

    def is_of_another(self, named: str, now: int) -> bool:
        """Whether Gmail's last record lies before this one, and has for a while: once, it may be late."""
        return self._is_after(named) and self._is_after(self.told) and now > self.told_at + LATE

    def caught_up(self, named: str, now: int) -> None:
        """Move to the end of the history, but to no record that Gmail perhaps does not show yet."""
        if self._is_after(named) and self._is_after(self.told):
            return  # since when that is so is kept
        if self.told and now > self.told_at + LATE:
            self.history = max(self.history, self.told, key=int)
        if self.told != named:
            self.told, self.told_at = named, now

    def _is_after(self, number: str) -> bool:
        return bool(number) and int(number) < int(self.history)


def _order(id_: str) -> tuple[int, str]:
    """Ids are numbers, written in base 16."""
    return len(id_), id_
