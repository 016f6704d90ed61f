"""What a mailbox can and cannot do, for every pair of providers there is."""

from datetime import UTC, datetime
from itertools import product

import pytest

from shared import powers
from shared.model import Mailbox
from shared.providers.registry import names, provider

pytestmark = pytest.mark.fast
RECEIVING = [None, *(name for name in names() if provider(name).receiver)]
SENDING = [None, *(name for name in names() if provider(name).sender)]


def able(receives, sends, settings=None, poll_seconds=900):
    now = datetime.now(UTC)
    box = Mailbox(
        "1",
        "a@b.example",
        "a@b.example",
        receives,
        sends,
        settings or {},
        "active",
        now,
        now,
        poll_seconds=poll_seconds,
    )
    return powers.of_mailbox(box, provider)


@pytest.mark.parametrize(("receives", "sends"), [*product(RECEIVING, SENDING)])
def test_every_power_is_there_or_its_lack_is_explained(receives, sends):
    told = able(receives, sends)
    lacking = [limit.power for limit in told.limits]
    missing = {
        power for power, side in (("push", receives), ("draft", sends), ("copy", sends)) if side is None
    }
    assert {*told.can, *lacking} == {*powers.HEADINGS} - missing
    assert not {*told.can} & {*lacking}
    assert all(limit.detail.endswith(".") and "{" not in limit.detail for limit in told.limits)


def limit(told, power):
    return next(limit for limit in told.limits if limit.power == power)


def test_pop3_says_that_own_mail_from_another_program_is_not_seen():
    told = able("pop3", "smtp")
    assert told.can == ("receive", "send")
    assert "another program" in limit(told, "sent").detail
    assert "every 15 minutes" in limit(told, "push").detail


@pytest.mark.parametrize(("seconds", "often"), [(60, "every minute."), (120, "every 2 minutes.")])
def test_how_often_a_mailbox_is_looked_at_reads_well(seconds, often):
    assert limit(able("imap", "smtp", poll_seconds=seconds), "push").detail.endswith(often)


@pytest.mark.parametrize(
    ("lacks", "power", "has"),
    [
        (("pop3", "smtp"), "sent", lambda one: one.receiver and one.sent_folder),
        (("pop3", "smtp"), "search", lambda one: one.receiver and one.searcher),
        (("pop3", "smtp"), "copy", lambda one: one.keeps_copies),
        (("imap", "smtp"), "draft", lambda one: one.drafter),
    ],
)
def test_the_systems_that_a_fix_names_are_those_that_have_the_power(lacks, power, has):
    """By the first words of their titles."""
    told = {word.strip(".,:;") for word in limit(able(*lacks), power).fix.split()}
    known = {name: provider(name).title.split()[0] for name in names()}
    assert {n for n in names() if known[n] in told} == {n for n in names() if has(provider(n))}


def test_where_no_copy_of_sent_mail_can_lie_says_so():
    for sends in ("google", "microsoft", "ews"):
        assert "copy" in able(sends, sends).can
    for receives in ("imap", "ews"):
        assert "copy" in able(receives, "smtp").can
    for receives in ("google", "microsoft", "pop3", None):
        assert "Sent folder" in limit(able(receives, "smtp"), "copy").detail
    assert "filesCopy" in limit(able("google", "smtp"), "copy").fix
    assert "copy" in able("google", "smtp", {"smtp": {"host": "smtp.gmail.com"}}).can
    assert "copy" in able("google", "smtp", {"smtp": {"filesCopy": True}}).can


def test_only_gmail_has_drafts_and_only_where_it_lets_them_be_put():
    assert "draft" in able("google", "google", {"google": {"drafts": True}}).can
    assert "IT" in limit(able("google", "google", {"google": {"drafts": False}}), "draft").fix
    assert [
        name for name in SENDING if name and "draft" in able(None, name, {name: {"drafts": True}}).can
    ] == ["google"]


def test_sending_only_says_that_replies_are_not_followed():
    told = able(None, "smtp")
    assert told.can == ("send",)
    assert "replies" in limit(told, "receive").detail
    assert limit(told, "receive").fix


def test_reading_only_says_that_nothing_can_be_sent():
    assert able("imap", None).can == ("receive", "sent", "search")
    assert limit(able("imap", None), "send").fix
