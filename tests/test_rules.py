"""An organisation's rules for sending, decided without any store."""

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from shared import forms, rules
from shared.errors import InvalidRequest, Temporary
from shared.model import Tally
from shared.rules import AgainstRules, Rules

pytestmark = pytest.mark.fast
NOW = datetime(2026, 11, 26, 12, 30, 59, tzinfo=UTC)


def made(proven=(), **settings):
    return Rules.of("smtp", rules.checked(settings), proven)


def judged(found, *recipients, sender="alice@own.example"):
    """The refusal's field, or None; there is none without a fix."""
    try:
        found.judge(sender, [(f"to[{n}].address", one) for n, one in enumerate(recipients)])
    except AgainstRules as refusal:
        return refusal.field if refusal.fix and refusal.status == 422 else "no fix"
    return None


def test_without_rules_everything_may_be_sent():
    assert judged(made(), *(f"a{n}@x.example" for n in range(300))) is None


@pytest.mark.parametrize(
    ("allowed", "address", "field"),
    [
        ("supplier.example", "a@supplier.example", None),
        ("Supplier.Example", "a@supplier.example", None),
        ("supplier.example", "a@sub.supplier.example", "to[1].address"),
        ("supplier.example", "a@evilsupplier.example", "to[1].address"),
        ("supplier.example", "supplier.example@evil.example", "to[1].address"),
        ("*.supplier.example", "a@sub.supplier.example", None),
        ("*.supplier.example", "a@deep.sub.supplier.example", None),
        ("*.supplier.example", "a@supplier.example", "to[1].address"),
        ("Ann@supplier.example", "ann@supplier.example", None),
        ("ann@supplier.example", "bob@supplier.example", "to[1].address"),
        ("bücher.example", "a@xn--bcher-kva.example", None),
    ],
)
def test_only_allowed_domains_and_addresses_may_be_written_to(allowed, address, field):
    assert judged(made(allowedRecipients=[allowed, "known.example"]), "ok@known.example", address) == field


def test_a_sender_domain_counts_once_it_is_proven():
    waiting = made(allowedSenders=["own.example"])
    assert judged(waiting, "a@b.example") == "mailboxId"
    assert judged(made(("own.example",), allowedSenders=["own.example"]), "a@b.example") is None
    assert judged(made(("own.example",), allowedSenders=["other.example"]), "a@b.example") == "mailboxId"


def test_recipients_are_counted_once_each():
    few = made(maxRecipients=2)
    assert judged(few, "a@b.example", "c@d.example", "a@b.example") is None
    assert judged(few, "a@b.example", "c@d.example", "e@f.example") == "to"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"allowedRecipients": ["ok.example", "no domain"]}, "settings.allowedRecipients[1]"),
        ({"allowedRecipients": ["a b@c.example"]}, "settings.allowedRecipients[0]"),
        ({"allowedRecipients": ["*.*.example"]}, "settings.allowedRecipients[0]"),
        ({"allowedSenders": ["a@own.example"]}, "settings.allowedSenders[0]"),
        ({"allowedSenders": ["*.own.example"]}, "settings.allowedSenders[0]"),
        ({"allowedSenders": ["localhost"]}, "settings.allowedSenders[0]"),
        ({"maxRecipients": 0}, "settings.maxRecipients"),
        ({"maxPerHour": -1}, "settings.maxPerHour"),
    ],
)
def test_a_rule_that_cannot_be_is_named_by_its_place(settings, field):
    with pytest.raises(InvalidRequest) as caught:
        rules.checked(forms.check(rules.FORM, settings, path="settings", partial=True))
    assert caught.value.field == field


def test_never_more_than_the_limit_in_any_sixty_minutes():
    limit, tally = made(maxPerHour=3), Tally("smtp")
    sent = []
    at = NOW
    while at < NOW + timedelta(hours=5):
        try:
            tally = limit.count(tally, at)
            sent.append(at)
        except AgainstRules:
            pass
        at += timedelta(seconds=97)
    for one in sent:
        assert sum(one <= other < one + timedelta(hours=1) for other in sent) <= 3
    assert len(sent) >= 14
    assert len(tally.minutes) <= rules.HOUR


def test_never_more_than_the_limit_leave_in_any_sixty_minutes_however_long_each_waited():
    limit, tally, chance = made(maxPerHour=3), Tally("smtp"), random.Random(4711)
    waiting, left = list[tuple[datetime, datetime]](), list[datetime]()
    for seconds in range(0, 8 * 3600, 47):
        at = NOW + timedelta(seconds=seconds)
        with suppress(AgainstRules):
            tally = limit.count(tally, at)
            waits = chance.choice([0, 20, 50, 70, 600, 5_000])
            waiting.append((at + timedelta(seconds=waits), at))
        for due, counted in [one for one in waiting if one[0] <= at]:
            if at - counted >= rules.PROMPT:
                try:
                    tally = limit.let_go(tally, at, counted)
                except Temporary:
                    continue
            waiting.remove((due, counted))
            left.append(at)
    for one in left:
        assert sum(one <= other <= one + timedelta(hours=1) for other in left) <= 3
    assert len(left) >= 18


def test_where_the_limit_was_lowered_a_full_hour_says_when_there_is_room_again():
    tally = Tally("smtp")
    for minutes in range(10):
        tally = made(maxPerHour=20).count(tally, NOW + timedelta(minutes=minutes))
    with pytest.raises(AgainstRules) as caught:
        made(maxPerHour=3).count(tally, NOW + timedelta(minutes=20))
    assert "13:39 UTC" in caught.value.fix, "when eight of the ten do not count any more"
    assert made(maxPerHour=3).count(tally, datetime(2026, 11, 26, 13, 39, tzinfo=UTC))


def test_a_full_hour_says_when_it_ends():
    limit = made(maxPerHour=1)
    tally = limit.count(Tally("smtp"), NOW)
    with pytest.raises(AgainstRules) as caught:
        limit.count(tally, NOW + timedelta(minutes=10))
    assert "13:32 UTC" in caught.value.fix
    assert limit.count(tally, datetime(2026, 11, 26, 13, 32, tzinfo=UTC))
