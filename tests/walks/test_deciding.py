"""Each way a mail can belong, or not, to a case: real mail through a real server."""

import email.policy
import re
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path

import pytest

from sandbox.bounces import delivery_report
from shared import casework, reviewing
from shared.contract import Person
from shared.errors import NotFound
from shared.mime.verdicts import NAMELESS
from shared.providers.base import Query
from tests.scenes import build, parsed, write

pytestmark = pytest.mark.every_provider


@pytest.fixture
def arrived(scene):
    """A mail of the case as the supplier has it."""
    scene.sent()
    [raw] = scene.supplier.inbox()
    return raw


def ids(scene):
    return [message.message_id for message in scene.timeline()]


def newest(scene):
    return scene.timeline()[-1]


def test_a_reply_with_only_in_reply_to_is_filed(scene, arrived):
    answer = scene.supplier.reply(arrived, References="")
    scene.sync()
    assert answer["Message-ID"] in ids(scene)


def test_a_reply_with_only_references_is_filed(scene, arrived):
    answer = scene.supplier.reply(arrived, **{"In-Reply-To": ""})
    scene.sync()
    assert answer["Message-ID"] in ids(scene)


def test_a_reply_to_a_reply_we_never_saw_is_filed(scene, arrived):
    original = message_from_bytes(arrived)["Message-ID"]
    answer = scene.supplier.send(
        scene.alice.address,
        "Re: Offer 4711",
        **{"In-Reply-To": "<unseen@supplier.example>", "References": f"{original} <unseen@supplier.example>"},
    )
    scene.sync()
    assert answer["Message-ID"] in ids(scene)


@pytest.mark.parametrize("between", [" ", "\r\nIn-Reply-To: "], ids=["one header", "two headers"])
def test_a_reply_to_several_mails_of_which_one_is_ours_is_filed(scene, arrived, between):
    original = message_from_bytes(arrived)["Message-ID"]
    raw = (
        f"From: {scene.supplier.address}\r\nTo: {scene.alice.address}\r\nSubject: Re: Offer\r\n"
        "Date: Thu, 26 Nov 2026 10:00:00 +0000\r\nMessage-ID: <both@supplier.example>\r\n"
        f"In-Reply-To: <elsewhere@x.example>{between}{original}\r\n\r\nBoth.\r\n"
    )
    scene.alice.receive(raw.encode())
    scene.sync()
    assert "<both@supplier.example>" in ids(scene)


def test_a_reply_whose_client_folded_its_references_is_filed(scene, arrived):
    original = message_from_bytes(arrived)["Message-ID"]
    raw = (
        f"From: {scene.supplier.address}\r\nTo: {scene.alice.address}\r\nSubject: Re: Offer\r\n"
        f"Message-ID:\r\n <folded@supplier.example>\r\nReferences: <a@x.example>\r\n\t<b@x.example>\r\n {original}\r\n"
        "\r\nFolded.\r\n"
    )
    scene.supplier.submit(raw.encode(), [scene.alice.address])
    scene.sync()
    assert "<folded@supplier.example>" in ids(scene)


def test_a_reply_whose_references_were_truncated_is_filed(scene, arrived):
    original = message_from_bytes(arrived)["Message-ID"]
    scene.supplier.send(
        scene.alice.address,
        "Re: Offer 4711",
        Message_ID="<cut@supplier.example>",
        References=f"{original[5:20]} {original} <cu",
    )
    scene.sync()
    assert len(scene.timeline()) == 2


def cut(scene, *references):
    """Send what a program wrote that keeps the newest References only, so that none is ours."""
    unseen = [f"<unseen-{number}@supplier.example>" for number in range(5)]
    return scene.supplier.send(
        scene.alice.address,
        "Re: Offer 4711",
        In_Reply_To=unseen[-1],
        References=" ".join([*references, *unseen]),
    )


def test_a_reply_to_mails_we_never_saw_is_found_by_the_oldest_id_that_was_left_of_its_references(
    scene, arrived
):
    original = message_from_bytes(arrived)["Message-ID"]
    known = scene.supplier.reply(arrived, References=f"<a@x.example> <b@x.example> {original}")
    scene.sync()
    whole = cut(scene, known["Message-ID"])
    answer = cut(scene, "<b@x.example>", known["Message-ID"])
    beside = cut(scene, "<b@x.example>")  # of the same thread, but names no mail of the case
    scene.sync()
    assert {*ids(scene)} > {whole["Message-ID"], answer["Message-ID"]}
    assert beside["Message-ID"] not in ids(scene)
    assert {one.evidence.matched for one in scene.timeline()[-2:]} == {known["Message-ID"]}


@pytest.mark.only("imap")
def test_a_thread_of_more_than_fifty_mails_is_found_by_its_first_one_where_a_program_leaves_out_the_middle(
    scene, arrived
):
    older = [f"<{number}@x.example>" for number in range(60)]
    original = message_from_bytes(arrived)["Message-ID"]
    known = scene.supplier.reply(arrived, References=" ".join([*older, original]))
    scene.sync()
    answer = cut(scene, older[0], known["Message-ID"])
    scene.sync()
    assert answer["Message-ID"] in ids(scene)


def test_so_is_one_below_a_mail_to_so_many_that_few_of_its_references_have_room_beside_them(scene, arrived):
    older = [f"<{number}@x.example>" for number in range(9)]
    copies = ", ".join(f"buyer-{number}@elsewhere.example" for number in range(90))
    original = message_from_bytes(arrived)["Message-ID"]
    known = scene.supplier.reply(arrived, References=" ".join([*older, original]), Cc=copies)
    scene.sync()
    answer = cut(scene, *older, known["Message-ID"])
    scene.sync()
    assert answer["Message-ID"] in ids(scene)


@pytest.mark.only("imap")  # elsewhere the relay is the provider's own: see its walks
def test_a_message_id_rewritten_by_a_relay_is_found_through_our_id_in_references(scene):
    scene.world.post.faults.rewriting = "silent"
    scene.sent()
    scene.world.post.faults.clear()
    [raw] = scene.supplier.inbox()
    rewritten = message_from_bytes(raw)["Message-ID"]
    assert rewritten not in ids(scene)
    answer = scene.supplier.reply(raw)
    scene.sync()
    assert answer["Message-ID"] in ids(scene)
    assert len(scene.timeline()) == 2


def test_a_changed_subject_and_a_forward_are_filed_and_noted(scene, arrived):
    scene.supplier.reply(arrived, subject="Invoice 12")
    scene.sync()
    assert "subject changed" in newest(scene).evidence.notes
    scene.supplier.reply(arrived, subject="Fwd: Offer 4711")
    scene.sync()
    assert "forwarded" in newest(scene).evidence.notes


def test_a_new_mail_with_the_same_subject_is_not_filed(scene, arrived):
    """Exchange has them in one thread, made of the subject: what calls itself an answer waits there."""
    scene.supplier.send(scene.alice.address, "Offer 4711")
    scene.supplier.send(scene.alice.address, "Re: Offer 4711")
    counts = scene.sync()
    waits = int(scene.mailbox.receives_with in {"microsoft", "ews"})
    assert (counts["ignore"], counts["review"], counts["file"]) == (2 - waits, waits, 0)
    assert len(scene.timeline()) == 1


def test_a_mail_to_two_colleagues_is_one_message_with_two_delivery_facts(scene, arrived):
    carol, carols = scene.colleague()
    raw = scene.supplier.reply(arrived, Cc=carol.address).as_bytes(policy=email.policy.SMTP)
    scene.supplier.submit(raw, [carol.address])
    scene.sync()
    scene.sync(carols)
    assert len(scene.timeline()) == 2
    assert {fact.mailbox_id for fact in newest(scene).deliveries} == {scene.mailbox.id, carols.id}


def test_an_automatic_reply_is_filed_by_kind(scene, arrived):
    scene.supplier.reply(arrived, **{"Auto-Submitted": "auto-replied"})
    scene.sync()
    assert newest(scene).mail_kind == "auto_reply"


def test_a_bounce_marks_its_message_failed_with_the_servers_words(scene):
    message = scene.sent(to=[Person(address="bounce@supplier.example")])
    scene.sync()
    bounced = scene.email(message.id)
    assert bounced.state == "failed"
    assert bounced.error
    assert bounced.error.code.startswith("5.")
    assert "bounce@supplier.example" in bounced.error.detail
    assert "mailbox unavailable" in bounced.error.detail
    assert newest(scene).mail_kind == "bounce"


def test_a_bounce_whose_way_changed_the_case_of_our_id_marks_its_message(scene):
    message = scene.sent()
    bounce = bounce_of(scene, scene.supplier.inbox()[0])
    scene.alice.receive(bounce.replace(b"@imap.example>", b"@IMAP.EXAMPLE>"))
    scene.sync()
    assert scene.email(message.id).state == "failed"


def test_the_bounces_of_several_recipients_are_told_together(scene):
    """A recipient is told once, however many bounces of his come."""
    several = [Person(address=f"bounces+{n}@supplier.example") for n in (1, 2)]
    message = scene.sent(to=several)
    scene.sync()
    told = scene.email(message.id).error.detail
    assert [told.count(person.address) for person in several] == [1, 1]
    again = delivery_report(scene.alice.address, several[0].address, scene.raw(message))
    scene.alice.receive(again)
    scene.sync()
    assert scene.email(message.id).error.detail == told
    assert sum(one.mail_kind == "bounce" for one in scene.timeline()) == 3


@pytest.mark.only("imap")
def test_a_bounce_that_returns_nothing_marks_the_mail_whose_submission_it_names(scene):
    message = scene.sent()
    scene.sync()
    returned = bounce_of(scene, b"Subject: Offer 4711").replace(
        b"dns; x\r\n", f"dns; x\r\nOriginal-Envelope-Id: {message.message_id[1:-1]}\r\n".encode()
    )
    scene.alice.receive(returned.partition(b"--b\r\nContent-Type: text/rfc822-headers")[0] + b"--b--\r\n")
    scene.sync()
    assert scene.email(message.id).state == "failed"


@pytest.mark.only("imap")
@pytest.mark.parametrize("name", ["qmail", "exim"])
def test_a_bounce_in_words_marks_the_mail_that_it_quotes(scene, name):
    message = scene.sent()
    scene.sync()
    raw = (Path(__file__).parents[1] / "eml" / f"dsn-{name}.eml").read_bytes()
    raw = re.sub(rb"<z\.[^>]+>", message.message_id.encode(), raw)
    scene.alice.receive(raw.replace(b"nobody@supplier.example", scene.supplier.address.encode()))
    scene.sync()
    assert scene.email(message.id).error.code == "5.1.1"
    assert newest(scene).mail_kind == "bounce"


def test_a_bounce_in_words_that_quotes_an_unknown_id_twice_is_filed(scene, arrived):
    ours = parsed(arrived)["Message-ID"]
    quoted = "Message-ID: <x@elsewhere.example>\n"
    words = f"This address failed:\n\n  supplier: 550 5.1.1 User unknown\n\n-- copy --\n{quoted}\n> {quoted}"
    fields = {"X-Failed-Recipients": scene.supplier.address, "In_Reply_To": ours, "References": ours}
    bounce = write("mailer-daemon@supplier.example", scene.alice.address, "Delivery failed", words, **fields)
    scene.alice.receive(bounce.as_bytes(policy=email.policy.SMTP))
    assert scene.sync()["file"] == 1
    assert newest(scene).mail_kind == "bounce"


def test_a_bounce_of_other_mail_is_ignored_and_its_text_is_not_read(scene, watched, guard):
    scene.alice.send("bounce@supplier.example", "private")
    assert set(scene.sync(app=watched)) == {"ignore"}  # in Outlook's case the sent copy, too
    assert guard.count(f"{scene.receiver}.fetch") == 0


def test_a_forged_bounce_changes_nothing(scene, arrived):
    report = (
        f"From: MAILER-DAEMON@imap.example\r\nTo: {scene.alice.address}\r\nSubject: Undeliverable\r\n"
        "Message-ID: <forged@imap.example>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nFailed.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; someone@else.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_from_bytes(arrived)['Message-ID']}\r\n\r\n--b--\r\n"
    )
    scene.alice.receive(report.encode())
    scene.sync()
    assert scene.timeline()[0].state == "sent"


def test_a_read_receipt_is_filed_by_kind(scene, arrived):
    original = message_from_bytes(arrived)["Message-ID"]
    receipt = EmailMessage()
    receipt["From"], receipt["To"], receipt["Subject"] = (
        scene.supplier.address,
        scene.alice.address,
        "Read: Offer 4711",
    )
    receipt["Message-ID"], receipt["In-Reply-To"] = "<read@supplier.example>", original
    raw = receipt.as_bytes(policy=email.policy.SMTP).strip() + (
        b'\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\nRead.\r\n--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
        b"Final-Recipient: rfc822; x\r\nOriginal-Message-ID: "
        + original.encode()
        + b"\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
    )
    scene.alice.receive(raw)
    scene.sync()
    assert newest(scene).mail_kind == "receipt"


def test_somebody_unknown_with_our_signed_id_is_filed_as_a_new_participant(scene, arrived):
    from tests.scenes import someone

    stranger = someone(scene.world, "stranger", "supplier.example")
    stranger.reply(arrived, to=scene.alice.address)
    scene.sync()
    assert newest(scene).new_participant


@pytest.fixture
def held(scene, arrived):
    """A stranger's mail that quotes only the supplier's Message-ID."""
    from tests.scenes import someone

    answer = scene.supplier.reply(arrived)
    scene.sync()
    stranger = someone(scene.world, "stranger", "supplier.example")
    return stranger.send(
        scene.alice.address, "Re: Offer 4711", "Secret words", **{"In-Reply-To": answer["Message-ID"]}
    )


def test_a_stranger_who_only_knows_a_message_id_waits_with_the_body_untouched(scene, held, watched, guard):
    assert scene.sync(app=watched)["review"] == 1
    assert guard.count(f"{scene.receiver}.fetch") == 0
    assert guard.count("blobs.put") == 0
    [review] = scene.reviews()
    assert review.message_id == held["Message-ID"]
    assert len(scene.timeline()) == 2


def test_the_owner_files_a_held_mail_and_only_then_its_body_is_read(scene, held):
    scene.sync()
    [review] = scene.reviews()
    message = reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    assert message
    assert "Secret words" in (message.text or "")
    assert scene.reviews() == []
    assert held["Message-ID"] in ids(scene)


def test_a_dismissed_mail_stays_dismissed(scene, held):
    scene.sync()
    [review] = scene.reviews()
    reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "dismiss")
    scene.forget()
    scene.sync()
    assert scene.reviews() == []
    assert held["Message-ID"] not in ids(scene)


def test_a_forged_sender_waits_for_its_owner_although_he_is_a_participant(scene, arrived, watched, guard):
    raw = write(
        scene.supplier.address,
        scene.alice.address,
        "Re: Offer 4711",
        "Pay here",
        **{
            "In-Reply-To": message_from_bytes(arrived)["Message-ID"],
            "Authentication-Results": stamped(scene, "dmarc=fail header.from=supplier.example"),
        },
    ).as_bytes(policy=email.policy.SMTP)
    scene.alice.receive(raw)
    assert scene.sync(app=watched)["review"] == 1
    assert guard.count(f"{scene.receiver}.fetch") == 0
    [review] = scene.reviews()
    message = reviewing.decide(scene.app, scene.caller, scene.mailbox.id, review.id, "file")
    assert "Pay here" in (message.text or "")
    assert message.id == newest(scene).id
    assert scene.reviews() == []


def stamped(scene, results):
    """Say it as the server whose word is believed."""
    stamps = scene.app.provider(scene.mailbox.receives_with).stamps or "mx.imap.example"
    return results if stamps == NAMELESS else f"{stamps}; {results}"


def as_author(scene, arrived, author, text, results=""):
    """Have somebody answer an answer of the supplier's, as whom his From says; with what the server found."""
    answer = scene.supplier.reply(arrived)
    scene.sync()
    related = {"In-Reply-To": answer["Message-ID"]}
    if results:
        related["Authentication-Results"] = stamped(scene, results)
    mail = write("x", scene.alice.address, "Re: Offer 4711", text, **related)
    raw = mail.as_bytes(policy=email.policy.SMTP)
    scene.alice.receive(raw.replace(b"From: x", f"From: {author.format(scene.supplier.address)}".encode()))
    scene.sync()


@pytest.mark.parametrize("name", ["M=C3=BCller=2C_Anna", "Sales=3A_x=5C", "=3A=29_=28_Anna=3B"])
def test_a_known_senders_name_may_hold_whatever_it_likes(scene, arrived, name):
    as_author(scene, arrived, f"=?utf-8?q?{name}?= <{{}}>", "Again")
    assert "Again" in (newest(scene).text or "")
    assert newest(scene).sender.address == scene.supplier.address


@pytest.mark.only("google")  # it names itself, tells names decoded, and its simulator reads no From
@pytest.mark.parametrize("name", ["=?utf-8?q?M=C3=BCller_=40_Firma?=", "Shop @ Firma", "Jira: Einkauf"])
def test_a_sender_whom_the_receiving_system_found_genuine_is_filed_however_he_is_named(scene, arrived, name):
    as_author(scene, arrived, f"{name} <{{}}>", "Again", "dmarc=pass header.from=supplier.example")
    assert "Again" in (newest(scene).text or "")
    assert newest(scene).sender.address == scene.supplier.address


@pytest.mark.only("imap", "pop3")  # the others' simulators read From by the standard library, and tell that
@pytest.mark.parametrize(
    "author", ["<=?utf-8?q?{}?=>", '(") <eve@evil.example> (") <{}>', "eve@evil.example, x: <{}>;"]
)
def test_a_sender_whom_the_receiving_system_may_have_read_otherwise_waits_for_review(scene, arrived, author):
    as_author(scene, arrived, author, "Our new IBAN")
    assert "IBAN" not in "".join(message.text or "" for message in scene.timeline())
    assert [review.reason for review in scene.reviews()] == [
        "Its From line names nobody, or can be read in more than one way."
    ]


def test_our_token_in_a_mail_of_another_organisation_is_ignored(scene, arrived, world, app, clock):
    other = build(world, app, clock)
    scene.supplier.reply(arrived, to=other.alice.address)
    assert other.sync()["ignore"] == 1
    assert other.timeline() == []


@pytest.mark.needs("searcher")
def test_a_mail_in_the_mailbox_is_linked_with_its_conversation(scene):
    first = scene.supplier.send(scene.alice.address, "Complaint")
    second = scene.supplier.reply(first, to=scene.alice.address)
    assert scene.sync()["ignore"] == 2
    with scene.app.searching(scene.org_id, scene.mailbox) as searcher:
        hits = searcher.search(Query(subject="Complaint")).mails
    ref = next(hit.ref for hit in hits if hit.message_id == first["Message-ID"])
    message, others = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, ref)
    assert message.message_id == first["Message-ID"]
    assert others == 1
    assert set(ids(scene)) == {first["Message-ID"], second["Message-ID"]}
    again, _ = reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, ref)
    assert again.id == message.id


def hit_of(scene, mail):
    with scene.app.searching(scene.org_id, scene.mailbox) as searcher:
        hits = searcher.search(Query(subject=mail["Subject"].removeprefix("Re: "))).mails
    return next(hit.ref for hit in hits if hit.message_id == mail["Message-ID"])


def link(scene, mail):
    return reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, hit_of(scene, mail))


@pytest.mark.every_provider
@pytest.mark.parametrize("ref", ["x", "", "../x", "a\r\nb"])
def test_linking_what_is_no_mail_of_the_mailbox_names_the_ref(scene, ref):
    with pytest.raises(NotFound) as caught:
        reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, ref)
    assert caught.value.field == "ref"


@pytest.mark.needs("searcher")
def test_linking_the_last_mail_of_a_conversation_files_all_of_it(scene):
    first = scene.supplier.send(scene.alice.address, "Complaint")
    second = scene.supplier.reply(first, to=scene.alice.address)
    sibling = scene.supplier.reply(first, "Another answer", to=scene.alice.address)
    third = scene.supplier.reply(second, to=scene.alice.address)
    unrelated = scene.supplier.send(scene.alice.address, "Complaint")
    assert scene.sync()["ignore"] == 5
    message, others = link(scene, third)
    assert message.message_id == third["Message-ID"]
    assert others == 3
    assert {*ids(scene)} == {mail["Message-ID"] for mail in (first, second, sibling, third)}
    assert unrelated["Message-ID"] not in ids(scene)
    assert len({message.conversation_id for message in scene.timeline()}) == 1
    assert link(scene, third)[1] == 0


@pytest.mark.needs("searcher")
def test_linking_pulls_no_mail_of_other_people_along_that_its_references_only_name(scene):
    """References can name anything: a mail between Alice and somebody else stays hers."""
    from tests.scenes import someone

    friend = someone(scene.world, "friend", "supplier.example")
    private = friend.send(scene.alice.address, "Dinner")
    crafted = scene.supplier.send(
        scene.alice.address, "Complaint", References=private["Message-ID"], **{"In-Reply-To": ""}
    )
    scene.sync()
    assert link(scene, crafted)[1] == 0
    assert ids(scene) == [crafted["Message-ID"]]


@pytest.mark.needs("searcher")
def test_an_answer_that_its_owner_has_only_begun_stays_theirs_when_the_mail_is_linked(scene):
    first = scene.supplier.send(scene.alice.address, "Complaint")
    begun = write(
        scene.alice.address,
        scene.supplier.address,
        "Re: Complaint",
        "Not so,",
        References=first["Message-ID"],
    )
    scene.alice.receive(begun.as_bytes(policy=email.policy.SMTP), folder="Drafts")
    assert link(scene, first)[1] == 0
    scene.sync()
    assert ids(scene) == [first["Message-ID"]]


@pytest.mark.needs("searcher")
def test_a_linked_answer_to_a_mail_of_the_case_joins_its_conversation(scene, arrived):
    answer = scene.supplier.reply(arrived)
    message, _ = link(scene, answer)
    assert message.conversation_id == scene.timeline()[0].conversation_id


def own_answer(scene, arrived):
    """Alice's answer from her own program, to the supplier's answer."""
    ours, theirs = message_from_bytes(arrived)["Message-ID"], "<theirs@supplier.example>"
    return write(
        scene.alice.address,
        scene.supplier.address,
        "Re: Offer 4711",
        "Thank you.",
        **{"Message-ID": "<own@outlook.example>", "In-Reply-To": theirs, "References": f"{ours} {theirs}"},
    ).as_bytes(policy=email.policy.SMTP)


def bounce_of(scene, raw):
    head = raw.partition(b"\r\n\r\n")[0].decode()
    return (
        f"From: MAILER-DAEMON@imap.example\r\nTo: {scene.alice.address}\r\nSubject: Undeliverable\r\n"
        "Message-ID: <dsn@imap.example>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nFailed.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; {scene.supplier.address}\r\nAction: failed\r\n"
        f"Status: 5.1.1\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{head}\r\n\r\n--b--\r\n"
    ).encode()


@pytest.mark.only("imap")
def test_a_bounce_of_an_answer_from_the_own_mail_program_marks_that_answer(scene, arrived):
    own = own_answer(scene, arrived)
    scene.alice.keep(own)
    scene.sync()
    scene.alice.receive(bounce_of(scene, own))
    scene.sync()
    states = {message.message_id: message.state for message in scene.timeline()}
    assert scene.reviews() == []
    assert states["<own@outlook.example>"] == "failed"
    assert scene.timeline()[0].state == "sent"


@pytest.mark.only("imap")
def test_a_bounce_that_tells_of_one_recipient_a_thousand_times_tells_it_once(scene, arrived):
    [sent] = [message for message in scene.timeline() if message.origin == "case"]
    block = f"Final-Recipient: rfc822; {scene.supplier.address}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    block += f"Diagnostic-Code: smtp; 550 {'no ' * 160}\r\n\r\n"
    bounce = bounce_of(scene, casework.raw(scene.app, scene.caller, "C-1", sent.id))
    scene.alice.receive(
        bounce.replace(
            b"Reporting-MTA: dns; x\r\n\r\n", b"Reporting-MTA: dns; x\r\n\r\n" + block.encode() * 1000
        )
    )
    scene.sync()
    assert scene.email(sent.id).state == "failed"
    assert len(scene.email(sent.id).error.detail) < 1000


@pytest.mark.only("imap")
def test_a_bounce_of_an_answer_that_we_do_not_have_is_filed_and_marks_no_other_mail(scene, arrived):
    scene.alice.receive(bounce_of(scene, own_answer(scene, arrived)))
    scene.sync()
    assert [message.mail_kind for message in scene.timeline()] == ["mail", "bounce"]
    assert scene.timeline()[0].state == "sent"


def following(scene, arrived, report):
    """A report that stands in its thread, as Exchange and Gmail write them."""
    before = f"{message_from_bytes(arrived)['Message-ID']} <theirs@supplier.example> <own@outlook.example>"
    related = f"In-Reply-To: <own@outlook.example>\r\nReferences: {before}\r\nMIME-Version"
    return report.replace(b"MIME-Version", related.encode(), 1)


@pytest.mark.only("imap", "pop3")
def test_a_bounce_that_follows_an_older_mail_of_the_case_marks_only_the_mail_that_it_names(scene, arrived):
    scene.alice.receive(following(scene, arrived, bounce_of(scene, own_answer(scene, arrived))))
    scene.sync()
    assert [message.mail_kind for message in scene.timeline()] == ["mail", "bounce"]
    assert scene.timeline()[0].state == "sent"


@pytest.mark.only("imap", "google")
@pytest.mark.parametrize("follows", [False, True])
def test_a_bounce_that_is_read_before_the_copy_in_sent_marks_that_mail(scene, arrived, follows):
    own = own_answer(scene, arrived)
    report = bounce_of(scene, own)
    scene.alice.receive(following(scene, arrived, report) if follows else report)
    scene.sync()
    keep(scene, own)
    scene.sync()
    kinds = [(message.mail_kind, message.state) for message in scene.timeline()]
    assert sorted(kinds) == [("bounce", "received"), ("mail", "failed"), ("mail", "sent")]
    [told] = [message for message in scene.timeline() if message.state == "failed"]
    assert (told.message_id, told.error.code) == ("<own@outlook.example>", "5.1.1")
    assert scene.supplier.address in told.error.detail


@pytest.mark.only("imap")
def test_bounces_that_are_read_before_the_copy_in_sent_are_told_together(scene, arrived):
    own = own_answer(scene, arrived).replace(b"Subject:", b"Cc: second@supplier.example\r\nSubject:", 1)
    first = bounce_of(scene, own)
    others = (b"Final-Recipient: rfc822; second@supplier.example", b"<other-dsn@imap.example>")
    second = first.replace(b"Final-Recipient: rfc822; " + scene.supplier.address.encode(), others[0])
    scene.alice.receive(first, second.replace(b"<dsn@imap.example>", others[1]))
    scene.sync()
    keep(scene, own)
    scene.sync()
    [told] = [message for message in scene.timeline() if message.state == "failed"]
    assert told.error.detail.count("5.1.1") == 2


@pytest.mark.only("imap")
def test_a_bounce_marks_a_mail_of_which_a_colleague_in_copy_had_the_first_copy(scene, arrived):
    carol, carols = scene.colleague()
    own = own_answer(scene, arrived).replace(b"Subject:", f"Cc: {carol.address}\r\nSubject:".encode(), 1)
    carol.receive(own)
    scene.sync(carols)
    scene.alice.receive(bounce_of(scene, own))
    scene.sync()
    keep(scene, own)
    scene.sync()
    [told] = [message for message in scene.timeline() if message.message_id == "<own@outlook.example>"]
    assert (told.direction, told.state) == ("out", "failed")


@pytest.mark.only("imap")
def test_a_bounce_that_came_too_early_marks_nothing_that_went_to_others_or_is_of_another_conversation(
    scene, arrived
):
    scene.send(subject="Offer 9")
    scene.work()
    other = message_from_bytes(scene.supplier.inbox()[-1])["Message-ID"]
    own, first = own_answer(scene, arrived), message_from_bytes(arrived)["Message-ID"]
    to_others = own.replace(b"<own@", b"<to-others@").replace(
        b"To: ", b"To: else@supplier.example\r\nX-: ", 1
    )
    reports = [
        bounce_of(scene, raw).replace(b"<dsn@", f"<{n}@".encode()) for n, raw in enumerate([own, to_others])
    ]
    scene.alice.receive(*reports)
    scene.sync()
    for raw in (own.replace(first.encode(), other.encode()), to_others):
        keep(scene, raw)
    scene.sync()
    assert {message.state for message in scene.timeline() if message.direction == "out"} == {"sent"}
    assert len(scene.timeline()) == 6


def keep(scene, raw):
    """The copy of an own mail comes into Sent."""
    if scene.mailbox.receives_with == "imap":
        scene.alice.keep(raw)
    else:
        scene.alice.submit(raw, [])


@pytest.mark.only("imap", "pop3")
def test_a_bounce_that_names_no_mail_marks_the_one_that_it_answers(scene, arrived):
    report = bounce_of(scene, b"Subject: Offer 4711").replace(
        b"MIME-Version",
        f"In-Reply-To: {message_from_bytes(arrived)['Message-ID']}\r\nMIME-Version".encode(),
        1,
    )
    scene.alice.receive(report)
    scene.sync()
    assert scene.timeline()[0].state == "failed"


def test_a_moved_conversation_takes_its_future_replies_along_and_back(scene, arrived):
    from tests.scenes import caller as caller_

    casework.put_case(scene.app, caller_(scene.org_id, "", "platform"), "C-2", "Other", [scene.alice.address])
    first = scene.timeline()[0]
    casework.move(scene.app, scene.caller, "C-1", first.id, "C-2")
    scene.supplier.reply(arrived)
    scene.sync()
    assert scene.timeline("C-1") == []
    assert len(scene.timeline("C-2")) == 2
    casework.move(scene.app, scene.caller, "C-2", first.id, "C-1")
    assert len(scene.timeline("C-1")) == 2
    assert scene.timeline("C-2") == []


@pytest.mark.only("imap")
@pytest.mark.parametrize("footer", [b"", b"-- \r\nThis mail is confidential.\r\n"])
def test_a_bounce_marks_the_own_mail_also_where_a_colleagues_copy_has_another_text(scene, arrived, footer):
    carol, carols = scene.colleague()
    own = own_answer(scene, arrived).replace(b"Subject:", f"Cc: {carol.address}\r\nSubject:".encode(), 1)
    carol.receive(own + footer)
    scene.sync(carols)
    keep(scene, own)
    scene.sync()
    scene.alice.receive(bounce_of(scene, own))
    scene.sync()
    mine = [one for one in scene.timeline() if (one.direction, one.origin) == ("out", "mailbox")]
    assert [one.state for one in mine] == ["failed"]
