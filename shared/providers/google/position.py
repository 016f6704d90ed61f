"""What a cursor of Gmail's says: how far its history is dealt with, what is to be swept, what was refused."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from shared.providers import positions

LATE = 120
"""Seconds after which the search is trusted to know what came: it is behind the mailbox at times."""

MOST_SEEN = 500


@dataclass
class Position(positions.Position, positions.Patient):
    """What a cursor says; times are seconds since 1970.

    Attributes:
        history: everything up to this record is dealt with, once there is nothing to sweep.
        swept: from when on the mailbox is still to be swept; 0 for nothing.
        again: until when the last sweep went, while it is to be repeated for late mail.
        seen: ids of the last mails that a sweep dealt with.
        good: when the mailbox was up to date.
        told, told_at: the newest record that Gmail named in an earlier look, and when.
        refused, tried: see `Patient`.
    """

    provider: ClassVar[str] = "google"
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
