"""A request that waits for slow mail servers ends in time, and leaves threads to other organisations."""

from contextlib import ExitStack
from datetime import timedelta

import azure.functions as func
import pytest

from handlers.answers import Answer
from handlers.http import respond
from shared import bootstrap, deadline
from shared.shares import REQUESTS


@pytest.fixture
def process(world, monkeypatch):
    """The app as a worker's process has it."""
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    cached = (bootstrap.app, bootstrap.tokens)
    for made in cached:
        made.cache_clear()
    yield bootstrap.app()
    for made in cached:
        made.cache_clear()


def ask(world, org_id, who="member", handler=lambda _: Answer({})):
    token = world.issuer.issue(org_id, "alice@imap.example")
    request = func.HttpRequest("GET", "/", headers={"authorization": f"Bearer {token}"}, body=b"")
    return respond(request, handler, who, None)


def test_who_waits_for_slow_servers_often_enough_is_told_to_come_back_and_nobody_else_is(world, process):
    with ExitStack() as slow:
        for _ in range(REQUESTS.most):
            clock = lambda: process.clock() - timedelta(minutes=1)  # noqa: E731
            slow.enter_context(process.shares.taken("org-slow", "http", REQUESTS, clock))
        refused = ask(world, "org-slow")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
        assert ask(world, "org-other").status_code == 200
        assert ask(world, "org-slow", who="anyone").status_code == 200
    assert ask(world, "org-slow").status_code == 200


@pytest.mark.parametrize("who", ["member", "browser"])
def test_a_request_is_over_before_azure_hangs_up(world, process, who):
    left = []
    ask(world, "org-one", who, lambda _: left.append(deadline.left()) or Answer(b""))
    assert 100 < left[0] < 230
    assert deadline.left() > 1000, "what comes next has its own time"
