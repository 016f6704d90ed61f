"""Folders that were chosen and are renamed or deleted afterwards: the mailbox says so and goes on."""

from email.policy import SMTP

import pytest

from shared import connecting, owning, reviewing, views
from shared.contract import PatchMailbox
from shared.providers.registry import provider
from tests.doors import Acting, guarded
from tests.scenes import imap, write

pytestmark = [pytest.mark.every_provider, pytest.mark.only("imap", "ews")]


@pytest.fixture
def chosen(scene):
    """Projects is chosen, and was looked at after a mail was sent."""
    create(scene, "Projects")
    choose(scene, "Projects")
    scene.sent()
    scene.sync()
    return scene


def create(scene, name):
    if scene.mailbox.receives_with == "ews":
        scene.alice.box.add_folder(name)
        return
    with imap(scene.world, scene.alice.address) as client:
        client.create_folder(name)


def rename(scene, name, new):
    if scene.mailbox.receives_with == "ews":
        scene.alice.box.folder(name).name = new
        return
    with imap(scene.world, scene.alice.address) as client:
        client.rename_folder(name, new)


def choose(scene, *folders):
    body = PatchMailbox(folders=list(folders))
    scene.mailbox = connecting.change(scene.app, scene.caller, scene.mailbox.id, body)


def shown(scene):
    """The mailbox as GET /mailboxes/{id} shows it."""
    return views.mailbox(provider, *owning.show(scene.app, scene.caller, scene.mailbox.id))


def answer(scene, folder="INBOX"):
    headers = {"In-Reply-To": scene.timeline()[0].message_id}
    raw = write(scene.supplier.address, scene.alice.address, "Re: Offer 4711", "x", **headers)
    scene.alice.receive(raw.as_bytes(policy=SMTP), folder=folder)
    return raw["Message-ID"]


def test_a_chosen_folder_that_is_gone_is_told_until_it_is_back_and_no_mail_waits_for_it(chosen, caplog):
    rename(chosen, "Projects", "Geheim 4711")
    for _ in range(2):
        wanted = answer(chosen)
        chosen.sync()
        assert chosen.timeline()[-1].message_id == wanted
        told = shown(chosen)
        assert (told.state, told.problem.code) == ("active", "folders_missing")
        assert "“Projects”" in told.problem.detail
        assert f"PATCH /mailboxes/{chosen.mailbox.id}" in told.problem.fix
    wanted = answer(chosen, "Geheim 4711")
    rename(chosen, "Geheim 4711", "Projects")
    chosen.sync()
    assert chosen.timeline()[-1].message_id == wanted
    assert shown(chosen).problem is None
    assert "Projects" not in caplog.text
    assert "Geheim" not in caplog.text


def test_it_is_told_no_longer_when_others_are_chosen(chosen):
    rename(chosen, "Projects", "Archive 2026")
    chosen.sync()
    assert shown(chosen).problem.code == "folders_missing"
    choose(chosen, "Archive 2026")
    assert shown(chosen).problem is None
    chosen.sync()
    assert shown(chosen).problem is None


def test_a_mail_that_came_into_it_just_before_it_was_renamed_is_filed(chosen):
    wanted = answer(chosen, "Projects")
    rename(chosen, "Projects", "Archive 2026")
    chosen.sync()
    assert chosen.timeline()[-1].message_id == wanted


def test_a_look_that_is_gone_on_with_later_has_told_it_already(chosen):
    rename(chosen, "Projects", "Archive 2026")
    answer(chosen)

    def then(name, _):
        if name == f"{chosen.receiver}.fetch":
            chosen.clock.advance(minutes=5)

    chosen.sync(app=guarded(chosen.app, Acting(then=then)))
    told = shown(chosen)
    assert told.synced_at < chosen.clock()
    assert told.problem.code == "folders_missing"


def test_of_many_the_first_are_named(scene):
    names = [f"Folder {number}" for number in range(5)]
    for name in names:
        create(scene, name)
    choose(scene, *names)
    for name in names:
        rename(scene, name, f"{name} no more")
    scene.sync()
    assert "“Folder 0”, “Folder 1”, “Folder 2”, +2." in shown(scene).problem.detail


@pytest.mark.only("imap")
def test_a_held_mail_without_a_message_id_can_be_filed_after_it_was_moved_into_a_chosen_folder(chosen):
    mail = write("new@supplier.example", chosen.alice.address, "Re: Offer 4711", "The price")
    mail["In-Reply-To"] = answer(chosen)
    chosen.sync()
    del mail["Message-ID"]
    chosen.alice.receive(mail.as_bytes(policy=SMTP))
    chosen.sync()
    [held] = chosen.reviews()
    with imap(chosen.world, chosen.alice.address) as client:
        client.select_folder("INBOX")
        client.move(client.search("ALL"), "Projects")
    assert chosen.sync()["review"] == 1
    message = reviewing.decide(chosen.app, chosen.caller, chosen.mailbox.id, held.id, "file")
    assert message.text.strip() == "The price"
