"""A cursor that is JSON: what most providers write down of where they stopped.

Cursors are kept for as long as a mailbox is connected, so a field that is added later has a default, and
one that goes away is passed over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from shared.errors import CursorExpired
from shared.model import Envelope
from shared.providers.base import Cursor, Page


@dataclass
class Position:
    """What a cursor says; the fields are each provider's own."""

    @classmethod
    def of(cls, cursor: Cursor | None, **new: Any) -> Self:
        """Read a cursor, or begin with `new` where there is none.

        Raises CursorExpired for one that cannot be read.
        """
        if cursor is None:
            return cls(**new)
        try:
            return msgspec.json.decode(cursor, type=cls)
        except msgspec.DecodeError as error:
            raise CursorExpired("The cursor was made by another version.") from error

    @property
    def cursor(self) -> Cursor:
        """Write it down."""
        return Cursor(msgspec.json.encode(self).decode())

    def page(self, envelopes: Iterable[Envelope] = (), refused: int = 0, unreadable: int = 0) -> Page:
        """Make a page after which this position is true; see `Page`."""
        return Page(tuple(envelopes), self.cursor, refused, unreadable)
