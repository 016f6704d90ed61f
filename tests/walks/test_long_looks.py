"""A look that takes too long is gone on with by another job; one whose worker dies is taken up again in minutes."""

from datetime import timedelta

import pytest

from sandbox.bounces import delivery_report
from shared import connecting, syncing, working
from shared.contract import PatchMailbox
from shared.errors import Busy, CursorExpired
from shared.jobs import Job
from shared.model import AuditRecord, SyncState
from tests.doors import Acting, Crash, Guard, guarded
from tests.scenes import encoded, write

ANSWERS = 7


def answers(scene):
    scene.sent()
    scene.sync()
    [raw] = scene.supplier.inbox()
    wanted = [scene.supplier.reply(raw, f"Answer {number}")["Message-ID"] for number in range(ANSWERS)]
    list(scene.waiting())
    return wanted


def bounces(scene):
    """Reports about mail that is none of ours, in the mailbox before the supplier's answer."""
    scene.sent()
    scene.sync()
    [raw] = scene.supplier.inbox()
    foreign = [write(scene.supplier.address, "x@b.example", "Offer", "x").as_bytes() for _ in range(ANSWERS)]
    scene.alice.receive(*(delivery_report(scene.alice.address, "x@b.example", mail) for mail in foreign))
    wanted = scene.supplier.reply(raw)["Message-ID"]
    list(scene.waiting())
    return wanted


def slow(scene, asked="fetch"):
    """The scene's app, whose mail server needs 90 seconds to give out a mail, or what is asked for."""

    def then(name, _):
        if name == f"{scene.receiver}.{asked}":
            scene.clock.advance(seconds=90)

    return guarded(scene.app, Acting(then=then))


def state(scene):
    return scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value


def looks(scene):
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    return [row.outcome for row in rows if row.event == "mailbox.read"]


def read(scene):
    """How many mails each look dealt with that found any, since the mail of the case was sent."""
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    counts = [sum(row.counts.values()) for row in rows if row.event == "mailbox.read" and row.counts]
    return counts[scene.copies :]


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


@pytest.mark.every_provider
def test_a_page_of_slow_reports_about_other_mail_is_got_through_each_read_once(scene):
    wanted, guard = bounces(scene), slow(scene, "returned_headers")
    for _ in range(ANSWERS):
        working.run(guard, encoded(Job("sync", scene.org_id, scene.mailbox.id)))
        if looks(scene)[-1] == "done":
            break
    assert [message.message_id for message in scene.timeline()][1:] == [wanted]
    assert sum(read(scene)) == ANSWERS + 1
    assert len(read(scene)) > 2
    assert state(scene).passed == ()


@pytest.mark.parametrize("how", ["the mailbox is changed", "its cursor expires"])
def test_what_was_passed_of_a_page_is_handled_again_where_its_look_is_ended_or_begins_anew(scene, how):
    bounces(scene)
    working.run(slow(scene, "returned_headers"), encoded(Job("sync", scene.org_id, scene.mailbox.id)))
    before = sum(read(scene))
    assert len(state(scene).passed) == before
    guard = Guard()
    if how == "its cursor expires":
        guard = Guard(1, "error", lambda _: CursorExpired("Too old."), only=r"receiver\.pages$")
    else:
        connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(folders=[]))
        assert state(scene).passed == ()
    scene.sync(app=guarded(scene.app, guard))
    assert sum(read(scene)) >= before + ANSWERS + 1


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
