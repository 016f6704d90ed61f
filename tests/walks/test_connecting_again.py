"""A mailbox that is connected again, from an earlier time on: what lies there from that time is read, once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared import disconnecting, reviewing
from shared.model import Mailbox
from shared.storage.base import Move
from tests import scenes
from tests.doors import Guard, dying, guarded
from tests.walks.conftest import ROWS
from tests.walks.test_connecting_crashes import attempt, broken, changes


def passed_over(scene):
    """Let a mail of the case come in before the mailbox's `since`, and disconnect it; returns its Message-ID."""
    stored = scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id)
    later = replace(stored.value, since=scene.clock() + timedelta(days=2))
    scene.app.records.commit(scene.org_id, Move(stored, later))
    scene.forget()
    answer = scene.supplier.reply(scene.supplier.inbox()[0])
    scene.sync()
    assert answer["Message-ID"] not in ids(scene)
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    return answer["Message-ID"]


def ids(scene):
    return [message.message_id for message in scene.timeline()]


def again(scene, app=None):
    return ROWS[scene.mailbox.receives_with].connect(scene.world, app or scene.app, scene.org_id, scene.alice)


@pytest.mark.every_provider
def test_what_came_since_an_earlier_time_is_read_and_nothing_twice(scene):
    sent = scene.sent()
    scene.sync()
    answer = passed_over(scene)
    again(scene)
    scene.sync()
    scene.sync()
    assert ids(scene) == [sent.message_id, answer]


@pytest.mark.every_provider
def test_the_same_time_or_a_later_one_goes_on_where_the_mailbox_stopped(scene):
    scene.sync()
    before = scene.app.records.get(scene.org_id, scenes.SyncState, scene.mailbox.id).value.cursor
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    again(scene)
    after = scene.app.records.get(scene.org_id, scenes.SyncState, scene.mailbox.id).value.cursor
    assert (before, after) == (before, before)
    assert before


@pytest.mark.every_provider
def test_what_was_held_is_held_again_and_what_was_dismissed_is_not(scene):
    dismissed = scene.held()
    reviewing.decide(scene.app, scene.caller, scene.mailbox.id, dismissed.id, "dismiss")
    stranger = scenes.someone(scene.world, "stranger", "supplier.example")
    stranger.send(scene.alice.address, "Re: Offer 4711", **{"In-Reply-To": dismissed.evidence.matched})
    scene.sync()
    [held] = scene.reviews()
    before = ids(scene)
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    assert scene.reviews() == []
    again(scene)
    scene.sync()
    assert [review.message_id for review in scene.reviews()] == [held.message_id]
    assert ids(scene) == before


def test_what_was_held_is_held_again_wherever_the_disconnect_broke_off(scene):
    held = scene.held()
    for k in range(1, 20):
        guard = Guard(fail_at=k, only="commit")
        with dying():
            disconnecting.disconnect(guarded(scene.app, guard), scene.caller, scene.mailbox.id)
        disconnecting.finish(scene.app, scene.org_id, scene.mailbox.id)
        if scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value.state == "disconnected":
            again(scene)
        scene.sync()
        assert [review.message_id for review in scene.reviews()] == [held.message_id], guard.calls
        if not guard.dead:
            break
    assert k > 3


def test_an_earlier_time_counts_wherever_the_connecting_broke_off(scene):
    scene.sent()
    scene.sync()
    passed_over(scene)
    for k, name in changes(lambda guard: again(scene, guarded(scene.app, guard))):
        scene.sync()
        answer = passed_over(scene)
        attempt(lambda: again(scene, guarded(scene.app, broken("before", k))))
        stored = scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id)
        if stored.value.state != "active":
            again(scene, guarded(scene.app, Guard()))
        scene.sync()
        assert answer in ids(scene), name
