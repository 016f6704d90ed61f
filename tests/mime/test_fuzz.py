"""Mutations: whatever arrives, reading it does not raise."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import mime

pytestmark = pytest.mark.fast

SEEDS = [path.read_bytes() for path in sorted((Path(__file__).parent.parent / "eml").glob("*.eml"))]
NAMES = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"References", b"In-Reply-To", b"Content-Type",
         b"Content-Disposition", b"Content-Transfer-Encoding", b"Authentication-Results", b"Auto-Submitted"]  # fmt: skip
SCRAPS = [b"=?utf-8?q?", b"?=", b"=?", b"<", b">", b'"', b"(", b")", b";", b"*0*=", b"=", b"''", b"\r\n ", b"\r\n", b"\n\n", b"\x00",
          b"\xff\xfe", b"@", b":", b",", b"multipart/mixed; boundary=", b"message/rfc822", b"charset=", b"name*", b"name*1*=%ff",
          b"base64", b"--", b"\\", b"a@b.example", b"Tue, 31 Feb 99999 25:61:61 +9999", b"utf-7", b"\xe2\x80\xae", b"dmarc=fail",
          b"multipart/report; report-type=delivery-status", b"message/delivery-status", b"Final-Recipient: rfc822;", b"\x85", b"a",
          b"=?unicode-escape?q?=5Cud800?=", b"; charset=raw_unicode_escape\r\n\r\n", b"\\ud800"]  # fmt: skip


def read_everything(raw: bytes) -> None:
    envelope = mime.envelope(raw, ref="1")
    mime.classify(envelope)
    mime.is_automatic(envelope)
    mime.authentication(envelope, None)
    mime.authentication(envelope, "mx.imap.example")
    mime.fingerprint(envelope)
    mime.synthetic_id(envelope)
    mime.base_subject(envelope.subject)
    parsed = mime.parse(raw)
    msgspec.json.encode((envelope, parsed, mime.report(raw), mime.reported_ids(raw)))  # as all is stored
    mime.sanitise(parsed.html or "")
    for listed in parsed.attachments[:5]:
        found, content = mime.attachment(raw, listed.index)
        assert len(content) == listed.size
        mime.download_headers(found)["Content-Disposition"].encode("ascii")
    for text in (parsed.subject, parsed.text or "", parsed.html or "", *(a.name for a in parsed.attachments)):
        assert "\x00" not in text
        text.encode("utf-8")


@settings(max_examples=600, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    cuts=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(SCRAPS)), min_size=1, max_size=8
    ),
)
def test_mutated_mails_never_raise(seed, cuts):
    for place, length, scrap in cuts:
        at = int(place * len(seed))
        seed = seed[:at] + scrap + seed[at + length :]
    read_everything(seed)


@settings(max_examples=600, deadline=None)
@given(
    headers=st.lists(
        st.tuples(st.sampled_from(NAMES), st.lists(st.sampled_from(SCRAPS), max_size=8)), max_size=6
    ),
    body=st.binary(max_size=200),
)
def test_mutated_headers_never_raise(headers, body):
    lines = (name + b": " + b"".join(scraps) + b"\r\n" for name, scraps in headers)
    read_everything(b"".join(lines) + b"\r\n" + body)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=500))
def test_any_bytes_never_raise(raw):
    read_everything(raw)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "On ",
                "Am ",
                "wrote:",
                "schrieb",
                "> ",
                "\n",
                "<a@b>",
                "-- ",
                "Von: x",
                "Gesendet: x",
                "x " * 50,
            ]
        )
    )
)
def test_any_text_has_a_reply(pieces):
    text = "".join(pieces)
    assert bool(mime.plain(text)) == bool(text.strip())
