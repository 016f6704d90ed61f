"""Mails that are large in some direction: all are filed, none is too much for a record."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

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
