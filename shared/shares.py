"""Fair shares of a process's workers: one organisation's slow mail servers never keep all of them.

A server can be slow for as long as a session may last, on purpose or not, and nobody can tell it from one
that has much to say. So nobody is refused for being slow: an organisation that has several slow steps under
way waits with further ones until some of them have ended, and all others go on.
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
    """So many steps of one organisation may have been under way for `slow` or longer."""

    most: int
    slow: timedelta
    retry_after: float


JOBS = Share(most=3, slow=timedelta(seconds=60), retry_after=30)
"""Of one queue: the host takes nothing from it while more than newBatchThreshold (host.json) run."""

REQUESTS = Share(most=8, slow=timedelta(seconds=20), retry_after=20)
"""Of the 32 that a process answers at once (infra: PYTHON_THREADPOOL_THREAD_COUNT)."""


@dataclass
class Shares:
    """What is under way in this process, and since when: by organisation and kind of work."""

    _begun: defaultdict[tuple[str, str], list[datetime]] = field(default_factory=lambda: defaultdict(list))
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def taken(self, org_id: str, kind: str, share: Share, clock: Callable[[], datetime]) -> Iterator[None]:
        """Do one step of the organisation in here. Raises Busy where too many of its steps are slow."""
        now = clock()
        with self._guard:
            begun = self._begun[org_id, kind]
            if sum(now - at >= share.slow for at in begun) >= share.most:
                detail = "Your organisation's mail servers are slow: too much is waiting for them already."
                raise Busy(detail, retry_after=share.retry_after)
            begun.append(now)
        try:
            yield
        finally:
            with self._guard:
                begun.remove(now)
                if not begun:
                    del self._begun[org_id, kind]
