"""Mails made to hurt: bounded time, nothing raised, what can be saved is saved."""

import time

import pytest

from shared import mime

pytestmark = pytest.mark.fast


def nested(depth: int) -> bytes:
    opened = (
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(depth)
    )
    return b"Subject: nested\r\n" + b"".join(opened) + b"\r\nhello"


MIXED = b"Subject: many\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
SEMICOLONS = b'--b\r\nContent-Type: text/plain; name="' + b";" * 4000 + b"\r\n\r\nx\r\n"

HOSTILE = {
    "a thousand multiparts in each other": nested(1000),
    "two thousand mails in each other": b"Content-Type: message/rfc822\r\n\r\n" * 2000,
    "a hundred thousand parts": MIXED + b"--b\r\n\r\nx\r\n" * 100_000,
    "a thousand parts of semicolons": MIXED + SEMICOLONS * 999,
    "a part that is all boundaries": nested(49) + b"\r\n--b48" * 200_000,
    "three thousand recipients": b"To: "
    + b", ".join(b"a%d@x.example" % n for n in range(3000))
    + b"\r\n\r\n",
    "twenty thousand brackets": b"From: " + b"(" * 20_000 + b"\r\n\r\n",
    "sixty thousand encoded word openings": b"Subject: " + b"=?a?q?" * 10_000 + b"\r\n\r\n",
    "four megabytes of headers": b"Subject: kept\r\n" + b"X: y\r\n" * 700_000 + b"\r\nbody",
    "one header of a megabyte": b"Subject: kept\r\nReferences: " + b"<a@b>\r\n " * 120_000 + b"\r\n\r\nbody",
    "html of open tags": b"Content-Type: text/html\r\n\r\n" + b"<div>" * 400_000,
    "html of ampersands": b"Content-Type: text/html\r\n\r\n" + b"&a" * 900_000,
    "html of a number without end": b"Content-Type: text/html\r\n\r\n"
    + b"&a" * 100_001
    + b"&#"
    + b"9" * 5000
    + b";",
    "a reply of quote openings": b"Subject: x\r\n\r\n" + b"On a\n" * 50_000,
    "a line that nearly is an attribution": b"Subject: x\r\n\r\nOn " + b"wrote <a@b> schrieb " * 20_000,
    "a page of rulers": b"Subject: x\r\n\r\n" + b"____________\n" * 3000,
    "flowed lines": b"Content-Type: text/plain; format=flowed\r\n\r\n" + b"x \n" * 300_000,
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_mail_costs_little(raw):
    start = time.thread_time()  # this thread's own work: a busy machine is no hostile mail
    parsed = mime.parse(raw)
    envelope = mime.envelope(raw, ref="1")
    mime.authentication(envelope, "mx")
    mime.report(raw)
    for attachment in parsed.attachments[:3]:
        mime.attachment(raw, attachment.index)
    assert time.thread_time() - start < 5


def test_what_is_beyond_the_limits_is_left_out_and_said():
    deep = mime.parse(nested(60))
    assert deep.subject == "nested"
    assert "nested deeper than 50: left out" in deep.notes
    many = mime.parse(MIXED + b"--b\r\nContent-Type: a/b\r\n\r\nx\r\n" * 1500)
    assert "more than 1000 parts: the rest is left out" in many.notes
    assert len(many.attachments) == 999
    assert len(mime.parse(HOSTILE["three thousand recipients"]).to) == 2000


def test_headers_beyond_256_kilobytes_are_not_read_but_the_body_is():
    parsed = mime.parse(HOSTILE["four megabytes of headers"])
    assert (parsed.subject, parsed.text) == ("kept", "body")


def test_html_and_text_too_large_to_show_are_cut_with_a_note():
    html = mime.parse(b"Content-Type: text/html\r\n\r\n" + b"<p>x</p>" * 300_000)
    assert html.html is None
    assert html.text
    assert "the HTML is too large to be shown" in html.notes
    text = mime.parse(b"Subject: x\r\n\r\n" + b"x" * 3_000_000)
    assert len(text.text) == 2_000_000
    assert "the text is too long to be shown whole" in text.notes
