"""Timer triggers: NCRONTAB with six fields, in UTC."""

import json
import logging
import re
from datetime import UTC, datetime

from azure.functions.meta import Datum
from croniter import CroniterError, croniter

from sandbox.host.config import ConfigError, Settings, expand
from sandbox.host.invocations import InvocationError, Invocations
from sandbox.host.tasks import Tasks
from sandbox.host.worker import Function

log = logging.getLogger(__name__)

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("second", 0, 59, []),
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 6, _DAYS),
)
_ITEM = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]\d*))?")
_LONGEST_SLEEP = 60  # seconds; a clock that was set or a laptop that slept is noticed after this


class Schedule:
    """A checked NCRONTAB expression; raises ConfigError for one the host would refuse.

    croniter is the engine, but it takes more than NCrontab does (L, #, W, ?, @daily, a seventh
    weekday, descending ranges), so the grammar is checked first:
    https://github.com/atifaziz/NCrontab#crontab-expression. Day and weekday must both match.
    """

    def __init__(self, expression: str) -> None:
        fields = expression.split()
        if len(fields) != len(_FIELDS):
            raise ConfigError(
                f"{expression!r} has {len(fields)} fields; NCRONTAB in Azure Functions has six."
            )
        parts = [_field(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
        self._expression = " ".join(parts)
        try:
            self.after(datetime.now(UTC))
        except CroniterError:
            raise ConfigError(f"{expression!r} never occurs.") from None

    def after(self, moment: datetime) -> datetime:
        """Return the first occurrence later than `moment` (aware UTC)."""
        cron = croniter(self._expression, moment, second_at_beginning=True, day_or=False)
        found: datetime = cron.get_next(datetime)  # type: ignore[no-untyped-call]
        return found


def _field(text: str, name: str, low: int, high: int, names: list[str]) -> str:
    return ",".join(_item(item, name, low, high, names) for item in text.split(","))


def _item(item: str, name: str, low: int, high: int, names: list[str]) -> str:
    match = _ITEM.fullmatch(item)
    if not match:
        raise ConfigError(f"{item!r} is no NCRONTAB {name}.")
    first, last, step = match.groups()
    if first is None:
        return item
    numbers = [_number(value, name, low, high, names) for value in (first, last) if value]
    if numbers != sorted(numbers):
        raise ConfigError(f"{item!r} is a descending range of {name}s.")
    return "-".join(map(str, numbers)) + (f"/{step}" if step else "")


def _number(value: str, name: str, low: int, high: int, names: list[str]) -> int:
    if value.isdecimal():
        number = int(value)
    else:
        known = [i for i, full in enumerate(names, low) if len(value) >= 3 and full.startswith(value.lower())]
        number = known[0] if known else -1
    if not low <= number <= high:
        raise ConfigError(f"{value!r} is no NCRONTAB {name} ({low}-{high}).")
    return number


class Timer:
    """Runs one timer function. It never overlaps itself: the next time is sought after a run."""

    def __init__(
        self, function: Function, settings: Settings, tasks: Tasks, invocations: Invocations
    ) -> None:
        self._function = function
        self._schedule = Schedule(expand(function.trigger["schedule"], settings))
        self._tasks = tasks
        self._invocations = invocations
        self._last: datetime | None = None

    async def run(self) -> None:
        """Wait and run until the host stops."""
        if self._function.trigger.get("runOnStartup"):
            await self.fire()
        due = self._schedule.after(datetime.now(UTC))
        while not self._tasks.stopping.is_set():
            left = (due - datetime.now(UTC)).total_seconds()
            if left > 0:
                await self._tasks.pause(min(left, _LONGEST_SLEEP))
                continue
            await self.fire()
            # A wake-up may come a moment early: never the same occurrence twice.
            due = self._schedule.after(max(due, datetime.now(UTC)))

    async def fire(self, _input: str = "") -> None:
        """Run the function once, now. A failure is only logged, as on the real host."""
        now = datetime.now(UTC)
        try:
            await self._invocations.run(self._function, self._data(now))
        except InvocationError:
            log.warning("%s failed; its next run is on schedule", self._function.name)
        self._last = now

    def _data(self, now: datetime) -> Datum:
        last = (self._last or datetime.min.replace(tzinfo=UTC)).isoformat()
        following = self._schedule.after(now).isoformat()
        return Datum(
            json.dumps(
                {
                    "Schedule": {"AdjustForDST": True},
                    "ScheduleStatus": {"Last": last, "Next": following, "LastUpdated": last},
                    "IsPastDue": False,
                }
            ),
            "json",
        )
