"""Drafts of a case in their owner's own Gmail: put there, changed there, sent there or from the case."""

import base64
import re

import pytest

from sandbox.mail import replaced
from shared import casework, disconnecting, drafting, drafts, keeping, scheduling
from shared.contract import NewAttachment, Person, SendEmail
from shared.errors import Conflict, InvalidRequest, NotAllowed, NotFound, Temporary, Unsupported
from shared.model import AuditRecord, Conversation, Mailbox, OutboxItem
from shared.rules import AgainstRules
from tests.doors import Acting, Guard, guarded
from tests.google import approve, build, connect
from tests.scenes import caller, parsed
from tests.walks.test_crashes import attempt, failing, keep_promises, settle
from tests.walks.test_privacy_and_budgets import storage

BOSS = "boss"
KEY = "one-key"


@pytest.fixture
def stage(world, app, clock):
    scene = build(world, app, clock, drafts=True)
    scene.settle()
    return scene


def body(stage, **changes):
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


def test_a_draft_lies_in_gmail_and_is_in_the_case_once_it_was_changed_and_sent_there(stage, world):
    boss = stage.person("boss").address
    asked = body(stage, bcc=[Person(address=boss)])
    _, receipt = drafting.put(stage.app, stage.caller, "C-1", asked)
    [draft] = stage.alice.box.listed("drafts")
    assert receipt.ref
    assert f"Bcc: {boss}".encode() in draft.raw
    stage.settle()
    assert stage.timeline() == []
    world.google.send_draft_as_user(stage.alice.address, draft, draft.raw.replace(b"Please", b"Kindly"))
    stage.settle()
    [sent] = stage.timeline()
    assert (sent.direction, sent.origin, sent.text.strip()) == ("out", "mailbox", "Kindly send it.")
    stage.supplier.reply(stage.supplier.inbox()[0])
    stage.settle()
    assert [message.direction for message in stage.timeline()] == ["out", "in"]


@pytest.mark.parametrize("answers", [False, True])
def test_a_draft_that_lost_its_headers_when_it_was_changed_is_in_the_case(stage, world, answers):
    if answers:
        stage.sent()
        stage.supplier.reply(stage.supplier.inbox()[0])
        stage.settle()
    told = {"in_reply_to": stage.timeline()[-1].id, "subject": "Re: Offer 4711"} if answers else {}
    before = len(stage.timeline())
    drafting.put(stage.app, stage.caller, "C-1", body(stage, **told))
    [draft] = stage.alice.box.listed("drafts")
    world.google.faults.recomposed = True
    world.google.send_draft_as_user(stage.alice.address, draft, draft.raw.replace(b"Please", b"Kindly"))
    stage.settle()
    [sent] = stage.timeline()[before:]
    assert (sent.direction, sent.text.strip()) == ("out", "Kindly send it.")


def test_a_draft_that_gmail_does_not_send_fails_alone(stage, world):
    kept, _ = drafting.put(stage.app, stage.caller, "C-1", body(stage))
    message = drafting.send(stage.app, stage.caller, "C-1", kept.id, KEY)
    world.google.faults.bad_sends, world.google.faults.bad_status = 1, 403
    stage.work()
    assert stage.email(message.id).state == "failed"
    assert "Forbidden" in stage.email(message.id).error.detail
    assert stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value.state == "active"


def test_a_draft_stands_in_the_thread_of_what_it_answers(stage):
    stage.sent()
    stage.supplier.reply(stage.supplier.inbox()[0])
    stage.settle()
    answered = stage.timeline()[-1]
    asked = body(stage, in_reply_to=answered.id, subject="Re: Offer 4711")
    _, receipt = drafting.put(stage.app, stage.caller, "C-1", asked)
    assert receipt.thread in {item.thread for item in stage.alice.box.listed("inbox")}


def test_where_it_may_not_it_says_so_and_leaves_nothing(world, app, clock):
    stage = build(world, app, clock)
    before = stage.app.records.range(stage.org_id, Conversation)
    with pytest.raises(Unsupported) as caught:
        drafting.put(stage.app, stage.caller, "C-1", body(stage))
    assert "IT" in caught.value.fix
    assert stage.app.records.range(stage.org_id, Conversation) == before


def test_a_mailbox_from_before_drafts_has_them_once_it_did_what_it_was_told(world, app, clock):
    stage = build(world, app, clock)
    approve(app, stage.org_id, drafts=True)
    with pytest.raises(Unsupported) as caught:
        drafting.put(stage.app, stage.caller, "C-1", body(stage))
    assert "disconnect the mailbox, then connect it again" in caught.value.fix
    disconnecting.disconnect(stage.app, stage.caller, stage.mailbox.id)
    connect(world, stage.app, stage.org_id, stage.alice)
    drafting.put(stage.app, stage.caller, "C-1", body(stage))
    assert len(stage.alice.box.listed("drafts")) == 1


def test_a_system_without_drafts_says_so(scene):
    with pytest.raises(Unsupported):
        drafting.put(scene.app, scene.caller, "C-1", body(scene))


def drafted(stage, **changes):
    """Put a draft into Alice's Gmail; returns what the case calls it, and the draft as it lies there."""
    message, _ = drafting.put(stage.app, stage.caller, "C-1", body(stage, **changes))
    return message.id, stage.alice.box.listed("drafts")[-1]


def changed(stage, draft, *pairs):
    raw = draft.raw
    for old, new in pairs:
        assert old in raw
        raw = raw.replace(old, new)
    return stage.world.google.change_draft_as_user(stage.alice.address, draft, raw)


def with_headers(stage, draft, **headers):
    """Set headers of a draft in Gmail; returns the draft as it lies there then."""
    raw = draft.raw
    for name, value in headers.items():
        raw = replaced(raw, name, value)
    return stage.world.google.change_draft_as_user(stage.alice.address, draft, raw)


def send(stage, draft_id, key=KEY, app=None, case_id="C-1"):
    return drafting.send(app or stage.app, stage.caller, case_id, draft_id, key)


def left(stage):
    """What has left Alice's mailbox for good, and what still lies in her drafts."""
    stage.settle()
    return len(stage.supplier.inbox()), len(stage.alice.inbox("Sent")), len(stage.alice.box.listed("drafts"))


INLINE = b"""Content-Type: multipart/related; boundary="b"\r
\r
--b\r
Content-Type: text/html; charset="utf-8"\r
\r
<p>See <img src="cid:plan@here"></p>\r
--b\r
Content-Type: image/png\r
Content-ID: <plan@here>\r
Content-Disposition: inline; filename="plan.png"\r
Content-Transfer-Encoding: base64\r
\r
iVBORw0KGgo=\r
--b--\r
"""


def test_a_draft_is_sent_from_the_case_as_its_owner_left_it(stage):
    boss = stage.person(BOSS).address
    draft_id, draft = drafted(stage, bcc=[Person(address=boss)])
    rewritten = re.sub(rb"(?s)Content-Type:.*", INLINE, draft.raw, count=1)
    for name in (b"Message-ID", b"References"):
        rewritten = re.sub(rb"%s: [^\r]*\r\n" % name, b"", rewritten)
    rewritten = rewritten.replace(b"Offer 4711", b"Offer 4711, once more")
    draft = stage.world.google.change_draft_as_user(stage.alice.address, draft, rewritten)
    promised = send(stage, draft_id)
    assert (promised.state, promised.subject) == ("queued", "Offer 4711, once more")
    assert left(stage) == (1, 1, 0)
    [message] = stage.timeline()
    assert (message.id, message.origin, message.state) == (promised.id, "case", "sent")
    assert message.envelope_to == (stage.supplier.address, boss)
    [there] = stage.supplier.inbox()
    assert b"Content-ID: <plan@here>" in there
    assert b"Bcc" not in there
    assert promised.message_id.encode() in there
    assert stage.alice.box.listed("sent")[0].thread != draft.thread  # a text of its own begins a thread
    stage.supplier.reply(there)
    stage.settle()
    assert [message.direction for message in stage.timeline()] == ["out", "in"]


def test_the_readers_of_a_draft_are_spelled_in_gmail_and_on_the_way_as_they_were_named(stage):
    shown, hidden = (one.address.replace("@", "+AbC9xQ@") for one in (stage.supplier, stage.person("hidden")))
    draft_id, draft = drafted(stage, to=[Person(address=shown)], bcc=[Person(address=hidden)])
    assert f"Bcc: {hidden}\r\n".encode() in draft.raw
    before = len(stage.world.post.transactions)
    send(stage, draft_id)
    assert left(stage) == (1, 1, 0)
    assert {to for one in stage.world.post.transactions[before:] for to in one.envelope_to} == {shown, hidden}
    assert f"To: {shown}\r\n".encode() in stage.supplier.inbox()[0]


def test_a_draft_that_answers_is_sent_as_an_answer(stage):
    stage.sent()
    answer = stage.supplier.reply(stage.supplier.inbox()[0])
    stage.settle()
    draft_id, _ = drafted(stage, in_reply_to=stage.timeline()[-1].id, subject="Re: Offer 4711")
    promised = send(stage, draft_id)
    assert left(stage) == (2, 2, 0)
    assert answer["Message-ID"] in promised.references
    assert len({message.conversation_id for message in stage.timeline()}) == 1
    assert stage.alice.box.listed("sent")[-1].thread == stage.alice.box.listed("inbox")[-1].thread


@pytest.mark.parametrize("rewritten", [False, True])
def test_an_answer_whose_subject_was_changed_leaves_gmails_thread_and_not_its_conversation(stage, rewritten):
    stage.sent()
    stage.supplier.reply(stage.supplier.inbox()[0])
    stage.settle()
    draft_id, draft = drafted(stage, in_reply_to=stage.timeline()[-1].id, subject="Re: Offer 4711")
    assert draft.thread == stage.alice.box.listed("inbox")[-1].thread
    changed(stage, draft, (b"Re: Offer 4711", b"Nails"))
    stage.world.google.faults.rewrite_message_id = rewritten
    send(stage, draft_id)
    assert left(stage) == (2, 2, 0)
    assert stage.alice.box.listed("sent")[-1].thread != draft.thread
    stage.supplier.reply(stage.supplier.inbox()[-1])
    stage.settle()
    assert [message.subject for message in stage.timeline()][2:] == ["Nails", "Re: Nails"]
    assert len({message.conversation_id for message in stage.timeline()}) == 1


def test_a_draft_for_hidden_readers_only_is_sent(stage):
    draft_id, draft = drafted(stage)
    changed(stage, draft, (b"\r\nTo: ", b"\r\nBcc: "))
    promised = send(stage, draft_id)
    assert left(stage) == (1, 1, 0)
    message = stage.email(promised.id)
    assert (message.state, message.envelope_to) == ("sent", (stage.supplier.address,))
    assert b"\nBcc:" not in stage.supplier.inbox()[0].partition(b"\r\n\r\n")[0]


def test_a_large_draft_is_sent_in_one_piece(stage):
    file = {"name": "plan.bin", "content_type": "application/octet-stream"}
    draft_id, _ = drafted(stage, attachments=[NewAttachment(**file, content_base64="QUJD" * 1_200_000)])
    send(stage, draft_id)
    assert left(stage) == (1, 1, 0)
    [message] = stage.timeline()
    assert [part.size for part in message.attachments] == [3_600_000]


def test_the_same_key_is_the_same_promise_also_once_the_draft_has_left(stage):
    draft_id, _ = drafted(stage)
    other_id, _ = drafted(stage)
    promised = send(stage, draft_id)
    assert send(stage, draft_id).id == promised.id
    assert left(stage) == (1, 1, 1)
    assert send(stage, draft_id).id == promised.id
    with pytest.raises(Conflict) as caught:
        send(stage, other_id)
    assert caught.value.field == "Idempotency-Key"
    assert left(stage) == (1, 1, 1)


def test_two_promises_of_one_draft_send_it_once(stage):
    draft_id, _ = drafted(stage)
    first, second = send(stage, draft_id, "one"), send(stage, draft_id, "two")
    assert left(stage) == (1, 1, 0)
    states = {stage.email(promised.id).state for promised in (first, second)}
    assert states == {"sent", "failed"}


@pytest.mark.parametrize("sent", [True, False])
def test_a_draft_that_its_owner_sent_or_threw_away_meanwhile_is_not_sent_again(stage, sent):
    draft_id, draft = drafted(stage)
    promised = send(stage, draft_id)
    if sent:
        stage.world.google.send_draft_as_user(stage.alice.address, draft, draft.raw)
    else:
        stage.alice.box.remove(draft)
    assert left(stage) == (int(sent), int(sent), 0)
    message = stage.email(promised.id)
    assert (message.state, message.error.code) == ("failed", "draft_gone")
    assert len(stage.timeline()) == 1 + sent
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def test_a_draft_that_was_changed_after_it_was_promised_does_not_leave_and_keeps_its_change(stage, world):
    draft_id, draft = drafted(stage)
    promised = send(stage, draft_id)
    world.google.faults.throttled[stage.alice.address] = 1
    stage.deliver(promised)
    changed(stage, draft, (b"Please send it.", b"Please do NOT send it."))
    stage.clock.advance(minutes=6)
    scheduling.tick(stage.app)
    assert left(stage) == (0, 0, 1)
    message = stage.email(promised.id)
    assert (message.state, message.error.code) == ("failed", "draft_changed")
    assert "send it again" in message.error.fix
    assert stage.app.records.range(stage.org_id, OutboxItem) == []
    send(stage, draft_id, "another-key")
    assert left(stage) == (1, 1, 0)
    assert b"do NOT send" in stage.supplier.inbox()[0]


FILE = NewAttachment(
    name="plan.bin", content_type="application/octet-stream", content_base64="QUJD" * 1_200_000
)


def delivered(stage, promised, act):
    """Deliver it; has something happen right after its hand-over has begun."""
    list(stage.waiting())

    def then(name, times):
        if (name, times) == ("records.commit", 1):
            act()

    stage.deliver(promised, app=guarded(stage.app, Acting(then=then)))
    return stage.email(promised.id)


@pytest.mark.parametrize("files", [[], [FILE]], ids=["small", "large"])
def test_a_draft_that_is_changed_while_it_is_handed_over_does_not_leave_and_keeps_its_change(stage, files):
    draft_id, draft = drafted(stage, attachments=files)
    promised = send(stage, draft_id)
    message = delivered(
        stage, promised, lambda: changed(stage, draft, (b"Please send it.", b"Please do NOT send it."))
    )
    assert (message.state, message.error.code) == ("failed", "draft_changed")
    assert left(stage) == (0, 0, 1)
    assert b"do NOT send" in stage.alice.box.listed("drafts")[0].raw
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def test_a_draft_that_gmail_does_not_show_right_before_it_leaves_certainly_did_not_leave(stage, world):
    draft_id, _ = drafted(stage)
    promised = send(stage, draft_id)
    message = delivered(stage, promised, lambda: setattr(world.google.faults, "storm", 1))
    assert world.google.faults.storm == 0
    assert (message.state, message.error.code) == ("queued", "temporary")
    stage.clock.advance(minutes=6)
    scheduling.tick(stage.app)
    assert left(stage) == (1, 1, 0)


def test_a_draft_that_is_no_more_promises_nothing(stage):
    draft_id, draft = drafted(stage)
    stage.alice.box.remove(draft)
    with pytest.raises(NotFound) as caught:
        send(stage, draft_id)
    assert (caught.value.field, "Sent" in caught.value.fix) == ("draftId", True)
    assert stage.timeline() == []


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b"To: {}", b"To: the supplier", "to"),
        (b"To: {}", b"Cc: x@y@, {}", "cc"),
        (b"To: {}", b"X-To: {}", "to"),
        (b"To: {}", b"To: " + b", ".join(b"a%d@x.example" % number for number in range(301)), "to"),
    ],
)
def test_a_draft_that_cannot_be_sent_names_the_header_and_stays(stage, old, new, field):
    draft_id, draft = drafted(stage)
    to = stage.supplier.address.encode()
    changed(stage, draft, (old.replace(b"{}", to), new.replace(b"{}", to)))
    with pytest.raises(InvalidRequest) as caught:
        send(stage, draft_id)
    assert caught.value.field == field
    assert left(stage) == (0, 0, 1)
    assert stage.timeline() == []


@pytest.mark.parametrize("sender", ["Sales <sales@{}>", "{own}, sales@{}", "nobody"])
def test_a_draft_that_is_from_another_address_is_not_sent_as_if_it_were_from_the_mailbox(stage, sender):
    draft_id, draft = drafted(stage)
    sender = sender.format(stage.domain, own=stage.alice.address)
    with_headers(stage, draft, From=sender)
    with pytest.raises(InvalidRequest) as caught:
        send(stage, draft_id)
    assert caught.value.field == "from"
    assert sender == "nobody" or "your own address" in caught.value.fix
    assert left(stage) == (0, 0, 1)
    assert stage.timeline() == []


BESIDE = {
    "Reply-To": '"Mueller, Eva" <eva@x.example>',
    "Disposition-Notification-To": "eva@x.example",
    "Importance": "high",
    "X-Priority": "1 (Highest)",
    "Priority": "urgent",
    "Sensitivity": "Company-Confidential",
}


def test_where_answers_go_and_how_urgent_a_draft_is_stays_as_its_owner_said(stage):
    draft_id, draft = drafted(stage)
    with_headers(stage, draft, From=f"Somebody <{stage.alice.address.upper()}>", **BESIDE)
    promised = send(stage, draft_id)
    assert left(stage) == (1, 1, 0)
    [there] = stage.supplier.inbox()
    arrived, shown = (
        parsed(there),
        parsed(keeping.bytes_of(stage.app, stage.org_id, stage.email(promised.id))),
    )
    assert {name: str(arrived[name]) for name in BESIDE} == BESIDE
    assert [str(arrived[name]) for name in ("From", *BESIDE)] == [
        str(shown[name]) for name in ("From", *BESIDE)
    ]
    assert promised.sender.address == stage.alice.address


@pytest.mark.parametrize(("name", "value"), [("Reply-To", "team"), ("Importance", "höchst")])
def test_what_cannot_be_kept_of_a_draft_is_named(stage, name, value):
    draft_id, draft = drafted(stage)
    with_headers(stage, draft, **{name: value})
    with pytest.raises(InvalidRequest) as caught:
        send(stage, draft_id)
    assert caught.value.field == name.lower()
    assert left(stage) == (0, 0, 1)


@pytest.mark.parametrize(
    ("rules", "header"),
    [
        ({"allowedRecipients": ["supplier.example"]}, "stranger@elsewhere.example"),
        ({"maxRecipients": 2}, "a@supplier.example, b@supplier.example, c@supplier.example"),
    ],
)
@pytest.mark.parametrize("side", ["To", "Cc", "Bcc"])
def test_a_draft_whose_recipients_break_the_rules_is_not_promised_and_stays(stage, rules, header, side):
    approve(stage.app, stage.org_id, drafts=True, **rules)
    draft_id, draft = drafted(stage)
    with_headers(stage, draft, **{side: header})
    with pytest.raises(AgainstRules) as caught:
        send(stage, draft_id)
    assert (caught.value.status, caught.value.code, bool(caught.value.fix)) == (422, "against_rules", True)
    assert left(stage) == (0, 0, 1)
    assert stage.timeline() == []
    assert stage.app.records.range(stage.org_id, OutboxItem) == []


def test_nobody_but_its_owner_from_its_own_case_sends_a_draft_and_nothing_is_read_for_others(stage):
    draft_id, _ = drafted(stage)
    casework.put_case(
        stage.app, caller(stage.org_id, "p@x.example", "platform"), "C-2", "Two", [stage.alice.address]
    )
    requests = len(stage.world.google.requests)
    with pytest.raises(NotFound):
        send(stage, draft_id, case_id="C-2")
    with pytest.raises(NotFound):
        send(stage, "1763943000123-0123456789ab")
    for stranger in (caller("org-other", stage.alice.address), caller(stage.org_id, "bob@gmail.example")):
        with pytest.raises((NotFound, NotAllowed)):
            drafting.send(stage.app, stranger, "C-1", draft_id, KEY)
    assert len(stage.world.google.requests) == requests
    assert left(stage) == (0, 0, 1)


def test_the_audit_says_what_became_of_each_draft_that_was_to_be_put(stage):
    broken = Guard(1, "error", lambda _: Temporary("The wire broke."), only=r"drafter\.put")
    with pytest.raises(Temporary):
        drafting.put(guarded(stage.app, broken), stage.caller, "C-1", body(stage))
    message, _ = drafting.put(stage.app, stage.caller, "C-1", body(stage))
    rows = [row.value for row in stage.app.records.range(stage.org_id, AuditRecord)]
    failed, done = [row for row in rows if row.event == "draft.put"]
    assert (failed.outcome, done.outcome) == ("temporary", "done")
    assert (done.actor, done.case_id, done.email_id) == (stage.alice.address, "C-1", message.id)
    assert len(stage.alice.box.listed("drafts")) == 1


def test_that_a_draft_was_read_is_on_record(stage):
    draft_id, _ = drafted(stage)
    send(stage, draft_id)
    rows = [row.value for row in stage.app.records.range(stage.org_id, AuditRecord)]
    [read] = [row for row in rows if row.event == "draft.read"]
    assert (read.actor, read.outcome, read.case_id) == (stage.alice.address, "done", "C-1")


@pytest.mark.parametrize("fault", ["lost_answers", "lost_before"])
def test_a_draft_whose_answer_was_lost_is_found_in_sent_and_one_that_did_not_leave_is_tried_again(
    stage, fault
):
    draft_id, _ = drafted(stage)
    promised = send(stage, draft_id)
    setattr(stage.world.google.faults, fault, 1)
    stage.work()
    settle(stage)
    assert stage.email(promised.id).state == "sent"
    assert left(stage) == (1, 1, 0)


def test_a_draft_that_left_is_never_failed_by_a_rule_made_afterwards(stage):
    """Its answer was lost, and Sent shows it late: nobody knows, so it is tried again, and is gone."""
    draft_id, _ = drafted(stage)
    promised = send(stage, draft_id)
    list(stage.waiting())
    stage.world.google.faults.lost_answers, stage.world.google.faults.late_search = 1, 100
    stage.deliver(promised)
    assert stage.email(promised.id).state == "sending"
    approve(stage.app, stage.org_id, drafts=True, allowedRecipients=["elsewhere.example"])
    stage.clock.advance(minutes=2)
    stage.deliver(promised)
    assert stage.email(promised.id).state == "uncertain"
    assert "no more in the mailbox" in stage.email(promised.id).error.detail
    stage.world.google.faults.late_search = 0
    stage.sync()
    assert stage.email(promised.id).state == "sent"
    assert left(stage) == (1, 1, 0)


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize(
    ("limited", "size"), [(False, 10), (True, 10), (False, 1_000_000), (True, 1_000_000)]
)
def test_a_draft_costs_as_much_as_any_mail_from_request_to_sent_copy(stage, limited, size, answers):
    approve(stage.app, stage.org_id, drafts=True, **({"maxPerHour": 9} if limited else {}))
    told = {"in_reply_to": stage.sent().id, "subject": "Re: Offer 4711"} if answers else {}
    file = NewAttachment(
        name="list.bin",
        content_type="application/octet-stream",
        content_base64=base64.b64encode(bytes(size)).decode(),
    )
    guard = Guard()
    watched = guarded(stage.app, guard)
    first_id, _ = drafted(stage)
    stage.deliver(send(stage, first_id, "warms up", app=watched), app=watched)
    draft_id, _ = drafted(stage, attachments=[file], **told)
    guard.calls.clear()
    message = send(stage, draft_id, app=watched)
    stage.deliver(message, app=watched)
    assert stage.email(message.id).state == "sent"
    assert len(storage(guard)) <= 11 + (size > keeping.SMALL), storage(guard)


def reads(stage):
    found = stage.app.records.range(stage.org_id, AuditRecord)
    return [row.value.outcome for row in found if row.value.event == "draft.read"]


def test_each_reading_of_a_draft_is_on_record_once_whatever_comes_of_the_promise(stage):
    draft_id, _ = drafted(stage)
    promised = send(stage, draft_id)
    assert reads(stage) == ["done"]
    assert send(stage, draft_id).id == promised.id
    assert reads(stage) == ["done"] * 2
    other_id, other = drafted(stage)
    changed(stage, other, (b"To: ", b"X-To: "))
    with pytest.raises(InvalidRequest):
        send(stage, other_id, "other")
    assert reads(stage) == ["done"] * 3


def test_a_full_hour_keeps_nobody_from_writing_a_draft(stage):
    approve(stage.app, stage.org_id, drafts=True, maxPerHour=1)
    stage.sent()
    draft_id, _ = drafted(stage)
    with pytest.raises(AgainstRules):
        send(stage, draft_id)
    assert len(stage.alice.box.listed("drafts")) == 1


def test_a_draft_that_waits_for_the_hour_and_is_sent_by_its_owner_certainly_did_not_leave_twice(stage):
    draft_id, _ = drafted(stage)
    other_id, draft = drafted(stage)
    send(stage, draft_id, "one")
    promised = send(stage, other_id, "two")
    approve(stage.app, stage.org_id, drafts=True, maxPerHour=1)
    stage.settle()
    assert stage.email(promised.id).state == "queued"
    stage.world.google.send_draft_as_user(stage.alice.address, draft, draft.raw)
    stage.clock.advance(minutes=70)
    scheduling.tick(stage.app)
    stage.settle()
    message = stage.email(promised.id)
    assert (message.state, message.error.code) == ("failed", "draft_gone")
    assert left(stage) == (2, 2, 0)


def test_of_two_promises_that_hand_over_one_draft_at_the_same_moment_one_fails_for_certain(stage):
    draft_id, _ = drafted(stage)
    first, second = send(stage, draft_id, "one"), send(stage, draft_id, "two")
    list(stage.waiting())

    def meanwhile(name, times):
        if (name, times) == ("records.commit", 1):  # the hand-over begins
            stage.deliver(second)

    stage.deliver(first, app=guarded(stage.app, Acting(then=meanwhile)))
    states = [stage.email(one.id) for one in (first, second)]
    assert [message.state for message in states] == ["failed", "sent"]
    assert states[0].error.code == "draft_gone"
    assert left(stage) == (1, 1, 0)


@pytest.mark.long
@pytest.mark.usefixtures("unmetered")
@pytest.mark.parametrize("how", ["before", "lost"])
def test_sending_a_draft_ends_the_same_wherever_it_breaks(stage, how):
    """Its acceptance, repeated by the caller, and its delivery; a draft leaves once, so nothing is uncertain."""
    k, seen = 0, 0
    while k <= seen:
        k += 1
        draft_id, _ = drafted(stage, subject=f"Offer {k}")
        guard = failing(how, r"^google\.|\.(commit|put)$")  # what dies before a read has died after a write
        guard.fail_at = k
        app = guarded(stage.app, guard)
        attempt(lambda: send(stage, draft_id, f"key-{k}", app))
        promised = send(stage, draft_id, f"key-{k}")
        list(stage.waiting())
        attempt(lambda: stage.deliver(promised, app=app))
        keep_promises(stage)
        seen = len(guard.calls)
        message = stage.email(promised.id)
        assert message.state == "sent", f"call {k}: {guard.calls} {message.error}"
        assert left(stage) == (k, k, 0), f"call {k}: {guard.calls}"
        assert len(stage.timeline()) == k
        assert stage.app.records.range(stage.org_id, OutboxItem) == []
    assert {"google.drafter.fetch", "google.drafter.send"} <= {*guard.calls}
    settle(stage)
    assert left(stage) == (k, k, 0)
