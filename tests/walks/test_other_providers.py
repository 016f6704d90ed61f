"""What the core does with powers that IMAP and SMTP lack: thread hints, own copies, other Message-IDs."""

import re
import time
from datetime import timedelta
from email.policy import SMTP
from email.utils import format_datetime

import pytest

from shared import connecting, disconnecting, integrating, late_looks, leasing, scheduling, syncing
from shared.contract import ConnectMailbox, PutIntegration
from shared.errors import (
    Busy,
    Conflict,
    ConsentRequired,
    InvalidRequest,
    OutcomeUnknown,
    Raced,
    Rejected,
    Temporary,
    Withheld,
)
from shared.leasing import Lease
from shared.model import AuditRecord, Mailbox, OutboxItem, SyncState
from tests.doors import Guard, guarded
from tests.fakes import FakeMail, renamed, with_fake
from tests.scenes import Scene, build, caller, connect, someone, write


@pytest.fixture
def mail():
    return FakeMail()


@pytest.fixture
def stage(world, app, clock, mail) -> Scene:
    """A scene whose mailbox lives on the fake mail system."""
    app = with_fake(app, mail)
    scene = build(world, app, clock)
    admin = caller(scene.org_id, "admin@imap.example", "admin")
    integrating.put(app, admin, "fake", PutIntegration(approved=True))
    disconnecting.disconnect(app, scene.caller, scene.mailbox.id)
    body = ConnectMailbox(
        address=scene.alice.address, receives_with="fake", sends_with="fake", secret={"password": "x"}
    )
    scene.mailbox = connecting.connect(app, scene.caller, body)
    scene.work()
    return scene


def answer(stage, subject, thread=None, sender=None, **headers):
    raw = write(sender or stage.supplier.address, stage.alice.address, subject, "x", **headers)
    return raw.as_bytes(policy=SMTP), raw["Message-ID"], thread


def arrive(stage, mail, *args, **kwargs):
    raw, message_id, thread = answer(stage, *args, **kwargs)
    mail.arrive(raw, thread)
    return message_id


def ids(stage):
    return [message.message_id for message in stage.timeline()]


def later(stage, **by):
    stage.clock.advance(**by)
    scheduling.tick(stage.app)
    stage.work()


def test_a_provider_that_files_its_own_copy_gets_no_second_one(stage, mail):
    message = stage.sent()
    assert message.state == "sent"
    stage.sync()
    assert len(mail.raws) == 1
    assert len(stage.timeline()) == 1
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def test_a_message_id_changed_by_the_provider_is_learnt_and_answers_to_it_are_found(stage, mail):
    mail.rename = lambda _: "<final@provider.example>"
    message = stage.sent()
    assert message.message_id == "<final@provider.example>"
    arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": "<final@provider.example>"})
    stage.sync()
    assert len(stage.timeline()) == 2
    reply = stage.sent(in_reply_to=message.id)
    assert reply.conversation_id == message.conversation_id
    assert b"In-Reply-To: <final@provider.example>" in mail.left[-1]


def test_an_answer_that_came_before_its_final_id_was_known_is_found_by_one_look(stage, mail):
    """The Sent copy tells the final id only after the answer, which quotes nothing else, was ignored."""
    mail.files = False
    message = stage.sent()
    early = arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": "<late@provider.example>"})
    assert stage.sync()["ignore"] == 1
    mail.arrive(renamed(stage.raw(message), "<late@provider.example>"), is_sent=True)
    counts = stage.sync()
    assert counts["learnt"] == 1
    assert counts["file"] == 1
    assert early in ids(stage)


@pytest.mark.parametrize("told", [True, False], ids=["told", "found in Sent"])
def test_a_copy_with_another_message_id_and_date_is_known_however_often_it_is_seen(stage, mail, told):
    """As Exchange submits it; the provider tells the new id, or it is learnt from the copy alone."""
    mail.files = False
    mail.rename = lambda _: "<final@provider.example>" if told else None
    message = stage.sent()
    later_date = format_datetime(message.sent_at + timedelta(seconds=3)).encode()
    copy = re.sub(rb"(?m)^Date: [^\r]*", b"Date: " + later_date, mail.raws.pop()[0])
    mail.arrive(renamed(copy, "<final@provider.example>"), is_sent=True)
    for _ in range(3):
        stage.sync()
        stage.forget()
    assert ids(stage) == ["<final@provider.example>" if told else message.message_id]
    early = arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": "<final@provider.example>"})
    stage.sync()
    assert early in ids(stage)


@pytest.mark.parametrize(
    ("subject", "known", "outcome"),
    [
        ("Re: Offer 4711", True, "file"),
        ("Other", True, "file"),
        ("Re: Offer 4711", False, "review"),
        ("Other", False, "ignore"),
    ],
)
def test_a_thread_hint_alone_files_nothing(stage, mail, subject, known, outcome):
    stage.sent()
    stage.sync()
    sender = stage.supplier.address if known else "stranger@elsewhere.example"
    headers = {"In-Reply-To": "<lost@supplier.example>"}
    arrive(stage, mail, subject, thread="T-sent", sender=sender, **headers)
    assert stage.sync()[outcome] == 1


def test_what_broke_and_lies_in_sent_was_sent(stage, mail):
    mail.fails["after"] = [OutcomeUnknown("Broken.")]
    message = stage.sent()
    assert message.state == "sent"
    assert len(mail.left) == 1


def test_what_broke_and_is_not_in_sent_is_looked_for_once_more_and_then_uncertain(stage, mail):
    mail.fails["lost"] = [OutcomeUnknown("Broken.")]
    message = stage.sent()
    assert message.state == "sending"
    later(stage, minutes=4)
    assert stage.email(message.id).state == "uncertain"
    later(stage, hours=3)
    assert mail.left == []


def test_while_nobody_can_look_it_stays_open_and_after_a_day_it_is_uncertain(stage, mail):
    mail.fails["lost"] = [OutcomeUnknown("Broken.")]
    mail.fails["find_sent"] = [Temporary("Away.") for _ in range(50)]
    message = stage.sent()
    assert message.state == "sending"
    later(stage, hours=2)
    assert stage.email(message.id).state == "sending"
    later(stage, hours=25)
    assert stage.email(message.id).state == "uncertain"


def test_a_copy_whose_filing_was_answered_too_late_is_not_filed_twice_under_another_id(stage, mail):
    """The server gave the mail an id of its own (SES does); our copy has the one we had planned."""
    mail.files = False
    mail.rename = lambda _: "<0100-abc@email.example>"
    mail.late["keep_sent"] = [Temporary("The answer was lost.")]
    message = stage.sent()
    later(stage, minutes=20)
    assert stage.email(message.id).state == "sent"
    assert len(mail.raws) == 1
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def test_a_bounce_that_comes_before_the_copy_is_filed_keeps_nobody_from_filing_it(stage, mail):
    mail.files = False
    mail.fails["keep_sent"] = [Temporary("Away.")]
    message = stage.sent()
    mail.arrive(bounce(stage, message))
    stage.sync()
    assert stage.email(message.id).state == "failed"
    later(stage, minutes=20)
    assert [sent for _, _, sent in mail.raws] == [False, True]
    assert stage.email(message.id).state == "failed"
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def bounce(stage, message):
    lines = [
        "From: MAILER-DAEMON@imap.example",
        f"To: {stage.alice.address}",
        "Subject: Undeliverable",
        "Message-ID: <bounce@daemon.example>",
        f"In-Reply-To: {message.message_id}",
        "MIME-Version: 1.0",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
        "",
        "--b",
        "Content-Type: text/plain",
        "",
        "Failed.",
        "--b",
        "Content-Type: message/delivery-status",
        "",
        "Reporting-MTA: dns; mx.imap.example",
        "",
        f"Final-Recipient: rfc822; {stage.supplier.address}",
        "Action: failed",
        "Status: 5.1.1",
        "",
        "--b--",
        "",
    ]
    return "\r\n".join(lines).encode()


class QueuesAway(Guard):
    def around(self, name, call):
        if name == "queues.put":
            raise Temporary("Away.")
        return call()


def test_a_lost_order_to_look_for_answers_is_given_again_and_keeps_no_mail_from_being_sent(stage, mail):
    """They quote an id that nobody had planned, and came before it was known."""
    mail.rename = lambda _: "<0100-abc@email.example>"
    promised = stage.send()
    list(stage.waiting())
    early = arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": "<0100-abc@email.example>"})
    assert stage.sync()["ignore"] == 1
    stage.deliver(promised, app=guarded(stage.app, QueuesAway()))
    assert stage.email(promised.id).state == "sent"
    later(stage, minutes=20)
    deadline = time.monotonic() + 20
    while early not in ids(stage):
        assert time.monotonic() < deadline
        stage.work()  # the order is delivered after a moment
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def test_a_copy_that_cannot_be_filed_is_tried_again_and_never_fails_the_message(stage, mail):
    mail.files = False
    mail.fails["keep_sent"] = [Temporary("Away.")]
    message = stage.sent()
    assert message.state == "sent"
    assert mail.raws == []
    later(stage, minutes=20)
    assert len(mail.raws) == 1
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


@pytest.mark.parametrize("error", [Rejected("Full."), InvalidRequest("No such folder.")])
def test_a_copy_that_is_refused_for_good_is_audited_and_left(stage, mail, error):
    mail.files = False
    mail.fails["keep_sent"] = [error]
    assert stage.sent().state == "sent"
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


@pytest.mark.parametrize("error", [Temporary("Away."), Conflict("Its secret is missing.")])
def test_a_copy_that_could_not_be_filed_for_a_day_is_given_up(stage, mail, error):
    mail.files = False
    mail.fails["keep_sent"] = [error] * 5
    stage.sent()
    later(stage, hours=26)
    later(stage, minutes=10)
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Rejected("No."), "failed"),
        (InvalidRequest("Certificate.", field="host"), "queued"),
        (Conflict("The secret of the app registration is missing."), "queued"),
        (ConsentRequired("Signed out.", fix="Sign in."), "queued"),
        (Temporary("Busy.", retry_after=3600), "queued"),
    ],
)
def test_each_refusal_before_the_hand_over_has_its_state(stage, mail, error, state):
    mail.fails["before"] = [error]
    message = stage.sent()
    assert message.state == state
    assert message.error.detail
    if isinstance(error, ConsentRequired):
        assert stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value.state == "needs_consent"


def test_a_refusal_after_the_hand_over_began_is_certain_too(stage, mail):
    mail.fails["lost"] = [Rejected("Content refused.")]
    assert stage.sent().state == "failed"


def test_a_cursor_that_expires_twice_is_tried_later_not_for_ever(stage, mail):
    from dataclasses import replace

    from shared.errors import CursorExpired
    from shared.storage.base import Save

    mail.fails["pages"] = [CursorExpired("Old."), CursorExpired("Old.")]
    with pytest.raises(Temporary):
        stage.sync()
    state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
    assert state.problem
    assert state.holder == ""
    stage.app.records.commit(stage.org_id, Save(replace(state, cursor="99")))
    stage.sync()


def test_a_lost_lease_cannot_move_the_cursor(stage, mail):
    from dataclasses import replace

    from shared.leasing import Lease
    from shared.storage.base import Save

    lease = Lease.take(stage.app, stage.org_id, stage.mailbox.id)
    assert lease
    taken = replace(lease.held.value, holder="somebody else")
    stage.app.records.commit(stage.org_id, Save(taken))
    with pytest.raises(Raced):
        lease.save(cursor="1")
    assert stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value == taken


def test_a_lease_asked_for_again_looks_again(stage, mail):
    from shared.leasing import Lease

    lease = Lease.take(stage.app, stage.org_id, stage.mailbox.id)
    assert lease
    with pytest.raises(Busy):
        Lease.take(stage.app, stage.org_id, stage.mailbox.id)
    assert Lease.take(stage.app, stage.org_id, stage.mailbox.id) is None
    assert lease.release() is False
    assert lease.release() is True


def test_a_long_page_keeps_its_lease(stage, mail):
    for number in range(3):
        arrive(stage, mail, f"News {number}")
    original = mail._envelope

    def slow(number):
        stage.clock.ahead += timedelta(minutes=2)
        return original(number)

    mail._envelope = slow
    stage.sync()
    assert stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value.cursor == "3"


def test_a_case_mail_that_vanished_is_shown_to_its_owner(stage, mail):
    from shared import reviewing
    from shared.errors import NotFound

    message = stage.sent()
    arrive(stage, mail, "Re: Offer 4711", **{"In-Reply-To": message.message_id})
    mail.fails["fetch"] = [NotFound("Gone."), NotFound("Gone.")]
    assert stage.sync()["lost"] == 1
    [review] = stage.reviews()
    assert "deleted" in review.reason
    filed = reviewing.decide(stage.app, stage.caller, stage.mailbox.id, review.id, "file")
    assert filed
    assert len(stage.timeline()) == 2


def test_twenty_mailboxes_filing_into_one_conversation_take_turns(stage, mail):
    import threading

    message = stage.sent()
    stage.sync()
    people = [someone(stage.world, f"user{n}", stage.alice.address.rpartition("@")[2]) for n in range(4)]
    boxes = [(person, connect(stage.world, stage.app, stage.org_id, person)) for person in people]
    for person, _ in boxes:
        for number in range(5):
            raw, _, _ = answer(
                stage, f"Re: Offer {number} {person.address}", **{"In-Reply-To": message.message_id}
            )
            person.receive(raw)
    errors = []

    def run(box):
        try:
            stage.sync(box)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(box,)) for _, box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(stage.timeline()) == 21


def test_mail_that_the_server_shows_to_no_look_is_on_record(stage, mail):
    mail.unreadable = 2
    stage.sync()
    [given_up] = [
        row.value
        for row in stage.app.records.range(stage.org_id, AuditRecord)
        if row.value.event == "mailbox.mail_given_up"
    ]
    assert (given_up.mailbox_id, given_up.counts) == (stage.mailbox.id, {"unreadable": 2})
    assert "own mail program" in given_up.detail


def test_mail_that_is_kept_back_counts_once_however_often_the_look_is_repeated(stage, mail):
    def meanwhile():
        with pytest.raises(Busy):
            Lease.take(stage.app, stage.org_id, stage.mailbox.id)

    mail.refused, mail.empty, mail.meanwhile = 2, 1, meanwhile
    stage.sync()
    assert mail.empty == 0
    state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
    assert "2 of the mails" in state.problem.detail


def test_what_a_look_was_refused_is_known_also_where_it_breaks_off(stage, mail):
    for subject in ("One", "Two"):
        arrive(stage, mail, subject)
    mail.refused, mail.fails["later pages"] = 2, [Temporary("Too many.")]
    with pytest.raises(Temporary):
        stage.sync()
    assert stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value.cursor == "2"


def test_what_a_provider_keeps_from_a_late_look_is_looked_for_again_and_in_the_end_given_up(stage, mail):
    """For days, and in several looks; the mailbox and the others it looks for go on meanwhile."""

    def look(*wanted):
        mail.fails["look"] = [Withheld(["<kept@back>"], 2)]
        counts = syncing.sync(stage.app, stage.org_id, stage.mailbox.id, look=wanted)
        mail.fails.clear()
        state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
        assert counts == {}
        return state.look, state.problem and state.problem.code, given_up(stage)

    kept = (("<kept@back>",), "mail_refused", [])
    assert look("<kept@back>", "<other@x>") == kept
    stage.clock.advance(days=3)  # as if paused
    for _ in range(late_looks.WITHHELD_LOOKS - 1):
        assert look() == kept
    assert look() == ((), None, [{"unreadable": 2}])
    state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
    assert state.withheld == {}


def given_up(stage):
    rows = [row.value for row in stage.app.records.range(stage.org_id, AuditRecord)]
    return [row.counts for row in rows if row.event == "mailbox.mail_given_up"]


def test_a_look_through_much_that_is_old_holds_its_lease(stage, mail):
    def meanwhile():
        state = stage.app.records.get(stage.org_id, SyncState, stage.mailbox.id).value
        assert state.until > stage.clock() + leasing.LEASE / 2
        stage.clock.advance(seconds=40)

    mail.empty, mail.meanwhile = 30, meanwhile
    while mail.empty:
        left = mail.empty
        stage.sync()
        assert left - mail.empty < 10


TRACE = "from mx.supplier.example by mx.imap.example; Tue, 24 Nov 2026 08:00:00 +0000"


def test_a_received_mail_that_is_dragged_to_sent_stays_received(stage, mail):
    message = stage.sent()
    headers = {"In-Reply-To": message.message_id, "Received": TRACE}
    raw, *_ = answer(stage, "Re: Offer 4711", **headers)
    forged, *_ = answer(
        stage, "Re: Offer 4711", **headers, **{"Authentication-Results": "mx.imap.example; dmarc=fail"}
    )
    mail.arrive(raw)
    stage.sync()
    before = stage.timeline()[-1]
    mail.arrive(raw, is_sent=True)
    mail.arrive(forged, is_sent=True)
    assert stage.sync()["review"] == 1
    assert stage.timeline()[-1] == before
    assert (before.direction, before.state) == ("in", "received")


def test_a_mail_sent_from_an_alias_is_filed_as_sent(stage, mail):
    message = stage.sent()
    raw = write("sales@imap.example", stage.supplier.address, "Re: Offer 4711", "x")
    raw["In-Reply-To"] = message.message_id
    mail.arrive(raw.as_bytes(policy=SMTP), is_sent=True)
    stage.sync()
    assert (stage.timeline()[-1].direction, stage.timeline()[-1].state) == ("out", "sent")
