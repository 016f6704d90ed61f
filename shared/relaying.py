"""Holding what is sent against the organisation's rules: when it is promised, and before it is handed over.

The rules are remembered for half a minute, so a change takes so long to reach every worker; a mail
costs no storage operation where there are none. Mails per hour are counted in one record, in the transaction
that promises a mail; one that waited is counted anew, in the transaction that begins its hand-over, since
what waited for hours must not leave all at once. Whatever happens at the same moment, none is counted
twice or not at all.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.app import App
from shared.drafts import Draft
from shared.errors import Busy, Raced
from shared.model import DomainProof, Integration, Mailbox, Message, Tally
from shared.rules import PROMPT, Rules
from shared.storage.base import Add, Move, Stored, Write, every

TURNS, JITTER = 10, 0.05
"""Where mails are counted, those of the same moment take turns so often; seconds."""

REMEMBERED = timedelta(seconds=30)
MOST = 10_000
"""Organisations remembered at once."""


@dataclass(frozen=True)
class Counting:
    """What counts a mail, to be committed with what is counted; nothing where nothing needs it.

    Attributes:
        found: the count as it was read, or is remembered; None where there was none.
        counted: with this mail; None where it is not counted.
        at, until: as of when, and until when it is true.
    """

    found: Stored[Tally] | None = None
    counted: Tally | None = None
    at: datetime | None = None
    until: datetime | None = None

    @property
    def writes(self) -> tuple[Write, ...]:
        """The write that counts it, or none."""
        if self.counted is None:
            return ()
        return (Move(self.found, self.counted) if self.found else Add(self.counted),)

    def holds(self, now: datetime) -> bool:
        """Whether it is still true."""
        return self.until is None or now < self.until


def admit(app: App, org_id: str, mailbox: Mailbox, draft: Draft) -> None:
    """Judge a mail before it is promised. Raises AgainstRules naming the field, with a fix."""
    sides = {"to": draft.to, "cc": draft.cc, "bcc": draft.bcc}
    recipients = [
        (f"{side}[{place}].address", person.address)
        for side, people in sides.items()
        for place, person in enumerate(people)
    ]
    of(app, org_id, mailbox).judge(mailbox.address, recipients)


def count(app: App, org_id: str, mailbox: Mailbox, at: datetime) -> Counting:
    """Return what counts a new mail as of `at`. Raises AgainstRules where the hour is full.

    What this process counted last is remembered; whoever was overtaken (`in_turn`) reads it.
    """
    rules = of(app, org_id, mailbox)
    if rules.max_per_hour is None:
        return Counting()
    found = app.tallies.get((org_id, rules.provider))
    if found is None or rules.full_until(found.value, at):  # nobody is refused by what is remembered
        found = _tally(app, org_id, rules)
    tally = found.value if found else Tally(rules.provider)
    return _counting(found, rules.count(tally, at), at)


def count_test(app: App, org_id: str, mailbox: Mailbox) -> Counting:
    """Judge a mail from a mailbox to itself, which nobody promises, and return what counts it.

    It leaves as any other: where recipients are listed, the mailbox has to be one of them.
    Raises AgainstRules.
    """
    of(app, org_id, mailbox).judge(mailbox.address, [("to", mailbox.address)])
    return count(app, org_id, mailbox, app.clock())


def in_turn(
    app: App,
    org_id: str,
    counting: Counting,
    again: Callable[[], Counting],
    commit: Callable[[Counting], str | None],
) -> None:
    """Commit what leaves with what counts it; who is counted at the same moment takes turns.

    Args:
        counting: the first count; `again` counts anew.
        commit: commits both; returns the version that the count then has, if it shall be remembered.

    Raises Busy where too many are; Raced where it was something else that was lost; what `again` raises.
    """
    for tries in range(TURNS):
        try:
            etag = commit(counting)
        except Raced:
            if counting.counted is None:
                raise
            lost, provider = counting.found, counting.counted.provider
            app.tallies.pop((org_id, provider), None)
            wait_a_turn(tries)
            counting = again()
            if counting.found == lost:  # nobody was counted meanwhile
                raise
        else:
            _remember(app, org_id, counting, etag)
            return
    raise Busy("Too many mails leave at the same moment.", retry_after=2)


def _remember(app: App, org_id: str, counting: Counting, etag: str | None) -> None:
    if counting.counted and etag:
        if len(app.tallies) >= MOST:
            app.tallies.clear()
        app.tallies[org_id, counting.counted.provider] = Stored(counting.counted, etag)


def wait_a_turn(tries: int) -> None:
    """Wait a little, as long as it takes others who are counted at the same moment; longer with each try."""
    time.sleep(random.random() * JITTER * (tries + 1))  # noqa: S311 - spreads writers, protects nothing


def judge(app: App, org_id: str, mailbox: Mailbox, message: Message) -> Counting:
    """Judge a promised mail again before it leaves: the rules may have changed. Returns as `let_go`.

    Raises AgainstRules, and as `let_go`.
    """
    recipients = [("to", address) for address in message.envelope_to]
    of(app, org_id, mailbox).judge(mailbox.address, recipients)
    return let_go(app, org_id, mailbox, message)


def let_go(app: App, org_id: str, mailbox: Mailbox, message: Message) -> Counting:
    """Return what counts a mail that leaves now, to be committed with the beginning of its hand-over.

    Raises Temporary where no more may leave for a while.
    """
    rules, counted_at, now = of(app, org_id, mailbox), message.counted_at, app.clock()
    if counted_at and now < counted_at + PROMPT:
        return Counting(at=counted_at, until=counted_at + PROMPT)
    if rules.max_per_hour is None:
        return Counting()
    found = _tally(app, org_id, rules)
    tally = found.value if found else Tally(rules.provider)
    return _counting(found, rules.let_go(tally, now, counted_at), now)


def _tally(app: App, org_id: str, rules: Rules) -> Stored[Tally] | None:
    return app.records.find(org_id, Tally, rules.provider)


def _counting(found: Stored[Tally] | None, counted: Tally, at: datetime) -> Counting:
    next_minute = at.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return Counting(found, counted, at, next_minute)


def of(app: App, org_id: str, mailbox: Mailbox) -> Rules:
    """Return the rules for what this mailbox sends, as they were at most half a minute ago."""
    provider, now = mailbox.sends_with or "", app.clock()
    known = app.rules.get((org_id, provider))
    if known and known[0] > now:
        return known[1]
    rules = _read(app, org_id, provider)
    if len(app.rules) >= MOST:
        app.rules.clear()
    app.rules[org_id, provider] = (now + REMEMBERED, rules)
    return rules


def forget(app: App, org_id: str) -> None:
    """Read an organisation's rules anew: they were changed by this process."""
    for key in [key for key in list(app.rules) if key[0] == org_id]:  # other threads add to it meanwhile
        app.rules.pop(key, None)


def _read(app: App, org_id: str, provider: str) -> Rules:
    stored = app.records.find(org_id, Integration, provider)
    settings = stored.value.settings if stored else {}
    return Rules.of(provider, settings, _proven(app, org_id) if settings.get("allowedSenders") else ())


def _proven(app: App, org_id: str) -> Iterator[str]:
    proofs = every(app.records, org_id, DomainProof)
    return (proof.value.domain for proof in proofs if proof.value.state == "proven")
