"""Where the last look stopped: the cursor, from the inside."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from shared.errors import CursorExpired
from shared.model import Envelope
from shared.providers.base import Cursor, Page

PATIENCE = 5
"""So many looks ask for a header that the server keeps back."""

MOST_OWED = 100
"""So many of them are remembered: a cursor has 30,000 characters at most."""


class Mark(msgspec.Struct):
    """How far one folder was read: all UIDs below `next`, as long as `validity` stays."""

    validity: int
    next: int
    modseq: int = 0

    def follows(self, old: "Mark") -> bool:
        """Whether the numbers went on from `old`.

        Some servers number anew without saying so (https://github.com/chatmail/core/issues/2188), and
        a restored backup goes back; HIGHESTMODSEQ never does (RFC 7162 §3.1.2.1; 0 where there is none).
        """
        went_back = self.next < old.next or 0 < self.modseq < old.modseq
        return self.validity == old.validity and not went_back


class Position(msgspec.Struct):
    """What the cursor says.

    Attributes:
        at: when the last complete look began.
        sent: the Sent folder's name, so that an idle poll lists no folders.
        elsewhere: mail left a folder before we saw it; the other folders are still to be looked through.
        owed: ref of a mail whose header the server keeps back -> how many looks have asked for it.
    """

    at: datetime
    sent: str = ""
    elsewhere: bool = False
    folders: dict[str, Mark] = {}
    owed: dict[str, int] = {}
    v: int = 1

    @classmethod
    def of(cls, cursor: Cursor | None, since: datetime) -> "Position":
        """Read a cursor; raises CursorExpired for one of another version."""
        new = cls(at=since)
        try:
            position = msgspec.json.decode(cursor, type=cls) if cursor else new
        except msgspec.DecodeError as error:
            raise CursorExpired("The cursor was made by another version.") from error
        if position.v != new.v:
            raise CursorExpired("The cursor was made by another version.")
        return position

    def anew(self) -> CursorExpired:
        """Make the error for folders that are numbered anew.

        They are read from the beginning, and what was moved out of them since the last look is looked for.
        """
        rest = Position(at=self.at, sent=self.sent, elsewhere=True)
        return CursorExpired("A folder was numbered anew.", resume=rest.page().cursor)

    def page(self, envelopes: Iterable[Envelope] = ()) -> Page:
        """Make a page after which this position is true. What was asked for in vain too often is given up."""
        found = tuple(envelopes)
        asked = sorted(self.owed.items(), key=lambda one: one[1])
        kept = [one for one in asked if one[1] < PATIENCE][:MOST_OWED]
        self.owed = dict(kept)
        unreadable = len(asked) - len(kept)
        return Page(found, Cursor(msgspec.json.encode(self).decode()), unreadable=unreadable)
