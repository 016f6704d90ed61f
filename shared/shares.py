"""Fair shares of a process's workers: one organisation's slow mail servers never keep all of them.

A server can be slow for as long as a session may last, on purpose or not, and nobody can tell it from one
that has much to say. So nobody is refused for being slow: an organisation that has had a slow step lately
does few at once for a while, waits with further ones until one of them has ended, and all others go on.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.errors import Busy


@dataclass(frozen=True, slots=True)
class Share:
    """So many steps at once for an organisation that had one of `slow` or longer in the time `remembered`."""

    most: int
    slow: timedelta
    remembered: timedelta
    retry_after: float


JOBS = Share(3, timedelta(seconds=20), timedelta(minutes=15), retry_after=10)
"""Of one queue: the host takes nothing from it while more than newBatchThreshold (host.json) run."""

REQUESTS = Share(8, timedelta(seconds=20), timedelta(minutes=5), retry_after=10)
"""Of the 32 that a process answers at once (infra: PYTHON_THREADPOOL_THREAD_COUNT)."""

Whose = tuple[str, str]


@dataclass
class Shares:
    """What is under way in this process, and who counts as slow until when: by organisation and kind."""

    _begun: defaultdict[Whose, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    _slow: dict[Whose, datetime] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def taken(self, org_id: str, kind: str, share: Share, clock: Callable[[], datetime]) -> Iterator[None]:
        """Do one step of the organisation in here. Raises Busy where it has to wait for another one."""
        now, whose = clock(), (org_id, kind)
        with self._guard:
            self._note(whose, share, now)
            begun = self._begun[whose]
            if len(begun) >= share.most and whose in self._slow:
                detail = "Your organisation's mail servers are slow: this waits for others that ask them."
                raise Busy(detail, retry_after=share.retry_after)
            begun.append(now)
        try:
            yield
        finally:
            with self._guard:
                self._note(whose, share, clock())
                begun.remove(now)
                if not begun:
                    del self._begun[whose]

    def _note(self, whose: Whose, share: Share, now: datetime) -> None:
        if any(now - at >= share.slow for at in self._begun.get(whose, ())):
            self._slow[whose] = now + share.remembered
        elif self._slow.get(whose, now) <= now:
            self._slow.pop(whose, None)
