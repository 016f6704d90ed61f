"""What a cursor of Gmail's says: how far its history is dealt with, what is to be swept, what was refused."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared import logs
from shared.errors import ZalionError
from shared.providers import positions

LATE = 120
"""Seconds after which the search is trusted to know what came: it is behind the mailbox at times."""

WAITED, ASKED = 2 * 24 * 3600, 10
"""Seconds, and looks, in which a mail is asked for that Gmail does not give while it gives others.

Both, because a mailbox may be paused for days.
"""

MOST_REFUSED = 100
"""So many at a time; more are no single mail's fault."""

MOST_SEEN = 500


@dataclass
class Position(positions.Position):
    """What a cursor says; times are seconds since 1970.

    Attributes:
        history: everything up to this record is dealt with, once there is nothing to sweep.
        swept: from when on the mailbox is still to be swept; 0 for nothing.
        again: until when the last sweep went, while it is to be repeated for late mail.
        seen: ids of the last mails that a sweep dealt with.
        good: when the mailbox was up to date.
        told, told_at: the newest record that Gmail named in an earlier look, and when.
        refused: mails that Gmail does not give -> since when; asked for again at each look.
        tried: how often each of them was asked for.
    """

    history: str = ""
    swept: int = 0
    again: int = 0
    seen: list[str] = field(default_factory=list)
    good: int = 0
    told: str = ""
    told_at: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)

    def saw(self, ids: Iterable[str]) -> None:
        """Count mails as dealt with."""
        self.seen = [*self.seen, *ids][-MOST_SEEN:]

    def caught_up(self, named: str, now: int) -> None:
        """Move to the end of the history, but to no record that Gmail perhaps does not show yet."""
        if self.told and now > self.told_at + LATE:
            self.history = max(self.history, self.told, key=int)
        if self.told != named:
            self.told, self.told_at = named, now

    def put_off(self, asked: Sequence[str], refused: Mapping[str, ZalionError], now: int) -> int:
        """Remember which of the mails that were asked for are to be asked for again.

        Returns how many are given up. Raises what was said of one where there are too many.
        """
        known = {id_: (self.refused.pop(id_, now), self.tried.pop(id_, 0) + 1) for id_ in asked}
        given_up = 0
        for id_, error in refused.items():
            since, tries = known[id_]
            if now > since + WAITED and tries > ASKED:
                logs.log("mail.given_up", level=logging.WARNING, provider="google", code=error.code)
                given_up += 1
            else:
                self.refused[id_], self.tried[id_] = since, tries
            if len(self.refused) > MOST_REFUSED:
                raise error
        return given_up
