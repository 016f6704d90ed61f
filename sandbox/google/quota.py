"""What calls cost, and when there are too many. https://developers.google.com/workspace/gmail/api/reference/quota."""

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sandbox.google.faults import Faults
from sandbox.google.problems import Problem

UNITS = {
    "getProfile": 1,
    "watch": 100,
    "stop": 50,
    "history.list": 2,
    "labels.get": 1,
    "labels.list": 1,
    "labels.create": 5,
    "messages.list": 5,
    "messages.get": 20,
    "messages.attachments.get": 20,
    "messages.send": 100,
    "messages.modify": 5,
    "messages.trash": 20,
    "messages.untrash": 5,
    "messages.delete": 10,
    "drafts.create": 10,
    "drafts.get": 20,
    "drafts.update": 15,
    "drafts.send": 100,
    "drafts.delete": 10,
    "drafts.list": 5,
    "threads.get": 40,
    "threads.list": 10,
    "settings.sendAs.list": 1,
}
MINUTE = 60


class Quota:
    """Units per user and minute.

    Attributes:
        per_minute: what a user of a project that is new since May 2026 may spend.
    """

    def __init__(self, faults: Faults, now: Callable[[], float]) -> None:
        self.per_minute = 6_000
        self._faults, self._now = faults, now
        self._spent: dict[str, deque[tuple[float, int]]] = {}
        self._lock = threading.Lock()

    def spend(self, address: str, method: str) -> int:
        """Count a call and return its units. Raises Problem."""
        units = UNITS.get(method, 5)
        with self._lock:
            if self._faults.storm > 0:
                self._faults.storm -= 1
                raise self._refusal(
                    "backendError" if self._faults.storm_status >= 500 else "rateLimitExceeded"
                )
            if self._faults.throttled[address] > 0:
                self._faults.throttled[address] -= 1
                raise self._refusal(self._faults.throttle_reason)
            spent, now = self._spent.setdefault(address, deque()), self._now()
            while spent and spent[0][0] < now - MINUTE:
                spent.popleft()
            if sum(cost for _, cost in spent) + units > self.per_minute:
                raise self._refusal("rateLimitExceeded")
            spent.append((now, units))
        return units

    def _refusal(self, reason: str) -> Problem:
        """https://developers.google.com/workspace/gmail/api/guides/handle-errors."""
        pause = self._faults.retry_after
        headers = {"Retry-After": str(pause)} if pause else {}
        if reason == "backendError":
            return Problem(self._faults.storm_status, reason, "Backend Error", headers=headers)
        if reason == "userRateLimitExceeded":
            words = "User Rate Limit Exceeded"
        elif reason == "dailyLimitExceeded":
            words = "Daily Limit Exceeded"
        else:
            words = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'."
        if self._faults.retry_words:
            until = datetime.now(UTC) + timedelta(seconds=pause or 1)
            words = f"User-rate limit exceeded.  Retry after {until:%Y-%m-%dT%H:%M:%S.000Z}"
        status = 429 if reason == "rateLimitExceeded" else 403
        return Problem(status, reason, words, domain="usageLimits", headers=headers)
