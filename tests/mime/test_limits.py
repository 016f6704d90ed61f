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


def test_of_headers_beyond_256_kilobytes_the_first_and_the_last_are_read_and_the_body_is():
    above = b"Subject: kept\r\n" + b"X: y\r\n" * 300_000
    raw = b"%sZ: middle\r\n%s In-Reply-To: <no@x>\r\nReferences: <a@b>\r\n\r\nbody" % (above, above)
    parsed, envelope = mime.parse(raw), mime.envelope(raw, ref="1")
    assert (parsed.subject, parsed.text, parsed.references) == ("kept", "body", ("<a@b>",))
    assert "z" not in envelope.headers
    assert len(envelope.headers["x"]) < 60_000


@pytest.mark.parametrize(
    "above", ["X-Junk: " + "a " * 140_000, "X-Junk: a" + "\r\nX-Junk: a" * 30_000], ids=["one", "many"]
)
def test_what_a_mail_answers_is_found_below_however_many_headers(above):
    raw = f"{above}\r\nReferences: <a@b>\r\n\r\nbody\r\n\r\nReferences: <body@x>".encode()
    assert mime.envelope(raw, ref="1").references == ("<a@b>",)


@pytest.mark.parametrize("name", ["References", "In-Reply-To"])
def test_of_a_header_that_is_too_long_the_nearest_ids_are_kept(name):
    far = "".join(f" <{n}{'x' * 900}@b>\r\n" for n in range(100))
    raw = f"{name}:{far} <near@b>\r\nSubject: {'x' * 80_000}\r\n\r\n".encode()
    envelope = mime.envelope(raw, ref="1")
    assert "<near@b>" in envelope.references
    assert sum(map(len, envelope.references)) < 65_536
    assert len(envelope.headers["subject"][0]) > 65_000


@pytest.mark.parametrize(
    "stray", ["one", ">From a@x Thu\r\n>From b@x Thu", "X Foo: y\r\nX Bar: y", "1\r\n2\r\n3\r\n4\r\n5"]
)
def test_headers_go_on_after_a_few_lines_that_are_none(stray):
    parsed = mime.parse(f"From: a@x\r\n{stray}\r\nReferences: <a@b>\r\n\r\nbody".encode())
    assert (parsed.references, parsed.text) == (("<a@b>",), "body")


@pytest.mark.parametrize("text", ["1\n2\n3\n4\n5\n6\nReferences: <a@b>\n", "Look at\nhttps://x.example\n"])
def test_text_begins_without_a_blank_line_where_no_headers_go_on(text):
    assert mime.parse(f"From: a@x\n{text}".encode()).text == text


def test_html_and_text_too_large_to_show_are_cut_with_a_note():
    html = mime.parse(b"Content-Type: text/html\r\n\r\n" + b"<p>x</p>" * 300_000)
    assert html.html is None
    assert html.text
    assert "the HTML is too large to be shown" in html.notes
    text = mime.parse(b"Subject: x\r\n\r\n" + b"x" * 3_000_000)
    assert len(text.text) == 2_000_000
    assert "the text is too long to be shown whole" in text.notes


@pytest.mark.parametrize("fields", [b"a:\n\n", b"a:\n", b"Final-Recipient: rfc822; a@b.example\n"])
def test_a_large_report_costs_no_more_than_its_beginning(fields):
    block = fields * 2_000_000
    head = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    raw = head + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + block
    start = time.thread_time()
    mime.reported_ids(block)
    mime.returned_references(block)
    assert time.thread_time() - start < 1
    assert len(mime.returned_headers(raw)) <= mime.LONGEST_PART


def test_a_report_about_hundreds_of_recipients_tells_of_all_and_which_mail_it_is():
    each = "Final-Recipient: rfc822; person{n}@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
    status = "Reporting-MTA: dns; x\r\n\r\n" + "".join(each.format(n=n) for n in range(600))
    raw = (
        "From: mailer-daemon@b.example\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n"
        "--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <ours@x.example>\r\n\r\n--b--\r\n"
    ).encode()
    found = mime.report(raw)
    assert found.message_ids == ("<ours@x.example>",)
    assert len(found.recipients) == 600


def test_of_a_part_that_is_read_in_part_no_line_is_cut():
    line = b"Message-ID: <" + b"x" * 50 + b"@x.example>\r\n"
    assert mime.beginning(line) == line
    assert {*mime.beginning(line * 2000).splitlines(keepends=True)} <= {line, line.removesuffix(b"\n")}
