"""Which servers have gone silent: they are left alone for a while, so that nobody waits for them in a row.

A server that accepts and says nothing, or lets nobody in, costs everybody who asks it the whole time-out; so
does one whose name servers do not answer. A hundred mailboxes there would keep all of an instance's workers
from the mailboxes of others.
"""

import threading
import time
from dataclasses import dataclass, field

from shared.errors import Temporary

IN_A_ROW = 3
"""So many connections must have come to nothing since one was let in: one may be lost by chance."""

PAUSE = 90.0
"""Seconds that it is left alone; then counting begins anew, or one lost connection would do."""

REMEMBERED = 300.0
"""Seconds after which a single silence counts no more."""

SILENT = "The mail server could not be reached or stopped answering."
CHECK = (
    "Check host and port, and security where it is asked for (tls: 993, 995, 465; starttls: 143, 110, 587). "
    "If they are right, wait until the server answers."
)

Place = tuple[str, int, str]
"""Host, port and how it is spoken to: a TLS port is silent to who waits for a plain greeting, and well."""


def unreached(retry_after: float = 30) -> Temporary:
    """Make the error for a server that does not answer, be it away or spoken to in the wrong way."""
    return Temporary(SILENT, retry_after=retry_after, fix=CHECK)


@dataclass
class Silences:
    """Place -> how many connections have heard nothing in a row, and until when that counts."""

    pause: float = PAUSE
    remembered: float = REMEMBERED
    _known: dict[Place, tuple[int, float]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, place: Place) -> None:
        """Raise Temporary where it is of no use to try now."""
        times, until = self._known.get(place, (0, 0.0))
        if times >= IN_A_ROW and (rest := until - time.monotonic()) > 0:
            raise unreached(rest)

    def silent(self, place: Place) -> None:
        """Note that a connection waited in vain to be let in."""
        now = time.monotonic()
        with self._guard:
            # of all places, because nobody may ever ask for one again
            self._known = {known: noted for known, noted in self._known.items() if noted[1] > now}
            times = self._known.get(place, (0, 0.0))[0] + 1
            self._known[place] = times, now + (self.pause if times >= IN_A_ROW else self.remembered)

    def heard(self, place: Place) -> None:
        """Note that it lets us in."""
        with self._guard:
            self._known.pop(place, None)

    def forget(self) -> None:
        """Forget all: what is not known any more is tried."""
        self._known.clear()


SILENCES = Silences()
"""Those of this process."""
