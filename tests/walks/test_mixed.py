"""Mailboxes whose two sides differ, or that have only one: what works works, what cannot says why."""

import pytest

from shared import casework, checking, integrating, looking
from shared.callers import Caller
from shared.contract import PutIntegration
from shared.errors import Unsupported
from shared.providers.base import Query
from tests.scenes import connect, someone


@pytest.fixture
def office(scene, world):
    """Connects colleagues who receive and send with what a test says."""
    for name in ("pop3", "imap", "smtp"):
        admin = Caller(scene.org_id, "admin@imap.example", frozenset({"admin"}))
        integrating.put(scene.app, admin, name, PutIntegration(approved=True))

    def office(receives, sends):
        places = {
            "imap": {"host": "localhost", "port": world.ports["imaps"]},
            "pop3": {"host": "localhost", "port": world.ports["pop3"], "security": "starttls"},
            "smtp": {"host": "localhost", "port": world.ports["smtps"]},
        }
        scene.alice = someone(world, "mixed", "imap.example")
        used = {name: places[name] for name in (receives, sends) if name}
        scene.mailbox = connect(
            world,
            scene.app,
            scene.org_id,
            scene.alice,
            receives_with=receives,
            sends_with=sends,
            settings=used,
        )
        platform = Caller(scene.org_id, "", frozenset({"platform"}))
        casework.put_case(scene.app, platform, "C-1", "Screws", [scene.alice.address])
        return scene

    return office


def failed(scene):
    checks = checking.doctor(scene.app, scene.caller, scene.mailbox.id)
    return [check.name for check in checks if check.status == "failed"]


def test_pop3_in_and_smtp_out_tell_the_story(office):
    scene = office("pop3", "smtp")
    assert scene.sent().state == "sent"
    [arrived] = scene.supplier.inbox()
    scene.supplier.reply(arrived)
    scene.sync()
    assert [message.direction for message in scene.timeline()] == ["out", "in"]
    assert scene.alice.inbox("Sent") == []
    assert failed(scene) == []


def test_what_only_sends_sends_and_says_what_it_cannot(office):
    scene = office(None, "smtp")
    message = scene.sent()
    assert message.state == "sent"
    assert message.error is None
    assert scene.sync() == {}
    with pytest.raises(Unsupported) as caught:
        looking.soon(scene.app, scene.caller, scene.mailbox.id)
    assert caught.value.fix
    with pytest.raises(Unsupported) as caught:
        looking.search(scene.app, scene.caller, scene.mailbox.id, Query(text="x"), None)
    assert caught.value.fix
    assert failed(scene) == []


def test_what_broke_in_the_hand_over_of_a_mailbox_that_only_sends_is_uncertain(office):
    scene = office(None, "smtp")
    scene.world.post.faults.drop_after_dot(delivered=True)
    message = scene.sent()
    assert message.state == "uncertain"
    assert message.error.fix
    scene.clock.advance(minutes=30)
    scene.work()
    assert len(scene.supplier.inbox()) == 1


@pytest.mark.parametrize("receives", ["imap", "pop3"])
def test_what_only_reads_refuses_to_send_before_any_promise_and_says_why(office, receives):
    scene = office(receives, None)
    with pytest.raises(Unsupported) as caught:
        scene.send()
    assert (caught.value.field, bool(caught.value.fix)) == ("mailboxId", True)
    assert scene.timeline() == []
    assert failed(scene) == []


def test_a_pop3_mailbox_cannot_be_searched_and_says_so(office):
    scene = office("pop3", "smtp")
    with pytest.raises(Unsupported) as caught:
        looking.folders(scene.app, scene.caller, scene.mailbox.id)
    assert caught.value.fix
