"""Whether an answer may have been passed over before the mail that it answers."""

from datetime import UTC, datetime, timedelta

import pytest

from shared import seeing
from shared.seeing import Seen
from tests.test_conversations import envelope

pytestmark = pytest.mark.fast

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATER = NOON + timedelta(hours=1)


def mail(minutes=0, **changes):
    came = NOON + minutes * MINUTE
    return envelope(**{"received_at": came, "sent_at": came, **changes})


def test_what_a_mail_that_was_passed_over_names_may_have_been_answered_by_it():
    seen = Seen()
    seen.saw(mail(in_reply_to="<a@x>", references=("<b@x>", "<a@x>")), "ignore", LATER)
    seen.saw(mail(references=("<c@x>",)), "file", LATER)
    assert [seen.may_have_passed_over(mail(-1, message_id=f"<{name}@x>")) for name in "abc"] == [
        True,
        True,
        False,
    ]


def test_of_earlier_looks_only_the_time_is_known():
    seen = Seen(before=NOON)
    assert seen.may_have_passed_over(mail(-1))
    assert not seen.may_have_passed_over(mail(1))
    assert seen.may_have_passed_over(mail(1, is_sent=True, sent_at=NOON - MINUTE))


def test_a_mail_that_was_long_on_its_way_may_have_been_answered_before_it_came():
    seen = Seen(before=NOON)
    assert seen.may_have_passed_over(mail(9, sent_at=NOON - MINUTE))
    assert not seen.may_have_passed_over(mail(9, sent_at=NOON + MINUTE))
    assert not seen.may_have_passed_over(mail(1, sent_at=NOON)), "as long as every mail takes"


def test_where_no_server_says_when_a_mail_came_its_date_tells_the_time():
    seen = Seen()
    seen.saw(mail(received_at=None, sent_at=NOON), "ignore", LATER)
    later = Seen(before=seen.newest)
    assert later.may_have_passed_over(mail(received_at=None, sent_at=NOON - MINUTE))
    assert not later.may_have_passed_over(mail(received_at=None, sent_at=NOON + MINUTE))


def test_a_mail_from_the_future_makes_no_other_late():
    seen = Seen()
    seen.saw(mail(60 * 24 * 365), "ignore", NOON)
    assert seen.newest == NOON


def test_a_mail_server_whose_clock_is_ahead_tells_what_is_old_by_it():
    seen = Seen()
    seen.saw(mail(5), "review", NOON)
    later = Seen(before=seen.newest)
    assert [later.is_old(mail(minute)) for minute in (5, 6)] == [True, False]


def test_where_a_human_looks_through_what_lies_there_everything_is_old():
    assert Seen.everything().is_old(mail(60 * 24 * 365))


def test_when_too_much_was_named_to_be_remembered_the_time_decides(monkeypatch):
    monkeypatch.setattr(seeing, "MOST_NAMED", 1)
    seen = Seen()
    seen.saw(mail(5, in_reply_to="<a@x>"), "ignore", LATER)
    assert seen.may_have_passed_over(mail(1))
    assert not seen.may_have_passed_over(mail(9))
