"""The foundation's promises hold for every mail system: one row a provider.

A module or test marked `every_provider` runs its walk on each row's scene that has the powers it `needs`;
`only` keeps a test of such a module to the rows it names.
"""

import pytest

from shared.providers.registry import provider
from tests import exchange, google, microsoft, scenes

ROWS = {
    "imap": scenes.build,
    "pop3": scenes.build_pop3,
    "microsoft": microsoft.build,
    "google": google.build,
    "ews": exchange.build,
}
"""By what receives: a function that sets the stage (see `tests.scenes.build`)."""


EVERY_HOW = ("before", "after", "error", "lost")
HOWS = {"imap": EVERY_HOW, "pop3": ("lost",)}
"""How a call fails in the crash sweep (see `tests.doors.Guard`). Dying after one call is dying before the
next, and what comes of an error does not depend on the provider: two ways show every other row's own calls.
POP3 sends by the same SMTP as IMAP's row and has one folder: one way is enough."""


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


@pytest.fixture
def row():
    return "imap"


@pytest.fixture
def scene(world, app, clock, row):
    return ROWS[row](world, app, clock)
