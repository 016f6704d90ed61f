"""The story from the first sentence to the last, on real parts."""

from email import message_from_bytes
from email.policy import SMTP, default

import pytest

from shared import casework, scheduling
from shared.errors import NotAllowed, NotFound
from tests.scenes import PASSWORD, caller


@pytest.mark.every_provider
@pytest.mark.needs("sent_folder")
def test_a_mail_goes_out_and_its_reply_and_the_owners_own_answer_come_back_within_one_poll(scene):
    promised = scene.send()
    assert promised.state == "queued"
    scene.work()

    [arrived] = scene.supplier.inbox()
    mail = message_from_bytes(arrived, policy=default)
    assert mail["From"].addresses[0].addr_spec == scene.alice.address
    assert mail["Message-ID"] == promised.message_id
    assert [part.get_filename() for part in mail.iter_attachments()] == ["list.txt"]
    assert len(scene.alice.inbox("Sent")) == 1

    sent = scene.email(promised.id)
    assert (sent.state, sent.direction, sent.origin) == ("sent", "out", "case")

    answer = scene.supplier.reply(arrived, "Here is our offer.")
    a_poll_goes_by(scene)
    reply = scene.timeline()[1]
    assert reply.message_id == answer["Message-ID"]
    assert (reply.state, reply.direction, reply.origin) == ("received", "in", "mailbox")
    assert reply.evidence.matched in {promised.message_id, *promised.references}
    assert "Here is our offer." in (reply.text or "")

    own = write_from_own_program(scene, scene.raw(reply))
    a_poll_goes_by(scene)
    assert len(scene.timeline()) == 3
    [kept] = [message for message in scene.timeline() if message.message_id == own["Message-ID"]]
    assert (kept.direction, kept.origin) == ("out", "mailbox")
    assert len(scene.alice.inbox("Sent")) == 2


def a_poll_goes_by(scene):
    """Nobody asks for a look: the timer alone does."""
    scene.clock.advance(seconds=scene.mailbox.poll_seconds)
    scheduling.tick(scene.app)
    scene.work()


def write_from_own_program(scene, original):
    """What Alice's mail program does: submit, and file a copy into Sent."""
    mail = scene.alice.reply(original, "Thank you.", to=scene.supplier.address)
    scene.alice.keep(mail.as_bytes(policy=SMTP))
    return mail


@pytest.mark.every_provider
def test_the_synced_sent_copy_is_the_same_message_not_a_second_one(scene):
    scene.sent()
    scene.sync()
    scene.sync()
    assert len(scene.timeline()) == 1


@pytest.mark.every_provider
def test_nobody_else_sees_the_case(scene):
    scene.sent()
    with pytest.raises(NotAllowed):
        casework.timeline(scene.app, caller(scene.org_id, "bob@imap.example"), "C-1", limit=10, cursor=None)
    with pytest.raises(NotFound):
        casework.timeline(scene.app, caller("org-other", scene.alice.address), "C-1", limit=10, cursor=None)


@pytest.mark.every_provider
def test_a_reply_sent_from_the_case_stays_in_the_suppliers_thread(scene):
    scene.sent()
    scene.supplier.reply(scene.supplier.inbox()[0])
    scene.sync()
    reply = scene.timeline()[1]
    scene.sent(in_reply_to=reply.id, subject="Re: Offer 4711")
    mail = message_from_bytes(scene.supplier.inbox()[1])
    assert mail["In-Reply-To"] == reply.message_id
    references = mail["References"].split()
    assert references[-2:] == [reply.message_id, mail["Message-ID"]]
    assert scene.timeline()[2].conversation_id == reply.conversation_id


def test_the_password_is_nowhere_but_in_the_vault(scene):
    rows = [
        dict(entity)
        for entity in scene.app.records._table.query_entities(f"PartitionKey eq '{scene.org_id}'")
    ]
    assert rows
    assert not any(PASSWORD in str(row) for row in rows)
