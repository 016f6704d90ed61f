"""A look that takes too long is gone on with by another job; one whose worker dies is taken up again in minutes."""

from datetime import timedelta

import pytest

from shared import syncing, working
from shared.errors import Busy
from shared.jobs import Job
from shared.model import AuditRecord, SyncState
from tests.doors import Acting, Crash, Guard, guarded
from tests.scenes import encoded

ANSWERS = 7


def answers(scene):
    scene.sent()
    scene.sync()
    [raw] = scene.supplier.inbox()
    wanted = [scene.supplier.reply(raw, f"Answer {number}")["Message-ID"] for number in range(ANSWERS)]
    list(scene.waiting())
    return wanted


def slow(scene):
    """The scene's app, whose mail server needs 90 seconds to give out a mail."""

    def then(name, _):
        if name == f"{scene.receiver}.fetch":
            scene.clock.advance(seconds=90)

    return guarded(scene.app, Acting(then=then))


def state(scene):
    return scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value


def looks(scene):
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    return [row.outcome for row in rows if row.event == "mailbox.read"]


@pytest.mark.every_provider
def test_a_look_that_takes_too_long_ends_and_another_job_goes_on(scene):
    wanted = answers(scene)
    before = len(looks(scene))
    for _ in range(ANSWERS):
        started = scene.clock()
        working.run(slow(scene), encoded(Job("sync", scene.org_id, scene.mailbox.id)))
        assert scene.clock() - started < 2 * syncing.LONGEST
        assert state(scene).holder == ""
        if looks(scene)[-1] == "done":
            break
    assert looks(scene)[before:].count("unfinished") >= 2
    filed = [message.message_id for message in scene.timeline()][1:]
    assert sorted(filed) == sorted(wanted)


def test_what_is_left_of_a_long_look_waits_in_the_queue(scene):
    answers(scene)
    scene.sync(app=slow(scene))
    assert looks(scene)[-1] == "unfinished"
    guard = Guard()
    while looks(scene)[-1] != "done":
        scene.work(guarded(slow(scene), guard))
    assert len(scene.timeline()) == 1 + ANSWERS


def test_a_job_that_comes_back_while_its_dead_worker_holds_the_lease_waits_for_its_end(scene):
    wanted = answers(scene)
    job = encoded(Job("sync", scene.org_id, scene.mailbox.id))
    dying = Guard()
    scene_app = guarded(scene.app, dying)
    dying.fail_at = 6
    with pytest.raises(Crash):
        working.run(scene_app, job)
    held = state(scene)
    assert held.holder

    scene.clock.advance(seconds=30)  # the host gives the message to another worker
    for times in (1, 0, 0):  # one comes back, however many ask
        guard = Guard()
        working.run(guarded(scene.app, guard), job)
        assert guard.count("queues.put") == times
    assert state(scene).watched_until == held.until

    scene.clock.ahead += held.until - scene.clock() - timedelta(seconds=10)
    with pytest.raises(Busy):  # a holder that lives has extended it; who comes back then waits again
        extended(scene)
    scene.clock.advance(minutes=6)
    working.run(scene.app, job)
    assert sorted(message.message_id for message in scene.timeline()[1:]) == sorted(wanted)


def extended(scene):
    from dataclasses import replace

    from shared.storage.base import Save

    scene.app.records.commit(
        scene.org_id, Save(replace(state(scene), until=scene.clock() + timedelta(minutes=5)))
    )
    scene.clock.advance(seconds=20)
    scene.sync()
