"""What a bounce makes of the mail that it reports on."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared.bounces import LONGEST_TOLD, MOST_TOLD, bounced, undelivered
from shared.mime.reports import Recipient, Report
from shared.model import Address, Evidence, Message

pytestmark = pytest.mark.fast

SENT = Message(
    id="1-x",
    case_id="C-1",
    conversation_id="c",
    mail_kind="mail",
    direction="out",
    origin="app",
    state="sent",
    sender=Address("alice@imap.example"),
    to=(Address("one@x.example"),),
    cc=(),
    subject="Offer 4711",
    received_at=datetime(2026, 11, 24, 8, tzinfo=UTC),
    raw="",
    evidence=Evidence("sent"),
    envelope_to=("one@x.example", "two@x.example"),
)


def report(*addresses, action="failed", words="No such user"):
    told = Report(("<a@x>",), tuple(Recipient(one, action, "5.1.1", words) for one in addresses))
    return undelivered(told)


def test_a_mail_of_ours_fails_for_the_recipients_that_it_was_sent_to():
    failed = bounced(SENT, report("one@x.example", "else@x.example"))
    assert (failed.state, failed.error.code) == ("failed", "5.1.1")
    assert failed.error.detail == "one@x.example: 5.1.1 No such user"


def test_nothing_becomes_of_a_mail_that_was_received_or_went_to_others_or_is_only_late():
    assert bounced(replace(SENT, direction="in"), report("one@x.example")) is None
    assert bounced(SENT, report("else@x.example")) is None
    assert bounced(SENT, report("one@x.example", action="delayed")) is None


def test_what_several_bounces_say_is_told_once_each():
    first = bounced(SENT, report("one@x.example"))
    both = bounced(first, report("two@x.example"))
    assert bounced(both, report("one@x.example")) == both
    assert both.error.detail.count("No such user") == 2


def test_what_a_report_says_without_end_is_cut():
    many = [f"{n}@x.example" for n in range(MOST_TOLD + 1)]
    told = bounced(replace(SENT, envelope_to=tuple(many)), report(*many, words="x" * 2_000)).error.detail
    assert len(told) == LONGEST_TOLD
    assert many[-1] not in told
