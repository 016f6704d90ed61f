"""What the corpus does not say: reports as receivers give them, kinds, downloads, replies."""

import codecs
from datetime import UTC, datetime

import msgspec
import pytest

from shared import mime
from shared.model import Attachment

pytestmark = pytest.mark.fast
# ruff: noqa: RUF001 - other alphabets are what is tested

OURS = "<z.0123456789abcdef.1763943000123-0123456789ab.0123456789abcdef@imap.example>"


@pytest.mark.parametrize(
    ("blocks", "ids"),
    [
        (f"Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a@x\r\n\r\nMessage-ID: {OURS}\r\n", (OURS,)),
        (f"Original-Message-ID: {OURS}\r\nDisposition: a; displayed\r\n\r\nMessage-ID: <other@x>\r\n", (OURS, "<other@x>")),
        (f"Message-ID: <rewritten@x>\r\nReferences: <root@x> {OURS}\r\nIn-Reply-To: <root@x>\r\n", ("<rewritten@x>", OURS)),
        (f"Message-ID: <users-own@x>\r\nReferences: <root@x> {OURS}\r\nIn-Reply-To: {OURS}\r\n", ("<users-own@x>",)),
        (f"Message-ID: <users-own@x>\r\nReferences: <root@x> {OURS}\r\nIn-Reply-To: <root@x> {OURS}\r\n", ("<users-own@x>",)),
        (f"Original-Envelope-Id: {OURS[1:-1]}\r\n\r\nFinal-Recipient: rfc822; a@x\r\n", (OURS,)),
        (f"original-envelope-id: z+2E{OURS[3:-1]}\r\n\r\nMessage-ID: <rewritten@x>\r\n", (OURS, "<rewritten@x>")),
        ("Original-Envelope-Id: QQ314159@x\r\n\r\nMessage-ID: <users-own@x>\r\n", ("<users-own@x>",)),
        ("Nothing: here\r\n", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_a_report_is_about_the_ids_it_returns(blocks, ids):
    """A mail that answers ours is not ours: the answered id is never taken for the reported one."""
    assert mime.reported_ids(blocks.encode()) == ids


@pytest.mark.parametrize(
    ("headers", "references", "in_reply_to"),
    [
        ("In-Reply-To: <elsewhere@x> <ours@x>", "<ours@x> <elsewhere@x>", "<elsewhere@x>"),
        ("In-Reply-To: <elsewhere@x>\r\nIn-Reply-To: <ours@x>", "<ours@x> <elsewhere@x>", "<elsewhere@x>"),
        ("In-Reply-To: <1@x> <2@x> <3@x>", "<3@x> <2@x> <1@x>", "<1@x>"),
        ("In-Reply-To: <d@x> <2@x> <b@x>\r\nReferences: <a@x> <b@x> <c@x> <d@x>", "<a@x> <b@x> <2@x> <c@x> <d@x>", "<d@x>"),
        ("In-Reply-To: <e@x> <2@x>\r\nReferences: <a@x> <b@x>", "<a@x> <2@x> <b@x> <e@x>", "<e@x>"),
        ("References: <a@x> <b@x>", "<a@x> <b@x>", None),
        ("X: y", "", None),
    ],
)  # fmt: skip
def test_a_mail_refers_to_all_it_answers_the_nearest_last(headers, references, in_reply_to):
    envelope = mime.envelope(f"{headers}\r\n\r\n".encode(), ref="1")
    assert (" ".join(envelope.references), envelope.in_reply_to) == (references, in_reply_to)


def test_of_very_many_answered_mails_the_first_are_near_and_references_stay_so():
    answered = " ".join(f"<{n}@a>" for n in range(100))
    near = [f"<{n}@r>" for n in range(20)]
    raw = f"In-Reply-To: {answered}\r\nReferences: {' '.join(near)}\r\n\r\n".encode()
    found = mime.envelope(raw, ref="1").references
    assert {*near, "<0@a>", "<20@a>"} <= {*found[-50:]}
    assert len(found) == 120


def kind(headers: str) -> tuple[str, bool]:
    envelope = mime.envelope(f"From: a@x.example\r\n{headers}\r\n\r\n".encode(), ref="1")
    return mime.classify(envelope), mime.is_automatic(envelope)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Subject: Out of office", ("mail", False)),
        ("Auto-Submitted: no", ("mail", False)),
        ("Auto-Submitted: no\r\nX-Autoreply: yes", ("mail", False)),
        ("X-Autoreply: yes", ("auto_reply", True)),
        ("X-Autoreply: no", ("mail", False)),
        ("X-Autorespond: vacation", ("auto_reply", True)),
        ("Precedence: auto_reply", ("auto_reply", True)),
        ("Auto-Submitted: auto-replied", ("auto_reply", True)),
        ("Auto-Submitted: auto-notified", ("mail", True)),
        ("X-Auto-Response-Suppress: DR, OOF\r\nSubject: Automatic reply: x", ("mail", False)),
        ("X-Auto-Response-Suppress: OOF, All\r\nSubject: Automatic reply: x", ("auto_reply", True)),
        ("Precedence: bulk", ("mail", True)),
        ("Feedback-ID: 1", ("mail", True)),
        ("Return-Path: <>", ("mail", True)),
        ("Return-Path: <>\r\nX-Failed-Recipients: a@x", ("bounce", True)),
        ("Content-Type: multipart/report; report-type=feedback-report", ("mail", True)),
        ('Content-Type: multipart/report; report-type="Delivery-Status"', ("bounce", True)),
        ("Content-Type: multipart/report; report-type=disposition-notification", ("receipt", True)),
    ],
)
def test_a_kind_needs_strong_evidence(headers, expected):
    assert kind(headers) == expected


def test_a_human_mail_has_no_report():
    assert mime.report(b"From: a@x.example\r\nSubject: x\r\n\r\n550 5.1.1 is what they said\r\n") is None


def test_a_bounce_without_any_detail_is_still_a_report():
    found = mime.report(b"From: mailer-daemon@x.example\r\nReturn-Path: <>\r\n\r\nsorry\r\n")
    assert (found.message_ids, found.recipients) == ((), ())


def test_an_envelope_passes_on_what_the_provider_knows():
    moment = datetime(2026, 11, 24, 9, tzinfo=UTC)
    raw = b"From: a@x.example\r\nDate: Tue, 24 Nov 2026 10:00:00 -0000\r\n\r\nFrom: body@x.example\r\n"
    envelope = mime.envelope(
        raw, ref="7", folder="Sent", is_sent=True, size=9, received_at=moment, thread="t"
    )
    assert (envelope.ref, envelope.folder, envelope.is_sent, envelope.size) == ("7", "Sent", True, 9)
    assert (envelope.received_at, envelope.thread) == (moment, "t")
    assert envelope.sender.address == "a@x.example"
    assert envelope.headers["date"] == ("Tue, 24 Nov 2026 10:00:00 -0000",)
    assert mime.envelope(raw, ref="7").received_at == datetime(2026, 11, 24, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "date",
    ["Thu, 1 Jan 1960 00:00:00 +0000", "0001-01-01T00:00:00+23:00", "x" * 5000, "Mon, 1 Jan 99999 0:0:0 +0"],
)
def test_a_date_that_cannot_be_is_none(date):
    assert mime.parse(f"Date: {date}\r\n\r\n".encode()).sent_at is None


@pytest.mark.parametrize(
    ("content_type", "served"),
    [
        ("application/pdf", "application/pdf"),
        ("image/png", "image/png"),
        ("text/html", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
    ],
)
def test_a_download_never_runs(content_type, served):
    headers = mime.download_headers(Attachment(0, 'Grüße "1".pdf', content_type, 3))
    assert headers == {
        "Content-Type": served,
        "Content-Disposition": "attachment; filename=\"Gr__e _1_.pdf\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20_1_.pdf",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def test_a_download_has_a_name_whatever_the_attachment_says():
    headers = mime.download_headers(Attachment(0, "\r\n../", "a/b", 1))
    assert headers["Content-Disposition"].startswith('attachment; filename="download"')


def test_a_whole_mail_is_downloaded_as_a_file():
    headers = mime.raw_headers("1763943000123-0123456789ab")
    assert headers["Content-Type"] == "application/octet-stream"
    assert 'filename="1763943000123-0123456789ab.eml"' in headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Yes.\n\nOn Mon, Bob wrote:\n> x", "Yes."),
        ('Ja.\n\nAm 21.04.2016 17:48 schrieb "X" <a@b.example\n>:\n> x', "Ja."),
        ("Ja.\n\nAlice <a@b.example> schrieb:\n\n> x", "Ja."),
        ("Oui.\n\nLe lun. 23 nov. 2026 à 12:52, Bob <b@x.example> a écrit :\n> x", "Oui."),
        ("Ja.\n\nGesendet von Outlook für Android", "Ja."),
        ("Ja.\n\nVon meinem iPhone gesendet\n", "Ja."),
        ("Да.\n\n20 окт. 2026 г. 19:37 пользователь X написал:\n\n> x", "Да."),
        ("Ja.\n________________________________\nVon: X <a@b>\nGesendet: heute\nAn: Y\nBetreff: z\n\nx", "Ja."),
        ("Hi\n______________\nnot a quote", "Hi\n______________\nnot a quote"),
        ("Two points:\n1. one", "Two points:\n1. one"),
        ("Hi\n\nFrom: Bob\nTo the moon we go.\nBye", "Hi\n\nFrom: Bob\nTo the moon we go.\nBye"),
        ("On Monday I wrote a letter.\nBye", "On Monday I wrote a letter.\nBye"),
        ("> only\n> quoted", "> only\n> quoted"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_reply_is_shown_without_its_quote(text, reply):
    assert mime.plain(text) == reply


def half(data: bytes, errors: str = "strict") -> tuple[str, int]:
    return "\ud800" * bool(data), len(data)


@pytest.fixture
def halves():
    """A codec that gives halves of characters, as none that comes with Python 3.13 and is not refused does."""

    def search(name: str) -> codecs.CodecInfo | None:
        return codecs.CodecInfo(codecs.utf_8_encode, half, name="halves") if name == "halves" else None

    codecs.register(search)
    yield
    codecs.unregister(search)


@pytest.mark.parametrize(
    "charset",
    ["unicode-escape", "unicode_escape", "raw-unicode-escape", "Raw_Unicode_Escape", "utf-7", "halves"],
)
@pytest.mark.usefixtures("halves")
def test_no_charset_makes_half_characters_which_no_store_takes(charset):
    word = f"=?{charset}?q?Hi=5Cud800+2AA-?="
    file = f"Content-Type: a/b; name=\"{word}\"; name*={charset}''%5Cud800+2AA-"
    raw = f"""From: {word} <a@x.example>\r\nSubject: {word}\r\nContent-Type: multipart/mixed; boundary=b\r\n
--b\r\nContent-Type: text/plain; charset={charset}\r\n\r\nHi \\ud800 +2AA-\r\n--b\r\n{file}\r\n\r\nx\r\n--b--\r\n"""
    parsed = mime.parse(raw.encode())
    assert len(parsed.attachments) == 1
    assert parsed.sender.address == "a@x.example"
    assert msgspec.json.encode((parsed, mime.envelope(raw.encode(), ref="1")))
