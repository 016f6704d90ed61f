"""Counted, not believed: what is read of other people's mail, and what a mail costs."""

import base64
import email.policy
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest

from sandbox.bounces import delivery_report
from shared import casework, relaying
from shared.contract import NewAttachment
from shared.keeping import SMALL, bytes_of
from shared.model import AuditRecord, Integration
from shared.storage.base import Move
from tests.scenes import parsed, write


def fill(scene, count):
    """Put mail that belongs to no case into the mailbox, as a server would."""
    mails = (
        write(f"someone{number}@elsewhere.example", scene.alice.address, f"Private {number}", "Private words")
        for number in range(count)
    )
    scene.alice.receive(*(mail.as_bytes(policy=email.policy.SMTP) for mail in mails))


def bounced(scene):
    """A report about a private mail that left from another program, with its text in it."""
    private = write(scene.alice.address, "nobody@elsewhere.example", "Private", "Private words\n" * 500)
    raw = private.as_bytes(policy=email.policy.SMTP)
    return delivery_report(scene.alice.address, "nobody@elsewhere.example", raw)


def rows(scene):
    """Everything that lies in tables: the organisation's records, and what is due, of whomever."""
    found = scene.app.records._table.query_entities("PartitionKey eq @org", parameters={"org": scene.org_id})
    dues = scene.app.schedule._table.query_entities("PartitionKey ge @first", parameters={"first": "0"})
    due = [row for row in dues if scene.org_id in str(dict(row))]
    return {row["RowKey"]: str(dict(row)) for row in [*found, *due]}


@pytest.mark.every_provider
@pytest.mark.usefixtures("unmetered")
def test_of_500_unrelated_mails_nothing_is_fetched_written_or_logged(scene, watched, guard, caplog):
    scene.alice.receive(bounced(scene))  # the first one makes the organisation's key, whatever it is about
    scene.sync()
    before = rows(scene)
    fill(scene, 499)
    scene.alice.receive(bounced(scene))
    counted = scene.mailbox.receives_with not in COUNTED_ON_THE_WIRE
    read = bodies_read(scene) if counted else 0
    caplog.clear()
    with caplog.at_level("DEBUG"):
        counts = scene.sync(app=watched)
    assert counts["ignore"] == 500
    assert guard.count(f"{scene.receiver}.fetch") == 0
    assert guard.count(f"{scene.receiver}.returned_headers") == 1
    if counted:  # EWS gives an attached mail only as a whole (`ews.reading`)
        assert bodies_read(scene) - read == (scene.mailbox.receives_with == "ews")
    assert guard.count("blobs.") == 0
    new = {key: text for key, text in rows(scene).items() if before.get(key) != text}
    assert {key.partition("!")[0] for key in new} <= {"sync", "audit"}
    for needle in ("Private", "elsewhere.example", "someone1@"):
        assert not any(needle in text for text in new.values())
        assert needle not in caplog.text


COUNTED_ON_THE_WIRE = {"imap", "pop3"}
"""Whose server keeps no count: the next test, and one of `test_pop3`, read what it is asked for."""


def bodies_read(scene):
    """How often the far side gave out somebody's text, by its own count."""
    return scene.alice.box.bodies_read.total()


def test_on_the_wire_no_body_of_500_unrelated_mails_is_asked_for(world, app, clock):
    """The server's side of it: every command the IMAP server got, seen by a proxy in front of it."""
    from sandbox.wire import Wire
    from tests.scenes import build_behind

    with Wire(world.authority, world.ports["imap"]) as wire:
        scene = build_behind(wire, world, app, clock)
        scene.sync()
        fill(scene, 499)
        scene.alice.receive(bounced(scene))
        wire.reset()
        assert scene.sync()["ignore"] == 500
        assert wire.lines(r"BODY\.PEEK\[HEADER")
        assert wire.lines(
            r"BODY\.PEEK\[2\]<0\.65536> BODY\.PEEK\[3\.HEADER\]<0\.65536>"
        )  # the bounce's status, and what it returns
        assert not wire.lines(r"BODY(\.PEEK)?\[(?!HEADER|2\]|3\.HEADER\])|RFC822( |\))|TEXT\]")
        assert not wire.lines(r"^\S+ (UID )?(STORE|SELECT|EXPUNGE|MOVE|COPY|APPEND)")
        wire.reset()
        scene.sync()
        assert len(wire.lines(r"^\S+ STATUS ")) == 2
        assert not wire.lines(r"^\S+ (EXAMINE|SELECT|UID|LIST|FETCH|SEARCH)")


def storage(guard):
    """Storage operations, as design.md counts them."""
    return [call for call in guard.calls if call.split(".")[0] in {"records", "blobs", "queues", "schedule"}]


LARGE = "A line of a large mail.\n" * 14_000
"""More than a record takes as bytes, and as a text."""


def simply(scene, asked, _):
    return scene.supplier.reply(asked, "Second")


def to_a_mail_of_theirs(scene, _, known):
    """Names no signed id of ours."""
    return answered(scene, "Second", In_Reply_To=known)


def late_to_a_mail_of_theirs(scene, _, known):
    return answered(scene, LARGE, In_Reply_To=known, Date=held_up(scene))


def held_up_and_large(scene, asked, _):
    """With newer mail seen: it may have been answered already."""
    return scene.supplier.reply(asked, LARGE, Date=held_up(scene))


def with_a_long_text(scene, _, known):
    """Too long for its message's record, and no more."""
    return answered(scene, "x" * 72 + LARGE[:120_000], In_Reply_To=known, Date=held_up(scene))


def deep_in_a_thread(scene, asked, _):
    """Between ours and this one lie mails that this mailbox never had."""
    unseen = [f"<unseen-{number}@supplier.example>" for number in range(20)]
    references = " ".join([parsed(asked)["Message-ID"], *unseen])
    return answered(scene, "Second", In_Reply_To=unseen[-1], References=references, Date=held_up(scene))


def deep_in_a_thread_of_theirs(scene, asked, known):
    """The same, where no id of ours is named: only a mail that is known from its own References."""
    unseen = [f"<unseen-{number}@supplier.example>" for number in range(20)]
    references = " ".join([parsed(asked)["Message-ID"], known, *unseen]).partition(" ")[2]
    return answered(scene, LARGE, In_Reply_To=unseen[-1], References=references, Date=held_up(scene))


def held_up(scene):
    return format_datetime(scene.clock() - timedelta(minutes=5))


def answered(scene, text, **headers):
    mail = write(scene.supplier.address, scene.alice.address, "Re: Offer 4711", text, **headers)
    scene.alice.receive(mail.as_bytes(policy=email.policy.SMTP))
    return mail


KINDS = [
    simply,
    to_a_mail_of_theirs,
    late_to_a_mail_of_theirs,
    held_up_and_large,
    with_a_long_text,
    deep_in_a_thread,
    deep_in_a_thread_of_theirs,
]


@pytest.mark.every_provider
@pytest.mark.parametrize("kind", KINDS)
def test_a_filed_mail_costs_at_most_8_storage_operations(scene, watched, guard, kind):
    scene.sent()
    scene.sync()
    [asked] = scene.supplier.inbox()
    known = scene.supplier.reply(asked)["Message-ID"]
    scene.sync(app=watched)  # also warms up what is cached
    baseline = _idle(scene, watched, guard)
    wanted = kind(scene, asked, known)["Message-ID"]
    guard.calls.clear()
    assert scene.sync(app=watched)["file"] == 1
    page = 1  # the cursor, once a page
    assert len(storage(guard)) - baseline - page <= 8, guard.calls
    assert wanted in {message.message_id for message in scene.timeline()}
    assert bool(guard.count(f"{scene.receiver}.look")) == (kind not in {simply, to_a_mail_of_theirs})


@pytest.mark.every_provider
def test_a_mail_of_a_long_thread_that_is_none_of_a_case_costs_five_reads(scene, watched, guard):
    """And is no write's reason; a read for each id would be thirty."""
    answered(scene, "Private", In_Reply_To="<other@supplier.example>")
    scene.sync(app=watched)  # warms up what is cached
    _idle(scene, watched, guard)
    idle = reads(guard)
    unseen = [f"<unseen-{number}@supplier.example>" for number in range(30)]
    answered(scene, "Private", In_Reply_To=unseen[-1], References=" ".join(unseen))
    guard.calls.clear()
    assert scene.sync(app=watched)["ignore"] == 1
    hint = scene.mailbox.receives_with in {"microsoft", "google", "ews"}
    assert reads(guard) - idle == 5 + hint, guard.calls


def reads(guard):
    return guard.count("records.find") + guard.count("records.range")


def test_a_filed_mail_from_the_own_mail_program_costs_at_most_8_storage_operations(scene, watched, guard):
    """Whether a bounce of it is there already is one of them; the look for its earlier answers is another page."""
    sent = scene.sent()
    scene.sync()
    related = {"In-Reply-To": sent.message_id, "References": sent.message_id}
    own = write(scene.alice.address, scene.supplier.address, "Re: Offer 4711", "One more thing", **related)
    scene.alice.keep(own.as_bytes(policy=email.policy.SMTP))
    guard.calls.clear()
    assert scene.sync(app=watched)["file"] == 1
    first, *_, last = [n for n, call in enumerate(guard.calls) if call == "imap.receiver.pages"]
    guard.calls[:] = guard.calls[first:last]
    page = 1
    assert guard.count("records.range") == 1
    assert len(storage(guard)) - page <= 8, guard.calls


def _idle(scene, watched, guard):
    guard.calls.clear()
    scene.sync(app=watched)
    return len(storage(guard))


@pytest.mark.every_provider
def test_an_ignored_mail_costs_no_write(scene, watched, guard):
    scene.sync(app=watched)
    idle = _writes(scene, watched, guard)
    fill(scene, 10)
    assert _writes(scene, watched, guard) - idle <= 1  # the page's cursor


def _writes(scene, watched, guard):
    guard.calls.clear()
    scene.sync(app=watched)
    return sum(call in {"records.commit", "blobs.put", "queues.put", "schedule.put"} for call in guard.calls)


@pytest.mark.every_provider
@pytest.mark.parametrize(
    ("answers", "size", "limited"),
    [(False, 10, False), (True, 100_000, True), (True, 1_000_000, False), (True, 1_000_000, True)],
)
def test_a_send_costs_at_most_12_storage_operations_from_request_to_sent_copy(
    scene, watched, guard, answers, size, limited
):
    if limited:
        limit(scene)
    first = scene.send(app=watched)
    scene.deliver(first, app=watched)  # warms up what is cached
    guard.calls.clear()
    content = base64.b64encode(bytes(size)).decode()
    file = NewAttachment(name="list.bin", content_type="application/octet-stream", content_base64=content)
    message = scene.send(app=watched, in_reply_to=first.id if answers else None, attachments=[file])
    scene.deliver(message, app=watched)
    assert scene.email(message.id).state == "sent"
    needs = answers + (size > SMALL)  # reads the parent, puts a blob
    assert len(storage(guard)) <= 10 + needs, "twelve at most: decision 009"


@pytest.mark.every_provider
@pytest.mark.only("imap", "google")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_message_id_that_the_server_replaces_costs_one_job_at_most(scene, watched, guard, world, size):
    first = scene.send(app=watched)
    scene.deliver(first, app=watched)  # warms up what is cached
    world.post.faults.rewriting, world.google.faults.rewrite_message_id = "announced", True
    file = NewAttachment(name="list.bin", content_base64=base64.b64encode(bytes(size)).decode())
    guard.calls.clear()
    message = scene.send(app=watched, in_reply_to=first.id, attachments=[file])
    scene.deliver(message, app=watched)
    assert scene.email(message.id).message_id != message.message_id
    assert len(storage(guard)) <= 11 + (size > SMALL), guard.calls


def limit(scene):
    """Have the organisation's rules count its mails."""
    stored = scene.app.records.get(scene.org_id, Integration, scene.mailbox.sends_with)
    settings = {**stored.value.settings, "maxPerHour": 1_000}
    scene.app.records.commit(scene.org_id, Move(stored, replace(stored.value, settings=settings)))
    relaying.forget(scene.app, scene.org_id)


def test_bytes_too_large_for_a_record_lie_in_a_blob_and_cost_one_operation_more(scene, watched, guard):
    small, large = scene.send(), scene.send(text="Zeile\n" * 50_000)
    guard.calls.clear()
    assert casework.raw(watched, scene.caller, "C-1", small.id) == bytes_of(scene.app, scene.org_id, small)
    assert guard.count("blobs.") == 0
    assert len(casework.raw(watched, scene.caller, "C-1", large.id)) > SMALL
    assert guard.count("blobs.get") == 1


def test_an_idle_poll_is_cheap_and_audited(scene, watched, guard):
    scene.sync(app=watched)
    assert _idle(scene, watched, guard) <= 5, storage(guard)
    last = scene.app.records.range(scene.org_id, AuditRecord)[-1].value
    assert (last.event, last.outcome, last.mailbox_id) == ("mailbox.read", "done", scene.mailbox.id)
