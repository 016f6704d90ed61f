"""Whoever has looked into a mailbox is on record, also where the look came to nothing."""

import json

import pytest

from shared import casework, checking, connecting, looking, reviewing
from shared.contract import PatchMailbox
from shared.errors import ConsentRequired, InvalidRequest, NotFound, Temporary
from shared.model import AuditRecord
from shared.providers.base import Query
from tests.doors import Acting, guarded
from tests.scenes import caller, connect, someone


def told(scene):
    """(event, outcome) of what Alice did, without her sync requests."""
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    return [
        (row.event, row.outcome)
        for row in rows
        if row.actor == scene.alice.address and row.mailbox_id == scene.mailbox.id
    ]


LOOKS = {
    "mailbox.searched": lambda scene, app: looking.search(
        app, scene.caller, scene.mailbox.id, Query(subject="Offer"), None
    ),
    "mailbox.folders_read": lambda scene, app: looking.folders(app, scene.caller, scene.mailbox.id),
}


@pytest.mark.parametrize("event", LOOKS)
def test_a_live_look_that_breaks_after_it_has_seen_something_is_on_record(scene, event):
    def then(name, _):
        if name in {"imap.searcher.search", "imap.searcher.folders"}:
            raise Temporary("The wire broke.")

    LOOKS[event](scene, scene.app)
    with pytest.raises(Temporary):
        LOOKS[event](scene, guarded(scene.app, Acting(then=then)))
    assert [entry for entry in told(scene) if entry[0] == event] == [(event, "done"), (event, "temporary")]


def test_an_opened_review_is_on_record_also_where_its_mail_is_gone(scene):
    review = scene.held()
    scene.alice.delete_all()
    with pytest.raises(NotFound):
        reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    assert ("review.opened", "not_found") in told(scene)


def test_a_look_into_sent_for_our_own_mail_is_on_record(scene):
    scene.sent()
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    looks = [row for row in rows if row.event == "mailbox.sent_searched"]
    assert {(row.actor, row.mailbox_id, row.outcome) for row in looks} == {
        ("system", scene.mailbox.id, "done")
    }


def test_a_moved_conversation_is_on_record_in_both_cases(scene):
    message = scene.sent()
    casework.put_case(scene.app, caller(scene.org_id, "", "platform"), "C-2", "Other", [scene.alice.address])
    casework.move(scene.app, scene.caller, "C-1", message.id, "C-2")
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    moved = {
        (row.event, row.case_id, row.detail) for row in rows if row.event.startswith("conversation.moved")
    }
    assert moved == {("conversation.moved", "C-2", "C-1"), ("conversation.moved_away", "C-1", "C-2")}


def test_a_mail_that_is_shown_because_it_lies_there_already_is_on_record_as_read(scene):
    def reads():
        rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
        return [(row.actor, row.case_id, row.email_id) for row in rows if row.event == "message.read"]

    message = scene.sent()
    before = reads()
    assert casework.move(scene.app, scene.caller, "C-1", message.id, "C-1").text
    assert reads() == [*before, (scene.alice.address, "C-1", message.id)]


def test_every_attempt_to_link_a_mail_is_on_record(scene):
    scene.supplier.send(scene.alice.address, "An old offer")
    [found], _ = looking.search(
        scene.app, scene.caller, scene.mailbox.id, Query(subject="An old offer"), None
    )
    for _ in range(2):
        reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, found.ref)
    with pytest.raises(NotFound):
        reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, "nothing")
    linked = [outcome for event, outcome in told(scene) if event == "mailbox.linked"]
    assert linked == ["done", "done", "not_found"]


def logged(caplog, *events):
    """(event, outcome, mailbox) of the log's lines."""
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "zalion"]
    return [(line["event"], line["outcome"], line["mailbox_id"]) for line in lines if line["event"] in events]


def recorded(scene, *events):
    rows = [row.value for row in scene.app.records.range(scene.org_id, AuditRecord)]
    return [(row.event, row.outcome, row.mailbox_id) for row in rows if row.event in events]


def test_a_sign_in_that_is_refused_at_connect_is_on_record_and_no_log_speaks_of_success(scene, world, caplog):
    caplog.set_level("INFO", "zalion")
    bob = someone(world, "bob", "imap.example")
    with pytest.raises(ConsentRequired):
        connect(world, scene.app, scene.org_id, bob, secret={"password": "wrong"})
    box = connect(world, scene.app, scene.org_id, bob)
    refused, done = [(box.id, "consent_required"), (box.id, "active")]
    expected = [("mailbox.connected", outcome, id_) for id_, outcome in (refused, done)]
    assert logged(caplog, "mailbox.connected")[-2:] == expected
    assert recorded(scene, "mailbox.connected")[-2:] == expected
    assert bob.address not in caplog.text


def test_a_sign_in_that_is_refused_at_a_change_is_on_record_and_the_log_says_the_same(scene, caplog):
    caplog.set_level("INFO", "zalion")
    wrong, missing = PatchMailbox(secret={"password": "wrong"}), PatchMailbox(folders=["Nowhere"])
    for body, error in ((wrong, ConsentRequired), (missing, InvalidRequest)):
        with pytest.raises(error):
            connecting.change(scene.app, scene.caller, scene.mailbox.id, body)
    expected = [
        ("mailbox.changed", code, scene.mailbox.id) for code in ("consent_required", "invalid_request")
    ]
    assert recorded(scene, "mailbox.changed") == logged(caplog, "mailbox.changed") == expected


@pytest.mark.parametrize(
    ("error", "outcome"), [(Temporary("The wire broke."), "failed"), (ValueError("A bug."), "internal")]
)
def test_a_tested_mailbox_is_on_record_however_the_test_ends(scene, error, outcome):
    def then(name, _):
        if name == "imap.receiver.check":
            raise error

    checking.doctor(scene.app, scene.caller, scene.mailbox.id)
    try:
        checking.doctor(guarded(scene.app, Acting(then=then)), scene.caller, scene.mailbox.id)
    except ValueError:
        assert outcome == "internal"
    tested = [entry for entry in told(scene) if entry[0] == "mailbox.tested"]
    assert tested == [("mailbox.tested", "done"), ("mailbox.tested", outcome)]
