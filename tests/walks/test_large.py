"""Mails that are large in some direction: all are filed, none is too much for a record."""

import base64
import os
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from shared import casework, reviewing
from shared.keeping import SHORTENED, pack
from shared.model import Attachment
from shared.providers.base import Query
from shared.storage.base import Save
from tests.scenes import Person_, write


def arrived(scene):
    scene.sent()
    return message_from_bytes(scene.supplier.inbox()[0])["Message-ID"]


def test_a_long_text_is_shown_whole_in_both_directions(scene):
    long = "Eine lange Zeile mit Umlauten äöü.\n" * 4000
    promised = scene.sent(text=long)
    assert scene.email(promised.id).text.strip() == long.strip()
    scene.supplier.reply(scene.supplier.inbox()[0], long)
    scene.sync()
    reply = scene.timeline()[1]
    assert reply.text.strip().splitlines()[0] == long.splitlines()[0]
    assert len(reply.text) >= len(long)
    assert reply.body


def test_a_text_that_no_record_holds_even_compressed_is_read_from_the_bytes(scene):
    long = "\n".join(base64.b64encode(os.urandom(54)).decode() for _ in range(9000))
    sent = scene.sent(text=long)
    scene.supplier.reply(scene.supplier.inbox()[0], long)
    scene.sync()
    timeline = scene.timeline()
    assert timeline[0].text == scene.email(sent.id).text == long
    assert timeline[1].text.startswith(long)
    assert scene.blobs() == {message.raw for message in timeline} == {message.body for message in timeline}


def test_a_text_that_is_too_long_for_its_record_lies_in_another_one_and_in_no_blob(scene):
    long = "A long line of an ordinary letter.\n" * 3000
    sent = scene.sent(text=long)
    scene.supplier.reply(scene.supplier.inbox()[0], long)
    scene.sync()
    assert [len(message.text) >= len(long) for message in scene.timeline()] == [True, True]
    assert scene.email(sent.id).body
    assert scene.blobs() == set()


def test_thousands_of_recipients_and_references_and_hundreds_of_parts_are_filed(scene):
    ours = arrived(scene)
    people = ", ".join(f'"{"Name " * 20}{n}" <person{n}@somewhere.example>' for n in range(400))
    references = " ".join([ours, *(f"<{'r' * 200}{n}@x.example>" for n in range(800)), ours])
    head = (
        f"From: {scene.supplier.address}\r\nTo: {people}\r\nSubject: {'long ' * 300}\r\n"
        f"Message-ID: <large@supplier.example>\r\nReferences: {references[:30_000]} {ours}\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    )
    part = '--b\r\nContent-Type: text/plain; name="{n}.txt"\r\nContent-Disposition: attachment; filename="{n}.txt"\r\n\r\nx\r\n'
    raw = head + "".join(part.format(n="n" * 150 + str(n)) for n in range(600)) + "--b--\r\n"
    scene.alice.receive(raw.encode())
    scene.sync()
    filed = scene.timeline()[-1]
    assert filed.message_id == "<large@supplier.example>"
    assert len(filed.to) <= 150
    assert len(filed.attachments) <= 200
    assert scene.raw(filed) == raw.encode()


def crafted(kind, scene, ours, sender):
    """A mail that is nothing but large in one direction, below every other limit."""
    slashes = "\\" * 63_000
    addresses = [f"<{slashes}@{n}.example>" for n in range(4)]
    people = f"To: {addresses[0]}\r\nTo: {addresses[1]}\r\nTo: {addresses[2]}\r\nCc: {addresses[3]}"
    long = ", ".join(f'"{chr(92) * 238}" <{"a" * 300}{n}@x.example>' for n in range(150))
    parts = "".join(
        f"--b\r\nContent-Type: application/{'a' * 90}; name={'n' * 190}{n}\r\nContent-ID: <{chr(92) * 495}>\r\n\r\nx\r\n"
        for n in range(300)
    )
    recipients = people if kind == "addresses" else f"To: {long}\r\nCc: {long}"
    many = " ".join(f"<{chr(92) * 900}{n}@x.example>" for n in range(60))
    references = f"References: {many} {ours}\r\n" if kind == "everything" else ""
    return (
        f"From: {sender}\r\n{recipients}\r\nSubject: Re: Offer 4711\r\nMessage-ID: <{kind}@supplier.example>\r\n"
        f"Date: {format_datetime(datetime.now(UTC))}\r\nIn-Reply-To: {ours}\r\n{references}"
        f"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        f"--b\r\n\r\n{chr(1) * 29_000}\r\n{parts if kind == 'everything' else ''}--b--\r\n"
    ).encode()


def test_a_mail_crafted_to_be_too_large_for_a_record_is_filed_or_held_and_stops_nothing(scene):
    """Long addresses, names that JSON writes twice as long, control characters that it writes six times."""
    ours = arrived(scene)
    raws = {
        f"<{kind}@supplier.example>": crafted(kind, scene, ours, scene.supplier.address)
        for kind in ("addresses", "names", "everything")
    }
    scene.alice.receive(*raws.values())
    scene.sync()
    filed = {message.message_id: message for message in scene.timeline()[1:]}
    assert {message_id: scene.raw(message) for message_id, message in filed.items()} == raws
    assert not filed["<addresses@supplier.example>"].to
    assert len(filed["<names@supplier.example>"].to) > 30
    assert len(filed["<everything@supplier.example>"].attachments) == 50
    assert SHORTENED in filed["<everything@supplier.example>"].evidence.notes
    assert filed["<names@supplier.example>"].text == "\x01" * 29_000
    stranger = "somebody@elsewhere.example"
    known = "<names@supplier.example>"
    for kind in ("addresses", "names"):
        raw = crafted(kind, scene, known, stranger).replace(b"Message-ID: <", b"Message-ID: <held-")
        scene.alice.receive(raw)
    assert scene.sync()["review"] == 2


def test_a_linked_twin_of_a_filed_mail_replaces_none_of_its_bytes(scene):
    """Same Message-ID, sender, date and subject: the evidence that is filed stays what it was."""
    ours = arrived(scene)
    headers = {
        "Message-ID": "<twin@supplier.example>",
        "References": ours,
        "Date": format_datetime(datetime.now(UTC)),
    }
    twins = [
        write(scene.supplier.address, scene.alice.address, "Re: Offer", text * 30_000, **headers).as_bytes(
            policy=SMTP
        )
        for text in ("The truth.\n", "Something else.\n")
    ]
    scene.alice.receive(twins[0])
    scene.sync()
    filed, blobs = scene.timeline()[-1], scene.blobs()
    assert filed.raw in blobs
    scene.alice.receive(twins[1])
    with scene.app.searching(scene.org_id, scene.mailbox) as searcher:
        hits = searcher.search(Query(subject="Offer")).mails
    refs = [hit.ref for hit in hits if hit.message_id == headers["Message-ID"]]
    linked = [reviewing.link(scene.app, scene.caller, "C-1", scene.mailbox.id, ref)[0].id for ref in refs]
    assert linked == [filed.id] * 2
    assert scene.raw(filed) == twins[0]
    assert scene.blobs() == blobs


def test_two_different_mails_under_one_message_id_are_both_filed_once(scene):
    ours = arrived(scene)
    for subject in ("Re: Offer 4711", "Re: Offer 4711 again"):
        mail = write(
            scene.supplier.address,
            scene.alice.address,
            subject,
            "x",
            **{"Message-ID": "<twice@supplier.example>", "References": ours},
        )
        scene.supplier.submit(mail.as_bytes(policy=SMTP), [scene.alice.address])
    for _ in range(3):
        scene.sync()
        scene.forget()
    _, carols = scene.colleague()
    carol = Person_(scene.world, carols.address)
    carol.receive(*scene.alice.inbox())
    scene.sync(carols)
    filed = [message for message in scene.timeline() if message.message_id == "<twice@supplier.example>"]
    assert {message.subject for message in filed} == {"Re: Offer 4711", "Re: Offer 4711 again"}
    assert len(filed) == 2
    assert all(len(message.deliveries) == 2 for message in filed)


def test_mails_without_a_message_id_are_filed_once(scene):
    ours = arrived(scene)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = scene.supplier.address, scene.alice.address, "Re: Offer"
    mail["Date"], mail["In-Reply-To"] = "Tue, 24 Nov 2026 08:00:00 +0000", ours
    mail.set_content("No id.")
    scene.alice.receive(mail.as_bytes(policy=SMTP))
    scene.alice.receive(mail.as_bytes(policy=SMTP))
    scene.sync()
    scene.sync()
    assert len(scene.timeline()) == 2


def test_a_page_of_mails_that_are_read_from_their_bytes_ends_early_for_their_files_too(scene, watched, guard):
    first = scene.send()
    file = Attachment(0, "plan.bin", "application/octet-stream", 3_000_000)
    scene.app.blobs.put(scene.org_id, "raw/long", b"Subject: Long\r\n\r\nText")
    long = replace(first, raw="raw/long", text=None, body="raw/long", attachments=(file,))
    scene.app.records.commit(scene.org_id, *(Save(replace(long, id=f"{first.id}-{n}")) for n in range(4)))
    page, cursor = casework.timeline(watched, scene.caller, "C-1", limit=100, cursor=None)
    assert ([message.text for message in page][1:], bool(cursor)) == (["Text", "Text"], True)
    assert guard.count("blobs.get") == 2


def test_a_page_of_long_mails_ends_early_and_reads_no_further_body(scene, watched, guard):
    """25 answers of 2 MB each were one page: 27 seconds, and 600 MB of memory."""
    first = scene.send()
    packed = pack(replace(first, raw="long", text=None, html="x" * 1_900_000), b"")
    long = [replace(packed.message, id=f"{first.id}-{n}") for n in range(7)]
    scene.app.records.commit(scene.org_id, *packed.writes[1:], *map(Save, long))
    seen, pages, cursor = [], [], None
    while cursor or not pages:
        guard.calls.clear()
        page, cursor = casework.timeline(watched, scene.caller, "C-1", limit=100, cursor=cursor)
        member = 1
        assert guard.count("records.get") == member + sum(message.body is not None for message in page)
        pages.append(len(page))
        seen += [message.id for message in page]
    assert pages == [4, 3, 1]
    assert seen == [first.id, *(message.id for message in long)]
