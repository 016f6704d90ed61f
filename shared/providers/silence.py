"""Which servers have gone silent: they are left alone for a while, so that nobody waits for them in a row.

A server that accepts and says nothing costs everybody who asks it the whole time-out. A hundred mailboxes
there would keep all of an instance's workers from the mailboxes of others.
"""

import threading
import time
from dataclasses import dataclass, field

from shared.errors import Temporary

IN_A_ROW = 3
"""So many connections must have come to nothing since it was heard last: one may be lost by chance."""

PAUSE = 90.0
"""Seconds."""

SILENT = "The mail server could not be reached or stopped answering."

Place = tuple[str, int]


@dataclass
class Silences:
    """Host and port -> how many connections have heard nothing in a row, and until when it is left alone."""

    _known: dict[Place, tuple[int, float]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, place: Place) -> None:
        """Raise Temporary where it is of no use to try now."""
        _, until = self._known.get(place, (0, 0.0))
        if (rest := until - time.monotonic()) > 0:
            raise Temporary(SILENT, retry_after=rest)

    def silent(self, place: Place) -> None:
        """Note that a connection heard nothing in its time."""
        with self._guard:
            times = self._known.get(place, (0, 0.0))[0] + 1
            self._known[place] = times, time.monotonic() + PAUSE if times >= IN_A_ROW else 0.0

    def heard(self, place: Place) -> None:
        """Note that it speaks."""
        with self._guard:
            self._known.pop(place, None)

    def forget(self) -> None:
        """Forget all: what is not known any more is tried."""
        self._known.clear()


SILENCES = Silences()
"""Those of this process."""
