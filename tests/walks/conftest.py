"""The foundation's promises hold for every mail system: one row a provider.

A module or test marked `every_provider` runs its walk on each row's scene that has the powers it `needs`;
`only` keeps a test of such a module to the rows it names.
"""

import pytest

from shared.providers.registry import provider
from tests import exchange, microsoft, scenes

ROWS = {
    "imap": scenes.build,
    "microsoft": microsoft.build,
    "ews": exchange.build,
}
"""By what receives: a function that sets the stage (see `tests.scenes.build`)."""


def pytest_generate_tests(metafunc):
    marked = metafunc.definition.get_closest_marker("every_provider")
    if marked is None or "row" not in metafunc.fixturenames:
        return
    needed = [mark.args[0] for mark in metafunc.definition.iter_markers("needs")]
    only = metafunc.definition.get_closest_marker("only")
    chosen = only.args if only else [n for n in ROWS if all(getattr(provider(n), power) for power in needed)]
    metafunc.parametrize("row", chosen)


@pytest.fixture
def row():
    return "imap"


@pytest.fixture
def scene(world, app, clock, row):
    return ROWS[row](world, app, clock)
