"""An answer may be seen before the mail that it answers, and names nothing else of ours: it is found later."""

import email
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from email.policy import SMTP
from email.utils import format_datetime

import pytest

from shared import connecting, lateness, reviewing, syncing
from shared.contract import PatchMailbox
from shared.errors import Busy, Raced, Temporary
from shared.finishing import LOOK_DELAY
from shared.leasing import Lease
from shared.model import AuditRecord, Late, SyncState
from tests.doors import Acting, Guard, guarded
from tests.scenes import imap, parsed, write

MINUTE = timedelta(minutes=1)


@pytest.fixture
def asked(scene):
    """The Message-ID of a mail of ours, as it arrived."""
    scene.sent()
    scene.sync()
    return scene.supplier.inbox()[0]


def mail(scene, text, **headers):
    """Write to Alice, with no header that leads to us but these."""
    return write(scene.supplier.address, scene.alice.address, "Re: Offer 4711", text, **headers)


def texts(scene):
    return {message.snippet for message in scene.timeline()}


def test_in_a_folder_that_is_looked_into_before_the_other(scene, asked):
    with imap(scene.world, scene.alice.address) as client:
        client.create_folder("Projects")
    connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(folders=["Projects"]))
    scene.sync()
    first = scene.supplier.reply(asked, "one", to=scene.supplier.address)
    scene.alice.receive(first.as_bytes(policy=SMTP), folder="Projects")
    second = mail(scene, "two", In_Reply_To=first["Message-ID"], Message_ID="<two@supplier.example>")
    scene.alice.receive(second.as_bytes(policy=SMTP))
    time.sleep(1.1)  # an IMAP server tells the second in which a mail came in
    scene.alice.receive(mail(scene, "three", In_Reply_To="<two@supplier.example>").as_bytes(policy=SMTP))
    scene.sync()
    scene.work()
    assert {"one", "two", "three"} <= texts(scene)


def test_before_the_copy_of_the_own_mail_was_put_into_sent(scene, asked):
    first = scene.supplier.reply(asked)
    scene.sync()
    own = write(
        scene.alice.address,
        scene.supplier.address,
        "Re: Offer 4711",
        "mine",
        In_Reply_To=first["Message-ID"],
    )
    scene.alice.receive(mail(scene, "at once", In_Reply_To=own["Message-ID"]).as_bytes(policy=SMTP))
    scene.sync()
    assert "at once" not in texts(scene)
    scene.alice.keep(own.as_bytes(policy=SMTP))
    scene.sync()
    scene.work()
    assert {"mine", "at once"} <= texts(scene)


def test_before_a_mail_came_in_that_was_held_up_on_its_way(scene, asked):
    sent = {"In_Reply_To": parsed(asked)["Message-ID"], "Date": format_datetime(scene.clock() - 9 * MINUTE)}
    parent = mail(scene, "held up", **sent)
    scene.alice.receive(mail(scene, "faster", In_Reply_To=parent["Message-ID"]).as_bytes(policy=SMTP))
    scene.sync()
    scene.alice.receive(parent.as_bytes(policy=SMTP))
    scene.sync()
    scene.work()
    assert {"held up", "faster"} <= texts(scene)


def test_before_a_mail_whose_look_was_ended_as_it_was_filed(scene, asked):
    """What the look had learnt lies beside its record: whoever looks next reads it there."""
    sent = {"In_Reply_To": parsed(asked)["Message-ID"], "Date": format_datetime(scene.clock() - 9 * MINUTE)}
    parent = mail(scene, "held up", **sent)
    scene.alice.receive(mail(scene, "faster", In_Reply_To=parent["Message-ID"]).as_bytes(policy=SMTP))
    scene.sync()
    scene.alice.receive(parent.as_bytes(policy=SMTP))

    def then(name, _):
        if name == "records.commit" and guard.count(f"{scene.receiver}.fetch") and not changed:
            changed.append(PatchMailbox(poll_seconds=900))
            connecting.change(scene.app, scene.caller, scene.mailbox.id, changed[0])

    guard, changed = Acting(then=then), []
    with pytest.raises(Raced):
        scene.sync(app=guarded(scene.app, guard))
    assert "held up" in texts(scene)
    scene.work()
    assert "faster" in texts(scene)
    assert nothing_is_left_to_look_for(scene)


def test_while_that_mail_was_held_for_its_owner(scene):
    review = scene.held()
    scene.alice.receive(mail(scene, "to a held one", In_Reply_To=review.message_id).as_bytes(policy=SMTP))
    scene.sync()
    assert "to a held one" not in texts(scene)
    reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    scene.work()
    assert "to a held one" in texts(scene)


def nothing_is_left_to_look_for(scene):
    state = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value
    return (state.look, state.more, scene.app.records.range(scene.org_id, Late)) == ((), False, [])


def test_more_than_a_record_holds_that_one_page_makes_late_are_all_looked_for(scene, asked, monkeypatch):
    monkeypatch.setattr(lateness, "ROOM", 300)
    first = scene.supplier.reply(asked)
    scene.sync()
    own = [
        write(
            scene.alice.address,
            scene.supplier.address,
            "Re: Offer 4711",
            f"mine {n}",
            In_Reply_To=first["Message-ID"],
        )
        for n in range(4)
    ]
    for n, parent in enumerate(own):
        answer = mail(scene, f"answer {n}", In_Reply_To=parent["Message-ID"])
        scene.alice.receive(answer.as_bytes(policy=SMTP))
    scene.sync()
    for parent in own:
        scene.alice.keep(parent.as_bytes(policy=SMTP))
    scene.sync()
    assert {f"answer {n}" for n in range(4)} <= texts(scene)
    assert nothing_is_left_to_look_for(scene)


@pytest.mark.parametrize("first", [True, False])
def test_more_than_a_record_holds_that_jobs_bring_while_a_look_runs_are_all_looked_for(
    scene, first, monkeypatch
):
    monkeypatch.setattr(lateness, "ROOM", 600)
    review = scene.held()
    scene.alice.receive(mail(scene, "to a held one", In_Reply_To=review.message_id).as_bytes(policy=SMTP))
    scene.sync()
    reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    list(scene.waiting())
    others = [f"<{n}@elsewhere.example>" for n in range(20)]
    brought = [review.message_id, *others] if first else [*others, review.message_id]
    lease = Lease.take(scene.app, scene.org_id, scene.mailbox.id)
    for start in range(0, len(brought), 7):
        with suppress(Busy):
            Lease.take(scene.app, scene.org_id, scene.mailbox.id, brought[start : start + 7])
    assert not lease.release()
    lease.give_back()
    scene.sync()
    assert "to a held one" in texts(scene)
    assert nothing_is_left_to_look_for(scene)


def test_mails_that_come_in_their_order_are_never_searched_for(scene, asked):
    guard = Guard()
    for number in range(3):
        scene.supplier.reply(asked, str(number))
        scene.sync(app=guarded(scene.app, guard))
    assert len(texts(scene)) == 4
    assert guard.count(f"{scene.receiver}.look") == 0


def test_a_look_for_it_that_breaks_for_days_is_given_up_on_record_and_the_mailbox_goes_on(scene, asked):
    @dataclass
    class Breaking(Guard):
        def around(self, name, call):
            if name.endswith("receiver.look"):
                raise Temporary("One mail keeps the server silent.")
            return super().around(name, call)

    app = guarded(scene.app, Breaking())
    with suppress(Temporary):
        syncing.sync(app, scene.org_id, scene.mailbox.id, look=("<late@supplier.example>",))
    for _ in range(12):
        scene.clock.advance(hours=6)
        with suppress(Temporary):
            scene.sync(app=app)
    state = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value
    assert (state.look, state.problem) == ((), None)
    events = [row.value.event for row in scene.app.records.range(scene.org_id, AuditRecord)]
    assert events.count("mailbox.mail_given_up") == 1


@pytest.mark.every_provider
@pytest.mark.only("imap", "pop3")  # Gmail's copy has the new id: test_google.py
def test_before_the_new_id_of_the_own_mail_was_written_down(scene, world):
    """A relay renames our mail, and what comes back at once names nothing else."""
    world.post.faults.rewriting = "announced"

    def then(name, times):
        if (name, times) == (f"{scene.mailbox.sends_with}.sender.send", 1):
            final = email.message_from_bytes(scene.supplier.inbox()[0])["Message-ID"]
            answer = mail(scene, "at once", In_Reply_To=final, References=final)
            scene.alice.receive(answer.as_bytes(policy=SMTP))
            scene.sync()

    message = scene.send()
    scene.deliver(message, app=guarded(scene.app, Acting(then=then)))
    assert scene.email(message.id).message_id != message.message_id
    assert "at once" not in texts(scene)
    time.sleep(LOOK_DELAY)
    scene.sync()
    scene.work()
    assert "at once" in texts(scene)


@pytest.mark.only("imap")
def test_what_left_under_a_new_id_is_looked_for_once_however_often_its_copy_is_seen(scene, watched, guard):
    scene.world.post.faults.rewriting = "announced"
    for _ in range(2):
        scene.sent()
    scene.sync(app=watched)
    assert guard.count("imap.receiver.look") > 0
    guard.calls.clear()
    scene.forget()
    assert scene.sync(app=watched)["known"] == 2
    assert guard.count("imap.receiver.look") == 0


def test_before_the_mail_that_it_answers_where_a_colleague_has_both_already(scene):
    """Sent is read first: what is not proven then is, once the mail that it answers was seen."""
    carol, carols = scene.colleague()
    ours = scene.sent().message_id
    scene.sync()
    copy = {"Cc": carol.address}
    asked = mail(scene, "M", Message_ID="<m@supplier.example>", In_Reply_To=ours, **copy)
    own = {"Message_ID": "<x@alice.example>", "In_Reply_To": "<m@supplier.example>", **copy}
    answered = write(scene.alice.address, scene.supplier.address, "Re: Offer 4711", "X", **own)
    both = [one.as_bytes(policy=SMTP) for one in (asked, answered)]
    carol.receive(*both)
    scene.sync(carols)
    scene.alice.receive(both[0])
    scene.alice.keep(both[1])
    scene.sync()
    scene.work()
    directions = {message.snippet: message.direction for message in scene.timeline()}
    assert directions["X"] == "out"
    scene.alice.receive(mail(scene, "answer", In_Reply_To="<x@alice.example>").as_bytes(policy=SMTP))
    scene.sync()
    assert "answer" in texts(scene)
    assert scene.reviews() == []


@pytest.mark.every_provider
@pytest.mark.only("microsoft", "google", "ews")
def test_nothing_is_looked_for_that_names_a_signed_id_however_late_the_copy_comes(scene, watched, guard):
    scene.sync()
    scene.send()
    scene.supplier.send(scene.alice.address, "Something else", "x")
    scene.clock.advance(seconds=2)
    scene.sync()
    scene.work(app=watched)
    scene.sync(app=watched)
    scene.work(app=watched)
    assert guard.count(f"{scene.receiver}.look") == 0
