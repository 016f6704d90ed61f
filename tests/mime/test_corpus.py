"""Our own mails: each `.eml` beside a `.json` that says why it is there and what must be read from it."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from shared import mime

pytestmark = pytest.mark.fast

FOLDER = Path(__file__).parent.parent / "eml"
MAILS = sorted(FOLDER.glob("*.eml"))
READ_BY_PARSE = {
    "sender", "to", "cc", "subject", "sent_at", "message_id", "references",
    "in_reply_to", "text", "html", "snippet", "attachments", "notes",
}  # fmt: skip


def plain_data(value):
    return json.loads(json.dumps(value, default=lambda moment: moment.isoformat()))


def told(pairs):
    """How an address is spelled stands in a twin file where that differs from it."""
    return {name: value for name, value in pairs if (name, value) != ("spelled", "")}


def read(raw: bytes, expected: dict) -> dict:
    """Read exactly what the twin file speaks about."""
    envelope = mime.envelope(raw, ref="1")
    parsed = asdict(mime.parse(raw), dict_factory=told)
    found = mime.report(raw)
    rest = {
        "why": lambda: expected["why"],
        "kind": lambda: mime.classify(envelope),
        "automatic": lambda: mime.is_automatic(envelope),
        "base_subject": lambda: mime.base_subject(envelope.subject),
        "forwarded": lambda: mime.is_forward(envelope.subject),
        "report": lambda: asdict(found) if found else None,
        "contents": lambda: {n: mime.attachment(raw, int(n))[1].decode() for n in expected["contents"]},
        "verdict": lambda: {
            "authserv_id": expected["verdict"]["authserv_id"],
            "is": mime.authentication(envelope, expected["verdict"]["authserv_id"]),
        },
    }
    return plain_data({key: parsed[key] if key in READ_BY_PARSE else rest[key]() for key in expected})


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_a_mail_reads_as_its_twin_file_says(path):
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert read(path.read_bytes(), expected) == expected


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_the_envelope_agrees_with_the_whole_mail(path):
    raw = path.read_bytes()
    envelope, parsed = mime.envelope(raw, ref="1"), mime.parse(raw)
    assert envelope.sender == parsed.sender
    assert envelope.recipients == parsed.to + parsed.cc
    for field in ("message_id", "references", "in_reply_to", "subject", "sent_at"):
        assert getattr(envelope, field) == getattr(parsed, field)


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_every_attachment_can_be_fetched_by_its_index(path):
    raw = path.read_bytes()
    parsed = mime.parse(raw)
    for listed in parsed.attachments:
        found, content = mime.attachment(raw, listed.index)
        assert len(content) == listed.size
        assert (found.index, found.name, found.content_type) == (
            listed.index,
            listed.name,
            listed.content_type,
        )
    assert mime.attachment(raw, len(parsed.attachments)) is None


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_sanitised_html_of_a_mail_holds_nothing_active(path):
    html = mime.sanitise(mime.parse(path.read_bytes()).html or "").lower()
    assert not any(word in html for word in ("<script", "javascript:", "onerror", "http-equiv", "<form"))


def test_the_corpus_is_large_enough_and_complete():
    assert len(MAILS) >= 40
    assert {path.stem for path in MAILS} == {path.stem for path in FOLDER.glob("*.json")}
