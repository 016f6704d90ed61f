"""Workers are shared: who has had a slow step lately does few at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import Busy
from shared.shares import JOBS, Share, Shares

pytestmark = pytest.mark.fast
SHARE = Share(2, timedelta(seconds=60), timedelta(minutes=15), patience=0, retry_after=30)


WORKERS = 12
"""What the host begins of a queue at once: batchSize and newBatchThreshold in host.json."""


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


def test_of_whom_nothing_is_known_begins_with_few_until_one_of_them_ends_in_time(step, clock):
    with step():
        with step():
            assert refused(step) == 30
            with step("two"), step(kind="deliver"):
                pass
        clock.now += timedelta(seconds=59)
        with step(), step(), step(), step():
            pass
    clock.now += timedelta(minutes=16)
    with step(), step():
        refused(step)


def test_a_burst_of_quick_steps_waits_for_the_first_of_them_and_none_is_put_back(clock):
    """As many at once as the host begins, of a server that takes its time; none but the first knows more."""
    shares, share = Shares(), replace(JOBS, patience=2)
    began, most, busy = time.monotonic(), [], []

    def job(_):
        try:
            with shares.taken("one", "deliver", share, clock):
                most.append(len(shares._begun["one", "deliver"]))
                time.sleep(0.1)
        except Busy as error:
            busy.append(error)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(job, range(120)))
    assert not busy
    assert max(most[: JOBS.most]) <= JOBS.most
    assert max(most) == WORKERS, "all at once as soon as one has ended"
    assert time.monotonic() - began < 0.1 * (120 / WORKERS + 1) * 1.5


def test_a_burst_at_a_server_that_drips_keeps_no_more_than_its_share_of_the_workers(clock):
    shares, share, over = Shares(), replace(JOBS, patience=0.2), threading.Event()
    left = threading.Barrier(WORKERS - JOBS.most + 1)

    def job(_):
        try:
            with shares.taken("one", "sync", share, clock):
                over.wait(10)
        except Busy:
            left.wait(5)

    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(job, number) for number in range(WORKERS)]
        left.wait(5)
        assert [each.done() for each in jobs].count(False) >= JOBS.most
        over.set()
    assert [each.result() for each in jobs] == [None] * WORKERS


def test_a_slow_step_counts_only_against_its_own_organisation_and_kind(step, clock):
    with step():
        pass
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
    with step():
        pass
    with step(), step(), step():
        pass
