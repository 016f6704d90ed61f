"""Google's domain-wide delegation: proven, taken by one organisation, used for what is listed, and given back."""

from dataclasses import replace

import pytest

from shared import authorizing, bootstrap, casework, delegating, integrating
from shared.contract import AskConsent, PutIntegration
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotAllowed, Temporary, Unsupported
from shared.model import SyncState
from shared.providers.base import Cursor, Query
from shared.providers.google import sending
from shared.providers.google.position import Position
from shared.providers.google.signing import Google
from shared.settings import load
from tests.doors import Guard, guarded
from tests.google import MODIFY, READ, SEND, admin_of, approve, build, prove, request
from tests.providers.parts import mail
from tests.scenes import Clock, caller
from tests.walks.test_google import look, mailbox_of, tokens_asked

FULL = "https://www.googleapis.com/auth/"


@pytest.fixture(scope="module")
def stage(world):
    """One organisation for tests that connect people of their own, and leave Alice alone."""
    clock = Clock()
    return build(world, bootstrap.build(load(world.environment()), clock), clock)


@pytest.fixture(autouse=True)
def _quick(world):
    """Gmail drops pushes that follow each other within a second, and `heal` switches that on again."""
    world.google.faults.push_seconds = 0


@pytest.fixture
def service(world):
    return world.google_service.client_id


def delegate(stage, world, *who, delegated=True, **settings):
    directory, client_id = world.google.directory, world.google_service.client_id
    directory.undelegate(stage.domain, client_id)
    if delegated:
        directory.delegate(stage.domain, client_id, READ, SEND)
    prove(world, stage.app, stage.org_id, stage.domain)
    mailboxes = [one.address for one in who]
    return approve(stage.app, stage.org_id, applicationAccess=True, mailboxes=mailboxes, **settings)[0]


def connected(stage, who):
    body = request(who.address, owner=who.address, settings={"google": {"access": "application"}})
    mailbox, url = authorizing.connect(stage.app, admin_of(stage.org_id), body)
    assert url is None
    return mailbox


def test_the_page_says_what_to_enter_and_the_check_proves_it(stage, world, service):
    who = stage.person("carol")
    shown = delegate(stage, world, who, delegated=False)
    assert shown.state == "needs_attention"
    assert service in shown.problem.fix
    *_, entered = integrating.show(stage.app, admin_of(stage.org_id), "google")
    assert (entered.client_id, set(entered.scopes)) == (service, {FULL + READ, FULL + SEND})
    checks = integrating.check(stage.app, admin_of(stage.org_id), "google")
    assert [(one.name, one.status) for one in checks] == [(who.address, "failed"), ("limit", "ok")]
    world.google.directory.delegate(stage.domain, service, *entered.scopes)
    checks = integrating.check(stage.app, admin_of(stage.org_id), "google")
    assert {one.status for one in checks} == {"ok"}
    assert integrating.show(stage.app, admin_of(stage.org_id), "google")[0].state == "approved"


class Careless(Google):
    """Asks for whoever is named."""

    def application(self, registration, subject="", scopes=(), **how):
        everybody = replace(registration, mailboxes=registration.mailboxes | {subject})
        return super().application(everybody, subject, scopes, **how)


def test_the_limit_is_tried_with_a_mailbox_of_the_same_domain_and_fails_where_nothing_limits(stage, world):
    delegate(stage, world, stage.person("carol"))
    before = tokens_asked(world)
    [_, limit] = integrating.check(stage.app, admin_of(stage.org_id), "google")
    assert (limit.status, tokens_asked(world)) == ("ok", before + 1)
    careless = replace(stage.app.provider("google"), oauth=Careless())
    app = replace(stage.app, provider=lambda _: careless)
    [_, limit] = integrating.check(app, admin_of(stage.org_id), "google")
    assert (limit.name, limit.status) == ("limit", "failed")
    assert limit.fix
    assert tokens_asked(world) == before + 3, "Google was asked for one of the domain"


def test_a_check_of_many_mailboxes_says_which_it_did_not_try(stage, world, monkeypatch):
    monkeypatch.setattr(delegating, "MOST_CHECKED", 1)
    delegate(stage, world, stage.person("carol"), stage.person("dora"), stage.person("eve"))
    checks = integrating.check(stage.app, admin_of(stage.org_id), "google")
    assert [one.status for one in checks] == ["ok", "skipped", "ok"]
    assert "first 1 of 3" in checks[1].detail
    assert integrating.show(stage.app, admin_of(stage.org_id), "google")[0].state == "approved"


def test_a_listed_mailbox_works_without_its_user(stage, world):
    who = stage.person("carol")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    assert mailbox.state == "active"
    hers = replace(stage, alice=who, mailbox=mailbox, case_id="C-2")
    casework.put_case(stage.app, caller(stage.org_id, "", "platform"), "C-2", "Screws", [who.address])
    assert hers.sent().state == "sent"
    hers.supplier.reply(hers.supplier.inbox()[-1])
    hers.settle()
    assert [m.direction for m in hers.timeline()] == ["out", "in"]


def test_nobody_asks_google_for_a_mailbox_that_is_not_listed(stage, world):
    listed, other = stage.person("carol"), stage.person("ceo")
    delegate(stage, world, listed)
    before = tokens_asked(world)
    with pytest.raises(ConsentRequired) as caught:
        connected(stage, other)
    assert caught.value.reason == "google_not_listed"
    assert tokens_asked(world) == before


def test_a_mailbox_taken_off_the_list_is_not_asked_for_any_more(stage, world):
    one, two = stage.person("carol"), stage.person("dave")
    delegate(stage, world, one, two)
    mailbox = connected(stage, two)
    others = [bootstrap.build(load(world.environment()), stage.clock) for _ in range(2)]
    for app in (stage.app, *others):
        stage.sync(mailbox, app=app)  # each process remembers now how it signs in
    delegate(stage, world, one)
    world.google.requests.clear()
    before = tokens_asked(world)
    with pytest.raises(ConsentRequired), others[0].searching(stage.org_id, mailbox) as searcher:
        searcher.search(Query(text="x"))
    with pytest.raises(ConsentRequired):
        stage.sync(mailbox, app=others[1])
    assert (tokens_asked(world), list(world.google.requests)) == (before, [])
    assert mailbox_of(stage, mailbox).state == "needs_consent"
    assert "delegation only for the mailboxes" in mailbox_of(stage, mailbox).problem.detail


def test_a_look_under_way_ends_when_its_mailbox_is_taken_off_the_list(stage, world):
    one, two = stage.person("carol"), stage.person("dave")
    delegate(stage, world, one, two)
    mailbox = connected(stage, two)
    with stage.app.receiving(stage.org_id, mailbox) as receiver:
        receiver.check()
        delegate(stage, world, one)
        stage.clock.advance(seconds=2)
        world.google.requests.clear()
        with pytest.raises(ConsentRequired) as caught:
            receiver.check()
    assert caught.value.reason == "google_not_listed"
    assert list(world.google.requests) == []


def test_the_list_costs_a_look_one_read_and_a_persons_consent_none(stage, world):
    who = stage.person("carol")
    delegate(stage, world, who)
    guard = Guard()
    app = guarded(stage.app, guard)
    for mailbox, reads in ((connected(stage, who), 1), (stage.mailbox, 0)):
        stage.sync(mailbox, app=app)
        guard.calls.clear()
        stage.sync(mailbox, app=app)
        assert guard.count("records.find") == 2 + reads, guard.calls  # its lease, and itself


def test_tokens_of_the_service_account_that_end_early_are_replaced_and_a_new_one_that_is_refused_counts(
    stage, world
):
    who = stage.person("carol")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    for _ in range(2):
        stage.sync(mailbox)
        world.google.grants.end_access(who.account)
        assert look(stage, mailbox) is not None
        assert mailbox_of(stage, mailbox).state == "active"
        stage.clock.advance(minutes=90)
    who.account.has_gmail = False
    assert look(stage, mailbox) is None
    assert "Gmail" in mailbox_of(stage, mailbox).problem.detail


def test_a_missing_key_of_zalions_service_account_is_no_customers(stage, world):
    who = stage.person("carol")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    stage.app.grants.forget(stage.org_id, mailbox.id, "google")
    vault, name = stage.app.vault, stage.app.registrations.apps["google"].key_name
    key = vault.get(name)
    vault.destroy(name)
    try:
        with pytest.raises(Temporary) as caught:
            stage.sync(mailbox)
    finally:
        vault.set(name, key)
    assert caught.value.reason == "google_misconfigured"
    shown = integrating.show(stage.app, admin_of(stage.org_id), "google")[0]
    assert (shown.state, shown.problem) == ("approved", None)
    assert look(stage, mailbox) is not None


@pytest.mark.parametrize("body", [b"<html>", {"error": "invalid_request"}])
def test_an_answer_to_the_service_account_that_we_do_not_know_ends_no_mailbox(stage, world, body):
    who = stage.person("carol")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    stage.app.grants.forget(stage.org_id, mailbox.id, "google")
    world.google.fail_next(1, 403, body=body)
    with pytest.raises(Temporary) as caught:
        stage.sync(mailbox)
    assert caught.value.reason == "google_busy"
    assert mailbox_of(stage, mailbox).state == "active"
    assert look(stage, mailbox) is not None


def test_a_user_may_not_choose_it(stage, world):
    who = stage.person("carol")
    delegate(stage, world, who)
    body = request(who.address, settings={"google": {"access": "application"}})
    with pytest.raises(NotAllowed):
        authorizing.connect(stage.app, caller(stage.org_id, who.address), body)


@pytest.mark.parametrize("end", ["undelegated", "suspended"])
def test_a_delegation_that_ends_says_why(stage, world, service, end):
    who = stage.person("carol")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    if end == "undelegated":
        world.google.directory.undelegate(stage.domain, service)
    else:
        who.account.suspended = True
    stage.app.grants.forget(stage.org_id, mailbox.id, "google")
    assert look(stage, mailbox) is None
    problem = mailbox_of(stage, mailbox).problem
    assert (service in problem.fix) if end == "undelegated" else (who.address in problem.detail)


def sessions(stage, mailbox, cursor):
    """Everything that can be the first thing a session does, by name."""
    google = stage.app.provider("google")
    connection = stage.app.connection(stage.org_id, mailbox, "google")
    draftable = replace(connection, settings={**connection.settings, "drafts": True})
    sender, drafter = google.sender(connection), google.drafter(draftable)
    reader, searcher, pusher = (
        make(connection) for make in (google.receiver, google.searcher, google.pusher)
    )
    to, never = [stage.supplier.address], lambda: pytest.fail("handed over")
    answer = mail("Re: Offer", From=mailbox.address, To=to[0], In_Reply_To="<a@b.example>")
    yield "a look", lambda: list(reader.pages(cursor, mailbox.since))
    yield "the first look", lambda: list(reader.pages(None, mailbox.since))
    yield "a fetch", lambda: reader.fetch("abc")
    yield "late evidence", lambda: list(reader.look(["<a@b.example>"]))
    yield "a look into Sent", lambda: google.sent_folder(connection).find_sent("<a@b.example>")
    yield "headers", lambda: google.sent_folder(connection).available(["abc"])
    yield "an answer", lambda: sender.send(answer, mailbox.address, to, never)
    yield "a draft put", lambda: drafter.put(answer, to)
    yield "a draft read", lambda: drafter.fetch("r1")
    yield "a draft sent", lambda: drafter.send("r1", answer, to, never)
    yield "a search", lambda: searcher.search(Query(text="x"))
    yield "folders", searcher.folders
    yield "push", lambda: pusher.subscribe("", "")
    yield "no push", lambda: pusher.cancel("watch")


def test_an_address_that_became_a_colleagues_alias_opens_nothing_of_theirs(stage, world):
    who, heir = stage.person("carol"), stage.person("dave")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    stage.sync(mailbox)
    cursor = Cursor(stage.app.records.get(stage.org_id, SyncState, mailbox.id).value.cursor)
    del world.google.directory.users[who.address]
    heir.account.aliases.add(who.address)
    world.google.faults.alias_subjects = True
    stage.app.grants.forget(stage.org_id, mailbox.id, "google")
    world.google.requests.clear()
    for name, use in sessions(stage, mailbox, cursor):
        with pytest.raises(ConsentRequired) as caught:
            use()
        assert caught.value.reason == "google_alias", name
        assert "own address" in caught.value.fix
    assert {one.method for one in world.google.requests} == {"getProfile"}
    assert look(stage, mailbox) is None
    assert mailbox_of(stage, mailbox).state == "needs_consent"
    assert who.address in mailbox_of(stage, mailbox).problem.detail
    assert {one.method for one in world.google.requests} == {"getProfile"}


def test_to_be_sure_whose_mailbox_it_is_costs_an_idle_look_no_call_more(stage, world):
    who = stage.person("carol")
    delegate(stage, world, who)
    mailbox = connected(stage, who)

    def looked(cursor):
        """Look three minutes later than the last time; returns the calls, and the cursor."""
        position = Position.of(cursor)
        position.told_at -= 180
        position.again -= 180 if position.again else 0
        world.google.requests.clear()
        reader = stage.app.provider("google").receiver(stage.app.connection(stage.org_id, mailbox, "google"))
        [*_, page] = reader.pages(position.cursor if cursor else None, mailbox.since)
        reader.close()
        return [one.method for one in world.google.requests], page.cursor

    _, cursor = looked(None)
    _, cursor = looked(cursor)  # the first sweep is made again, as the search may be late
    calls, cursor = looked(cursor)
    assert calls == ["getProfile"]
    who.box.add(mail("News", From="x@elsewhere.example"))
    calls, cursor = looked(cursor)
    assert calls == ["getProfile", "history.list", "messages.get"]
    assert looked(cursor)[0] == ["getProfile"]


@pytest.mark.long
@pytest.mark.parametrize("small", [sending.SMALL, 100], ids=["JSON", "upload"])
def test_each_delegated_call_says_for_which_mailbox_it_is_and_a_persons_none(
    stage, world, monkeypatch, small
):
    monkeypatch.setattr(sending, "SMALL", small)
    people = carol, dora = stage.person("carol"), stage.person("dora")
    delegate(stage, world, *people)
    world.google.requests.clear()
    scenes = [(carol, connected(stage, carol)), (dora, connected(stage, dora)), (stage.alice, stage.mailbox)]
    for number, (who, mailbox) in enumerate(scenes):
        theirs = replace(stage, alice=who, mailbox=mailbox, case_id=f"C-{small}-{number}")
        casework.put_case(stage.app, caller(stage.org_id, "", "platform"), theirs.case_id, "x", [who.address])
        assert theirs.sent().state == "sent"
        theirs.supplier.reply(theirs.supplier.inbox()[-1])
        theirs.sync()
    marks = [marks_of(world, who) for who, _ in scenes]
    assert marks[2] == {None}
    assert len(marks[0] | marks[1]) == 2
    assert all(len(mark) <= 40 and "@" not in mark for mark in marks[0] | marks[1])


def marks_of(world, who):
    """Return what calls to a mailbox are counted by; pieces of an upload belong to the one it began with."""
    calls = [one for one in world.google.requests if one.user == who.address]
    assert {"messages.send", "messages.get", "history.list"} <= {one.method for one in calls}
    queries = [dict(one.query) for one in calls]
    return {query.get("quotaUser") for query in queries if "upload_id" not in query}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"applicationAccess": True}, "settings.mailboxes"),
        ({"applicationAccess": True, "mailboxes": ["no address"]}, "settings.mailboxes[0]"),
        ({"mailboxes": "alice"}, "settings.mailboxes"),
    ],
)
def test_wrong_settings_are_named(stage, settings, field):
    with pytest.raises(InvalidRequest) as caught:
        approve(stage.app, stage.org_id, **settings)
    assert caught.value.field == field


def test_without_a_delegation_there_is_nothing_to_check_or_to_approve(stage):
    approve(stage.app, stage.org_id)
    with pytest.raises(Unsupported):
        integrating.check(stage.app, admin_of(stage.org_id), "google")
    with pytest.raises(Unsupported):
        authorizing.ask_consent(stage.app, admin_of(stage.org_id), "google", AskConsent())


def test_an_integration_that_it_does_not_approve_connects_nobody(stage, world):
    integrating.put(stage.app, admin_of(stage.org_id), "google", PutIntegration(approved=False))
    with pytest.raises(Conflict):
        authorizing.connect(stage.app, stage.caller, request(stage.person("x").address))
    approve(stage.app, stage.org_id)


def test_drafts_switched_on_leave_connected_mailboxes_as_they_are(stage, world, service):
    who, another = stage.person("carol"), stage.person("dave")
    delegate(stage, world, who)
    mailbox = connected(stage, who)
    approve(stage.app, stage.org_id, applicationAccess=True, mailboxes=[who.address], drafts=True)
    checks = integrating.check(stage.app, admin_of(stage.org_id), "google")
    assert checks[0].status == "failed"
    *_, entered = integrating.show(stage.app, admin_of(stage.org_id), "google")
    world.google.directory.delegate(stage.domain, service, *entered.scopes)
    stage.app.grants.forget(stage.org_id, mailbox.id, "google")
    assert look(stage, mailbox) is not None
    approve(
        stage.app,
        stage.org_id,
        applicationAccess=True,
        mailboxes=[who.address, another.address],
        drafts=True,
    )
    assert connected(stage, another).state == "active"
    assert {one.status for one in integrating.check(stage.app, admin_of(stage.org_id), "google")} == {"ok"}


def test_drafts_switched_off_leave_connected_mailboxes_as_they_are(stage, world, service):
    who = stage.person("carol")
    delegate(stage, world, who, drafts=True)
    world.google.directory.delegate(stage.domain, service, READ, SEND, MODIFY)
    mailbox = connected(stage, who)
    approve(stage.app, stage.org_id, applicationAccess=True, mailboxes=[who.address])
    *_, entered = integrating.show(stage.app, admin_of(stage.org_id), "google")
    assert FULL + MODIFY in entered.scopes  # as long as a mailbox uses it
    world.google.directory.delegate(stage.domain, service, READ, SEND)
    checks = integrating.check(stage.app, admin_of(stage.org_id), "google")
    assert checks[0].status == "failed"
    world.google.directory.delegate(stage.domain, service, *entered.scopes)
    stage.app.grants.forget(stage.org_id, mailbox.id, "google")
    assert look(stage, mailbox) is not None
