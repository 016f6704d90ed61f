"""Exchange's threads, which may be made of the subject alone (decision 029): through Graph and through EWS."""

import base64
import secrets

import pytest

from shared import reviewing
from shared.conversations import SUBJECT_ONLY
from shared.providers.base import Query
from tests.scenes import someone

pytestmark = [pytest.mark.every_provider, pytest.mark.only("microsoft", "ews")]


def link(scene, subject):
    """Have Alice link the one mail with this subject into the case."""
    scene.sync()
    with scene.app.searching(scene.org_id, scene.mailbox) as search:
        [hit] = search.search(Query(subject=subject, limit=10)).mails
    reviewing.link(scene.app, scene.caller, scene.case_id, scene.mailbox.id, hit.ref)


def index(guid=b"", answers=0):
    """Write a Thread-Index as Outlook does (MS-OXOMSG 2.2.1.3)."""
    octets = b"\x01" + bytes(5) + (guid or secrets.token_bytes(16)) + bytes(5 * answers)
    return base64.b64encode(octets).decode()


def read(scene, mail):
    """How often the content of a mail was given out, wherever it lies in Alice's mailbox."""
    box = scene.alice.box
    [item] = [one for one in box.listed() if one.message["Message-ID"] == mail["Message-ID"]]
    return box.bodies_read[item.id]


def untouched(scene, *mails):
    """Whether the case has its linked mail only, and nobody read another or waits for the owner's word."""
    return (len(scene.timeline()), scene.reviews(), sum(read(scene, mail) for mail in mails)) == (1, [], 0)


def test_another_mail_with_the_subject_of_a_linked_one_is_neither_filed_nor_read(scene):
    """As an ERP writes them: no header says what belongs together, so both are in one thread of Exchange's."""
    first = scene.supplier.send(scene.alice.address, "Rechnung", "Invoice 1, for the screws")
    link(scene, "Rechnung")
    other = scene.supplier.send(scene.alice.address, "Rechnung", "Invoice 2, of another matter")
    threads = {one.conversation for one in scene.alice.listed("inbox")}
    assert (scene.sync()["ignore"], len(threads)) == (1, 1)
    assert (read(scene, first), untouched(scene, other)) == (1, True)


def test_what_the_owner_wrote_to_somebody_else_with_that_subject_is_neither_filed_nor_read(scene):
    """From programs without Thread-Index, new or as an answer; with a copy to herself, too."""
    scene.supplier.send(scene.alice.address, "Termin", "About the screws")
    link(scene, "Termin")
    doctor = someone(scene.world, "doctor", "supplier.example").address
    mine = [
        scene.alice.send(doctor, subject, "PRIVATE", **headers)
        for subject in ("Termin", "Re: Termin")
        for headers in ({}, {"Cc": scene.alice.address}, {"In-Reply-To": "<visit@practice.example>"})
    ]
    scene.sync()
    sent = [one for one in scene.alice.listed(scene.alice.folders["Sent"]) if b"PRIVATE" in one.raw]
    assert (len(sent), sum(scene.alice.box.bodies_read[one.id] for one in sent)) == (len(mine), 0)
    assert (len(scene.timeline()), scene.reviews()) == (1, [])


def test_an_answer_that_exchanges_thread_alone_tells_is_filed(scene):
    """Outlook's Thread-Index outlived a gateway that took References and In-Reply-To away."""
    guid = secrets.token_bytes(16)
    scene.supplier.send(scene.alice.address, "Offer 12", **{"Thread-Index": index(guid)})
    link(scene, "Offer 12")
    scene.supplier.send(scene.alice.address, "Re: Offer 12", **{"Thread-Index": index(guid, answers=1)})
    scene.sync()
    assert [(one.evidence.rule, one.subject) for one in scene.timeline()][1:] == [("thread", "Re: Offer 12")]


def test_what_the_owner_answers_to_many_is_filed_where_one_of_them_takes_part(scene, watched, guard):
    """They are asked after at once: it costs no more storage operations than any other mail."""
    guid = secrets.token_bytes(16)
    scene.supplier.send(scene.alice.address, "Offer 12", **{"Thread-Index": index(guid)})
    link(scene, "Offer 12")
    scene.supplier.send(scene.alice.address, "Other", **{"In-Reply-To": "<other@supplier.example>"})
    scene.sync(app=watched)  # warms up what is cached
    others = [someone(scene.world, f"buyer-{number}", "supplier.example").address for number in range(9)]
    headers = {"In-Reply-To": "<gone@supplier.example>", "Thread-Index": index(guid, 1)}
    copies = ", ".join([*others[1:], scene.supplier.address])
    scene.alice.send(others[0], "Re: Offer 12", Cc=copies, **headers)
    guard.calls.clear()
    assert scene.sync(app=watched) == {"file": 1}
    first = guard.calls.index(f"{scene.receiver}.pages")
    filed = guard.calls.index("records.commit", first)
    calls = [call for call in guard.calls[first : filed + 1] if call.startswith("records.")]
    assert len(calls) <= 8, calls


def test_a_new_mail_in_a_thread_of_its_own_with_the_same_subject_is_ignored(scene):
    scene.supplier.send(scene.alice.address, "Offer 12", **{"Thread-Index": index()})
    link(scene, "Offer 12")
    other = scene.supplier.send(scene.alice.address, "Offer 12", **{"Thread-Index": index()})
    scene.sync()
    assert untouched(scene, other)


@pytest.mark.parametrize(
    "named", [{}, {"In-Reply-To": "<unknown@supplier.example>"}], ids=["none", "unknown"]
)
def test_an_answer_that_its_subject_alone_connects_waits_unread_and_is_filed_by_its_owner(scene, named):
    """It may answer another mail with that subject, which nobody filed."""
    scene.supplier.send(scene.alice.address, "Rechnung", "Invoice 1")
    link(scene, "Rechnung")
    other = scene.supplier.send(
        scene.alice.address, "Rechnung", **{"Message-ID": "<unknown@supplier.example>"}
    )
    answer = scene.supplier.send(scene.alice.address, "Re: Rechnung", **named)
    assert scene.sync()["review"] == 1
    [review] = scene.reviews()
    assert (review.reason, read(scene, answer), read(scene, other)) == (SUBJECT_ONLY, 0, 0)
    reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    assert [one.subject for one in scene.timeline()] == ["Rechnung", "Re: Rechnung"]


def test_what_the_owner_answers_to_another_mail_with_the_subject_of_a_linked_one_waits_unread(scene):
    scene.supplier.send(scene.alice.address, "Rechnung", "Invoice 1")
    link(scene, "Rechnung")
    other = scene.supplier.send(scene.alice.address, "Rechnung", "Invoice 2")
    answer = scene.alice.reply(other)
    scene.sync()
    [review] = scene.reviews()
    assert (review.reason, read(scene, answer), len(scene.timeline())) == (SUBJECT_ONLY, 0, 1)


def test_an_answer_that_names_a_mail_of_the_case_is_filed_whatever_the_thread_is_made_of(scene):
    first = scene.supplier.send(scene.alice.address, "Rechnung", "Invoice 1")
    link(scene, "Rechnung")
    scene.alice.reply(first)
    assert scene.sync()["file"] == 1
