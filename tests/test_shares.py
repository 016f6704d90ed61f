"""Workers are shared: who has had a slow step lately does few at once."""

from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import Busy
from shared.shares import Share, Shares

pytestmark = pytest.mark.fast
SHARE = Share(2, timedelta(seconds=60), timedelta(minutes=15), retry_after=30)


class Clock:
    now = datetime(2026, 11, 26, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def step(clock):
    shares = Shares()

    def step(org_id="one", kind="sync"):
        return shares.taken(org_id, kind, SHARE, clock)

    return step


def refused(step):
    with pytest.raises(Busy) as caught, step():
        pass
    return caught.value.retry_after


def test_a_slow_step_counts_only_against_its_own_organisation_and_kind(step, clock):
    with ExitStack() as under_way:
        for _ in range(5):
            under_way.enter_context(step())
        clock.now += timedelta(seconds=60)
        assert refused(step) == 30
        with step("two"), step(kind="deliver"):
            pass


def test_who_was_slow_lately_does_few_at_once_for_a_while(step, clock):
    with suppress(ValueError), step():
        clock.now += timedelta(seconds=90)
        raise ValueError
    with step(), step():
        refused(step)
    clock.now += timedelta(minutes=16)
    with step(), step(), step():
        pass
