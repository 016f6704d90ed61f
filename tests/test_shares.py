"""Workers are shared: who has many slow steps under way waits with further ones."""

from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import Busy
from shared.shares import Share, Shares

pytestmark = pytest.mark.fast
SHARE = Share(most=2, slow=timedelta(seconds=60), retry_after=30)


class Clock:
    now = datetime(2026, 11, 26, tzinfo=UTC)

    def __call__(self):
        return self.now


def test_only_slow_steps_count_and_only_against_their_own_organisation_and_kind():
    shares, clock = Shares(), Clock()

    def step(org_id="one", kind="sync"):
        return shares.taken(org_id, kind, SHARE, clock)

    with ExitStack() as under_way:
        for _ in range(5):
            under_way.enter_context(step())
        clock.now += timedelta(seconds=60)
        with pytest.raises(Busy) as caught, step():
            pass
        assert caught.value.retry_after == 30
        with step("two"), step(kind="deliver"):
            pass
    with step():
        pass


def test_a_step_that_failed_is_over():
    shares, clock = Shares(), Clock()
    for _ in range(3):
        with suppress(ValueError), shares.taken("one", "sync", SHARE, clock):
            clock.now += timedelta(seconds=90)
            raise ValueError
    assert not shares._begun
