"""A sign-in that is refused is not tried again and again: not for mail that waits, nor for a copy in Sent."""

import pytest

from shared import disconnecting, scheduling
from shared.errors import Temporary
from shared.model import Mailbox, MailboxState
from tests import exchange
from tests.doors import Guard, guarded
from tests.scenes import PASSWORD


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
