"""The cursor: not which mails were seen, but a sum for each of 256 groups of them.

So it stays under 3 KB with any number of mails. New mails are those without which a group has its old
sum; where none explain it, because mail was deleted too, that one group is looked at again. Whatever was
looked at is added to its group's sum at once, so a look that ends early has come as far as it has. What the
server did not show is named besides, by a short hash.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import batched
from typing import ClassVar

import msgspec

from shared.errors import CursorExpired, ZalionError
from shared.providers import positions
from shared.providers.base import Cursor
from shared.providers.pop3.refusals import Ended

GROUPS = 256
_SIZE = 8
_MODULUS = 2 ** (8 * _SIZE)


class _Rest(msgspec.Struct, array_like=True):
    """What follows the sums in a cursor, where anything does."""

    refused: dict[str, int]
    tried: dict[str, int]
    ended: dict[str, bool] = {}


class Position(positions.Patient):
    """A maildrop as it was: equal sums are equal sets of UIDLs, but for one chance in 2^64.

    The positions of one look share what they know of refused mails. Without sums, the mails that were there
    before the first look are still to be told from the others.

    Attributes:
        ended: mails that left no session, also when they are given up -> whether the next look spares them.
    """

    provider: ClassVar[str] = "pop3"

    def __init__(self, sums: Sequence[int], rest: "Position | _Rest | None" = None) -> None:
        self._sums = sums
        self.refused, self.tried = (rest.refused, rest.tried) if rest else ({}, {})
        self.ended: dict[str, bool] = rest.ended if rest else {}

    @classmethod
    def of(cls, uidls: Iterable[str], rest: "Position | None" = None) -> "Position":
        """Add up the UIDLs of a maildrop; `rest` is another position of this look."""
        sums = [0] * GROUPS
        for group, value in map(_hashed, uidls):
            sums[group] = (sums[group] + value) % _MODULUS
        return cls(sums, rest)

    @classmethod
    def read(cls, cursor: Cursor) -> "Position":
        """Read a cursor. Raises CursorExpired for one of another kind."""
        sums, begun, rest = cursor.partition("[")
        try:
            data = base64.b64decode(sums, validate=True)
            left = msgspec.json.decode(begun + rest, type=_Rest) if begun else None
        except ValueError as error:  # msgspec's are, too
            raise CursorExpired("The cursor is of another kind.") from error
        if len(data) != _SIZE * GROUPS and (data or left is None):
            raise CursorExpired("The cursor is of another kind.")
        return cls([int.from_bytes(data[at : at + _SIZE]) for at in range(0, len(data), _SIZE)], left)

    @property
    def begun(self) -> bool:
        """Whether it is known which mails were there before."""
        return bool(self._sums)

    @property
    def cursor(self) -> Cursor:
        """Write it down."""
        sums = base64.b64encode(b"".join(one.to_bytes(_SIZE) for one in self._sums))
        left = _Rest(self.refused, self.tried, self.ended)
        rest = msgspec.json.encode(left) if self.refused or self.ended else b""
        return Cursor((sums + rest).decode())

    def again(self, uidls: Sequence[str]) -> list[str]:
        """Return the mails that were refused and are still there, first what was asked for least often.

        The others are forgotten.
        """
        if not (self.refused or self.ended):
            return []
        there = {_short(uidl): uidl for uidl in uidls}
        for short in self.refused.keys() - there:
            del self.refused[short], self.tried[short]
        for short in self.ended.keys() - there:
            del self.ended[short]
        return [there[short] for short in sorted(self.refused, key=self.tried.__getitem__)]

    def spared(self, again: Sequence[str]) -> list[str]:
        """Return which of them this look leaves out, as the last one had no session left after them.

        Every second look keeps its session so: late answers are looked for in it.
        """
        spares = any(self.ended.values())
        self.ended.update(dict.fromkeys(self.ended, False))
        return [uidl for uidl in again if spares and self.ended_at(uidl)]

    def ended_at(self, uidl: str) -> bool:
        """Whether a session ended at this mail the last time it was asked for."""
        return _short(uidl) in self.ended

    def knows(self, uidl: str) -> bool:
        """Whether it is known that the server does not show this mail."""
        return _short(uidl) in self.refused

    def put_off(self, asked: Sequence[str], refused: Mapping[str, ZalionError]) -> int:
        """See `Patient`; a mail is named by its UIDL here, and in the cursor by less."""
        shorts = {uidl: _short(uidl) for uidl in asked}
        given_up = super().put_off([*shorts.values()], {shorts[uidl]: refused[uidl] for uidl in refused})
        for uidl, short in shorts.items():
            self.ended.pop(short, None)
            if isinstance(refused.get(uidl), Ended):  # once may be by chance: nothing is spared for it
                self.ended[short] = self.tried.get(short, positions.ASKED) > 1
        for short in [*self.ended][: -self.most_refused]:  # those given up long ago
            del self.ended[short]
        return given_up

    def steps(self, uidls: Sequence[str], size: int) -> Iterator[tuple[list[str], "Position"]]:
        """Yield the mails to look at, batch by batch, and the position that is true after each batch.

        First what is new for certain, from the list's middle to its end, where the newest are. Then, group by
        group, all mails of those from which some were deleted: nobody knows which of them are new.
        """
        hashed = {uidl: _hashed(uidl) for uidl in uidls}
        groups: dict[int, list[str]] = {}
        for uidl, (group, _) in hashed.items():
            groups.setdefault(group, []).append(uidl)
        new, doubtful, at_head = set[str](), list[tuple[str, int]](), False
        for group, mails in groups.items():
            values = [hashed[uidl][1] for uidl in mails]
            difference = (sum(values) - self._sums[group]) % _MODULUS
            if (last := _explaining(values[::-1], difference)) is not None:
                new.update(mails[len(mails) - last :])
            elif (first := _explaining(values, difference)) is not None:
                new.update(mails[:first])
                at_head = True
            else:  # the group's sum changes with its last mail
                doubtful += [*((uidl, 0) for uidl in mails[:-1]), (mails[-1], difference)]
        ordered = [uidl for uidl in (reversed(uidls) if at_head else uidls) if uidl in new]
        sums = [*self._sums]
        for batch in batched([*((uidl, hashed[uidl][1]) for uidl in ordered), *doubtful], size, strict=False):
            for uidl, change in batch:
                group = hashed[uidl][0]
                sums[group] = (sums[group] + change) % _MODULUS
            yield [uidl for uidl, _ in batch], Position([*sums], self)


def _explaining(values: Sequence[int], difference: int) -> int | None:
    """Count the mails at the head that make the difference; None where none do."""
    for count, value in enumerate(values):
        if difference == 0:
            return count
        difference = (difference - value) % _MODULUS
    return None if difference else len(values)


def _hashed(uidl: str) -> tuple[int, int]:
    """Return a UIDL's group, and what it adds to the group's sum."""
    hashed = hashlib.sha256(uidl.encode()).digest()
    return hashed[0], int.from_bytes(hashed[1 : 1 + _SIZE])


def _short(uidl: str) -> str:
    return hashlib.sha256(uidl.encode()).hexdigest()[:12]
