"""Google Workspace: the story over Gmail's own wire, consents, delegation, push, and what may go wrong."""

import pytest

from shared.model import Mailbox
from tests.google import build


@pytest.fixture
def stage(world, app, clock):
    scene = build(world, app, clock)
    scene.settle()
    yield scene
    world.google.heal()
    assert world.google.violations == []


def mailbox_of(scene):
    return scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value


class TestStory:
    def test_sent_answered_and_answered_in_gmail_all_stand_in_the_case_by_push_alone(self, stage):
        sent = stage.sent()
        assert sent.state == "sent"
        [there] = stage.supplier.inbox()
        answer = stage.supplier.reply(there)
        stage.settle()
        stage.alice.reply(answer.as_bytes())
        stage.settle()
        assert [(m.direction, m.origin, m.state) for m in stage.timeline()] == [
            ("out", "case", "sent"),
            ("in", "mailbox", "received"),
            ("out", "mailbox", "sent"),
        ]
