"""The cursor: not which mails were seen, but a sum for each of 256 groups of them.

So it stays under 3 KB with any number of mails. New mails are those without which a group has its old
sum; where none explain it, because mail was deleted too, that one group is looked at again.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence

from shared.errors import CursorExpired
from shared.providers.base import Cursor

GROUPS = 256
_SIZE = 8
_MODULUS = 2 ** (8 * _SIZE)


class Position:
    """A maildrop as it was: equal sums are equal sets of UIDLs, but for one chance in 2^64."""

    def __init__(self, sums: Sequence[int]) -> None:
        self._sums = sums

    @classmethod
    def of(cls, uidls: Iterable[str]) -> "Position":
        """Add up the UIDLs of a maildrop."""
        sums = [0] * GROUPS
        for group, value in map(_hashed, uidls):
            sums[group] = (sums[group] + value) % _MODULUS
        return cls(sums)

    @classmethod
    def read(cls, cursor: Cursor) -> "Position":
        """Read a cursor. Raises CursorExpired for one of another kind."""
        try:
            data = base64.b64decode(cursor, validate=True)
        except ValueError as error:
            raise CursorExpired("The cursor is of another kind.") from error
        if len(data) != _SIZE * GROUPS:
            raise CursorExpired("The cursor is of another kind.")
        return cls([int.from_bytes(data[at : at + _SIZE]) for at in range(0, len(data), _SIZE)])

    @property
    def cursor(self) -> Cursor:
        """Write it down."""
        return Cursor(base64.b64encode(b"".join(one.to_bytes(_SIZE) for one in self._sums)).decode())

    def changed(self, uidls: Sequence[str]) -> list[str]:
        """Return the mails to look at, in the given order: all new ones, and seldom a few old ones."""
        groups: dict[int, list[tuple[str, int]]] = {}
        for uidl in uidls:
            group, value = _hashed(uidl)
            groups.setdefault(group, []).append((uidl, value))
        wanted: set[str] = set()
        for group, mails in groups.items():
            now = sum(value for _, value in mails)
            wanted.update(_explaining(mails, (now - self._sums[group]) % _MODULUS))
        return [uidl for uidl in uidls if uidl in wanted]


def _explaining(mails: Sequence[tuple[str, int]], difference: int) -> list[str]:
    """Return the mails at the list's end, else at its head, that make the difference; else all of them."""
    for ordered in (mails[::-1], mails):
        rest = difference
        for count, (_, value) in enumerate(ordered):
            if rest == 0:
                return [uidl for uidl, _ in ordered[:count]]
            rest = (rest - value) % _MODULUS
    return [uidl for uidl, _ in mails]


def _hashed(uidl: str) -> tuple[int, int]:
    """Return a UIDL's group, and what it adds to the group's sum."""
    hashed = hashlib.sha256(uidl.encode()).digest()
    return hashed[0], int.from_bytes(hashed[1 : 1 + _SIZE])
