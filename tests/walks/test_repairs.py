"""States that something must always repair: each was found by reading with fresh eyes, and stays found."""

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.world import World
from shared import bootstrap, casework, connecting, reviewing, scheduling
from shared.contract import PatchMailbox, Person
from shared.errors import (
    Busy,
    ConsentRequired,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Raced,
    RateLimited,
    Rejected,
    Temporary,
)
from shared.leasing import Lease
from shared.model import AuditRecord, DecidedReview, Message, OutboxItem, SyncState
from shared.promises import TRIES, Promised
from shared.settings import load
from shared.storage.base import Save
from tests.doors import Guard, guarded
from tests.fakes import FakeMail
from tests.scenes import Clock, build, caller, imap, someone, write
from tests.walks.test_no_loss import together
from tests.walks.test_other_providers import arrive, ids, later, mail, stage

__all__ = ["mail", "stage"]


@pytest.mark.parametrize("how", ["refused for good", "not now, every time"])
def test_a_case_mail_that_cannot_be_fetched_is_held_and_the_mailbox_goes_on(stage, mail, how):
    message = stage.sent()
    arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": message.message_id})
    good = arrive(stage, mail, "Re: Offer 4711 too", **{"In-Reply-To": message.message_id})
    errors = {"refused for good": [Rejected("Corrupt.")], "not now, every time": [Temporary("Bug.")] * 3}
    mail.fails["fetch"] = list(errors[how])
    for _ in range(5):
        try:
            stage.sync()
        except Temporary:
            stage.clock.advance(minutes=1)
    assert good in ids(stage)
    assert len(stage.reviews()) == 1


def test_a_throttled_mailbox_is_no_fault_of_the_mail_at_hand(stage, mail):
    message = stage.sent()
    good = arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": message.message_id})
    mail.fails["fetch"] = [RateLimited("Too often.", retry_after=30) for _ in range(4)]
    for _ in range(4):
        with pytest.raises(RateLimited):
            stage.sync()
        stage.clock.advance(minutes=1)
    stage.sync()
    assert good in ids(stage)
    assert stage.reviews() == []


def test_a_held_mail_from_the_future_stays_decided(stage, mail):
    stage.sent()
    mail.fails["fetch"] = [Rejected("Corrupt.")]
    arrive(stage, mail, "Re: Offer 4711", Date="Fri, 1 Jan 2038 00:00:00 +0000", References=known_id(stage))
    stage.sync()
    [review] = stage.reviews()
    reviewing.decide(stage.app, stage.caller, stage.mailbox.id, review.id, "dismiss")
    stage.clock.advance(minutes=5)
    stage.forget()
    mail.fails["fetch"] = [Rejected("Corrupt.")]
    stage.sync()
    assert stage.reviews() == []


def test_a_linked_mail_whose_parent_cannot_be_had_is_linked_and_the_parent_is_held(stage, mail):
    parent = arrive(stage, mail, "Complaint", References="<unknown@x.example>")
    child = arrive(stage, mail, "Re: Complaint", References=parent)
    stage.sync()
    mail.fails["fetch"] = [None, Rejected("Corrupt.")]  # the child comes
    ref = str(len(mail.raws) - 1)
    message, others = reviewing.link(stage.app, stage.caller, "C-1", stage.mailbox.id, ref)
    assert (message.message_id, others) == (child, 0)
    assert [review.message_id for review in stage.reviews()] == [parent]
    assert reviewing.link(stage.app, stage.caller, "C-1", stage.mailbox.id, ref)[1] == 1  # it comes by now


def known_id(stage):
    return stage.timeline()[0].message_id


def test_a_bounce_whose_report_cannot_be_read_stops_its_mailbox_only_for_a_while(stage, mail):
    message = stage.sent()
    mail.arrive(
        b"From: mailer-daemon@x.example\r\nMessage-ID: <bounce@x.example>\r\n"
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b--\r\n"
    )
    good = arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": message.message_id})
    mail.fails["returned_headers"] = [Temporary("Bug.") for _ in range(20)]
    for _ in range(5):
        with suppress(Temporary):
            stage.sync()
        stage.clock.advance(minutes=1)
    assert good in ids(stage)


class Choosy:
    """A store that can never take one mail, whatever the reason: what `commit` says about it is a bug."""

    def __init__(self, records, subject):
        self.records, self.subject = records, subject

    def __getattr__(self, name):
        return getattr(self.records, name)

    def commit(self, org_id, *writes):
        if any(isinstance(w.record, Message) and w.record.subject == self.subject for w in writes):
            raise ValueError("A message record is too large for a table.")
        return self.records.commit(org_id, *writes)


def test_a_case_mail_that_can_never_be_stored_is_held_and_the_mailbox_goes_on(stage, mail):
    message = stage.sent()
    arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": message.message_id})
    good = arrive(stage, mail, "Re: Offer 4711 too", **{"In-Reply-To": message.message_id})
    app = replace(stage.app, records=Choosy(stage.app.records, "Re: Offer 4711"))
    for _ in range(3):
        with pytest.raises(ValueError):
            stage.sync(app=app)
    stage.sync(app=app)
    assert good in ids(stage)
    assert [review.subject for review in stage.reviews()] == ["Re: Offer 4711"]


def test_a_bug_in_a_look_leaves_the_lease_free_and_a_word_at_the_mailbox(stage, mail):
    mail.fails["pages"] = [ValueError("a bug"), ValueError("a bug")]
    for _ in range(2):
        with pytest.raises(ValueError):
            stage.sync()
    state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
    assert state.holder == ""
    assert state.problem.code == "internal"
    stage.sync()


def test_a_failed_look_that_somebody_waits_for_gives_its_lease_back(stage, mail):
    original = mail.pages

    def asked_meanwhile(cursor, since):
        with pytest.raises(Busy):
            Lease.take(stage.app, stage.org_id, stage.mailbox.id, ["<late@x.example>"])
        raise Temporary("Away.")

    mail.pages = asked_meanwhile
    with pytest.raises(Temporary):
        stage.sync()
    state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
    assert state.holder == ""
    assert state.look == ("<late@x.example>",)
    mail.pages = original
    stage.sync()
    assert stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value.look == ()


def test_a_late_id_is_looked_for_although_the_worker_died_right_after_learning_it(stage, mail):
    from tests.doors import Crash
    from tests.fakes import renamed

    mail.files = False
    message = stage.sent()
    early = arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": "<late@provider.example>"})
    stage.sync()
    mail.arrive(renamed(stage.raw(message), "<late@provider.example>"), is_sent=True)
    k = 0
    while early not in ids(stage):
        k += 1
        guard = Guard(fail_at=k)
        try:
            stage.sync(app=guarded(stage.app, guard))
        except Crash:
            stage.clock.advance(minutes=10)
        assert k < 60
    assert k > 3


@pytest.fixture
def held(scene):
    """A stranger's mail under the supplier's own Message-ID, held for Alice."""
    scene.sent()
    answer = scene.supplier.reply(scene.supplier.inbox()[0], "The real one")
    scene.sync()
    stranger = someone(scene.world, "stranger", "supplier.example")
    stranger.send(
        scene.alice.address,
        "Re: Offer 4711",
        "The other one",
        **{"Message-ID": answer["Message-ID"], "In-Reply-To": answer["Message-ID"]},
    )
    scene.sync()
    [review] = scene.reviews()
    return review


def test_a_confirmed_mail_that_reuses_a_message_id_is_filed_itself(scene, held):
    filed = reviewing.decide(scene.app, scene.caller, scene.mailbox.id, held.id, "file")
    assert "The other one" in filed.text
    assert filed.new_participant
    assert "confirmed by the mailbox's owner" in filed.evidence.notes
    assert [message.text.strip() for message in scene.timeline()[1:]] == ["The real one", "The other one"]
    assert scene.app.records.get(scene.org_id, DecidedReview, held.key).value.decision == "filed"


def test_a_held_mail_that_was_deleted_is_not_taken_for_another_one_under_its_message_id(scene, held):
    with imap(scene.world, scene.alice.address) as client:
        client.select_folder("INBOX")
        client.delete_messages(client.search(["TEXT", "The other one"]))
        client.expunge()
    with pytest.raises(NotFound):
        reviewing.decide(scene.app, scene.caller, scene.mailbox.id, held.id, "file")
    assert scene.reviews() == [held]
    assert len(scene.timeline()) == 2


def test_a_held_mail_that_was_moved_is_found_among_others_under_its_message_id(scene, held):
    scene.alice.move_all("Later")
    filed = reviewing.decide(scene.app, scene.caller, scene.mailbox.id, held.id, "file")
    assert filed.text.strip() == "The other one"


def test_a_confirmed_mail_stands_where_it_arrived_whatever_its_date_says(scene):
    review = scene.held(Date="Mon, 01 Jan 2001 00:00:00 +0000")
    filed = reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    assert datetime.now(UTC) - filed.received_at < timedelta(minutes=5)
    assert filed.deliveries[0].folder == "INBOX"


def test_two_workers_while_the_copy_is_being_filed_file_one(stage, mail):
    mail.files = False
    started, go_on = threading.Event(), threading.Event()
    original = mail.keep_sent

    def slow(raw, sent_at):
        started.set()
        go_on.wait(10)
        return original(raw, sent_at)

    mail.keep_sent = slow
    message = stage.send()
    first = threading.Thread(target=stage.deliver, args=(message,))
    first.start()
    started.wait(10)
    stage.deliver(message)
    go_on.set()
    first.join()
    assert len(mail.raws) == 1


def test_two_workers_after_the_one_that_sent_it_died_file_one_copy(stage, mail):
    """Both find it `sent`, its time over and no copy in Sent."""
    mail.files = False
    mail.fails["keep_sent"] = [Temporary("Away.")]
    message = stage.sent()
    stage.clock.advance(minutes=20)
    both = threading.Barrier(2)
    original = mail.find_sent

    def at_the_same_moment(message_id):
        found = original(message_id)
        with suppress(threading.BrokenBarrierError):
            both.wait(3)
        return found

    mail.find_sent = at_the_same_moment
    raced = together(2, lambda: stage.deliver(message))
    assert raced == []
    assert len(mail.raws) == 1
    stage.work()
    later(stage, minutes=20)
    assert len(mail.raws) == 1
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def test_two_workers_whose_clocks_agree_to_the_microsecond_do_not_both_win(stage):
    message = stage.send()
    now = stage.clock()
    app = replace(stage.app, clock=lambda: now)
    stored = app.records.get(stage.org_id, Message, message.key)
    first, second = Promised(app, stage.org_id, stored), Promised(app, stage.org_id, stored)
    first.begin({})
    with pytest.raises(Raced):
        second.begin({})
    assert first.ours(first.message.value)
    assert not second.ours(first.message.value)


@pytest.mark.parametrize("error", [InvalidRequest("Expired certificate."), Rejected("No.")])
def test_a_look_that_can_never_succeed_ends_as_uncertain_after_a_day(stage, mail, error):
    mail.fails["lost"] = [OutcomeUnknown("Broken.")]
    mail.fails["find_sent"] = [error for _ in range(60)]
    message = stage.sent()
    assert message.state == "sending"
    later(stage, hours=25)
    assert stage.email(message.id).state == "uncertain"


def test_the_owners_own_answer_is_outgoing_whoevers_copy_was_seen_first(scene):
    import email.policy

    ours = scene.sent().message_id
    answer = scene.supplier.reply(scene.supplier.inbox()[0])["Message-ID"]
    scene.sync()
    carol, carols = scene.colleague()
    own = write(
        scene.alice.address,
        scene.supplier.address,
        "Re: Offer 4711",
        "Thanks",
        Cc=carol.address,
        In_Reply_To=answer,
        References=f"{ours} {answer}",
    )
    raw = own.as_bytes(policy=email.policy.SMTP)
    scene.alice.submit(raw, [carol.address, scene.supplier.address])
    with imap(scene.world, scene.alice.address) as client:
        client.append("Sent", raw)
    scene.sync(carols)
    assert scene.timeline()[2].direction == "in"
    scene.sync()
    answer = scene.timeline()[2]
    assert (answer.direction, answer.state, answer.mailbox_id) == ("out", "sent", scene.mailbox.id)


def test_reconnecting_sends_what_waited_at_once(stage, mail):
    mail.fails["before"] = [ConsentRequired("Signed out.", fix="Sign in.")]
    message = stage.sent()
    assert message.state == "queued"
    connecting.change(stage.app, stage.caller, stage.mailbox.id, PatchMailbox(secret={"password": "new"}))
    stage.work()
    assert stage.email(message.id).state == "sent"


def test_the_sweep_sees_more_than_one_page(scene):
    far = scene.clock() + timedelta(days=1)
    items = [OutboxItem(f"{n:013d}-0123456789ab", "c" * 16, "m", far) for n in range(1050)]
    for start in range(0, len(items), 100):
        batch = [Save(item) for item in items[start : start + 100]]
        scene.app.records.commit(scene.org_id, *batch)
    assert len(list(scheduling.outbox(scene.app, scene.org_id))) == 1050


def test_a_repeated_request_leaves_no_bytes_behind(scene, watched, guard):
    first = scene.send(app=watched, key="one")
    again = scene.send(app=watched, key="one")
    assert again == first
    assert guard.count("blobs.put") - guard.count("blobs.remove") <= 1
    assert scene.raw(first)


def test_a_long_body_comes_back_whole_from_a_repeat_and_a_move(scene):
    long = "Zeile\n" * 9000
    scene.send(key="one", text=long)
    again = scene.send(key="one", text=long)
    assert again.text.strip() == long.strip()
    casework.put_case(scene.app, caller(scene.org_id, "", "platform"), "C-2", "Two", [scene.alice.address])
    assert casework.move(scene.app, scene.caller, "C-1", again.id, "C-2").text.strip() == long.strip()


def test_a_long_conversation_in_another_alphabet_is_moved_whole(scene):
    """Forty mails of 29,000 letters are 7 MB on the wire; a transaction takes 4 MiB."""
    first = scene.sent()
    for n in range(2):
        copies = [replace(first, id=f"{n * 20 + m:013d}-0123456789ab", text="Ж" * 29_000) for m in range(20)]
        scene.app.records.commit(scene.org_id, *(Save(copy) for copy in copies))
    casework.put_case(scene.app, caller(scene.org_id, "", "platform"), "C-2", "Two", [scene.alice.address])
    casework.move(scene.app, scene.caller, "C-1", first.id, "C-2")
    assert (len(scene.timeline("C-2")), scene.timeline("C-1")) == (41, [])


def test_an_answer_to_a_mail_without_a_message_id_invents_none(scene):
    from email import message_from_bytes

    scene.sent()
    ours = message_from_bytes(scene.supplier.inbox()[0])["Message-ID"]
    raw = f"From: {scene.supplier.address}\r\nSubject: Re: Offer\r\nIn-Reply-To: {ours}\r\n\r\nNo id.\r\n"
    scene.alice.receive(raw.encode())
    scene.sync()
    reply = scene.timeline()[1]
    assert reply.message_id is None
    scene.sent(in_reply_to=reply.id, to=[Person(address=scene.supplier.address)])
    answer = message_from_bytes(scene.supplier.inbox()[1])
    assert answer["In-Reply-To"] is None
    assert "synthetic" not in str(answer["References"])
    assert ours in answer["References"]


def test_who_asked_for_a_look_is_in_the_audit(scene):
    from shared import looking

    looking.soon(scene.app, scene.caller, scene.mailbox.id)
    scene.work()
    told = [(row.value.event, row.value.actor) for row in scene.app.records.range(scene.org_id, AuditRecord)]
    assert ("mailbox.sync_requested", scene.alice.address) in told
    assert ("mailbox.read", scene.alice.address) in told


def test_a_chain_planned_before_a_slow_commit_is_not_cut(scene):
    planned = replace(scene.mailbox, schedule="slow")
    scheduling.plan_polls(scene.app, scene.org_id, planned)
    scene.clock.advance(seconds=90)
    scheduling.tick(scene.app)
    scene.work()
    entries = [entry.token for entry in scene.app.schedule.until(scene.clock() + timedelta(days=1))]
    assert "slow" in entries


@pytest.mark.long
def test_storage_stopped_and_started_in_the_middle_loses_and_doubles_nothing(tmp_path, monkeypatch):
    """Azurite goes away between two writes of a filing, and of a delivery, and comes back with its data."""
    with World(tmp_path, persistent=True) as world:
        for name, value in world.environment().items():
            monkeypatch.setenv(name, value)
        clock = Clock()
        scene = build(world, bootstrap.build(load(world.environment()), clock), clock)
        scene.sent()
        scene.sync()
        answer = scene.supplier.reply(scene.supplier.inbox()[0])
        guard = Guard(how="lost", error=lambda _: gone(world))
        app = guarded(scene.app, guard)
        guard.fail_at = 9
        with pytest.raises(Temporary):
            scene.sync(app=app)
        world.azurite.start()
        clock.advance(minutes=10)
        scene.sync()
        assert [message.message_id for message in scene.timeline()].count(answer["Message-ID"]) == 1
        assert len(scene.timeline()) == 2
        promised = scene.send()
        list(scene.waiting())
        written = Guard(how="lost", error=lambda _: gone(world), only=r"records\.commit", fail_at=2)
        with pytest.raises(Temporary):
            scene.deliver(promised, app=guarded(scene.app, written))
        assert written.calls == ["records.commit"] * (
            1 + TRIES
        )  # it left, and that is tried again; no copy was filed
        world.azurite.start()
        assert len(scene.alice.inbox("Sent")) == 1
        clock.advance(minutes=20)
        scene.deliver(promised)
        assert scene.email(promised.id).state == "sent"
        assert (len(scene.supplier.inbox()), len(scene.alice.inbox("Sent"))) == (2, 2)


def gone(world):
    world.azurite.stop()
    return Temporary("The store went away.")


def test_a_fake_mailbox_shows_what_left(stage, mail):
    assert isinstance(mail, FakeMail)
    stage.sent()
    assert len(mail.left) == 1
