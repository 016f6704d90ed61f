"""The foundation's promises hold for every mail system: one row a provider.

A module or test marked `every_provider` runs its walk on each row's scene that has the powers it `needs`;
`only` keeps a test of such a module to the rows it names.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest

from shared import bootstrap
from shared.model import Mailbox
from shared.providers.google import spending
from shared.providers.registry import provider
from shared.settings import load
from tests import exchange, google, microsoft, scenes


class Row(NamedTuple):
    """What sets a provider's stage, and what connects somebody's mailbox there from five minutes ago on."""

    build: Callable[..., scenes.Scene]
    connect: Callable[..., Mailbox]


ROWS = {
    "imap": Row(scenes.build, scenes.connect),
    "pop3": Row(scenes.build_pop3, partial(scenes.connect, receives_with="pop3")),
    "microsoft": Row(microsoft.build, microsoft.connect),
    "google": Row(google.build, google.connect),
    "ews": Row(exchange.build, exchange.connect),
}
"""By what receives (see `tests.scenes.build` and `connect`)."""


EVERY_HOW = ("before", "after", "error", "lost")
HOWS = {"imap": EVERY_HOW, "google": ("before", "after", "lost")}
"""How a call fails in the crash sweep (see `tests.doors.Guard`)."""


def pytest_generate_tests(metafunc):
    marked = metafunc.definition.get_closest_marker("every_provider")
    if marked is None or "row" not in metafunc.fixturenames:
        return
    needed = [mark.args[0] for mark in metafunc.definition.iter_markers("needs")]
    only = metafunc.definition.get_closest_marker("only")
    chosen = only.args if only else [n for n in ROWS if all(getattr(provider(n), power) for power in needed)]
    if "how" in metafunc.fixturenames:
        pairs = [(row, how) for row in chosen for how in HOWS.get(row, ("before", "lost"))]
        metafunc.parametrize(("row", "how"), pairs)
    else:
        metafunc.parametrize("row", chosen)


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_due(world):
    """What a file of tests leaves on the schedule would be done again by every tick of the next ones."""
    yield
    scenes.clear(bootstrap.build(load(world.environment())))


@pytest.fixture
def row():
    return "imap"


@pytest.fixture
def unmetered(world, monkeypatch):
    """Gmail's quota of a minute does not end what would take a user hours; it has tests of its own."""
    monkeypatch.setattr(spending, "SHARE", 10**9)
    quota = world.google.gmail.quota
    usual, quota.per_minute = quota.per_minute, 10**9
    yield
    quota.per_minute = usual


@pytest.fixture
def broken_calls(row, how, scene):
    """Which calls break in the crash sweep: every one where a worker dies before it, else the provider's own.

    Who dies after a call has died before the next one. On IMAP's row every call breaks in every way.
    """
    every = row == "imap" or how == "before"
    return "" if every else f"^({scene.mailbox.receives_with}|{scene.mailbox.sends_with})\\."


@pytest.fixture
def scene(world, app, clock, row):
    made = ROWS[row].build(world, app, clock)
    yield made
    scenes.leave(made)
