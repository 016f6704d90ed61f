"""A mailbox is given another server: its secret goes there only when typed for it, and nothing there is skipped."""

import json
from dataclasses import replace

import pytest

from sandbox.wire import Wire
from shared import connecting, disconnecting
from shared.contract import PatchMailbox
from shared.errors import InvalidRequest, Raced
from shared.leasing import Lease
from shared.model import Mailbox, SyncState
from shared.storage.base import Save
from tests.scenes import PASSWORD, caller, connect, imap


@pytest.fixture
def elsewhere(world):
    """Another way to the same server, which notes what is said to it."""
    with Wire(world.authority, world.ports["imap"]) as wire:
        yield wire


def patch(scene, who=None, **changes):
    return connecting.change(scene.app, who or scene.caller, scene.mailbox.id, PatchMailbox(**changes))


def admin(scene):
    return caller(scene.org_id, "admin@imap.example", "admin")


@pytest.mark.parametrize(
    "change", [{"port": "elsewhere"}, {"security": "starttls"}, {"username": "bob@imap.example"}]
)
def test_a_stored_password_is_not_said_to_another_server_or_as_somebody_else(scene, elsewhere, change):
    change = {name: elsewhere.port if value == "elsewhere" else value for name, value in change.items()}
    for who in (scene.caller, admin(scene)):
        with pytest.raises(InvalidRequest) as caught:
            patch(scene, who, settings={"imap": change})
        assert caught.value.field == "secret"
        assert caught.value.fix
    assert elsewhere.connections == 0
    kept = scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value
    assert kept.settings == scene.mailbox.settings
    scene.sync()


def test_with_the_secret_typed_anew_it_goes_there(scene, elsewhere):
    new = patch(scene, settings={"imap": {"port": elsewhere.port}}, secret={"password": PASSWORD})
    assert new.settings["imap"]["port"] == elsewhere.port
    assert elsewhere.lines("AUTHENTICATE")


def test_what_names_no_other_place_needs_no_secret(scene):
    with imap(scene.world, scene.alice.address) as client:
        client.create_folder("Outgoing")
    new = patch(scene, settings={"imap": {"sentFolder": "Outgoing"}})
    assert new.settings["imap"]["sentFolder"] == "Outgoing"


def state(scene):
    return scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value


def test_mail_on_another_server_is_not_skipped_because_its_numbers_are_lower(scene, elsewhere):
    """The old server had got further under the same UIDVALIDITY: its cursor would pass the new one's mail."""
    scene.sent()
    scene.sync()
    answer = scene.supplier.reply(scene.supplier.inbox()[0])
    cursor = json.loads(state(scene).cursor)
    cursor["folders"]["INBOX"]["next"] += 1
    scene.app.records.commit(scene.org_id, Save(replace(state(scene), cursor=json.dumps(cursor))))
    assert scene.sync()["file"] == 0
    list(scene.waiting())
    patch(scene, settings={"imap": {"port": elsewhere.port}}, secret={"password": PASSWORD})
    scene.work()
    assert [message.message_id for message in scene.timeline()][1:] == [answer["Message-ID"]]


@pytest.mark.parametrize("returns", [False, True])
def test_a_look_at_the_old_server_ends_and_cannot_write_down_how_far_it_came(scene, elsewhere, returns):
    lease = Lease.take(scene.app, scene.org_id, scene.mailbox.id)
    settings = {**scene.mailbox.settings, "imap": {**scene.mailbox.settings["imap"], "port": elsewhere.port}}
    if returns:
        disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
        connect(scene.world, scene.app, scene.org_id, scene.alice, settings=settings)
    else:
        patch(scene, settings={"imap": settings["imap"]}, secret={"password": PASSWORD})
    with pytest.raises(Raced):
        lease.save(cursor="of the old server")
    assert state(scene).cursor is None
