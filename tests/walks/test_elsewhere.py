"""A mailbox is given another server: its secret goes there only when typed for it, and nothing there is skipped."""

import pytest

from sandbox.wire import Wire
from shared import connecting
from shared.contract import PatchMailbox
from shared.errors import InvalidRequest
from shared.model import Mailbox
from tests.scenes import PASSWORD, caller, imap


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
