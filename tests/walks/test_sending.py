"""Promises: the same key, other bodies, refusals, the unknowable window."""

import email.policy
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes

import pytest

from shared import disconnecting, jobs, scheduling, views
from shared.contract import Person
from shared.errors import Conflict, InvalidRequest, NotAllowed, NotFound
from shared.keeping import MOST_RECIPIENTS
from tests.doors import Guard, dying, guarded
from tests.scenes import caller, someone, write


@pytest.mark.every_provider
def test_the_same_key_and_body_give_the_same_promise_for_ever(scene):
    first = scene.send(key="one")
    scene.work()
    scene.clock.advance(days=400)
    again = scene.send(key="one")
    assert again.id == first.id
    assert again.state == "sent"
    scene.work()
    assert len(scene.supplier.inbox()) == 1


def test_the_same_key_with_another_body_is_a_conflict(scene):
    scene.send(key="one")
    with pytest.raises(Conflict) as caught:
        scene.send(key="one", subject="Other")
    assert caught.value.field == "Idempotency-Key"


def test_a_promise_outlives_its_mailbox(scene):
    first = scene.send(key="one")
    scene.work()
    disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
    assert scene.send(key="one").id == first.id


def test_many_large_mails_of_one_minute_are_nudged_once_each(scene):
    promised = {scene.send(text="A long line.\n" * 20_000).id for _ in range(3)}
    list(scene.waiting())  # their nudges are lost
    scene.clock.advance(minutes=8)
    scheduling.tick(scene.app)
    nudged = [jobs.read(text) for text in scene.waiting()]
    assert sorted(job.id for job in nudged if job.type == "deliver") == sorted(promised)


@pytest.mark.every_provider
def test_a_lost_nudge_is_made_good_by_the_sweep(scene):
    message = scene.send()
    assert len(list(scene.waiting())) >= 1  # lost
    scene.clock.advance(minutes=7)
    scheduling.tick(scene.app)
    scene.work()
    assert scene.email(message.id).state == "sent"


def test_the_outbox_is_looked_at_for_ever_however_often_a_mailbox_is_connected(scene):
    scene.colleague()
    for _ in range(3):
        scene.clock.advance(hours=3)
        scheduling.tick(scene.app)
        dues = scene.app.schedule.until(scene.clock() + timedelta(days=1))
        assert [due.kind for due in dues if due.org_id == scene.org_id].count("watch") == 1
    message = scene.send()
    list(scene.waiting())  # its nudge is lost, and nothing else was noted for it
    for _ in range(8):
        scene.clock.advance(minutes=1)
        scheduling.tick(scene.app)
    scene.work()
    assert scene.email(message.id).state == "sent"


def test_a_refused_recipient_fails_with_the_servers_words(scene):
    message = scene.sent(to=[Person(address="nobody@supplier.example")])
    assert message.state == "failed"
    assert message.error
    assert "5.1.1" in message.error.detail or "550" in message.error.detail


def test_one_refused_recipient_among_others_is_named(scene):
    message = scene.sent(
        to=[Person(address=scene.supplier.address), Person(address="nobody@supplier.example")]
    )
    assert message.state == "sent"
    assert message.error
    assert message.error.code == "partly_refused"
    assert "nobody@supplier.example" in message.error.detail
    assert len(scene.supplier.inbox()) == 1


def test_a_refused_recipient_is_named_whatever_became_of_the_worker(scene):
    promised = scene.send(
        to=[Person(address=scene.supplier.address), Person(address="nobody@supplier.example")]
    )
    list(scene.waiting())
    with dying():
        guard = Guard(fail_at=1, how="after", only=r"sender\.send$")
        scene.deliver(promised, app=guarded(scene.app, guard))
    scene.alice.keep(scene.raw(promised))  # its server had filed the copy
    scene.clock.advance(minutes=20)
    scheduling.tick(scene.app)
    scene.work()
    message = scene.email(promised.id)
    assert (message.state, message.error.code) == ("sent", "partly_refused")
    assert "nobody@supplier.example" in message.error.detail


@pytest.mark.parametrize("delivered", [True, False])
def test_a_connection_lost_after_the_final_dot_is_uncertain_and_never_sent_again(scene, delivered):
    scene.world.post.faults.drop_after_dot(delivered=delivered)
    message = scene.sent()
    assert message.state == "uncertain"
    assert message.error
    assert message.error.fix
    for _ in range(3):
        scene.clock.advance(hours=1)
        scheduling.tick(scene.app)
        scene.work()
    assert len(scene.supplier.inbox()) == (1 if delivered else 0)


def test_an_uncertain_mail_that_shows_up_in_sent_was_sent(scene):
    scene.world.post.faults.drop_after_dot(delivered=True)
    message = scene.sent()
    scene.alice.keep(scene.raw(message))
    scene.sync()
    assert scene.email(message.id).state == "sent"


def test_a_mail_that_a_colleague_got_was_sent_whatever_became_of_the_worker(scene):
    carol, carols = scene.colleague()
    promised = scene.send(cc=[Person(address=carol.address)])
    list(scene.waiting())
    with dying():
        guard = Guard(fail_at=1, how="after", only=r"sender\.send$")
        scene.deliver(promised, app=guarded(scene.app, guard))
    scene.sync(carols)
    assert scene.email(promised.id).state == "sending"
    scene.clock.advance(minutes=20)
    scheduling.tick(scene.app)
    scene.work()
    assert scene.email(promised.id).state == "sent"
    assert len(scene.alice.inbox("Sent")) == 1
    assert len(scene.supplier.inbox()) == 1


def test_a_temporary_refusal_is_tried_again(scene):
    scene.world.post.faults.defer("RCPT")
    message = scene.sent()
    assert message.state == "queued"
    assert message.error
    scene.clock.advance(minutes=5)
    scheduling.tick(scene.app)
    scene.work()
    assert scene.email(message.id).state == "sent"
    assert scene.email(message.id).error is None


def test_after_a_day_of_temporary_refusals_it_fails_visibly(scene):
    scene.world.post.faults.defer("RCPT", times=2)
    message = scene.sent()
    scene.clock.advance(hours=25)
    scheduling.tick(scene.app)
    scene.work()
    failed = scene.email(message.id)
    assert failed.state == "failed"
    assert failed.error
    assert failed.error.code == "gave_up"


def portal(scene, spelled, answered):
    """A mail as a supplier's portal writes it, from an address of its own."""
    headers = {"In-Reply-To": answered, "References": answered}
    mail = write(spelled, scene.alice.address, "Re: Offer 4711", "Here it is.", **headers)
    scene.supplier.submit(mail.as_bytes(policy=email.policy.SMTP), [scene.alice.address], spelled)
    scene.sync()
    return views.email(scene.timeline()[-1])


@pytest.mark.every_provider
def test_who_spells_his_address_in_capitals_is_answered_so_and_known_however_he_writes(scene):
    first, world = scene.sent(), scene.world
    named, hidden = (
        someone(world, name, "supplier.example").address.replace("@", "+AbC9xQ@") for name in "nh"
    )
    spelled = scene.supplier.address.replace("@", "+Reply.AbC9xQ@")
    answer = portal(scene, spelled, first.message_id)
    assert (answer.sender.address, answer.new_participant) == (spelled, True)

    before = len(world.post.transactions)
    people = {"to": [answer.sender], "cc": [Person(address=named)], "bcc": [Person(address=hidden)]}
    message = scene.sent(in_reply_to=answer.id, **people)
    assert (message.state, message.error) == ("sent", None)
    told = {to for one in world.post.transactions[before:] for to in one.envelope_to}
    assert told == {spelled, named, hidden}
    there = message_from_bytes(scene.supplier.inbox()[-1])
    assert (there["To"], there["Cc"], there["Bcc"]) == (spelled, named, None)
    shown = views.email(message)
    assert [person.address for person in (*shown.to, *shown.cc, *shown.bcc)] == [spelled, named, hidden]
    assert message.envelope_to == (spelled.lower(), named.lower(), hidden.lower())

    again = portal(scene, spelled.lower(), message.message_id)
    assert (again.sender.address, again.new_participant) == (spelled.lower(), False)


@pytest.mark.every_provider
def test_a_bounce_names_who_is_spelled_in_capitals(scene):
    message = scene.sent(to=[Person(address="Bounce+AbC9xQ@supplier.example")])
    scene.sync()
    bounced = scene.email(message.id)
    assert bounced.state == "failed"
    assert "bounce+abc9xq@supplier.example" in bounced.error.detail


def test_a_refused_recipient_is_named_as_he_is_spelled(scene):
    people = [Person(address=scene.supplier.address), Person(address="NoBody@supplier.example")]
    message = scene.sent(to=people)
    assert (message.state, message.error.code) == ("sent", "partly_refused")
    assert message.error.detail.startswith("NoBody@supplier.example: 550")


def test_more_recipients_than_the_timeline_lists_are_told_as_they_are_spelled(scene):
    people = [scene.supplier.address.replace("@", f"+AbC{number}@") for number in range(MOST_RECIPIENTS + 1)]
    message = scene.sent(to=[Person(address=one) for one in people])
    assert len(message.to) == MOST_RECIPIENTS
    assert scene.world.post.transactions[-1].envelope_to == tuple(people)


def test_who_is_named_twice_gets_one_copy_as_he_is_spelled_first(scene):
    spelled = scene.supplier.address.replace("@", "+AbC@")
    scene.sent(to=[Person(address=spelled)], bcc=[Person(address=spelled.lower())])
    assert scene.world.post.transactions[-1].envelope_to == (spelled,)
    assert len(scene.supplier.inbox()) == 1


@pytest.mark.every_provider
def test_bcc_reaches_its_reader_and_no_header(scene):
    hidden = someone(scene.world, "hidden", "supplier.example")
    message = scene.sent(bcc=[Person(address=hidden.address)])
    assert len(hidden.inbox()) == 1
    assert hidden.address.encode() not in scene.supplier.inbox()[0]
    assert [person.address for person in message.bcc] == [hidden.address]


@pytest.mark.every_provider
def test_a_mail_for_hidden_readers_only_reaches_them(scene):
    message = scene.sent(to=[], bcc=[Person(address=scene.supplier.address)])
    assert (message.state, message.error) == ("sent", None)
    [there] = scene.supplier.inbox()
    assert b"\nBcc:" not in there.partition(b"\r\n\r\n")[0]


def test_only_the_owner_sends_from_a_mailbox_and_only_members_from_a_case(scene):
    from shared import drafts, sending
    from shared.contract import SendEmail

    draft = drafts.checked(
        SendEmail(mailbox_id=scene.mailbox.id, to=[Person(address="a@b.example")], text="x")
    )
    with pytest.raises(NotAllowed):
        sending.accept(scene.app, caller(scene.org_id, "bob@imap.example"), "C-1", draft, "k")
    with pytest.raises(NotFound):
        sending.accept(scene.app, caller("org-other", scene.alice.address), "C-1", draft, "k")
    _, carols = scene.colleague()
    with pytest.raises(NotAllowed):
        scene.send(mailbox_id=carols.id)


def test_an_answer_to_a_mail_of_another_case_is_refused(scene):
    with pytest.raises(InvalidRequest) as caught:
        scene.send(in_reply_to="1763943000123-0123456789ab")
    assert caught.value.field == "inReplyTo"


def test_a_mail_of_the_largest_size_is_sent_and_of_one_octet_more_refused_before_anything_is_promised(scene):
    size = len(scene.raw(scene.sent()))
    assert scene.send(replace(scene.app, max_mail_bytes=size)).state == "queued"
    before = len(scene.timeline())
    with pytest.raises(InvalidRequest) as caught:
        scene.send(replace(scene.app, max_mail_bytes=size - 1))
    assert caught.value.field == "attachments"
    assert len(scene.timeline()) == before
