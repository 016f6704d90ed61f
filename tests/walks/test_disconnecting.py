"""A disconnect ends what reads the mailbox right now, and is carried on by a job wherever it breaks off."""

from dataclasses import replace

import pytest

from shared import disconnecting, working
from shared.errors import Raced, Temporary
from shared.jobs import Job
from shared.model import AuditRecord, Grant, Mailbox, Review
from shared.storage.base import Add
from tests.doors import Acting, Guard, dying, guarded
from tests.scenes import connect, encoded, someone, write


def hold(scene, answer, number=0):
    """Let a stranger's mail lie in the mailbox that is held for its owner."""
    stranger = someone(scene.world, "stranger", "supplier.example")
    quoting = {"In-Reply-To": answer["Message-ID"], "Message-ID": f"<held{number}@x.example>"}
    mail = write(stranger.address, scene.alice.address, "Re: Offer 4711", "x", **quoting)
    scene.alice.receive(mail.as_bytes())


def finish(scene, app=None):
    working.run(app or scene.app, encoded(Job("disconnect", scene.org_id, scene.mailbox.id)))


def left(scene):
    """What must not be left of a disconnected mailbox."""
    grants = scene.app.records.range(scene.org_id, Grant, prefix=f"{scene.mailbox.id}!")
    reviews = scene.app.records.range(scene.org_id, Review, prefix=f"{scene.mailbox.id}!")
    return [row.value.key for row in [*grants, *reviews]]


def state(scene):
    return scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value.state


def destroyed(scene):
    """(event, actor, detail) of what is on record as destroyed."""
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    return [(row.event, row.actor, row.detail) for row in rows if row.event.endswith("_destroyed")]


@pytest.mark.every_provider
def test_a_mailbox_disconnected_during_a_look_is_read_no_further(scene):
    scene.sent()
    scene.sync()
    [raw] = scene.supplier.inbox()
    for number in range(4):
        hold(scene, scene.supplier.reply(raw, f"Answer {number}"), number)

    def then(name, times):
        if name == f"{scene.receiver}.fetch" and times == 1:
            disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
            scene.clock.advance(seconds=2)

    guard = Acting(then=then)
    with pytest.raises(Raced):
        scene.sync(app=guarded(scene.app, guard))
    assert guard.count(f"{scene.receiver}.fetch") == 1
    assert len(scene.timeline()) <= 2, "the mail that was just being read, and no other"
    assert scene.sync() == {}
    finish(scene)
    assert left(scene) == []
    ended = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    assert ("mailbox.read", "interrupted") in {(record.event, record.outcome) for record in ended}


def test_a_look_that_begins_while_the_mailbox_is_disconnected_reads_nothing(scene):
    """The worker has the lease when the owner disconnects, or the disconnect came just before it."""
    scene.sync()

    def then(name, times):
        if name == "records.find" and times == 1:
            disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)

    guard = Acting(then=then)
    assert scene.sync(app=guarded(scene.app, guard)) == {}
    assert guard.count(scene.receiver) == 0


@pytest.mark.long
def test_a_disconnect_is_finished_wherever_it_broke_off(world, app, clock):
    from tests.scenes import build

    for k in range(1, 40):
        scene = build(world, app, clock)
        scene.sent()
        hold(scene, scene.supplier.reply(scene.supplier.inbox()[0]))
        scene.sync()
        assert len(left(scene)) == 3
        guard = Guard(fail_at=k)
        with dying():
            disconnecting.disconnect(guarded(app, guard), scene.caller, scene.mailbox.id)
        if state(scene) == "disconnected":
            assert "queues.put" in guard.calls, f"call {k}: nobody would carry on"
        finish(scene)
        assert (state(scene), len(left(scene))) in {("active", 3), ("disconnected", 0)}, guard.calls
        gone = [] if left(scene) else ["1 held headers", "imap password", "smtp password"]
        assert sorted(detail for _, _, detail in destroyed(scene)) == gone, guard.calls
        if not guard.dead:
            break
    assert k > 8


@pytest.mark.parametrize("when", ["while its password is tried", "afterwards"])
def test_a_disconnect_finished_late_destroys_nothing_of_a_mailbox_that_has_returned(scene, when):
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    settings = {name: dict(values) for name, values in scene.mailbox.settings.items()}

    def then(name, times):
        if name == "vault.set" and times == 1 and when != "afterwards":
            finish(scene)

    app = guarded(scene.app, Acting(then=then))
    connect(scene.world, app, scene.org_id, scene.alice, settings=settings)
    if when == "afterwards":
        finish(scene)
    assert state(scene) == "active"
    assert len(left(scene)) == 2
    scene.sync()
    assert scene.sent().state == "sent"


def test_a_return_that_is_refused_leaves_it_disconnected(scene):
    from shared.errors import ConsentRequired

    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    with pytest.raises(ConsentRequired):
        connect(scene.world, scene.app, scene.org_id, scene.alice, secret={"password": "wrong"})
    assert state(scene) == "disconnected"
    assert left(scene) == []


def test_what_a_disconnect_destroys_is_on_record_once_with_who_ended_it(scene):
    scene.held()
    receipt = disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    expected = [
        ("mailbox.secrets_destroyed", scene.caller.email, "imap password"),
        ("mailbox.secrets_destroyed", scene.caller.email, "smtp password"),
        ("mailbox.reviews_destroyed", scene.caller.email, "1 held headers"),
    ]
    assert destroyed(scene) == expected
    assert [detail for _, _, detail in expected] == receipt.destroyed
    assert disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id).destroyed == []
    finish(scene)
    assert destroyed(scene) == expected


def test_what_is_destroyed_after_the_vault_was_down_is_on_record_by_then_and_not_before(scene):
    down = Guard(2, "error", lambda _: Temporary("The vault is down."), only=r"^vault\.destroy")
    with pytest.raises(Temporary):
        disconnecting.disconnect(guarded(scene.app, down), scene.caller, scene.mailbox.id)
    first = ("mailbox.secrets_destroyed", scene.caller.email, "imap password")
    assert destroyed(scene) == [first]
    finish(scene)
    assert destroyed(scene) == [first, ("mailbox.secrets_destroyed", "system", "smtp password")]


def test_more_held_headers_than_a_transaction_takes_are_destroyed_and_on_record(scene):
    review = scene.held()
    many = [Add(replace(review, id=f"{number:04}")) for number in range(100)]
    for batch in (many[:50], many[50:]):
        scene.app.records.commit(scene.org_id, *batch)
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    assert left(scene) == []
    assert [detail for *_, detail in destroyed(scene)][2:] == ["99 held headers", "2 held headers"]
