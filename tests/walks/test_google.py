"""Google Workspace: the story over Gmail's own wire, consents and delegation, and how each of them ends."""

import email.policy
import json
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.bounces import delivery_report
from shared import (
    authorizing,
    bootstrap,
    casework,
    checking,
    connecting,
    disconnecting,
    integrating,
    late_looks,
    looking,
    owning,
    presence,
    returning,
    reviewing,
    syncing,
    working,
)
from shared.contract import PatchMailbox, PutIntegration
from shared.errors import Busy, ConsentRequired, RateLimited, Temporary, Unsupported
from shared.explanations import TEXTS
from shared.flows import Refused
from shared.model import AuditRecord, Mailbox, SyncState, account_of
from shared.providers.base import Query
from shared.providers.google import spending
from shared.providers.google.position import Position
from shared.providers.positions import ASKED, WAITED
from shared.settings import load
from shared.storage.base import Move, Save
from shared.syncing import PATIENCE
from tests import scenes
from tests.doors import Acting, guarded
from tests.fakes import renamed
from tests.google import (
    MODIFY,
    READ,
    SEND,
    Person,
    approve,
    build,
    connect,
    follow,
    person,
    prove,
    request,
    sign_in,
)
from tests.scenes import Clock, caller, write

FULL = "https://www.googleapis.com/auth/"
QUOTED = "stranger@elsewhere.example"


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


def looked_at(scene, org_id, mailbox_id):
    return scene.app.records.get(org_id, SyncState, mailbox_id).value.synced_at


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


def check(scene):
    with scene.app.receiving(scene.org_id, scene.mailbox) as receiver:
        receiver.check()


@contextmanager
def meanwhile(server, act, path=""):
    """Has something happen while the next call, with a path that ends so, is under way."""
    answer = server.answer

    def acting(request):
        if not request.path.endswith(path):
            return answer(request)
        server.answer = answer
        act()
        return answer(request)

    server.answer = acting
    yield
    del server.answer


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

    def test_a_look_that_sees_the_copy_before_its_new_id_is_written_down_changes_nothing(self, stage, world):
        world.google.faults.rewrite_message_id = True

        def then(name, times):
            if (name, times) == ("google.sender.send", 1):
                stage.sync()

        message = stage.send()
        stage.deliver(message, app=guarded(stage.app, Acting(then=then)))
        [copy] = stage.alice.box.listed("sent")
        [kept] = stage.timeline()
        assert (kept.state, kept.message_id, len(kept.deliveries)) == ("sent", copy.message_id, 1)
        answer = write(
            stage.supplier.address, stage.alice.address, "Re: Offer 4711", "Yes", In_Reply_To=copy.message_id
        )
        stage.alice.receive(answer.as_bytes(policy=email.policy.SMTP))
        stage.settle()
        assert [one.direction for one in stage.timeline()] == ["out", "in"]

    def test_the_doctor_finds_a_mailbox_with_rewritten_ids_sound(self, stage, world):
        world.google.faults.rewrite_message_id = True
        found = {one.name: one.status for one in checking.doctor(stage.app, stage.caller, stage.mailbox.id)}
        trip = ("sign_in_receiving", "sign_in_sending", "round_trip", "sent_copy", "push")
        assert {found[name] for name in trip} == {"ok"}


class TestRefusedMails:
    def test_a_mail_that_gmail_does_not_give_is_told_and_filed_once_it_can_be_had(self, stage, world):
        stage.sent()
        world.google.pubsub.release()
        first, second = (stage.supplier.reply(stage.supplier.inbox()[0], text) for text in ("One", "Two"))
        bad = next(item for item in stage.alice.box.listed() if item.message_id == first["Message-ID"])
        world.google.faults.bad_mails.add(bad.id)
        stage.sync()
        assert [message.message_id for message in stage.timeline()[1:]] == [second["Message-ID"]]
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem.code == "mail_refused"
        looks = [row.value.counts for row in stage.app.records.range(stage.org_id, AuditRecord)]
        assert sum(counts.get("refused", 0) for counts in looks) == 1
        world.google.faults.bad_mails.clear()
        stage.sync()
        assert len(stage.timeline()) == 3
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem is None

    @pytest.fixture
    def _dear(self, world, monkeypatch):
        """A look rests after a few mails."""
        monkeypatch.setattr(spending, "SHARE", 300)
        world.google.skip(61)

    def refuse(self, stage, world, count, at=None):
        for number in range(count):
            bad = write("x@y.example", stage.alice.address, f"{number}", "x").as_bytes()
            world.google.faults.bad_mails.add(stage.alice.box.add(bad, at=at).id)

    @pytest.mark.usefixtures("_dear")
    def test_a_look_that_spends_its_share_on_what_is_refused_ends_and_tells_it(self, stage, world):
        self.refuse(stage, world, 9)
        for _ in range(2):
            stage.clock.advance(minutes=2)
            begun = stage.clock()
            stage.sync()
            state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
            assert state.synced_at >= begun
            assert state.problem.code == "mail_refused"

    @pytest.mark.usefixtures("_dear")
    def test_a_look_that_rests_tells_what_was_refused(self, stage, world):
        stage.sync()
        self.refuse(stage, world, 9)
        for number in range(20):
            good = write("x@y.example", stage.alice.address, f"good {number}", "x").as_bytes()
            stage.alice.box.add(good)
        stage.sync()
        state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
        assert state.rest_until
        assert state.problem.code == "mail_refused"

    def test_a_search_goes_on_after_a_hit_that_gmail_does_not_give(self, stage, world):
        at = datetime.now(UTC)
        for number in range(12):
            hit = write("x@y.example", stage.alice.address, f"Washer {number}", "x").as_bytes()
            item = stage.alice.box.add(hit, at=at - timedelta(minutes=number))
            if number == 2:
                world.google.faults.bad_mails.add(item.id)
        pages, cursor = [], None
        while not pages or cursor:
            query = Query(subject="Washer", limit=5)
            found, cursor = looking.search(stage.app, stage.caller, stage.mailbox.id, query, cursor)
            pages.append([int(mail.subject.removeprefix("Washer ")) for mail in found])
        assert pages == [[0, 1, 3, 4], [5, 6, 7, 8, 9], [10, 11]]

    def test_many_refused_mails_keep_no_late_answer_waiting(self, stage, world):
        message = stage.sent()
        answer = write(stage.supplier.address, stage.alice.address, "Late", "x", References="<late@gmail>")
        stage.alice.box.add(answer.as_bytes())
        stage.sync()
        self.refuse(stage, world, 22, datetime.now(UTC) - timedelta(days=1))
        stage.alice.box.add(renamed(stage.raw(message), "<late@gmail>"), "sent", sent=True)
        stage.clock.advance(minutes=2)
        begun = stage.clock()
        for _ in range(2):
            world.google.skip(61)
            stage.sync()
            stage.clock.advance(minutes=2)
        state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
        assert (state.look, state.synced_at >= begun) == ((), True)
        assert [m.message_id for m in stage.timeline()[1:]] == [answer["Message-ID"]]

    def test_an_answer_that_gmail_keeps_back_from_a_late_look_is_looked_for_again(self, stage, world):
        """It came, and was nobody's, before a copy of what it answers told its final Message-ID."""
        message = stage.sent()
        answer = write(stage.supplier.address, stage.alice.address, "Late", "x", References="<late@gmail>")
        item = stage.alice.box.add(answer.as_bytes())
        stage.sync()
        world.google.faults.bad_mails.add(item.id)
        stage.alice.box.add(renamed(stage.raw(message), "<late@gmail>"), "sent", sent=True)
        stage.sync()
        assert len(stage.timeline()) == 1
        assert mailbox_of(stage).state == "active"
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem.code == "mail_refused"
        world.google.faults.bad_mails.clear()
        stage.sync()
        assert [m.message_id for m in stage.timeline()[1:]] == [answer["Message-ID"]]
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem is None

    def test_a_thread_that_gmail_does_not_give_stops_no_other_mail_and_is_asked_for_again(self, stage, world):
        message = stage.sent()
        answer = write(stage.supplier.address, stage.alice.address, "Late", "x", References="<late@gmail>")
        long_ago = datetime.now(UTC) - timedelta(days=9)  # nothing but the thread leads to it
        item = stage.alice.box.add(answer.as_bytes(), at=long_ago)
        stage.sync()
        world.google.faults.bad_threads.add(item.thread)
        copy = renamed(stage.raw(message), "<late@gmail>")
        stage.alice.box.add(copy, "sent", sent=True, thread=item.thread)
        other = stage.supplier.reply(stage.supplier.inbox()[0])
        stage.sync()
        assert [m.message_id for m in stage.timeline()[1:]] == [other["Message-ID"]]
        assert mailbox_of(stage).state == "active"
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem.code == "mail_refused"
        world.google.faults.bad_threads.clear()
        stage.sync()
        assert {m.message_id for m in stage.timeline()} >= {answer["Message-ID"], other["Message-ID"]}
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem is None

    def test_a_mail_that_gmail_never_gives_is_given_up_on_record(self, stage, world):
        stage.sent()
        stage.sync()
        stage.supplier.reply(stage.supplier.inbox()[0])
        [item] = stage.alice.box.listed("inbox")
        world.google.faults.bad_mails.add(item.id)
        for _ in range(ASKED):
            stage.sync()
        assert given_up(stage) == []
        state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
        position = Position.of(state.cursor)
        position.refused[item.id] -= WAITED + 1
        stage.app.records.commit(stage.org_id, Save(replace(state, cursor=position.cursor)))
        stage.sync()
        assert given_up(stage) == [{"unreadable": 1}]
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem is None


@pytest.mark.parametrize("place", ["trash", "junk"])
def test_a_mail_that_was_thrown_away_around_the_first_look_is_filed_when_it_is_put_back(stage, place):
    stage.sent()
    stage.forget()
    stage.sync()
    stage.supplier.reply(stage.supplier.inbox()[0])
    [item] = stage.alice.box.listed("inbox")
    stage.alice.box.move(item, place)
    stage.sync()
    assert len(stage.timeline()) == 1
    stage.alice.box.move(item, "inbox")
    stage.sync()
    assert [message.direction for message in stage.timeline()] == ["out", "in"]


def test_an_answer_of_long_ago_taken_out_of_spam_while_the_history_was_lost_is_filed_once(stage):
    now = datetime.now(UTC)
    stored = stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id)
    earlier = replace(stored.value, since=now - timedelta(days=30))
    stage.app.records.commit(stage.org_id, Move(stored, earlier))
    message = stage.sent()
    answer = write(stage.supplier.address, stage.alice.address, "Re: Offer 4711", "Yes.")
    answer["In-Reply-To"] = answer["References"] = message.message_id
    item = stage.alice.box.add(answer.as_bytes(), "junk", at=now - timedelta(days=10))
    stage.sync()
    stage.alice.box.move(item, "inbox")
    stage.alice.box.forget_history()
    for _ in range(2):
        stage.sync()
    assert [one.message_id for one in stage.timeline()] == [answer["Message-ID"], message.message_id]
    events = [row.value.event for row in stage.app.records.range(stage.org_id, AuditRecord)]
    assert events.count("mailbox.restarted") == 1


class TestRefusedContents:
    @pytest.fixture(params=[500, 403, 400])
    def refused(self, stage, world, request):
        """Has Gmail refuse one mail's content, and nothing else of the mailbox."""

        def refuse(item):
            world.google.faults.bad_mails = {item.id}
            world.google.faults.bad_formats = {"raw", "full"}
            world.google.faults.bad_status = request.param

        stage.sent()
        world.google.pubsub.release()
        return refuse

    def test_a_case_mail_is_held_and_its_mailbox_goes_on(self, stage, world, refused):
        first, second = (stage.supplier.reply(stage.supplier.inbox()[0], text) for text in ("One", "Two"))
        refused(next(item for item in stage.alice.box.listed() if item.message_id == first["Message-ID"]))
        for _ in range(PATIENCE):
            with pytest.raises(Temporary):
                stage.sync()
        counts = stage.sync()
        assert (counts["lost"], counts["file"]) == (1, 1)
        assert mailbox_of(stage).state == "active"
        [held] = stage.reviews()
        world.google.faults.clear()
        reviewing.decide(stage.app, stage.caller, stage.mailbox.id, held.id, "file")
        assert {m.message_id for m in stage.timeline()[1:]} == {first["Message-ID"], second["Message-ID"]}

    def test_a_bounce_is_asked_for_again_before_it_is_decided_without_its_report(self, stage, world, refused):
        report = delivery_report(stage.alice.address, stage.supplier.address, stage.raw(stage.timeline()[0]))
        refused(stage.alice.box.add(report))
        with pytest.raises(Temporary):
            stage.sync()
        assert mailbox_of(stage).state == "active"
        world.google.faults.clear()
        stage.sync()
        assert stage.timeline()[0].state == "failed"

    @pytest.mark.parametrize("status", [403, 400])
    def test_a_mail_that_gmail_does_not_send_fails_with_its_words_alone(self, stage, world, status):
        world.google.faults.bad_sends, world.google.faults.bad_status = 1, status
        failed = stage.sent()
        assert failed.state == "failed"
        assert {403: "Forbidden", 400: "Precondition check failed"}[status] in failed.error.detail
        assert mailbox_of(stage).state == "active"
        assert stage.sent().state == "sent"


class TestQuota:
    @pytest.fixture
    def stage(self, stage, world, monkeypatch):
        monkeypatch.setattr(spending, "SHARE", 600)
        monkeypatch.setattr(world.google.gmail.quota, "per_minute", 1_200)
        world.google.skip(61)
        return stage

    def test_a_backlog_leaves_its_user_room_to_send(self, stage, world):
        at = datetime.now(UTC) - timedelta(minutes=3)
        for number in range(60):
            stage.alice.box.add(write("x@y.example", stage.alice.address, f"{number}", "x").as_bytes(), at=at)
        stage.forget()
        counts = stage.sync()
        assert 0 < counts["ignore"] < 60
        assert stage.sent().state == "sent"
        with pytest.raises(Busy) as caught:  # its rest, which nobody is told as trouble
            stage.sync()
        assert 30 < caught.value.retry_after <= 60
        assert owning.show(stage.app, stage.caller, stage.mailbox.id)[1].problem is None
        stage.clock.advance(seconds=61)
        world.google.skip(61)
        assert (counts + stage.sync())["ignore"] >= 60

    def test_looks_for_late_answers_leave_its_user_room_to_send(self, stage, world, monkeypatch):
        monkeypatch.setattr(spending, "ANSWERS", 100)
        monkeypatch.setattr(world.google.gmail.quota, "per_minute", 600)
        at = datetime.now(UTC) - timedelta(days=3)
        late = [write("x@y.example", stage.alice.address, f"{number}", "x") for number in range(8)]
        for number, mail in enumerate(late):
            stage.alice.box.add(mail.as_bytes(), at=at + timedelta(hours=number))
        stage.sync()
        for looks in range(1, 9):
            world.google.skip(61)
            stage.clock.advance(seconds=61)
            ids = [str(mail["Message-ID"]) for mail in late] if looks == 1 else []
            syncing.sync(stage.app, stage.org_id, stage.mailbox.id, look=ids)
            assert stage.sent().state == "sent"
            state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
            assert state.problem is None
            assert (state.rest_until is None) == (not state.look)
            if not state.look:
                break
        assert looks == 4

    def test_a_late_id_whose_every_look_ends_at_gmails_limit_is_given_up_on_record(
        self, stage, world, monkeypatch
    ):
        late = write("x@y.example", stage.alice.address, "Late", "x")
        stage.alice.box.add(late.as_bytes())
        stage.sync()
        monkeypatch.setattr(world.google.gmail.quota, "per_minute", 40)
        for _ in range(late_looks.WITHHELD_LOOKS):
            world.google.skip(61)
            with pytest.raises(RateLimited):
                syncing.sync(stage.app, stage.org_id, stage.mailbox.id, look=[str(late["Message-ID"])])
            stage.clock.advance(minutes=2)
        assert given_up(stage) == []
        world.google.skip(61)
        stage.clock.advance(days=2)
        stage.sync()
        state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
        assert (len(given_up(stage)), state.look, state.problem) == (1, (), None)

    def test_a_mail_waits_as_long_as_gmail_asks_however_often_it_was_tried(self, stage, world):
        message = stage.send()
        for _ in range(3):
            world.google.faults.throttled[stage.alice.address] = 1
            stage.deliver(message)
            waiting = stage.email(message.id)
            assert waiting.next_at - stage.clock() <= timedelta(seconds=60)
            stage.clock.advance(seconds=61)
        stage.deliver(message)
        assert stage.email(message.id).state == "sent"


def test_a_mail_from_before_the_connection_that_is_moved_to_the_inbox_is_nobodys(stage):
    message = stage.sent()
    long_ago = mailbox_of(stage).since - timedelta(days=400)
    answer = write(stage.supplier.address, stage.alice.address, "Re: Offer 4711", "Private.")
    answer["In-Reply-To"] = answer["References"] = message.message_id
    item = stage.alice.box.add(answer.as_bytes(), "archive", at=long_ago)
    stage.sync()
    stage.alice.box.move(item, "inbox")
    stage.sync()
    assert [one.id for one in stage.timeline()] == [message.id]
    assert not stage.alice.box.bodies_read[item.id]


def given_up(scene):
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    return [row.counts for row in rows if row.event == "mailbox.mail_given_up"]


class TestSigningIn:
    @pytest.fixture
    def stage(self, shared):
        return shared

    def begin(self, stage):
        who = stage.person("carol")
        mailbox, url = authorizing.connect(stage.app, caller(stage.org_id, who.address), request(who.address))
        return who, mailbox, url

    def test_a_mailbox_that_moved_to_another_system_leaves_nothing_at_google(self, stage, world):
        who, mailbox = stage.colleague("dora")
        stored = stage.app.records.get(stage.org_id, Mailbox, mailbox.id)
        waiting = replace(stored.value, state="needs_consent")
        stage.app.records.commit(stage.org_id, Move(stored, waiting))
        revocations = world.google.grants.revocations
        world.dovecot.add_user(who.address, scenes.PASSWORD)
        for name in ("imap", "smtp"):
            integrating.put(stage.app, stage.admin, name, PutIntegration(approved=True))
        moved = scenes.connect(world, stage.app, stage.org_id, who)
        assert (moved.id, moved.state, moved.push) == (mailbox.id, "active", None)
        account = account_of("google", who.address)
        assert presence.places(stage.app.records, account) == []
        assert world.google.grants.revocations == revocations + 1
        destroyed = disconnecting.disconnect(stage.app, caller(stage.org_id, who.address), moved.id).destroyed
        assert sorted(destroyed) == ["imap password", "smtp password"]

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

    def test_labels_cannot_be_chosen_and_it_is_said(self, stage):
        body = request(stage.person("carol").address, folders=["Suppliers"])
        with pytest.raises(Unsupported) as caught:
            authorizing.connect(stage.app, caller(stage.org_id, body.address), body)
        assert caught.value.field == "folders"
        with pytest.raises(Unsupported):
            connecting.change(stage.app, stage.caller, stage.mailbox.id, PatchMailbox(folders=["Suppliers"]))
        connecting.change(stage.app, stage.caller, stage.mailbox.id, PatchMailbox(folders=[]))

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

    def test_an_answer_that_we_do_not_know_is_told_to_who_waits_for_it(self, stage, world):
        _, mailbox, url = self.begin(stage)
        world.google.auto_sign_in = mailbox.address
        back = follow(world, url)
        world.google.fail_next(1, 403, body=b"<html>")
        with pytest.raises(Refused) as caught:
            returning.signed_in(stage.app, "google", back)
        assert caught.value.error.reason == "unexpected"

    def test_a_customers_second_domain_that_another_organisation_has_delegated_is_not_connected_here(
        self, stage, world
    ):
        first, second = f"first.{stage.domain}", f"second.{stage.domain}"
        world.add_google_domain(first)
        world.add_google_domain(second, customer=first)
        who = person(world, "carol", second)
        prove(world, stage.app, "org-second", second)
        approve(stage.app, "org-second", applicationAccess=True, mailboxes=[f"x@{second}"])
        with pytest.raises(Refused) as caught:
            connect(world, stage.app, stage.org_id, who)
        assert caught.value.error.reason == "tenant_taken"
        assert connect(world, stage.app, stage.org_id, person(world, "dora", first)).state == "active"

    def test_a_domain_that_another_organisation_has_delegated_is_not_connected_here(self, stage, world):
        domain = f"taken.{stage.domain}"
        who = person(world, "carol", domain)
        prove(world, stage.app, "org-other", domain)
        approve(stage.app, "org-other", applicationAccess=True, mailboxes=[f"x@{domain}"])
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

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (403, b"<html>"),
            (404, b"<html>"),
            (400, {"error": "invalid_request", "error_description": QUOTED}),
            (400, {"error": {"code": 400, "message": QUOTED}}),
            (401, {"error": "nobody_knows"}),
        ],
    )
    def test_an_answer_at_a_renewal_that_we_do_not_know_ends_no_mailbox(
        self, stage, world, caplog, status, body
    ):
        stage.clock.advance(hours=2)
        world.google.fail_next(1, status, body=body)
        with pytest.raises(Temporary) as caught:
            stage.sync()
        assert caught.value.reason == "google_busy"
        assert mailbox_of(stage).state == "active"
        told = [one.getMessage() for one in caplog.records if "sign_in.unclear" in one.getMessage()]
        assert [json.loads(line)["status"] for line in told] == [status]
        assert QUOTED not in caplog.text
        assert look(stage) is not None

    @pytest.mark.parametrize("page", [True, False], ids=["page", "reason"])
    @pytest.mark.parametrize("status", [401, 403])
    def test_a_page_in_gmails_place_or_a_reason_that_we_do_not_know_ends_no_mailbox_and_fails_no_mail(
        self, stage, world, status, page
    ):
        world.google.faults.storm, world.google.faults.storm_status = 1, status
        world.google.faults.storm_page = page
        with pytest.raises(Temporary):
            stage.sync()
        message = stage.send()
        world.google.faults.storm = 1
        stage.deliver(message)
        stage.clock.advance(minutes=2)
        stage.deliver(message)
        assert stage.email(message.id).state == "sent"
        assert mailbox_of(stage).state == "active"

    def test_an_access_token_that_ends_early_costs_nobody_a_click(self, stage, world):
        world.google.grants.end_access(stage.alice.account)
        assert look(stage) is not None
        assert mailbox_of(stage).state == "active"

    @pytest.mark.parametrize("looks", [1, 2], ids=["before", "after"])
    def test_whoever_is_refused_with_a_token_that_another_job_gave_up_tries_again(self, stage, world, looks):
        """Before the other job has signed in again, and after that."""

        def others():
            for _ in range(looks):
                with suppress(Temporary):
                    stage.sync()

        world.google.grants.end_access(stage.alice.account)
        with meanwhile(world.google, others), pytest.raises(Temporary):
            check(stage)
        assert mailbox_of(stage).state == "active"
        check(stage)

    def test_an_account_whose_address_was_changed_is_told_to_connect_the_new_one(self, stage, world):
        old, new = stage.alice.address, f"renamed.{stage.alice.address}"
        stage.sent()
        world.google.rename(old, new)
        stage.supplier.reply(stage.supplier.inbox()[0])
        stage.sync()
        assert [m.direction for m in stage.timeline()] == ["out", "in"]
        message = stage.send()
        for _ in range(2):  # with a new token, too
            stage.deliver(message)
            stage.clock.advance(minutes=1)
        problem = mailbox_of(stage).problem
        assert (mailbox_of(stage).state, old in problem.detail) == ("needs_consent", True)
        assert "new address" in problem.fix
        assert connect(world, stage.app, stage.org_id, Person(world, new)).state == "active"

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
        stage.also += (org_id,)
        return org_id, connect(world, stage.app, org_id, stage.alice)

    def test_a_push_reaches_both_and_the_first_to_go_takes_nothing_with_it(self, stage, world, other):
        org_id, mailbox = other
        stage.settle()
        sides = ((stage.org_id, stage.mailbox.id), (org_id, mailbox.id))
        seen = [looked_at(stage, *side) for side in sides]
        stage.alice.receive(write(stage.supplier.address, stage.alice.address, "Hello", "Text").as_bytes())
        stage.settle()
        assert all(looked_at(stage, *side) > at for side, at in zip(sides, seen, strict=True))
        before = world.google.grants.revocations
        receipt = disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
        assert any("stays at the provider" in one for one in receipt.destroyed)
        assert any("goes on" in one for one in receipt.destroyed)
        assert world.google.grants.revocations == before
        assert stage.alice.box.watches
        at = looked_at(stage, org_id, mailbox.id)
        stage.alice.receive(write(stage.supplier.address, stage.alice.address, "Again", "Text").as_bytes())
        stage.settle()
        assert looked_at(stage, org_id, mailbox.id) > at
        receipt = disconnecting.disconnect(stage.app, caller(org_id, stage.alice.address), mailbox.id)
        assert any("withdrawn at the provider" in one for one in receipt.destroyed)
        assert world.google.grants.revocations == before + 1

    def test_a_stranger_who_names_the_account_and_never_signs_in_keeps_nothing_alive(self, stage, world):
        org_id = f"{stage.org_id}-stranger"
        approve(stage.app, org_id)
        eve = caller(org_id, "eve@stranger.example")
        _, url = authorizing.connect(stage.app, eve, request(stage.alice.address))
        assert url
        receipt = disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
        assert "push" in receipt.destroyed
        assert "google consent (withdrawn at the provider)" in receipt.destroyed
        assert not stage.alice.box.watches

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_sign_in_while_the_last_other_connection_ends_is_not_left_with_what_was_withdrawn(
        self, stage, world, when
    ):
        """The other one ends between the sign-in and its note; or sees no note, and withdraws after it."""
        org_id = f"{stage.org_id}-b"
        approve(stage.app, org_id)
        stage.also += (org_id,)
        begun, url = authorizing.connect(
            stage.app, caller(org_id, stage.alice.address), request(stage.alice.address)
        )

        def end():
            disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)

        def begin(app=stage.app):
            sign_in(world, app, url, stage.alice.address)
            stage.work()

        def tried(name, _):
            if name == "google.sender.check":
                end()

        if when == "after":
            with meanwhile(world.google, begin, "/revoke"):
                end()
            [told] = stage.waiting()
            for _ in range(2):  # refused, then signed in anew
                working.run(stage.app, told)
        else:
            with pytest.raises(Refused) as caught:
                begin(guarded(stage.app, Acting(then=tried)))
            assert "withdrawn or has expired" in caught.value.error.detail
            assert caught.value.error.fix
            assert not stage.app.grants.holds(org_id, begun.id)
        mailbox = stage.app.records.get(org_id, Mailbox, begun.id).value
        assert mailbox.state == "needs_consent"
        assert connect(world, stage.app, org_id, stage.alice).state == "active"

    def test_the_only_one_to_go_ends_watch_and_consent(self, stage, world):
        assert stage.alice.box.watches
        before = world.google.grants.revocations
        receipt = disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
        assert "push" in receipt.destroyed
        assert "google consent (withdrawn at the provider)" in receipt.destroyed
        assert not stage.alice.box.watches
        assert world.google.grants.revocations == before + 1
        assert disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id).state == "disconnected"


@pytest.mark.parametrize("files_copy", [False, True])
def test_what_left_through_another_server_has_no_copy_in_gmail_and_the_record_says_so(
    stage, world, files_copy
):
    """Unless that server is Gmail's own, or another that files copies by itself."""
    integrating.put(stage.app, stage.admin, "smtp", PutIntegration(approved=True))
    place = {"host": "localhost", "port": world.ports["smtps"], "filesCopy": files_copy}
    stage.alice = stage.person("carol")
    world.dovecot.add_user(stage.alice.address, scenes.PASSWORD)
    changes = {"sends_with": "smtp", "settings": {"smtp": place}, "secret": {"password": scenes.PASSWORD}}
    stage.mailbox = connect(world, stage.app, stage.org_id, stage.alice, **changes)
    stage.case_id = "C-2"
    platform = caller(stage.org_id, "", "platform")
    casework.put_case(stage.app, platform, "C-2", "Screws", [stage.alice.address])
    message = stage.sent()
    assert (message.state, message.error) == ("sent", None), "`can` says it of all mails"
    assert message.deliveries == ()
    events = [row.value.event for row in stage.app.records.range(stage.org_id, AuditRecord)]
    assert ("message.copy_missing" in events) is not files_copy


def test_a_strangers_mail_that_came_in_is_not_taken_for_sent_because_of_its_label(stage):
    message = stage.sent()
    raw = write("stranger@evil.example", "all@lists.example", "Re: Offer 4711", "Pay there.")
    raw["In-Reply-To"] = message.message_id
    raw["Received"] = "from mx.evil.example by mx.google.com; Tue, 24 Nov 2026 08:00:00 +0000"
    stage.alice.box.add(raw.as_bytes(), sent=True)
    stage.sync()
    assert [one.direction for one in stage.timeline()] == ["out", "in"]
    assert stage.timeline()[-1].new_participant
