"""What a look costs of its mailbox's quota at Gmail, so that it leaves its user room to send.

https://developers.google.com/workspace/gmail/api/reference/quota: 6,000 units a minute for each user of a
project that is new since May 2026, whoever asks; reading one mail costs 20, sending one 100.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

MINUTE = 60.0
SHARE = 3_500
"""Units of a minute after which a look rests: a page more of case mail, and some mails sent, have room."""

ANSWERS = 800
"""Units of a minute after which no look for answers begins: one may cost 5,200 (`late_looks.AT_ONCE`)."""

MAIL = 20
"""Units of a mail that is read."""

_UNITS = {
    "getProfile": 1,
    "history.list": 2,
    "messages.get": MAIL,
    "attachments.get": 20,
    "threads.get": 40,
    "threads.list": 10,
}
_OTHER = 5


@dataclass
class Spending:
    """What was spent in the last minute, and in total."""

    now: Callable[[], float] = time.monotonic
    total: int = 0
    _spent: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, method: str) -> None:
        """Count a call; `method` is its name in the description, e.g. `gmail.users.messages.get`."""
        name = next((name for name in _UNITS if method.endswith(f".{name}")), "")
        units = _UNITS.get(name, _OTHER)
        self.total += units
        self._spent.append((self.now(), units))

    def rest(self, share: int | None = None) -> float:
        """Return for how many seconds nothing should be read once so much was spent; 0 for none.

        That is a whole minute: the next look is another session, which begins with a share of its own, and
        what was spent last must not lie in the same minute.
        """
        now = self.now()
        while self._spent and self._spent[0][0] <= now - MINUTE:
            self._spent.popleft()
        over = sum(units for _, units in self._spent) >= (SHARE if share is None else share)
        return MINUTE if over else 0.0
