"""A door in front of a port: counts every I/O call, and can make the k-th one fail.

Nothing of our own code is patched: an `App` is built with doors in front of its ports.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from shared.app import App
from shared.providers.base import Provider

STORAGE = ("records", "blobs", "queues", "schedule")
PORTS = (*STORAGE, "vault")
POWERS = ("receiver", "sender", "sent_folder", "searcher", "drafter")


class Crash(BaseException):
    """The process dies here: no except clause of the app sees it, and nothing works afterwards."""


@dataclass
class Guard:
    """Sees every call of every door.

    Attributes:
        fail_at: the number of the call (from 1) that fails; 0 for none.
        only: pattern of the calls that are seen at all; what it leaves out passes.
        how: `before` dies without the call, `after` dies once it took effect, `error` raises
            `error(name)` instead of the call, `lost` lets it take effect and then raises.
    """

    fail_at: int = 0
    how: str = "before"
    error: Callable[[str], BaseException] = lambda _: Crash()
    calls: list[str] = field(default_factory=list)
    dead: bool = False
    only: str = ""

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        if self.dead:
            raise Crash
        if not re.search(self.only, name):
            return call()
        self.calls.append(name)
        if len(self.calls) != self.fail_at:
            return call()
        if self.how in {"after", "lost"}:
            call()
        if self.how in {"before", "after"}:
            self.dead = True
            raise Crash
        raise self.error(name)

    def count(self, prefix: str) -> int:
        return sum(name.startswith(prefix) for name in self.calls)

    @property
    def storage(self) -> int:
        """How many of the calls went to tables, blobs and queues."""
        return sum(name.partition(".")[0] in STORAGE for name in self.calls)

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.calls)


@dataclass
class Acting(Guard):
    """Has something happen right after a call: `then` gets the call's name, and how often it was made."""

    then: Callable[[str, int], None] = lambda _name, _times: None

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        found = super().around(name, call)
        self.then(name, self.calls.count(name))
        return found


class Door:
    """Stands in front of one object; iterators it hands out are watched step by step."""

    def __init__(self, target: Any, name: str, guard: Guard) -> None:
        self._target, self._name, self._guard = target, name, guard

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._target, attribute)
        if not callable(value):
            return value
        name = f"{self._name}.{attribute}"

        def call(*args: Any, **kwargs: Any) -> Any:
            if attribute == "close":
                return value(*args, **kwargs)
            if attribute in {"pages", "look", "until"}:
                return self._steps(name, value(*args, **kwargs))
            if attribute == "send":
                kwargs_commit = args[3]
                return self._guard.around(name, lambda: value(*args[:3], kwargs_commit))
            return self._guard.around(name, lambda: value(*args, **kwargs))

        return call

    def _steps(self, name: str, iterator: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._guard.around(name, lambda: next(iterator, end))) is not end:
            yield item


def guarded(app: App, guard: Guard) -> App:
    """Put doors in front of all ports and providers of an app."""

    def provider(name: str, **given: str) -> Provider:
        found = app.provider(name, **given)
        powers = {power: _made(found, power, name, guard) for power in POWERS}
        oauth = Door(found.oauth, f"{name}.oauth", guard) if found.oauth else None
        return replace(found, **powers, oauth=oauth)

    ports = {name: Door(getattr(app, name), name, guard) for name in PORTS}
    keys = type(app.keys)(ports["records"], ports["vault"], app.clock)
    registrations = replace(app.registrations, records=ports["records"], vault=ports["vault"])
    grants = type(app.grants)(
        ports["records"],
        ports["vault"],
        keys,
        app.clock,
        allowed_hosts=app.allowed_hosts,
        registrations=registrations,
        oauth=lambda name: provider(name).oauth,
    )
    own = {"keys": keys, "registrations": registrations, "grants": grants}
    return replace(app, **ports, **own, provider=provider)


def _made(found: Provider, power: str, name: str, guard: Guard) -> Any:
    make = getattr(found, power)
    if make is None:
        return None
    return lambda connection: Door(make(connection), f"{name}.{power}", guard)


@contextmanager
def dying() -> Iterator[None]:
    """The process may die in here."""
    try:
        yield
    except Crash:
        pass
