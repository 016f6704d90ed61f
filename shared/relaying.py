"""Holding what is sent against the organisation's rules: when it is promised, and before it is handed over.

The rules are remembered for half a minute, so a change takes so long to reach every worker; a mail
costs no storage operation where there are none. Mails per hour are counted in one record, in the transaction
that promises a mail; one that waited is counted anew, in the transaction that begins its hand-over, since
what waited for hours must not leave all at once. Whatever happens at the same moment, none is counted
twice or not at all.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.app import App
from shared.drafts import Draft
from shared.errors import Busy, Raced
from shared.model import DomainProof, Integration, Mailbox, Message, Tally
from shared.rules import PROMPT, Rules
from shared.storage.base import Add, Move, Write, every

TURNS, JITTER = 10, 0.05
"""Where mails are counted, those of the same moment take turns so often; seconds."""

REMEMBERED = timedelta(seconds=30)
MOST = 10_000
"""Organisations remembered at once."""


@dataclass(frozen=True)
class Counting:
    """What counts a mail as of `at`, to be committed with what is counted; nothing where nothing needs it."""

    writes: tuple[Write, ...] = ()
    at: datetime | None = None
    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is still true."""
        return self.until is None or now < self.until


def admit(app: App, org_id: str, mailbox: Mailbox, draft: Draft, *, counts: bool = True) -> Counting:
    """Judge a mail before it is promised; return what counts it, to be committed with the promise.

    Args:
        counts: False for what is not sent yet.

    Raises AgainstRules naming the field, with a fix.
    """
    sides = {"to": draft.to, "cc": draft.cc, "bcc": draft.bcc}
    recipients = [
        (f"{side}[{place}].address", person.address)
        for side, people in sides.items()
        for place, person in enumerate(people)
    ]
    return _admitted(app, org_id, mailbox, recipients, counts=counts)


def admit_test(app: App, org_id: str, mailbox: Mailbox) -> Counting:
    """Judge a mail from a mailbox to itself, which nobody promises. Returns and raises as `admit`.

    It leaves as any other: where recipients are listed, the mailbox has to be one of them.
    """
    return _admitted(app, org_id, mailbox, [("to", mailbox.address)])


def _admitted(
    app: App, org_id: str, mailbox: Mailbox, recipients: Sequence[tuple[str, str]], *, counts: bool = True
) -> Counting:
    rules = of(app, org_id, mailbox)
    rules.judge(mailbox.address, recipients)
    return _counted(app, org_id, rules, rules.count) if counts else Counting()


def in_turn(count: Callable[[], Counting], commit: Callable[[Counting], object]) -> None:
    """Commit what leaves with what counts it; who is counted at the same moment takes turns.

    Raises Busy where too many are; Raced where nothing is counted, and so something else was lost.
    """
    for tries in range(TURNS):
        counting = count()
        try:
            commit(counting)
        except Raced:
            if not counting.writes:
                raise
            wait_a_turn(tries)
        else:
            return
    raise Busy("Too many mails leave at the same moment.", retry_after=2)


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
    rules, counted_at = of(app, org_id, mailbox), message.counted_at
    if counted_at and app.clock() < counted_at + PROMPT:
        return Counting(at=counted_at, until=counted_at + PROMPT)
    return _counted(app, org_id, rules, lambda tally, now: rules.let_go(tally, now, counted_at))


def _counted(app: App, org_id: str, rules: Rules, count: Callable[[Tally, datetime], Tally]) -> Counting:
    if rules.max_per_hour is None:
        return Counting()
    stored, now = app.records.find(org_id, Tally, rules.provider), app.clock()
    counted = count(stored.value if stored else Tally(rules.provider), now)
    next_minute = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return Counting((Move(stored, counted) if stored else Add(counted),), now, next_minute)


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
