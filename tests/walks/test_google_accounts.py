"""Google: the same address becomes another account, or is opened in another way; no mail or consent is forgotten."""

from dataclasses import replace

import pytest

from shared import authorizing, casework, disconnecting, presence
from shared.errors import Conflict
from shared.model import Grant, Mailbox, SyncState, account_of
from shared.providers.base import Cursor
from shared.providers.google import spending
from shared.providers.google.position import Position
from shared.storage.base import Move
from tests.doors import Acting, Guard, guarded
from tests.google import approve, build, connect, request, sign_in
from tests.scenes import caller
from tests.walks.test_connecting_crashes import attempt, broken, changes
from tests.walks.test_google import look, mailbox_of
from tests.walks.test_google_delegation import connected, delegate


@pytest.fixture
def stage(world, app, clock):
    scene = build(world, app, clock)
    scene.settle()
    return scene


def state_of(stage):
    return stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id)


def position_of(stage):
    return Position.of(Cursor(state_of(stage).value.cursor))


def aged(stage):
    """Let minutes pass for what a cursor says of Gmail: that goes by the machine's clock."""
    position = position_of(stage)
    position.again, position.told_at = max(position.again - 180, 0), position.told_at - 180
    stored = state_of(stage)
    stage.app.records.commit(stage.org_id, Move(stored, replace(stored.value, cursor=position.cursor)))


def person_of(stage):
    """Who granted the access to the mailbox, by Google's own id."""
    return stage.app.records.get(stage.org_id, Grant, f"{stage.mailbox.id}!google").value.subject


def places(stage, name):
    return presence.places(stage.app.records, account_of("google", name))


def delegated(stage, world):
    """Have the organisation follow Carol's mailbox by delegation."""
    who = stage.person("carol")
    delegate(stage, world, who)
    hers = replace(stage, alice=who, mailbox=connected(stage, who), case_id="C-2")
    casework.put_case(stage.app, caller(stage.org_id, "", "platform"), "C-2", "Screws", [who.address])
    return hers


def settled(scene):
    """Send a mail, and look until nothing but the history is left to read."""
    scene.sent()
    scene.sync()
    aged(scene)
    scene.sync()
    assert not position_of(scene).again
    return scene.supplier.inbox()[-1]


def looks(scene, count=3):
    for _ in range(count):
        look(scene)
        aged(scene)


@pytest.mark.parametrize("now_at", [None, 3_000_000])
def test_an_account_made_anew_under_its_address_and_signed_in_again_is_read_from_its_first_mail(
    stage, world, now_at
):
    sent = settled(stage)
    world.google.recreate(stage.alice.address, 5_000)
    assert look(stage) is None
    stage.supplier.reply(sent)
    stage.alice.box.history_id = now_at or stage.alice.box.history_id
    connect(world, stage.app, stage.org_id, stage.alice)
    stage.work()
    looks(stage)
    assert [message.direction for message in stage.timeline()] == ["out", "in"]


@pytest.mark.parametrize("deaf", [False, True])
def test_a_delegated_address_given_to_a_new_account_is_read_from_its_first_mail(stage, world, deaf):
    world.google.faults.deaf_histories = deaf
    hers = delegated(stage, world)
    sent = settled(hers)
    world.google.recreate(hers.alice.address, 5_000)
    hers.supplier.reply(sent)
    looks(hers)
    hers.supplier.reply(sent, "And another one")
    looks(hers)
    assert [message.direction for message in hers.timeline()] == ["out", "in", "in"]


def test_who_signs_in_as_another_person_leaves_no_trace_of_the_one_before(stage, world):
    world.google.recreate(stage.alice.address, 5_000)
    before = person_of(stage)
    assert look(stage) is None
    connect(world, stage.app, stage.org_id, stage.alice)
    here = [(stage.org_id, stage.mailbox.id)]
    assert places(stage, before) == []
    assert places(stage, person_of(stage)) == places(stage, stage.alice.address) == here


def test_another_person_may_sign_in_before_the_first_look(stage, world):
    who, mailbox = stage.colleague()
    hers = replace(stage, alice=who, mailbox=mailbox)
    stopped(hers, world)
    world.google.recreate(who.address, 5_000)
    assert connect(world, stage.app, stage.org_id, who).state == "active"


def stopped(stage, world):
    """Stop a mailbox for a while, with its owner's consent still in force; returns who that is at Google."""
    stored = stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id)
    stage.app.records.commit(stage.org_id, Move(stored, replace(stored.value, state="needs_consent")))
    delegate(stage, world, stage.alice)
    return person_of(stage)


class TestDelegationInPlaceOfAConsent:
    def test_it_withdraws_the_consent_and_is_found_by_address_alone(self, stage, world):
        subject, before = stopped(stage, world), world.google.grants.revocations
        assert connected(stage, stage.alice).state == "active"
        assert world.google.grants.revocations == before + 1
        assert places(stage, subject) == []
        assert places(stage, stage.alice.address) == [(stage.org_id, stage.mailbox.id)]
        receipt = disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
        assert [one for one in receipt.destroyed if "consent" in one] == []
        assert places(stage, stage.alice.address) == []

    def test_it_leaves_what_another_organisation_was_granted(self, stage, world):
        org_id = f"{stage.org_id}-b"
        approve(stage.app, org_id)
        stage.also += (org_id,)
        other = connect(world, stage.app, org_id, stage.alice)
        subject, before = stopped(stage, world), world.google.grants.revocations
        connected(stage, stage.alice)
        assert world.google.grants.revocations == before
        assert places(stage, subject) == [(org_id, other.id)]
        disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
        receipt = disconnecting.disconnect(stage.app, caller(org_id, stage.alice.address), other.id)
        assert "google consent (withdrawn at the provider)" in receipt.destroyed

    @pytest.mark.long
    def test_it_ends_the_same_wherever_it_breaks(self, stage, world):
        def act(guard):
            return connected(replace(stage, app=guarded(stage.app, guard)), stage.alice)

        def begun():
            disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
            connect(world, stage.app, stage.org_id, stage.alice)
            return stopped(stage, world)

        stopped(stage, world)
        for k, name in changes(act):
            subject, before = begun(), world.google.grants.revocations
            attempt(lambda: act(broken("before", k)))
            if mailbox_of(stage).state != "active":
                act(Guard())
            assert world.google.grants.revocations == before + 1, name
            assert places(stage, subject) == [], name
            assert places(stage, stage.alice.address) == [(stage.org_id, stage.mailbox.id)], name


def test_a_number_of_gmails_that_was_late_once_has_nothing_swept(stage, world):
    settled(stage)
    aged(stage)
    world.google.faults.deaf_histories = True
    box = stage.alice.box
    box.history_id -= 1
    stage.sync()
    box.history_id += 1
    aged(stage)
    before = len(world.google.requests)
    stage.sync()
    assert {one.method for one in world.google.requests[before:]} == {"history.list"}


def test_a_number_that_is_late_once_after_a_look_that_rested_has_nothing_swept(stage, world, monkeypatch):
    settled(stage)
    aged(stage)
    stage.supplier.reply(stage.supplier.inbox()[-1])
    with monkeypatch.context() as limited:
        limited.setattr(spending, "SHARE", 1)  # it rests after its first page of history
        stage.sync()
    stage.clock.advance(minutes=2)
    world.google.faults.deaf_histories = True
    stage.alice.box.history_id -= 1
    before = len(world.google.requests)
    stage.sync()
    assert {one.method for one in world.google.requests[before:]} == {"history.list"}


def test_a_sign_in_that_ends_while_a_delegation_is_tried_is_kept(stage, world):
    stopped(stage, world)
    address, done = stage.alice.address, []
    owner = caller(stage.org_id, address)
    _, url = authorizing.connect(stage.app, owner, request(address))
    before = world.google.grants.revocations

    def then(name, _times):
        if name.endswith("check") and not done:
            done.append(sign_in(world, stage.app, url, address))

    with pytest.raises(Conflict, match="connected at the same time"):
        connected(replace(stage, app=guarded(stage.app, Acting(then=then))), stage.alice)
    assert (mailbox_of(stage).state, world.google.grants.revocations) == ("active", before)
    assert look(stage) is not None
