"""A sign-in that is refused is not tried again and again: not for mail that waits, nor for a copy in Sent."""

from dataclasses import replace

import pytest

from shared import casework, disconnecting, scheduling
from shared.callers import Caller
from shared.errors import Temporary
from shared.model import Mailbox, MailboxState
from tests import exchange
from tests.doors import Guard, guarded
from tests.providers.scripted import ScriptedSmtp
from tests.scenes import PASSWORD, connect, someone


def state(scene) -> MailboxState:
    return scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value.state


def hours_go_by(scene, hours):
    for _ in range(hours * 4):
        scene.clock.advance(minutes=15)
        scheduling.tick(scene.app)
        scene.work()


@pytest.fixture
def office(world, app, clock):
    """A mailbox at Exchange, whose password was just changed, and who counts what is asked of the server."""
    scene = exchange.build(world, app, clock)
    scene.work()
    waiting = [scene.send() for _ in range(4)]
    world.exchange.accounts.add(scene.alice.address, "changed")
    yield scene, waiting
    world.exchange.accounts.add(scene.alice.address, PASSWORD)


def test_mail_that_waits_for_a_new_password_tries_no_old_one_and_leaves_once_it_is_there(office, world):
    scene, waiting = office
    scene.work()
    assert state(scene) == "needs_consent"
    before = world.exchange.calls.total()
    hours_go_by(scene, 3)
    assert world.exchange.calls.total() == before
    exchange.connect(world, scene.app, scene.org_id, scene.alice, secret={"password": "changed"})
    scene.work()
    assert [scene.email(message.id).state for message in waiting] == ["sent"] * 4


def test_a_copy_that_waits_for_a_new_password_tries_no_old_one(scene):
    scene.work()
    message, guard = scene.send(), Guard()
    scene.app.grants.store_password(scene.org_id, scene.mailbox.id, "imap", scene.alice.address, "outdated")
    scene.app = guarded(scene.app, guard)
    scene.work()
    hours_go_by(scene, 2)
    assert scene.email(message.id).state == "sent"
    assert state(scene) == "needs_consent"
    assert guard.count("imap.sent_folder.") <= 2


def test_a_copy_that_waits_brings_no_disconnected_mailbox_back(scene):
    scene.work()
    message, guard = scene.send(), Guard(how="error", error=lambda _: Temporary("Later."), only="find_sent")
    guard.fail_at = 1
    list(scene.waiting())
    scene.deliver(message, app=guarded(scene.app, guard))
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    hours_go_by(scene, 1)
    assert scene.email(message.id).state == "sent"
    assert state(scene) == "disconnected"


def test_a_server_that_repeats_a_password_tells_it_to_no_other_member_of_the_case(scene, world):
    bob = someone(world, "bob", "imap.example")
    platform = Caller(scene.org_id, "", frozenset({"platform"}))
    casework.put_case(scene.app, platform, "C-1", "Screws", [bob.address, scene.alice.address])
    with ScriptedSmtp(world.authority.server_context()) as server:
        smtp = {"host": "localhost", "port": server.port, "security": "tls"}
        imap = {"host": "localhost", "port": world.ports["imaps"], "security": "tls"}
        box = connect(world, scene.app, scene.org_id, bob, settings={"imap": imap, "smtp": smtp})
        usual = server.answer
        server.answer = lambda line: f"500 what? {line}" if line.startswith("AUTH") else usual(line)
        message = replace(scene, alice=bob, mailbox=box).send()
        scene.work()
    told = scene.email(message.id).error.detail  # as Alice sees it
    assert told.endswith("what? AUTH PLAIN …")
    problem = scene.app.records.get(scene.org_id, Mailbox, box.id).value.problem
    assert problem.detail.endswith("AUTH PLAIN …")
