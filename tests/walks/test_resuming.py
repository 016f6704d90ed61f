"""Mailboxes that the app itself signs in to: stopped, their cause mended where it lies, they go on by themselves."""

from dataclasses import replace

import pytest

from shared import (
    bootstrap,
    casework,
    checking,
    connecting,
    disconnecting,
    integrating,
    returning,
    scheduling,
    working,
)
from shared.contract import ConnectMailbox, PatchMailbox
from shared.errors import Raced, Temporary
from shared.jobs import Job
from shared.model import AuditRecord, Mailbox
from shared.settings import load
from tests.doors import Guard, guarded
from tests.google import READ, SEND, admin_of, build, connect
from tests.microsoft import Company
from tests.scenes import Clock, Scene, caller, encoded, someone
from tests.walks.test_consents import approve
from tests.walks.test_google_delegation import connected, delegate


@pytest.fixture(scope="module")
def stage(world):
    clock = Clock()
    world.google.faults.push_seconds = 0
    return build(world, bootstrap.build(load(world.environment()), clock), clock)


@pytest.fixture
def office(stage, world):
    """A delegated mailbox that is at work, and its case."""
    who = stage.person("carol")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    office = replace(stage, alice=who, mailbox=mailbox, case_id=f"C-{mailbox.id}")
    platform = caller(stage.org_id, "", "platform")
    casework.put_case(stage.app, platform, office.case_id, "Screws", [who.address])
    office.work()
    return office


def record(scene):
    return scene.app.records.get(scene.org_id, Mailbox, scene.mailbox.id).value


def stopped(scene):
    """Have the mailbox look and send after the cause; returns the mail that waits."""
    scene.clock.advance(minutes=2)
    waiting = scene.send()
    scene.work()
    if record(scene).state != "needs_consent":  # a token that was refused is doubted first
        scene.clock.advance(minutes=5)
        scheduling.tick(scene.app)
        scene.work()
    assert record(scene).state == "needs_consent"
    assert scene.email(waiting.id).state == "queued"
    return waiting


def causes(world, office):
    """What stops a mailbox, by name: how it begins and ends."""
    directory, service, account = world.google.directory, world.google_service.client_id, office.alice.account

    def suspend(value):
        account.suspended = value

    def unlicensed(value):
        account.has_gmail = not value

    return {
        "undelegated": (
            lambda: directory.undelegate(office.domain, service),
            lambda: directory.delegate(office.domain, service, READ, SEND),
        ),
        "suspended": (lambda: suspend(True), lambda: suspend(False)),
        "no Gmail": (lambda: unlicensed(True), lambda: unlicensed(False)),
        "not listed": (
            lambda: delegate(office, world, office.person("dave")),
            lambda: delegate(office, world, office.alice),
        ),
    }


def doctored(scene):
    return {one.name: one for one in checking.doctor(scene.app, admin_of(scene.org_id), scene.mailbox.id)}


def a_day_goes_by(scene):
    scene.clock.advance(days=1)
    scheduling.tick(scene.app)


WAYS = {
    "the mailbox is tested": doctored,
    "the integration is tested": lambda scene: integrating.check(scene.app, admin_of(scene.org_id), "google"),
    "the integration is saved": lambda scene: delegate(scene, scene.world, scene.alice),
    "a day goes by": a_day_goes_by,
}


@pytest.mark.parametrize(
    ("cause", "way"),
    [
        *(("undelegated", way) for way in WAYS),
        ("suspended", "the mailbox is tested"),
        ("suspended", "a day goes by"),
        ("no Gmail", "the integration is tested"),
        ("not listed", "nothing more"),
    ],
)
def test_what_stopped_is_mended_and_the_mailbox_goes_on_with_what_waited(office, world, cause, way):
    begin, end = causes(world, office)[cause]
    begin()
    waiting = stopped(office)
    end()
    WAYS.get(way, lambda _: None)(office)
    office.work()
    assert record(office).state == "active"
    assert record(office).problem is None
    assert office.email(waiting.id).state == "sent"
    office.supplier.reply(office.supplier.inbox()[-1])
    office.sync(office.mailbox)
    assert {mail.direction for mail in office.timeline(office.case_id)} == {"out", "in"}
    events = [row.value for row in office.app.records.range(office.org_id, AuditRecord)]
    assert [one.event for one in events if one.mailbox_id == office.mailbox.id].count("mailbox.resumed") == 1


def due(scene):
    entries = list(scene.app.schedule.until(scene.clock() + scheduling.timedelta(days=3)))
    return [one for one in entries if (one.kind, one.id) == ("resume", scene.mailbox.id)]


def test_what_is_not_mended_stays_stopped_says_so_and_is_tried_once_a_day(office, world):
    begin, end = causes(world, office)["undelegated"]
    begin()
    stopped(office)
    checks = doctored(office)
    assert {checks[name].status for name in ("sign_in_receiving", "sign_in_sending", "state")} == {"failed"}
    assert world.google_service.client_id in checks["sign_in_receiving"].fix
    assert "test again" in checks["state"].fix
    before = world.google.calls["POST", "/token"]
    for _ in range(3):
        assert len(due(office)) == 1
        a_day_goes_by(office)
        office.work()
    assert record(office).state == "needs_consent"
    asked = world.google.calls["POST", "/token"] - before
    assert asked <= 2 * 3, "Alice's mailbox asks, too"
    end()
    a_day_goes_by(office)
    office.work()
    assert record(office).state == "active"
    a_day_goes_by(office)
    office.work()
    assert due(office) == []


def test_a_mailbox_that_its_owner_had_paused_sends_again_and_does_not_read(office, world):
    connecting.change(office.app, office.caller, office.mailbox.id, PatchMailbox(paused=True))
    begin, end = causes(world, office)["undelegated"]
    begin()
    waiting = stopped(office)
    end()
    assert doctored(office)["state"].status == "ok"
    office.work()
    assert record(office).state == "paused"
    assert office.email(waiting.id).state == "sent"
    begin()
    stopped(office)
    end()
    connecting.change(office.app, office.caller, office.mailbox.id, PatchMailbox(paused=False))
    assert doctored(office)["state"].status == "ok"
    assert record(office).state == "active"


def test_a_mailbox_that_is_disconnected_at_that_moment_stays_so(office, world):
    begin, end = causes(world, office)["undelegated"]
    begin()
    stopped(office)
    end()
    disconnecting.disconnect(office.app, office.caller, office.mailbox.id)
    working.run(office.app, encoded(Job("resume", office.org_id, office.mailbox.id)))
    assert record(office).state == "disconnected"


def test_a_provider_that_does_not_answer_leaves_it_to_the_next_day(office, world):
    begin, end = causes(world, office)["undelegated"]
    begin()
    stopped(office)
    end()
    guard = Guard(1, "error", lambda _: Temporary("It does not answer."), only=r"google\.receiver\.check")
    poison = office.app.queues.length("sync-poison")
    job = Job("resume", office.org_id, office.mailbox.id, attempt=working.ATTEMPTS - 1)
    working.run(guarded(office.app, guard), encoded(job))
    assert office.app.queues.length("sync-poison") == poison
    assert len(due(office)) == 1


def test_who_changed_the_mailbox_meanwhile_is_told_to_test_again(office, world):
    begin, end = causes(world, office)["undelegated"]
    begin()
    stopped(office)
    end()
    guard = Guard(1, "error", lambda _: Raced(), only=r"records\.commit")
    checks = checking.doctor(guarded(office.app, guard), admin_of(office.org_id), office.mailbox.id)
    state = next(one for one in checks if one.name == "state")
    assert (state.status, record(office).state) == ("failed", "needs_consent")


@pytest.mark.parametrize("cause", ["account_disabled", "google_no_mailbox", "google_domain_policy"])
def test_a_mailbox_whose_user_signed_in_is_told_to_be_connected_again_and_not_called_well(
    stage, world, cause
):
    who = stage.person("erin")
    mailbox = connect(world, stage.app, stage.org_id, who)
    hers = replace(stage, alice=who, mailbox=mailbox)
    blocked = who.account.domain.blocked_clients
    if cause == "google_domain_policy":
        blocked.add(world.google_app.client_id)
    who.account.suspended, who.account.has_gmail = cause == "account_disabled", cause != "google_no_mailbox"
    stage.clock.advance(hours=2)
    hers.work()
    working.run(stage.app, encoded(Job("sync", stage.org_id, mailbox.id)))
    assert record(hers).state == "needs_consent"
    fix = record(hers).problem.fix
    assert "connect the mailbox again" in fix or "connect it again where its user signed in" in fix
    blocked.clear()
    who.account.suspended, who.account.has_gmail = False, True
    checks = doctored(hers)
    assert {checks[name].status for name in ("sign_in_receiving", "sign_in_sending")} == {"ok"}
    assert checks["state"].status == "failed"
    assert "Connect the mailbox again" in checks["state"].fix
    assert record(hers).state == "needs_consent"
    integrating.put(stage.app, stage.admin, "google", integrating.PutIntegration(approved=True))
    hers.work()
    assert record(hers).state == "needs_consent"
    assert connect(world, stage.app, stage.org_id, who).state == "active"


def test_a_password_that_works_again_lets_a_stopped_mailbox_go_on_when_it_is_tested(scene):
    scene.app.grants.store_password(scene.org_id, scene.mailbox.id, "imap", scene.alice.address, "wrong")
    scene.work()
    assert record(scene).state == "needs_consent"
    assert doctored(scene)["state"].status == "failed"
    scene.app.grants.store_password(
        scene.org_id, scene.mailbox.id, "imap", scene.alice.address, "correct horse"
    )
    a_day_goes_by(scene)
    scene.work()
    assert record(scene).state == "needs_consent"  # nobody but a person tries a password again
    assert doctored(scene)["state"].status == "ok"
    assert record(scene).state == "active"


@pytest.fixture
def team(world, app, clock):
    """A mailbox at Microsoft that the customer's own app reads and sends from."""
    company = Company(world, app)
    made, secret = company.own_app()
    who, board = company.person("team"), company.person("board")
    world.graph.assigned[made.client_id] = {who.address}
    settings = {"applicationAccess": True, "controlMailbox": board.address}
    company.own(made, secret, **settings)
    team = Scene(
        world, app, clock, company.org_id, who, someone(world, "s", "supplier.example"), by_app(company, who)
    )
    team.work()
    return (
        team,
        lambda: company.own(made, secret, **settings),
        world.graph.assigned[made.client_id],
    )


def by_app(company, who):
    access = {"microsoft": {"access": "application"}}
    body = ConnectMailbox(
        address=who.address,
        owner=who.address,
        receives_with="microsoft",
        sends_with="microsoft",
        settings=access,
    )
    platform = caller(company.org_id, "", "platform")
    casework.put_case(company.app, platform, "C-1", "Screws", [who.address])
    return connecting.connect(company.app, company.admin, body)


@pytest.mark.parametrize("way", ["the mailbox is tested", "the integration is saved", "a day goes by"])
def test_the_apps_own_access_at_microsoft_goes_on_by_the_same_ways(team, way):
    team, save, assigned = team
    assigned.clear()
    waiting = stopped(team)
    assert "test the mailbox" in record(team).problem.fix
    assert doctored(team)["state"].status == "failed"
    assigned.add(team.alice.address)
    {"the integration is saved": lambda _: save()}.get(way, WAYS[way])(team)
    team.work()
    assert record(team).state == "active"
    assert team.email(waiting.id).state == "sent"


def test_an_approval_that_is_given_again_lets_what_stopped_go_on(world, app, clock, monkeypatch):
    company = Company(world, app)
    who, board = company.person("team"), company.person("board")
    assigned = {who.address}
    monkeypatch.setitem(world.graph.assigned, world.microsoft_app.client_id, assigned)
    settings = {"applicationAccess": True, "controlMailbox": board.address}
    approve(company, **settings)
    supplier = someone(world, "s", "supplier.example")
    team = Scene(world, app, clock, company.org_id, who, supplier, by_app(company, who))
    team.work()
    assigned.discard(who.address)
    waiting = stopped(team)
    company.put(**settings)
    team.work()
    assert record(team).state == "needs_consent"
    assigned.add(who.address)
    proof = returning.consented(app, "microsoft", company.browse(company.link())).url
    returning.signed_in(app, "microsoft", company.browse(proof))
    team.work()
    assert record(team).state == "active"
    assert team.email(waiting.id).state == "sent"
