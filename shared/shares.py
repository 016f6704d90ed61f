"""Fair shares of a process's workers: one organisation's slow mail servers never keep all of them.

A server can be slow for as long as a session may last, on purpose or not, and nobody can tell it from one
that has much to say. So nobody is refused for being slow: an organisation that has had a slow step lately
does few at once for a while, waits with further ones until one of them has ended, and all others go on. Of
whom nothing is known begins with few, too; the first of them that ends in time opens the way to the rest.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.errors import Busy


@dataclass(frozen=True, slots=True)
class Share:
    """So many steps at once for an organisation without a step that took less than `slow` lately.

    Attributes:
        most: so many.
        slow: what took as long, or takes as long already, is slow.
        remembered: so long it is known whether its steps are quick or slow.
        patience: seconds that further steps wait here to learn it; a worker is held so long.
        retry_after: seconds after which they come again.
    """

    most: int
    slow: timedelta
    remembered: timedelta
    patience: float
    retry_after: float


JOBS = Share(3, timedelta(seconds=20), timedelta(minutes=15), patience=3, retry_after=10)
"""Of one queue: the host takes nothing from it while more than newBatchThreshold (host.json) run."""

REQUESTS = Share(8, timedelta(seconds=20), timedelta(minutes=5), patience=3, retry_after=10)
"""Of the 32 that a process answers at once (infra: PYTHON_THREADPOOL_THREAD_COUNT)."""

Whose = tuple[str, str]


@dataclass
class Shares:
    """What is under way in this process, who is slow or quick and until when: by organisation and kind."""

    _begun: defaultdict[Whose, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    _slow: dict[Whose, datetime] = field(default_factory=dict)
    _quick: dict[Whose, datetime] = field(default_factory=dict)
    _ended: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def taken(self, org_id: str, kind: str, share: Share, clock: Callable[[], datetime]) -> Iterator[None]:
        """Do one step of the organisation in here. Raises Busy where it has to wait for another one."""
        whose = (org_id, kind)
        with self._ended:
            begun = self._begin(whose, share, clock)
        try:
            yield
        finally:
            with self._ended:
                self._end(whose, share, begun, clock())

    def _begin(self, whose: Whose, share: Share, clock: Callable[[], datetime]) -> datetime:
        """Return when it begins; waits a little where nothing is known of the organisation yet."""
        until = time.monotonic() + share.patience
        while True:
            now = clock()
            self._note(whose, share, now)
            if len(self._begun.get(whose, ())) < share.most or whose in self._quick:
                self._begun[whose].append(now)
                return now
            left = until - time.monotonic()
            if whose in self._slow or left <= 0:
                detail = "Your organisation's mail servers take their time: this waits for others there."
                raise Busy(detail, retry_after=share.retry_after)
            self._ended.wait(left)

    def _end(self, whose: Whose, share: Share, begun: datetime, now: datetime) -> None:
        self._note(whose, share, now)
        self._begun[whose].remove(begun)
        if not self._begun[whose]:
            del self._begun[whose]
        if whose not in self._slow:
            self._quick[whose] = now + share.remembered
        self._ended.notify_all()

    def _note(self, whose: Whose, share: Share, now: datetime) -> None:
        """Bring up to date what is known of an organisation: slow, quick or nothing."""
        for known in (self._slow, self._quick):
            if known.get(whose, now) <= now:
                known.pop(whose, None)
        if any(now - at >= share.slow for at in self._begun.get(whose, ())):
            self._slow[whose] = now + share.remembered
            self._quick.pop(whose, None)
