"""Google Workspace: the story over Gmail's own wire, consents and delegation, and how each of them ends."""

from dataclasses import replace

import pytest

from shared import (
    authorizing,
    bootstrap,
    casework,
    checking,
    connecting,
    drafting,
    drafts,
    integrating,
    returning,
    syncing,
)
from shared.contract import AskConsent, Person, PutIntegration, SendEmail
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotAllowed, Temporary, Unsupported
from shared.explanations import TEXTS
from shared.flows import Refused
from shared.model import Conversation, Mailbox
from shared.settings import load
from tests.google import (
    MODIFY,
    READ,
    SEND,
    admin_of,
    approve,
    build,
    connect,
    follow,
    person,
    request,
    sign_in,
)
from tests.scenes import Clock, caller

FULL = "https://www.googleapis.com/auth/"


@pytest.fixture
def stage(world, app, clock):
    scene = build(world, app, clock)
    scene.settle()
    return scene


@pytest.fixture(scope="module")
def shared(world):
    """One organisation for tests that connect people of their own, and leave Alice alone."""
    clock = Clock()
    return build(world, bootstrap.build(load(world.environment()), clock), clock)


def mailbox_of(scene, mailbox=None):
    return scene.app.records.get(scene.org_id, Mailbox, (mailbox or scene.mailbox).id).value


def tokens_asked(world):
    return world.google.calls["POST", "/token"]


def look(scene, mailbox=None):
    """Look until it is clear what a refusal means: a token may only have ended early."""
    for _ in range(3):
        try:
            return scene.sync(mailbox)
        except Temporary:
            continue
        except ConsentRequired:
            return None
    raise AssertionError("it stays unclear")


class TestStory:
    def test_sent_answered_and_answered_in_gmail_all_stand_in_the_case_by_push_alone(self, stage):
        assert stage.sent().state == "sent"
        [there] = stage.supplier.inbox()
        answer = stage.supplier.reply(there)
        stage.settle()
        stage.alice.reply(answer, to=stage.supplier.address)
        stage.settle()
        assert [(m.direction, m.origin, m.state) for m in stage.timeline()] == [
            ("out", "case", "sent"),
            ("in", "mailbox", "received"),
            ("out", "mailbox", "sent"),
        ]

    def test_an_answer_from_the_case_stays_in_gmails_thread_and_its_new_id_is_learnt(self, stage, world):
        world.google.faults.rewrite_message_id = True
        first = stage.sent()
        stage.supplier.reply(stage.supplier.inbox()[0])
        stage.settle()
        answered = stage.timeline()[-1]
        second = stage.sent(in_reply_to=answered.id, subject="Re: Offer 4711")
        stage.settle()
        assert len(stage.timeline()) == 3
        assert len({item.thread for item in stage.alice.box.listed()}) == 1
        for message, item in zip((first, second), stage.alice.box.listed("sent"), strict=True):
            assert message.message_id == item.message_id
            assert "@mail.gmail.com" in message.message_id or message.message_id in item.message_id

    def test_the_doctor_finds_a_mailbox_with_rewritten_ids_sound(self, stage, world):
        world.google.faults.rewrite_message_id = True
        found = {one.name: one.status for one in checking.doctor(stage.app, stage.caller, stage.mailbox.id)}
        trip = ("sign_in_receiving", "sign_in_sending", "round_trip", "sent_copy", "push")
        assert {found[name] for name in trip} == {"ok"}


class TestDrafts:
    @pytest.fixture
    def stage(self, world, app, clock):
        return build(world, app, clock, drafts=True)

    def body(self, stage, **changes):
        return drafts.checked(
            SendEmail(
                **{
                    "mailbox_id": stage.mailbox.id,
                    "to": [Person(address=stage.supplier.address)],
                    "subject": "Offer 4711",
                    "text": "Please send it.",
                    **changes,
                }
            )
        )

    def test_a_draft_lies_in_gmail_and_is_in_the_case_once_it_was_changed_and_sent_there(self, stage, world):
        boss = stage.person("boss").address
        body = self.body(stage, bcc=[Person(address=boss)])
        _, receipt = drafting.put(stage.app, stage.caller, "C-1", body)
        [draft] = stage.alice.box.listed("drafts")
        assert receipt.ref
        assert f"Bcc: {boss}".encode() in draft.raw
        stage.settle()
        assert stage.timeline() == []
        stage.alice.box.remove(draft)  # what Gmail does when a draft is sent
        world.google.send_as_user(stage.alice.address, draft.raw.replace(b"Please", b"Kindly"))
        stage.settle()
        [sent] = stage.timeline()
        assert (sent.direction, sent.origin, sent.text.strip()) == ("out", "mailbox", "Kindly send it.")
        stage.supplier.reply(stage.supplier.inbox()[0])
        stage.settle()
        assert [message.direction for message in stage.timeline()] == ["out", "in"]

    def test_a_draft_stands_in_the_thread_of_what_it_answers(self, stage):
        stage.sent()
        stage.supplier.reply(stage.supplier.inbox()[0])
        stage.settle()
        answered = stage.timeline()[-1]
        body = self.body(stage, in_reply_to=answered.id, subject="Re: Offer 4711")
        _, receipt = drafting.put(stage.app, stage.caller, "C-1", body)
        assert receipt.thread in {item.thread for item in stage.alice.box.listed("inbox")}

    def test_where_it_may_not_it_says_so_and_leaves_nothing(self, shared):
        before = shared.app.records.range(shared.org_id, Conversation)
        with pytest.raises(Unsupported) as caught:
            drafting.put(shared.app, shared.caller, "C-1", self.body(shared))
        assert "IT" in caught.value.fix
        assert shared.app.records.range(shared.org_id, Conversation) == before

    def test_a_system_without_drafts_says_so(self, scene):
        with pytest.raises(Unsupported):
            drafting.put(scene.app, scene.caller, "C-1", self.body(scene))


class TestSigningIn:
    @pytest.fixture
    def stage(self, shared):
        return shared

    def begin(self, stage):
        who = stage.person("carol")
        mailbox, url = authorizing.connect(stage.app, caller(stage.org_id, who.address), request(who.address))
        return who, mailbox, url

    def test_an_unticked_box_is_explained_and_ticking_it_connects(self, stage, world):
        who, mailbox, url = self.begin(stage)
        with pytest.raises(Refused) as caught:
            sign_in(world, stage.app, url, who.address, unticked={SEND})
        assert caught.value.error.reason == "google_boxes"
        assert "box" in caught.value.error.fix
        assert mailbox_of(stage, mailbox).state == "needs_consent"
        assert connect(world, stage.app, stage.org_id, who).state == "active"

    def test_only_what_is_needed_is_asked_for(self, stage, world):
        _, _, url = self.begin(stage)
        assert f"{FULL}{READ}".replace(":", "%3A").replace("/", "%2F") in url
        assert "gmail.modify" not in url
        approve(stage.app, stage.org_id, drafts=True)
        _, _, url = self.begin(stage)
        approve(stage.app, stage.org_id)
        assert MODIFY in url
        assert READ not in url

    def test_somebody_else_who_signs_in_is_told_so(self, stage, world):
        _, mailbox, url = self.begin(stage)
        with pytest.raises(Refused) as caught:
            sign_in(world, stage.app, url, stage.alice.address)
        assert caught.value.error.reason == "wrong_account"
        assert mailbox_of(stage, mailbox).state == "needs_consent"

    def test_without_a_lasting_permission_nothing_is_connected(self, stage, world):
        who, _, url = self.begin(stage)
        world.google.faults.no_refresh_token = True
        with pytest.raises(Refused) as caught:
            sign_in(world, stage.app, url, who.address)
        assert caught.value.error.reason == "google_no_offline"

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ("access_denied", "declined"),
            ("admin_policy_enforced", "google_policy"),
            ("org_internal", "google_internal"),
        ],
    )
    def test_what_google_sends_back_instead_is_explained(self, stage, world, error, reason):
        who, _, url = self.begin(stage)
        world.google.auto_sign_in = who.address
        query = {"state": follow(world, url)["state"], "error": error}
        with pytest.raises(Refused) as caught:
            returning.signed_in(stage.app, "google", query)
        assert caught.value.error.reason == reason
        assert {"en", "de"} == set(TEXTS[reason])

    def test_a_domain_that_another_organisation_has_delegated_is_not_connected_here(self, stage, world):
        who = person(world, "carol", f"taken.{stage.domain}")
        approve(stage.app, "org-other", applicationAccess=True, mailboxes=[f"x@taken.{stage.domain}"])
        with pytest.raises(Refused) as caught:
            connect(world, stage.app, stage.org_id, who)
        assert caught.value.error.reason == "tenant_taken"


class TestConsentEnds:
    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (
                lambda google, who: google.grants.revoke_project(who, "zalion-mail"),
                "withdrawn or has expired",
            ),
            (
                lambda google, who: google.directory.change_password(who.address, "new"),
                "withdrawn or has expired",
            ),
            (lambda google, who: setattr(who, "suspended", True), "disabled"),
            (lambda google, who: setattr(who.domain, "session_control", True), "session control"),
        ],
        ids=["removed", "password", "suspended", "session"],
    )
    def test_the_mailbox_says_why_and_what_to_do_and_a_reconnect_loses_nothing(
        self, stage, world, end, reason
    ):
        stage.sent()
        account = stage.alice.account
        end(world.google, account)
        world.google.grants.end_access(account)
        assert look(stage) is None
        ended = mailbox_of(stage)
        assert ended.state == "needs_consent"
        assert reason in ended.problem.detail
        assert ended.problem.fix
        account.suspended = account.domain.session_control = False
        stage.supplier.reply(stage.supplier.inbox()[0])
        connect(world, stage.app, stage.org_id, stage.alice)
        stage.work()
        assert [m.direction for m in stage.timeline()] == ["out", "in"]

    def test_an_access_token_that_ends_early_costs_nobody_a_click(self, stage, world):
        world.google.grants.end_access(stage.alice.account)
        assert look(stage) is not None
        assert mailbox_of(stage).state == "active"

    def test_our_own_mistake_at_google_is_no_users_problem(self, stage, world):
        world.google.grants.end_access(stage.alice.account)
        word, world.google_app.client_secret = world.google_app.client_secret, "changed"
        try:
            for _ in range(3):
                with pytest.raises(Temporary):
                    stage.sync()
        finally:
            world.google_app.client_secret = word
        assert mailbox_of(stage).state == "active"


class TestOneAccountInTwoOrganisations:
    @pytest.fixture
    def other(self, stage, world, app):
        """Alice's mailbox, connected by a second organisation too."""
        org_id = f"{stage.org_id}-b"
        approve(stage.app, org_id)
        return org_id, connect(world, stage.app, org_id, stage.alice)

    def test_a_push_reaches_both_and_the_first_to_go_takes_nothing_with_it(self, stage, world, other):
        org_id, mailbox = other
        before = world.google.grants.revocations
        receipt = connecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
        assert any("stays at the provider" in one for one in receipt.destroyed)
        assert any("goes on" in one for one in receipt.destroyed)
        assert world.google.grants.revocations == before
        assert stage.alice.box.watches
        assert syncing.sync(stage.app, org_id, mailbox.id) is not None
        receipt = connecting.disconnect(stage.app, caller(org_id, stage.alice.address), mailbox.id)
        assert any("withdrawn at the provider" in one for one in receipt.destroyed)
        assert world.google.grants.revocations == before + 1

    def test_the_only_one_to_go_ends_watch_and_consent(self, stage, world):
        assert stage.alice.box.watches
        before = world.google.grants.revocations
        receipt = connecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
        assert "push" in receipt.destroyed
        assert "google consent (withdrawn at the provider)" in receipt.destroyed
        assert not stage.alice.box.watches
        assert world.google.grants.revocations == before + 1
        assert connecting.disconnect(stage.app, stage.caller, stage.mailbox.id).state == "disconnected"


class TestDelegation:
    @pytest.fixture
    def stage(self, shared):
        return shared

    @pytest.fixture
    def service(self, world):
        return world.google_service.client_id

    def open(self, stage, world, *who, delegated=True):
        directory, client_id = world.google.directory, world.google_service.client_id
        directory.undelegate(stage.domain, client_id)
        if delegated:
            directory.delegate(stage.domain, client_id, READ, SEND)
        mailboxes = [one.address for one in who]
        return approve(stage.app, stage.org_id, applicationAccess=True, mailboxes=mailboxes)[0]

    def connect(self, stage, who):
        body = request(who.address, owner=who.address, settings={"google": {"access": "application"}})
        mailbox, url = authorizing.connect(stage.app, admin_of(stage.org_id), body)
        assert url is None
        return mailbox

    def test_the_page_says_what_to_enter_and_the_check_proves_it(self, stage, world, service):
        who = stage.person("carol")
        shown = self.open(stage, world, who, delegated=False)
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

    def test_a_listed_mailbox_works_without_its_user(self, stage, world):
        who = stage.person("carol")
        self.open(stage, world, who)
        mailbox = self.connect(stage, who)
        assert mailbox.state == "active"
        hers = replace(stage, alice=who, mailbox=mailbox, case_id="C-2")
        casework.put_case(stage.app, caller(stage.org_id, "", "platform"), "C-2", "Screws", [who.address])
        assert hers.sent().state == "sent"
        hers.supplier.reply(hers.supplier.inbox()[-1])
        hers.settle()
        assert [m.direction for m in hers.timeline()] == ["out", "in"]

    def test_nobody_asks_google_for_a_mailbox_that_is_not_listed(self, stage, world):
        listed, other = stage.person("carol"), stage.person("ceo")
        self.open(stage, world, listed)
        before = tokens_asked(world)
        with pytest.raises(ConsentRequired) as caught:
            self.connect(stage, other)
        assert caught.value.reason == "google_not_listed"
        assert tokens_asked(world) == before

    def test_a_mailbox_taken_off_the_list_is_not_asked_for_any_more(self, stage, world):
        one, two = stage.person("carol"), stage.person("dave")
        self.open(stage, world, one, two)
        mailbox = self.connect(stage, two)
        self.open(stage, world, one)
        stage.app.grants.forget(stage.org_id, mailbox.id, "google")
        before = tokens_asked(world)
        assert look(stage, mailbox) is None
        assert tokens_asked(world) == before
        assert "delegation only for the mailboxes" in mailbox_of(stage, mailbox).problem.detail

    def test_a_user_may_not_choose_it(self, stage, world):
        who = stage.person("carol")
        self.open(stage, world, who)
        body = request(who.address, settings={"google": {"access": "application"}})
        with pytest.raises(NotAllowed):
            authorizing.connect(stage.app, caller(stage.org_id, who.address), body)

    @pytest.mark.parametrize("end", ["undelegated", "suspended"])
    def test_a_delegation_that_ends_says_why(self, stage, world, service, end):
        who = stage.person("carol")
        self.open(stage, world, who)
        mailbox = self.connect(stage, who)
        if end == "undelegated":
            world.google.directory.undelegate(stage.domain, service)
        else:
            who.account.suspended = True
        stage.app.grants.forget(stage.org_id, mailbox.id, "google")
        assert look(stage, mailbox) is None
        problem = mailbox_of(stage, mailbox).problem
        assert (service in problem.fix) if end == "undelegated" else (who.address in problem.detail)

    def test_a_domain_belongs_to_one_organisation_until_its_delegation_is_gone(self, stage, world, service):
        domain, app = f"moves.{stage.domain}", stage.app
        who = person(world, "carol", domain)
        settings = {"applicationAccess": True, "mailboxes": [who.address]}
        world.google.directory.delegate(domain, service, READ, SEND)
        approve(app, "org-first", **settings)
        with pytest.raises(Conflict) as caught:
            approve(app, "org-thief", **settings)
        assert caught.value.field == "settings.mailboxes"
        left = integrating.disconnect(app, admin_of("org-first"), "google")[0]
        assert "still in force" in left.problem.detail
        with pytest.raises(Conflict):
            approve(app, "org-thief", **settings)
        world.google.directory.undelegate(domain, service)
        integrating.disconnect(app, admin_of("org-first"), "google")
        assert approve(app, "org-heir", **settings)

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"applicationAccess": True}, "settings.mailboxes"),
            ({"applicationAccess": True, "mailboxes": ["no address"]}, "settings.mailboxes[0]"),
            ({"mailboxes": "alice"}, "settings.mailboxes"),
        ],
    )
    def test_wrong_settings_are_named(self, stage, settings, field):
        with pytest.raises(InvalidRequest) as caught:
            approve(stage.app, stage.org_id, **settings)
        assert caught.value.field == field

    def test_without_a_delegation_there_is_nothing_to_check_or_to_approve(self, stage):
        approve(stage.app, stage.org_id)
        with pytest.raises(Unsupported):
            integrating.check(stage.app, admin_of(stage.org_id), "google")
        with pytest.raises(Unsupported):
            authorizing.ask_consent(stage.app, admin_of(stage.org_id), "google", AskConsent())

    def test_an_integration_that_it_does_not_approve_connects_nobody(self, stage, world):
        integrating.put(stage.app, admin_of(stage.org_id), "google", PutIntegration(approved=False))
        with pytest.raises(Conflict):
            authorizing.connect(stage.app, stage.caller, request(stage.person("x").address))
        approve(stage.app, stage.org_id)
