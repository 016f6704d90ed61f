"""A Microsoft mailbox loses its grant and gets it back, is disconnected and returns: nothing is lost on the way."""

from datetime import timedelta

import pytest

from shared import authorizing, connecting, disconnecting, integrating, returning, scheduling
from shared.contract import ConnectMailbox, PatchMailbox
from shared.errors import Conflict, ConsentRequired
from shared.flows import Refused
from shared.model import PLATFORM, AuditRecord, Grant, Mailbox, TenantBinding
from tests.microsoft import approve, build, connect


@pytest.fixture
def scene(world, app, clock):
    return build(world, app, clock)


def state(scene):
    return scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value


def subscriptions(scene):
    found = scene.world.graph.notifier.subscriptions.values()
    return [one for one in found if one.address == scene.alice.address]


def ways(world, scene):
    """How a grant ends (microsoft.md 1.5, 1.6): name, act, undo."""
    entra, user = world.entra, world.entra.directory.users[scene.alice.address]
    directory, app = entra.directory, world.microsoft_app
    granted = directory.consents[user.tenant.id, app.client_id]

    def set_on(target, name, value):
        return lambda: setattr(target, name, value)

    return [
        (
            "the administrator resets the password",
            lambda: entra.revoke_sessions(user),
            lambda: None,
            "Connect",
        ),
        (
            "nobody used it for 90 days",
            lambda: entra.age_refresh_tokens(91 * 86_400),
            lambda: None,
            "Connect",
        ),
        (
            "the consent is withdrawn",
            lambda: directory.revoke_consent(user.tenant, app),
            lambda: directory.consents.update({(user.tenant.id, app.client_id): granted}),
            "IT",
        ),
        ("the account is disabled", set_on(user, "enabled", False), set_on(user, "enabled", True), "IT"),
    ]


def test_whatever_ends_a_grant_the_mailbox_says_what_to_do_and_after_reconnecting_nothing_is_missing(
    world, scene
):
    scene.sent()
    [raw] = scene.supplier.inbox()
    for name, end, mend, word in ways(world, scene):
        end()
        scene.clock.advance(hours=2)  # the access token has ended
        answer = scene.supplier.reply(raw, f"While {name}")
        waiting = scene.send(subject=f"Sent while {name}")
        scene.settle()
        found = state(scene)
        assert found.state == "needs_consent", name
        assert found.problem.detail, name
        assert word in found.problem.fix, (name, found.problem.fix)
        assert scene.email(waiting.id).state == "queued", name
        with pytest.raises(ConsentRequired):
            scene.send()
        mend()
        assert connect(world, scene.app, scene.org_id, scene.alice).state == "active"
        scene.settle()
        assert [m.message_id for m in scene.timeline()].count(str(answer["Message-ID"])) == 1, name
        assert scene.email(waiting.id).state == "sent", name


def test_a_permission_that_we_never_asked_for_may_be_taken_back(world, scene):
    """Entra's tokens list everything that was ever consented to; a refresh asks for our own only."""
    directory, tenant = world.entra.directory, world.entra.directory.users[scene.alice.address].tenant
    directory.consent_besides(tenant, world.microsoft_app, frozenset({"User.Read"}), frozenset())
    _, box = scene.colleague()
    directory.consents[tenant.id, world.microsoft_app.client_id] = (
        frozenset({"Mail.Read", "Mail.Send"}),
        frozenset(),
    )
    scene.clock.advance(hours=2)  # the access token has ended
    scene.sync(box)
    assert scene.record(box).state == "active"


def months(scene, count):
    """Let months pass, in which the timer does what is due."""
    for _ in range(count):
        scene.clock.advance(days=30)
        scene.world.entra.age_refresh_tokens(30 * 86_400)
        scheduling.tick(scene.app)
        scene.settle()


def due_grants(scene, box):
    entries = scene.app.schedule.until(scene.clock() + timedelta(days=70))
    return [one for one in entries if (one.kind, one.org_id, one.id) == ("grant", scene.org_id, box.id)]


def test_a_mailbox_that_nobody_uses_for_months_stays_signed_in(scene):
    _, only_sends = scene.colleague("notices", receives_with=None)
    connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(paused=True))
    assert len(due_grants(scene, only_sends)) == 1
    months(scene, 4)
    with scene.app.sending(scene.org_id, only_sends) as sender:
        sender.check()
    connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(paused=False))
    scene.sync()
    assert scene.record().state == "active"
    assert [len(due_grants(scene, box)) for box in (only_sends, scene.mailbox)] == [1, 1]
    disconnecting.disconnect(scene.app, scene.admin, only_sends.id)
    months(scene, 1)
    assert due_grants(scene, only_sends) == []


def test_an_idle_mailbox_whose_grant_has_ended_says_so_before_somebody_needs_it(world, scene):
    person, box = scene.colleague("notices", receives_with=None)
    world.entra.revoke_sessions(world.entra.directory.users[person.address])
    months(scene, 1)
    assert scene.record(box).state == "needs_consent"


def test_a_reconnect_keeps_one_subscription_and_what_the_mailbox_was(world, scene):
    scene.settle()
    before = state(scene)
    assert len(subscriptions(scene)) == 1
    world.entra.revoke_sessions(world.entra.directory.users[scene.alice.address])
    scene.clock.advance(hours=2)
    with pytest.raises(ConsentRequired):
        scene.sync()
    connect(world, scene.app, scene.org_id, scene.alice)
    scene.settle()
    after = state(scene)
    assert len(subscriptions(scene)) == 1
    assert (after.since, after.owner, after.created_at) == (before.since, before.owner, before.created_at)


def test_a_disconnect_ends_push_and_grant_gives_a_receipt_and_a_return_continues(world, scene):
    scene.sent()
    scene.settle()
    [raw] = scene.supplier.inbox()
    assert len(subscriptions(scene)) == 1
    receipt = disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    assert subscriptions(scene) == []
    assert receipt.state == "disconnected"
    assert {"push", "microsoft access token", "microsoft refresh token"} <= set(receipt.destroyed)
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    [detail] = [row.detail for row in rows if row.event == "mailbox.secrets_destroyed"]
    assert sorted(detail.split(", ")) == sorted(receipt.destroyed)
    assert receipt.kept
    assert scene.app.records.range(scene.org_id, Grant, prefix=scene.mailbox.id) == []
    requests = len(world.graph.requests)
    answer = scene.supplier.reply(raw, "Meanwhile")
    scene.clock.advance(hours=1)
    scene.settle()
    assert scene.sync() == {}
    assert len(world.graph.requests) == requests, "nothing may be asked of a disconnected mailbox"
    connect(world, scene.app, scene.org_id, scene.alice)
    scene.settle()
    assert [m.message_id for m in scene.timeline()].count(str(answer["Message-ID"])) == 1


def test_a_disconnect_with_a_dead_grant_says_that_push_ends_by_itself(world, scene):
    scene.settle()
    world.entra.revoke_sessions(world.entra.directory.users[scene.alice.address])
    scene.clock.advance(hours=2)
    receipt = disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    assert any("ends by" in line for line in receipt.destroyed)
    assert scene.app.records.range(scene.org_id, Grant) == []


def test_a_deleted_integration_disconnects_its_mailboxes_and_gives_the_directory_back(world, scene):
    scene.settle()
    shown = integrating.disconnect(scene.app, scene.admin, "microsoft")[0]
    assert (shown.state, shown.tenant) == ("disconnected", "")
    assert state(scene).state == "disconnected"
    assert subscriptions(scene) == []
    assert scene.app.records.range(scene.org_id, Grant) == []
    tenant = world.entra.directory.users[scene.alice.address].tenant
    key = TenantBinding("microsoft", tenant.id, "").key
    assert scene.app.records.find(PLATFORM, TenantBinding, key) is None


def test_a_mailbox_disconnected_during_its_sign_in_keeps_nothing(world, scene):
    who = scene.person("bob")
    from tests.microsoft import follow
    from tests.scenes import caller

    body = ConnectMailbox(address=who.address, receives_with="microsoft")
    mailbox, url = authorizing.connect(scene.app, caller(scene.org_id, who.address), body)
    disconnecting.disconnect(scene.app, caller(scene.org_id, who.address), mailbox.id)
    world.entra.auto_sign_in = who.address
    with pytest.raises(Refused) as caught:
        returning.signed_in(scene.app, "microsoft", follow(world, url))
    assert caught.value.error.reason == "disconnected"
    assert scene.app.records.range(scene.org_id, Grant, prefix=mailbox.id) == []


def test_a_change_never_makes_a_sign_in_serve_another_mailbox_or_more_than_was_asked_for(world, app, clock):
    scene = build(world, app, clock, sharedMailboxes=True)
    desk = scene.person("desk")
    desk.box.grant_access(scene.alice.address, "full_access", "send_as")
    settings = {"microsoft": {"shared": True}}
    shared = connect(world, scene.app, scene.org_id, desk, scene.alice.address, settings=settings)
    for box, wanted in ((scene.mailbox, True), (shared, False)):
        patch = PatchMailbox(settings={"microsoft": {"shared": wanted}})
        with pytest.raises(Conflict) as caught:
            connecting.change(scene.app, scene.caller, box.id, patch)
        assert caught.value.fix
        assert scene.record(box).settings == box.settings
    assert approve(world, scene.app, scene.admin, largeAttachments=True) == "approved"
    with pytest.raises(Conflict):
        connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(settings={"microsoft": {}}))
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    again = connect(world, scene.app, scene.org_id, scene.alice)
    assert (again.state, again.settings["microsoft"]["largeAttachments"]) == ("active", True)
