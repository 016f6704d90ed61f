"""A crash, and an answer lost, at each call with an effect, of everything else that files a mail.

`test_crashes` sweeps over every call of one small reply and one small send. Here many ways are taken in one
look, and only calls that change something, or fetch, are counted: dying at another one is dying before the next.
"""

from collections import Counter
from contextlib import suppress
from email.policy import SMTP

import pytest

from shared import casework, reviewing
from shared.errors import Conflict, NotFound
from shared.knowing import find_by_id
from shared.model import AuditRecord, Message, Participant
from tests.doors import guarded
from tests.fakes import renamed
from tests.scenes import caller, write
from tests.walks.test_crashes import attempt, failing

EFFECTS = r"\.(commit|put|remove|fetch|returned_headers)$"
MOST = 24
"""More than there are effects in one look; the sweep says when it is not."""


def prepared(scene, count):
    """So many sent mails, each the start of a conversation of its own."""
    sent = [scene.send(subject=f"Offer {number}") for number in range(count)]
    scene.work()
    scene.sync()
    return sent


def broken_after(k):
    """What is kept after k effects is reached once: in turn by an answer lost, and by dying before the next."""
    guard = failing("lost" if k % 2 else "before")
    guard.only, guard.fail_at = EFFECTS, k if k % 2 or not k else k + 1
    return guard


def answer(scene, message, sender, text="An answer", known=None):
    known = known or message.message_id
    related = {"In-Reply-To": known, "Message-ID": f"<{message.id}.{len(text)}.{sender}>"}
    raw = write(sender, scene.alice.address, f"Re: {message.subject}", text, **related)
    return raw.as_bytes(policy=SMTP)


def bounce(scene, message):
    return (
        f"From: MAILER-DAEMON@imap.example\r\nTo: {scene.alice.address}\r\nSubject: Undeliverable\r\n"
        f"Message-ID: <{message.id}@daemon.example>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nFailed.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; {scene.supplier.address}\r\n"
        "Action: failed\r\nStatus: 5.1.1\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        f"Message-ID: {message.message_id}\r\n\r\n--b--\r\n"
    ).encode()


def rows(scene, type_, **options):
    return [row.value for row in scene.app.records.range(scene.org_id, type_, **options)]


def ending(scene, message, since):
    """Everything that is kept of a conversation, but for times and random ids."""
    mails = [mail for mail in rows(scene, Message) if mail.conversation_id == message.conversation_id]
    ids = {mail.id for mail in mails}
    audited = rows(scene, AuditRecord, after=f"{since:%Y%m%dT%H%M%S%f}")
    return (
        sorted(
            (
                mail.mail_kind,
                mail.direction,
                mail.state,
                len(mail.deliveries),
                len(casework.whole(scene.app, scene.org_id, mail).text or ""),
                mail.case_id,
            )
            for mail in mails
        ),
        len(rows(scene, Participant, prefix=f"{message.conversation_id}!")),
        Counter(
            row.event
            for row in audited
            if (row.email_id in ids or row.event in {"message.held", "review.filed"})
            and row.event != "message.read"  # who asks once more is shown it once more
        ),
    )


@pytest.mark.long
def test_one_look_at_every_kind_of_case_mail_ends_the_same_wherever_it_breaks(scene):
    """A mail too large for a record, a colleague's copy, a stranger's, a bounce, a copy rewritten in Sent, its answer."""
    sent = prepared(scene, MOST)
    carol, carols = scene.colleague()
    shared = [answer(scene, message, scene.supplier.address, "Copied") for message in sent]
    carol.receive(*shared)
    scene.sync(carols)
    endings = []
    for k, message in enumerate(sent):  # the first one unbroken
        early = answer(scene, message, scene.supplier.address, "Early", known=f"<{k}@final.example>")
        scene.alice.receive(early)
        assert scene.sync()["ignore"] == 1  # nothing tells yet whose answer it is
        scene.alice.receive(
            answer(scene, message, scene.supplier.address, "A long line.\n" * 25_000),
            shared[k],
            answer(scene, message, "stranger@x.example", known=f"<{message.id}.6.{scene.supplier.address}>"),
            bounce(scene, message),
        )
        scene.alice.keep(renamed(scene.raw(message), f"<{k}@final.example>"))
        since, guard = scene.clock(), broken_after(k)
        attempt(lambda guard=guard: scene.sync(app=guarded(scene.app, guard)))
        attempt(scene.sync)  # the job comes back while the dead worker's lease still runs
        scene.clock.advance(minutes=10)
        scene.sync()
        endings.append(ending(scene, message, since))
        told = f"call {k}: {guard.calls}"
        assert endings[-1] == endings[0], told
        assert (len(scene.reviews()), len(scene.blobs())) == (k + 1, k + 1), told
        learnt = find_by_id(scene.app, scene.org_id, f"<{k}@final.example>")
        assert learnt and learnt.value.id == message.id, told
        if guard.fail_at > len(guard.calls):
            break
    else:
        raise AssertionError("The sweep did not come to its end.")
    assert [mail[:4] for mail in endings[0][0]] == [
        ("bounce", "in", "received", 1),
        ("mail", "in", "received", 1),
        ("mail", "in", "received", 1),
        ("mail", "in", "received", 2),
        ("mail", "out", "failed", 1),
    ]
    assert k > 10, k


@pytest.mark.long
def test_what_people_decide_ends_the_same_wherever_it_breaks(scene):
    """A held mail confirmed, another mail linked, and the conversation moved; then each is asked for again."""
    sent = prepared(scene, MOST)
    casework.put_case(scene.app, caller(scene.org_id, "", "platform"), "C-2", "Two", [scene.alice.address])
    first = [answer(scene, message, scene.supplier.address) for message in sent]
    others = [
        write(scene.supplier.address, scene.alice.address, f"By hand {n}", "x").as_bytes(policy=SMTP)
        for n in range(MOST)
    ]
    scene.alice.receive(*first, *others)
    scene.sync()
    scene.alice.receive(
        *(
            answer(scene, m, "stranger@x.example", "Confirm me", known=f"<{m.id}.9.{scene.supplier.address}>")
            for m in sent
        )
    )
    scene.sync()
    held = {review.subject: review for review in scene.reviews()}
    refs = {message.subject: ref for message, ref in zip(sent, by_hand(scene), strict=True)}
    endings = []
    for k, message in enumerate(sent):
        steps = (
            lambda app, m=message: reviewing.decide(
                app, scene.caller, scene.mailbox.id, held[f"Re: {m.subject}"].id, "file"
            ),
            lambda app, m=message: reviewing.link(
                app, scene.caller, "C-1", scene.mailbox.id, refs[m.subject]
            ),
            lambda app, m=message: casework.move(app, scene.caller, "C-1", m.id, "C-2"),
        )
        since, guard = scene.clock(), broken_after(k)
        app = guarded(scene.app, guard)
        attempt(lambda app=app, steps=steps: [step(app) for step in steps])
        for step in steps:
            with suppress(Conflict, NotFound):  # decided, moved: so it was done the first time
                step(scene.app)
        scene.work()
        endings.append((ending(scene, message, since), len(scene.reviews()) + k, linked(scene, k)))
        assert endings[-1] == endings[0], f"call {k}: {guard.calls}"
        if guard.fail_at > len(guard.calls):
            break
    else:
        raise AssertionError("The sweep did not come to its end.")
    assert [mail[5] for mail in endings[0][0][0]] == ["C-2"] * 3
    assert endings[0][2] == 1
    assert k > 6, k


def by_hand(scene):
    """The refs of the mails to link, in order: IMAP's are made of the folder and the UID."""
    from shared.providers.base import Query

    with scene.app.searching(scene.org_id, scene.mailbox) as searcher:
        found = {
            envelope.subject: envelope.ref for envelope in searcher.search(Query(subject="By hand")).mails
        }
    return [found[f"By hand {n}"] for n in range(MOST)]


def linked(scene, number):
    return sum(mail.subject == f"By hand {number}" and mail.case_id == "C-1" for mail in rows(scene, Message))
