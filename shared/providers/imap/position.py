"""Where the last look stopped: the cursor, from the inside."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import msgspec

from shared.errors import CursorExpired, Temporary
from shared.model import Envelope
from shared.providers import positions
from shared.providers.base import Page

PATIENCE = 5
"""So many looks at least ask for a header that the server keeps back."""

WAITED = 24 * 3600
"""Seconds that they do so at least: five looks may be one minute, and servers are out of order for hours."""

MOST_OWED = 200
"""So many mails are owed at a time: as many as one batch has, so that any can be got over. More wait."""


class Full(Temporary):
    """The server keeps back more mails than can be remembered; those asked for last are so again."""


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


class Kept(msgspec.Struct, array_like=True):
    """What the server keeps back in one folder, as long as `validity` stays.

    Attributes:
        owed: UID of a mail to be asked for again -> since when (seconds since 1970), and by how many looks.
        given_up: the newest UIDs that are asked for no more, of a folder where only searches find them.
    """

    validity: int
    owed: dict[int, tuple[int, int]] = {}
    given_up: set[int] = set()

    @property
    def least(self) -> int:
        """By how many looks that mail was asked for which was so least often."""
        return min(looks for _, looks in self.owed.values())


@dataclass
class Position(positions.Position):
    """What the cursor says.

    Attributes:
        at: when the last complete look began.
        sent: the Sent folder's name, so that an idle poll lists no folders.
        elsewhere: mail left a folder before we saw it; the other folders are still to be looked through.
        owed: folder -> the mails whose headers the server keeps back there.
        shut: one of these ends the session, and then the server lets nobody in for a while. So they are asked
            for one by one, and last unless they are `crowded`.
        configured: whether the settings named the Sent folder.
    """

    at: datetime
    sent: str = ""
    elsewhere: bool = False
    folders: dict[str, Mark] = field(default_factory=dict)
    owed: dict[str, Kept] = field(default_factory=dict)
    shut: bool = False
    configured: bool = False
    v: Literal[1] = 1

    def anew(self) -> CursorExpired:
        """Make the error for folders that are numbered anew.

        They are read from the beginning, and what was moved out of them since the last look is looked for.
        What is owed stays so: it may lie in a folder that is not read.
        """
        rest = replace(self, elsewhere=True, folders={})
        return CursorExpired("A folder was numbered anew.", resume=rest.cursor)

    def owe(
        self,
        folder: str,
        validity: int,
        asked: Iterable[int],
        missing: Collection[int],
        unasked: Collection[int] = (),
        *,
        well: bool = True,
    ) -> int:
        """Note which of the mails that were to be asked for are still kept back.

        Returns how many of them were asked for in vain often and long enough: these are given up. Of those
        that were not asked for in the end, `unasked`, no look is counted, and none is given up unless the
        server is `well`. Raises Full, and then nothing is noted.
        """
        known, now, given_up = self.owed.get(folder), int(time.time()), set()
        kept = Kept(validity)
        if known and known.validity == validity:
            kept = Kept(validity, {**known.owed}, known.given_up)
        for uid in asked:
            since, looks = kept.owed.pop(uid, (now, 0))
            looks = min(looks + (uid not in unasked), PATIENCE)  # no look makes the cursor longer
            if uid in missing and looks == PATIENCE and now - since >= WAITED and well:
                given_up.add(uid)
            elif uid in missing:
                kept.owed[uid] = since, looks
        if sum(len(one.owed) for one in ({**self.owed, folder: kept}).values()) > MOST_OWED:
            raise Full("The server keeps back too many mails at once.")
        if folder not in self.folders:
            kept.given_up = {*sorted(kept.given_up | given_up)[-MOST_OWED:]}
        self.owed.pop(folder, None)  # of folders asked for equally often the one asked last is the last
        self.owed[folder] = kept
        return len(given_up)

    @property
    def crowded(self) -> bool:
        """Whether little room is left: what is owed comes first then, lest nothing that is new fits in."""
        return sum(len(kept.owed) for kept in self.owed.values()) > MOST_OWED // 2

    def withheld(self, folder: str) -> set[int]:
        """Return what is known to be kept back in a folder."""
        kept = self.owed.get(folder)
        return {*kept.owed, *kept.given_up} if kept else set()

    def least_asked(self, folder: str) -> list[int]:
        """Return what is owed in a folder, first what was asked for least often: no other keeps that back."""
        owed = self.owed[folder].owed
        return sorted(owed, key=lambda uid: (owed[uid][1], uid))

    def folders_least_asked(self) -> list[str]:
        """Return the folders in which mails are owed, first that of the mail asked for least often."""
        return sorted(
            (name for name, kept in self.owed.items() if kept.owed), key=lambda name: self.owed[name].least
        )

    def unknown(self, folder: str, validity: int, found: Sequence[int]) -> list[int]:
        """Return what is not known to be kept back, of all that a search finds in a folder that is not read.

        What it does not find any more need not be remembered as given up.
        """
        kept = self.owed.get(folder)
        if kept is None or kept.validity != validity:
            return [*found]
        kept.given_up.intersection_update(found)
        return [uid for uid in found if uid not in kept.owed and uid not in kept.given_up]

    def forget(self, folders: Collection[str]) -> None:
        """Forget what was given up in these folders: they are no more, or are read."""
        for folder in folders:
            self.owed[folder].given_up.clear()

    def page(self, envelopes: Iterable[Envelope] = (), refused: int = 0, unreadable: int = 0) -> Page:
        """Make a page after which this position is true; see `Page`.

        Raises Temporary where the cursor is too long to be kept: then the page is asked for again.
        """
        self.owed = {folder: kept for folder, kept in self.owed.items() if kept.owed or kept.given_up}
        self.shut = self.shut and any(kept.owed for kept in self.owed.values())
        return super().page(envelopes, refused, unreadable)
