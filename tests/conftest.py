"""The sandbox for a whole test run, and a fresh organisation for each test."""

import logging
import os

import pytest

from shared.providers.silence import SILENCES
from tests import ews_contract, graph_contract, scan
from tests.doors import Guard, guarded
from tests.scenes import Clock, build


def pytest_collection_modifyitems(config, items):
    """Let each worker begin with its part of the long ones: xdist hands out the list in as many pieces."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    share = -(-len(others) // workers)
    items[:] = [
        item
        for worker in range(workers)
        for item in (*long[worker::workers], *others[worker * share : (worker + 1) * share])
    ]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """All real parts, started once."""
    from sandbox.world import World

    with World(tmp_path_factory.mktemp("world")) as world:
        os.environ.update(world.environment())  # the certificates and the identity endpoint
        graph_contract.install(world.graph)
        ews_contract.install(world.exchange)
        lines = scan.Lines()
        logging.getLogger().addHandler(lines)
        yield world
        logging.getLogger().removeHandler(lines)
        scan.check(world, lines)


@pytest.fixture(autouse=True)
def graph_contract_followed(request):
    """What Graph was asked and answered in a test is what Microsoft describes."""
    yield
    if "world" in request.fixturenames:
        world = request.getfixturevalue("world")
        world.graph.notifier.settle()
        graph_contract.check(world.graph)


@pytest.fixture(autouse=True)
def gmail_contract_followed(request):
    """What Gmail was asked and answered in a test is what Google's discovery document describes."""
    yield
    if "world" in request.fixturenames:
        violations = request.getfixturevalue("world").google.violations
        found, violations[:] = list(dict.fromkeys(violations)), []
        assert not found, "\n".join(["not as Google describes Gmail:", *found])


@pytest.fixture(autouse=True)
def ews_contract_followed(request):
    """What Exchange was asked and answered in a test is what its schemas say."""
    yield
    if "world" in request.fixturenames:
        ews_contract.check(request.getfixturevalue("world").exchange)


@pytest.fixture(autouse=True)
def nobody_is_silent():
    """What a test found silent is another server's port in the next."""
    SILENCES.forget()


@pytest.fixture(autouse=True)
def no_faults(request):
    """A test that switched a fault on leaves none behind."""
    yield
    if "world" in request.fixturenames:
        world = request.getfixturevalue("world")
        world.post.faults.clear()
        world.entra.heal()
        world.graph.heal()
        world.google.heal()
        world.exchange.faults.clear()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def app(world, clock):
    """The app as bootstrap builds it, with a clock that can be set."""
    from shared import bootstrap
    from shared.settings import load

    return bootstrap.build(load(world.environment()), clock)


@pytest.fixture
def scene(world, app, clock):
    return build(world, app, clock)


@pytest.fixture
def guard():
    return Guard()


@pytest.fixture
def watched(scene, guard):
    """The scene's app with a counting door in front of every port and provider."""
    return guarded(scene.app, guard)
