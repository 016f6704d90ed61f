"""What calls cost, and when there are too many. https://developers.google.com/workspace/gmail/api/reference/quota."""

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sandbox.google.faults import Faults
from sandbox.google.problems import Page, Problem

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


EXHAUSTED = "Resource has been exhausted (e.g. check quota)."
PER_MINUTE = (
    "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user' of service"
    " 'gmail.googleapis.com' for consumer 'project_number:123456789012'."
)
# Kind -> status, reason, domain, words; as seen in mxngls/gmail-cleaner#5 and the guide to errors.
REFUSALS = {
    "burst": (429, "rateLimitExceeded", "global", EXHAUSTED),
    "minute": (403, "rateLimitExceeded", "usageLimits", PER_MINUTE),
    "user": (403, "userRateLimitExceeded", "usageLimits", "User Rate Limit Exceeded"),
    "day": (403, "dailyLimitExceeded", "usageLimits", "Daily Limit Exceeded"),
    "sending": (429, "rateLimitExceeded", "usageLimits", "User-rate limit exceeded.  Retry after {until}"),
}


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
        units, faults = UNITS.get(method, 5), self._faults
        with self._lock:
            if faults.storm > 0:
                faults.storm -= 1
                raise self._refused("burst") if faults.storm_status == 429 else self._unavailable()
            if faults.throttled[address] > 0:
                faults.throttled[address] -= 1
                raise self._refused(faults.throttle)
            spent, now = self._spent.setdefault(address, deque()), self._now()
            while spent and spent[0][0] < now - MINUTE:
                spent.popleft()
            if sum(cost for _, cost in spent) + units > self.per_minute:
                raise self._refused("minute")
            spent.append((now, units))
        return units

    def _refused(self, kind: str) -> Problem:
        status, reason, domain, words = REFUSALS[kind]
        until = datetime.now(UTC) + timedelta(seconds=self._faults.retry_after or 1)
        words = words.replace("{until}", until.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        word = "" if status == 429 else "PERMISSION_DENIED"
        return Problem(status, reason, words, word=word, domain=domain, headers=self._pause())

    def _unavailable(self) -> Problem:
        words = "The service is currently unavailable."
        made = Page if self._faults.storm_page else Problem
        return made(self._faults.storm_status, "backendError", words, headers=self._pause())

    def _pause(self) -> dict[str, str]:
        return {"Retry-After": str(self._faults.retry_after)} if self._faults.retry_after else {}
