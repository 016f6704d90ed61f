"""What we send, to the octet; and what must never get into it."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from email import policy
from email.parser import BytesParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared import mime
from shared.errors import InvalidRequest
from shared.model import Address

pytestmark = pytest.mark.fast
# ruff: noqa: RUF001 - dashes are what is tested

OURS = "<z.0123456789abcdef.1763943000123-0123456789ab.0123456789abcdef@imap.example>"
DRAFT = mime.Outgoing(
    message_id=OURS,
    date=datetime(2026, 11, 24, 9, 5, 7, tzinfo=UTC),
    sender=Address("alice@imap.example", "Alice Müller, Einkauf"),
    to=(Address("supplier@supplier.example", "Groß & Söhne"), Address("bob@supplier.example", "Bob, Jr.")),
    cc=(Address("c@straße.example"),),
    subject="Anfrage Nr. 4711 – Grüße",
    text="Guten Tag,\nbitte anbieten.\n",
    html=None,
    in_reply_to="<parent@supplier.example>",
    references=("<root@imap.example>", "<parent@supplier.example>"),
    attachments=(),
)

GOLDEN = """\
From: =?utf-8?q?Alice_M=C3=BCller=2C_Einkauf?= <alice@imap.example>
To: =?utf-8?b?R3Jvw58gJiBTw7ZobmU=?= <supplier@supplier.example>,
 "Bob, Jr." <bob@supplier.example>
Cc: c@xn--strae-oqa.example
Subject: =?utf-8?b?QW5mcmFnZSBOci4gNDcxMSDigJMgR3LDvMOfZQ==?=
Date: Tue, 24 Nov 2026 09:05:07 +0000
Message-ID: <z.0123456789abcdef.1763943000123-0123456789ab.0123456789abcdef@imap.example>
In-Reply-To: <parent@supplier.example>
References: <root@imap.example>
 <parent@supplier.example>
 <z.0123456789abcdef.1763943000123-0123456789ab.0123456789abcdef@imap.example>
Content-Type: text/plain; charset="utf-8"
MIME-Version: 1.0
Content-Transfer-Encoding: quoted-printable

Guten Tag,
bitte anbieten.
"""

GOLDEN_PARTS = """\
Content-Type: multipart/mixed; boundary="=_ada078883a95434c0518e374c8aa7194"
MIME-Version: 1.0

--=_ada078883a95434c0518e374c8aa7194
Content-Type: multipart/alternative;
 boundary="=_853f4a93695012fb24f0b06f49df0991"

--=_853f4a93695012fb24f0b06f49df0991
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
--=_853f4a93695012fb24f0b06f49df0991
Content-Type: text/html; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

<p>Gr=C3=BC=C3=9Fe</p>
--=_853f4a93695012fb24f0b06f49df0991--

--=_ada078883a95434c0518e374c8aa7194
Content-Type: application/pdf
Content-Disposition: attachment; filename*=utf-8''%C3%9Cbersicht%202026.pdf
Content-Transfer-Encoding: base64

JVBERg==

--=_ada078883a95434c0518e374c8aa7194--
"""


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("ascii")


def headers_of(raw: bytes) -> list[str]:
    return [
        line.split(b":")[0].decode() for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n") if line[:1].strip()
    ]


def test_a_plain_mail_is_written_like_this():
    assert mime.compose(DRAFT) == crlf(GOLDEN)


def test_recipients_are_written_as_they_are_spelled_and_named_as_hidden_by_whom_they_are():
    ann, bob = (mime.check_person(f"{name}+AbC9xQ@X.example", "to") for name in ("Ann", "Bob"))
    raw = mime.compose(replace(DRAFT, to=(ann,), cc=(bob,)))
    assert b"\r\nTo: Ann+AbC9xQ@x.example\r\nCc: Bob+AbC9xQ@x.example\r\n" in raw
    assert mime.with_bcc(raw, [ann.shown, bob.shown]) == raw
    assert mime.with_bcc(raw, [ann.shown, bob.address]) == raw
    assert mime.with_bcc(raw, [ann.shown, "Eve@x.example"]) == b"Bcc: Eve@x.example\r\n" + raw


def test_texts_and_files_are_written_like_this():
    part = mime.Part("Übersicht 2026.pdf", "application/pdf", b"%PDF")
    raw = mime.compose(replace(DRAFT, text="Grüße", html="<p>Grüße</p>", attachments=(part,)))
    assert raw[raw.index(b"Content-Type: multipart/mixed") :] == crlf(GOLDEN_PARTS)


def test_the_same_draft_gives_the_same_bytes():
    draft = replace(DRAFT, html="<p>x</p>", attachments=(mime.Part("a.txt", "text/plain", b"x"),))
    assert mime.compose(draft) == mime.compose(draft)


@pytest.mark.parametrize("length", [80, 120, 900])
def test_long_ids_are_never_encoded_or_broken(length):
    """python/cpython#128603: the stdlib's newer policy makes encoded words of them."""
    long_id = f"<{'i' * (length - 12)}@x.example>"
    raw = mime.compose(replace(DRAFT, in_reply_to=long_id, references=("<root@x.example>", long_id)))
    head = raw.split(b"\r\n\r\n")[0]
    assert f"In-Reply-To: {long_id}\r\n".encode() in head
    assert f"References: <root@x.example>\r\n {long_id}\r\n {OURS}\r\n".encode() in head + b"\r\n"
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


def test_references_keep_the_root_and_the_newest_twenty_and_end_with_the_own_id():
    ids = tuple(f"<{n}@x.example>" for n in range(60))
    raw = mime.compose(replace(DRAFT, references=ids, in_reply_to=ids[-1]))
    assert mime.parse(raw).references == (ids[0], *ids[-20:], OURS)


def test_a_first_mail_refers_to_itself():
    raw = mime.compose(replace(DRAFT, references=(), in_reply_to=None))
    parsed = mime.parse(raw)
    assert (parsed.references, parsed.in_reply_to) == ((OURS,), None)
    assert b"In-Reply-To" not in raw


def test_the_answered_mail_is_always_among_the_references():
    raw = mime.compose(replace(DRAFT, references=()))
    assert mime.parse(raw).references == ("<parent@supplier.example>", OURS)


@pytest.mark.parametrize(
    "bad", ["<a b@x>", "<a@x>\r\nBcc: evil@x", "<=?utf-8?q?=0A?=@x>", "<ä@x>", "no-brackets"]
)
def test_ids_no_header_can_carry_are_left_out(bad):
    raw = mime.compose(replace(DRAFT, in_reply_to=bad, references=(bad, "<good@x.example>")))
    assert mime.parse(raw).references == ("<good@x.example>", OURS)
    assert "In-Reply-To" not in headers_of(raw)
    assert b"evil" not in raw


def test_bcc_and_precedence_are_never_written():
    raw = mime.compose(DRAFT)
    assert headers_of(raw) == [
        "From", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
        "Content-Type", "MIME-Version", "Content-Transfer-Encoding",
    ]  # fmt: skip


def test_a_mail_to_bcc_only_shows_nobody():
    raw = mime.compose(replace(DRAFT, to=(), cc=()))
    assert b"\r\nTo: undisclosed-recipients:;\r\n" in raw
    assert mime.parse(raw).to == ()


def test_a_mail_is_seven_bit_in_short_lines_with_crlf():
    text = "Zeile\rnoch eine\nund " + "ü" * 2000 + "\n.\nFrom me\n\n"
    parts = (mime.Part("ü.bin", "application/octet-stream", bytes(range(256)) * 50),)
    raw = mime.compose(replace(DRAFT, text=text, html=text, attachments=parts))
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 100
    assert mime.parse(raw).text == text.replace("\r", "\n")
    assert mime.attachment(raw, 0)[1] == bytes(range(256)) * 50


def test_html_alone_is_one_part():
    parsed = mime.parse(mime.compose(replace(DRAFT, text=None, html="<p>Hallo</p>")))
    assert (parsed.html, parsed.text) == ("<p>Hallo</p>", "Hallo")


def test_no_text_at_all_is_an_empty_text():
    assert mime.parse(mime.compose(replace(DRAFT, text=None))).text == ""


def test_attached_mails_are_octets_since_base64_is_forbidden_for_them():
    raw = mime.compose(replace(DRAFT, attachments=(mime.Part("a.eml", "message/rfc822", b"Subject: x\n\n"),)))
    assert mime.parse(raw).attachments[0].content_type == "application/octet-stream"


def test_a_text_attachment_keeps_its_charset():
    part = mime.Part("a.csv", 'text/csv; charset="UTF-8"', "ü".encode())
    raw = mime.compose(replace(DRAFT, attachments=(part,)))
    assert b'Content-Type: text/csv; charset="utf-8"' in raw


def test_an_independent_parser_reads_the_same():
    parts = (mime.Part("Eine recht lange Übersicht – über alle Lieferungen.pdf", "application/pdf", b"%PDF"),)
    raw = mime.compose(replace(DRAFT, html="<p>Grüße</p>", attachments=parts))
    read = BytesParser(policy=policy.default).parsebytes(raw)
    assert read["subject"] == DRAFT.subject
    assert [(a.display_name, a.addr_spec) for a in read["to"].addresses] == [
        ("Groß & Söhne", "supplier@supplier.example"),
        ("Bob, Jr.", "bob@supplier.example"),
    ]
    assert read["from"].addresses[0].display_name == "Alice Müller, Einkauf"
    assert [part.get_filename() for part in read.iter_attachments()] == [parts[0].name]
    assert read.get_body(("plain",)).get_content().replace("\r\n", "\n") == DRAFT.text


INJECTIONS = [
    "x\r\nBcc: evil@x.example",
    "x\nBcc: e",
    "x\rB",
    "x\x00",
    "x\x0b",
    "x\x85y",
    "x\u2028y",
    "=?utf-8?q?=0ABcc?=",
]
INJECTIONS += ["\ud800", "x\x7f"]


@pytest.mark.parametrize("evil", INJECTIONS, ids=ascii)
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("subject", lambda evil: {"subject": evil}),
        ("from.name", lambda evil: {"sender": Address("alice@imap.example", evil)}),
        ("to[1].name", lambda evil: {"to": (DRAFT.to[0], Address("a@x.example", evil))}),
        ("to[0].address", lambda evil: {"to": (Address(f"a{evil}@x.example"),)}),
        ("cc[0].address", lambda evil: {"cc": (Address(f"a@x{evil}.example"),)}),
        ("from.address", lambda evil: {"sender": Address(f"a@x.example{evil}")}),
        ("attachments[0].name", lambda evil: {"attachments": (mime.Part(f"{evil}.pdf", "a/b", b""),)}),
        ("attachments[0].contentType", lambda evil: {"attachments": (mime.Part("a", f"a/b; {evil}", b""),)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_a_user_types_becomes_a_header(field, change, evil):
    with pytest.raises(InvalidRequest) as caught:
        mime.compose(replace(DRAFT, **change(evil)))
    assert caught.value.field == field


def test_a_message_id_that_would_be_read_as_another_stops_the_mail():
    with pytest.raises(InvalidRequest, match="cannot be written safely"):
        mime.compose(replace(DRAFT, message_id="<a b@x.example>"))


@pytest.mark.parametrize("field", ["text", "html"])
@pytest.mark.parametrize("evil", ["a\x00b", "\udfff"])
def test_bodies_hold_text_only(field, evil):
    with pytest.raises(InvalidRequest) as caught:
        mime.compose(replace(DRAFT, **{field: evil}))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("subject", {"subject": "x" * 999}),
        ("to[0].name", {"to": (Address("a@x.example", "n" * 321),)}),
        ("attachments[0].name", {"attachments": (mime.Part("../", "a/b", b""),)}),
        ("attachments[0].contentType", {"attachments": (mime.Part("a", "nonsense", b""),)}),
    ],
)
def test_what_is_too_long_or_empty_is_named(field, change):
    with pytest.raises(InvalidRequest) as caught:
        mime.compose(replace(DRAFT, **change))
    assert caught.value.field == field


LINES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=200
).filter(lambda text: "=?" not in text)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(subject=LINES, name=LINES, file=LINES)
@example(subject="日本語" * 60, name="日本語" * 60, file="x")
@example(subject="ü " + "x" * 198, name="ü " + "x" * 198, file="x")
def test_any_line_of_text_survives_the_journey(subject, name, file):
    """Spaces are collapsed and letters composed (NFC); nothing else changes on the way."""
    files = (mime.Part(f"x{file}.pdf", "application/pdf", b"%PDF"),)
    draft = replace(DRAFT, subject=subject, to=(Address("a@x.example", name),), attachments=files)
    raw = mime.compose(draft)
    parsed = mime.parse(raw)
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    words = re.findall(rb"=\?[^? ]+\?[bqBQ]\?[^? ]*\?=", raw.partition(b"\r\n\r\n")[0])
    assert max(map(len, words), default=0) <= 75, "RFC 2047 section 2"
    assert mime.fingerprint(mime.envelope(raw, ref="")) == mime.fingerprint_of(
        draft.sender.address, draft.date, draft.subject
    )
    again = mime.compose(replace(draft, subject=parsed.subject, to=parsed.to))
    assert mime.parse(again).subject == parsed.subject
    assert mime.parse(again).to == parsed.to
    assert len(parsed.attachments) == 1


@pytest.mark.parametrize(
    ("written", "content"),
    [
        (
            b"From: x\r\nX-Own: 1\r\nContent-Type: text/plain\r\n\r\nHi\r\n",
            b"Content-Type: text/plain\r\n\r\nHi\r\n",
        ),
        (
            b"Subject: x\r\nMIME-Version: 1.0\r\nHello there\r\n\r\nMore\r\n",
            b"MIME-Version: 1.0\r\n\r\nHello there\r\n\r\nMore\r\n",
        ),
        (
            b"Subject: x\r\nContent-Type: multipart/mixed;\r\n\tboundary=b\r\n\r\n--b--\r\n",
            b"Content-Type: multipart/mixed;\r\n\tboundary=b\r\n\r\n--b--\r\n",
        ),
    ],
    ids=["plain", "no blank line", "folded"],
)
def test_the_body_of_a_written_mail_goes_out_as_it_is(written, content):
    raw = mime.compose(replace(DRAFT, text=None, written=written))
    assert raw.endswith(content)
    assert b"X-Own" not in raw
    assert mime.parse(raw).subject == DRAFT.subject
