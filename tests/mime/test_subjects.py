"""Topics, copies and stand-ins for missing ids."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared import mime

pytestmark = pytest.mark.fast
# ruff: noqa: RUF001 - full-width letters are what is tested


@pytest.mark.parametrize(
    "subject",
    [
        "Offer 4711", "Re: Offer 4711", "RE[2]: Offer 4711", "AW: WG: Offer 4711", "Antwort: offer  4711", "[list] Re: Offer 4711",
        "Re: [EXTERN] Offer 4711", "*** SPAM *** Offer 4711", "回复：Offer 4711", "Re (3): Offer 4711", "R: I: Offer 4711",
        "SV: VS: Odp: Offer 4711", "Fwd: Offer 4711", "Ｒｅ：Offer 4711", " re :Offer 4711",
    ],
)  # fmt: skip
def test_prefixes_and_tags_do_not_change_the_topic(subject):
    assert mime.base_subject(subject) == "offer 4711"


@pytest.mark.parametrize("subject", ["Report: x", "Reise: x", "Offer: Re: x", "4711: x", "Freitag: x"])
def test_other_words_with_a_colon_stay(subject):
    assert mime.base_subject(subject) == subject.lower()


@pytest.mark.parametrize("subject", ["", "Re:", "AW: WG:", "[x]"])
def test_a_subject_without_topic_is_empty(subject):
    assert mime.base_subject(subject) == ""


@pytest.mark.parametrize(
    ("subject", "forward"),
    [("Fwd: x", True), ("WG: Re: x", True), ("[EXTERN] TR: x", True), ("Re: Fwd: x", False), ("Forward: x", False), ("x", False)],
)  # fmt: skip
def test_a_forward_says_so_first(subject, forward):
    assert mime.is_forward(subject) is forward


MAIL = (
    "From: Sam <sam@supplier.example>\r\nTo: a@imap.example\r\nSubject: =?utf-8?q?Angebot_f=C3=BCr?= Alice\r\n"
    "Date: Tue, 24 Nov 2026 10:00:00 +0100\r\nMessage-ID: <m@x>\r\n\r\n"
)


def envelope(*changes: tuple[str, str]):
    text = MAIL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return mime.envelope(text.encode(), ref="1")


@pytest.mark.parametrize(
    "changes",
    [
        (("<m@x>", "<rewritten@relay.example>"),),
        (("From: Sam", "Received: by relay\r\nFrom: Sam"),),
        (("Subject: ", "Subject: [procurement] "),),
        (("Subject: ", "Subject: [EXTERN] *** SPAM *** "),),
        (("=?utf-8?q?Angebot_f=C3=BCr?= Alice", "=?utf-8?q?Angebot_f=C3=BCr_Alice?="),),
        (("Alice", "\r\n  Alice"),),
        (("10:00:00 +0100", "09:00:00 +0000"),),
        (("Sam <sam@", "Sam Supplier <SAM@"),),
    ],
)
def test_a_copy_has_the_same_fingerprint_whatever_relays_did(changes):
    assert mime.fingerprint(envelope(*changes)) == mime.fingerprint(envelope())


@pytest.mark.parametrize(
    "changes",
    [(("sam@", "eve@"),), (("10:00:00", "10:00:01"),), (("Alice", "Bob"),), (("Date: Tue, 24 Nov 2026 10:00:00 +0100", "X: y"),)],
)  # fmt: skip
def test_another_mail_has_another_fingerprint(changes):
    assert mime.fingerprint(envelope(*changes)) != mime.fingerprint(envelope())


def test_a_mail_without_id_gets_a_stable_one():
    one, copy = envelope(("Message-ID: <m@x>\r\n", "")), envelope(("Message-ID: <m@x>\r\n", "X-Copy: 2\r\n"))
    assert one.message_id is None
    assert mime.synthetic_id(one) == mime.synthetic_id(copy)
    assert mime.synthetic_id(one).endswith("@synthetic.invalid>")
    assert mime.synthetic_id(one) != mime.synthetic_id(envelope(("a@imap", "b@imap")))
    assert mime.synthetic_id(one) != mime.synthetic_id(envelope(("Subject: ", "Subject: [2] ")))


def test_without_date_the_time_of_arrival_tells_mails_apart():
    undated = replace(envelope(), sent_at=None, received_at=datetime(2026, 11, 24, 9, tzinfo=UTC))
    later = replace(undated, received_at=datetime(2026, 11, 24, 10, tzinfo=UTC))
    assert mime.synthetic_id(undated) != mime.synthetic_id(later)
