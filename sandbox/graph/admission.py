"""Throttling per mailbox, before anything is done.

https://learn.microsoft.com/graph/throttling-limits
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.graph.faults import Faults
from sandbox.graph.mailbox import Mailbox
from sandbox.graph.problems import GraphError

LONGEST = 30.0
"""Seconds a request waits at the gate."""


class Admission:
    """Lets requests in: so many of one mailbox at once.

    Attributes:
        most: address -> the most that were served at once.
        lasts: seconds that every request takes.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.most: Counter[str] = Counter()
        self.lasts = 0.0
        self._busy: Counter[str] = Counter()
        self._guard = threading.Lock()

    @contextmanager
    def of(self, mailbox: Mailbox) -> Iterator[None]:
        """Stay for as long as a request is served. Raises GraphError."""
        with self._guard:
            self.check(mailbox.address)
            if self._busy[mailbox.address] >= self._faults.concurrency:
                raise self._wait(429, "ApplicationThrottled", "MailboxConcurrency limit.")
            self._busy[mailbox.address] += 1
            self.most[mailbox.address] = max(self.most[mailbox.address], self._busy[mailbox.address])
        try:
            if not mailbox.enabled:
                words = "The mailbox is inactive or on-premise."
                raise GraphError(404, "MailboxNotEnabledForRESTAPI", words)
            if self._faults.gate:
                self._faults.gate.wait(LONGEST)
            time.sleep(self.lasts)
            yield
        finally:
            with self._guard:
                self._busy[mailbox.address] -= 1

    def check(self, address: str) -> None:
        """Play the planned refusals of a mailbox. Raises GraphError."""
        for counter, status, code in (
            (self._faults.throttled, 429, "ApplicationThrottled"),
            (self._faults.unavailable, 503, "ServiceUnavailable"),
        ):
            if counter[address] > 0:
                counter[address] -= 1
                raise self._wait(status, code)

    def _wait(self, status: int, code: str, words: str = "") -> GraphError:
        pause = {"Retry_After": str(self._faults.retry_after)} if self._faults.retry_after else {}
        return GraphError(status, code, words, **pause)
