"""What is due: polls, renewals and the outbox, from a time-bucketed index. Timers only fan out.

The tick owns a poll chain: it enqueues the sync and notes the next time before it removes this one,
so a crash doubles a poll and never ends the chain. The chain's token is the mailbox's `schedule`;
a mailbox that was changed has a new token, and the old chain is cut by the job that notices.

An organisation's outbox has a chain, too, the watch: from its first mailbox on it is looked at every few
minutes, so that a promise need not be noted here. Its times are fixed for an organisation: chains that
were begun twice meet in one entry.
"""

import logging
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zlib import crc32

from shared import flows, jobs, logs, uploading
from shared.app import App
from shared.errors import ZalionError
from shared.jobs import Job
from shared.model import Mailbox, OutboxItem
from shared.storage.base import Due, every

GRACE = timedelta(minutes=2)
"""How long a nudge may take before the sweep sends another."""

WATCH = timedelta(minutes=5)
"""How often an organisation's outbox is looked at, whatever is noted."""

MINUTE = timedelta(minutes=1)

MOST_IN_A_ROW = 20
"""So many organisations' entries may fail one after the other."""

FIRST_POLL = timedelta(minutes=3)
"""Longer than the write of the mailbox takes, even where storage is slow: or its chain would be cut."""


def tick(app: App) -> int:
    """Enqueue everything that is due; returns how much that was. Called by the timer each minute.

    What fails stays due, and keeps nothing else waiting. Raises where much fails in a row: the store is away.
    """
    now, count, swept = app.clock(), 0, set[str]()
    left, in_a_row = set[tuple[str, str]](), 0
    for due in app.schedule.until(now):
        if (due.org_id, due.kind) in left:
            continue
        try:
            _see_to(app, due, now, swept)
            app.schedule.remove(due)
        except Exception as error:
            _tell(due, error)
            left.add((due.org_id, due.kind))
            in_a_row += 1
            if in_a_row == MOST_IN_A_ROW:
                raise
        else:
            count, in_a_row = count + 1, 0
    return count


def _see_to(app: App, due: Due, now: datetime, swept: set[str]) -> None:
    match due.kind:
        case "poll":
            _poll(app, due, now)
        case "expiry" | "grant" | "resume":
            jobs.put(app, Job(due.kind, due.org_id, due.id))
        case "push":
            jobs.put(app, Job("subscribe", due.org_id, due.id, event="due"))
        case "flow":
            flows.lapse(app, due.org_id, due.id)
        case _:
            if due.org_id not in swept:  # many notes of one minute are one reason to look
                _sweep(app, due.org_id, now)
                swept.add(due.org_id)
            if due.kind == "watch":
                following = _next_watch(due.org_id, now)
                for day in uploading.settled(due.at - WATCH, following - WATCH):
                    jobs.put(app, Job("settle", due.org_id, day))
                app.schedule.put(replace(due, at=following))


def _tell(due: Due, error: Exception) -> None:
    with logs.bind(org_id=due.org_id, job=due.kind):
        if isinstance(error, ZalionError):
            logs.log("tick.postponed", level=logging.WARNING, error=error)
        else:
            logs.log("tick.failed", level=logging.ERROR, error=error)


def new_token() -> str:
    """Make the token of a new poll chain."""
    return secrets.token_hex(4)


def watch(app: App, org_id: str) -> None:
    """Have the organisation's outbox looked at every few minutes from now on; once more changes nothing."""
    app.schedule.put(Due(_next_watch(org_id, app.clock()), "watch", org_id, "-"))


def _next_watch(org_id: str, now: datetime) -> datetime:
    """Return the organisation's next time; others have theirs at other minutes."""
    step, place = WATCH // MINUTE, crc32(org_id.encode()) % (WATCH // MINUTE)
    minute = int(now.timestamp()) // 60
    return datetime.fromtimestamp((minute + step - (minute - place) % step) * 60, UTC)


def plan_polls(app: App, org_id: str, mailbox: Mailbox) -> None:
    """Begin a mailbox's chain, before the mailbox is written: a chain without one is cut by its first job."""
    watch(app, org_id)
    at = app.clock() + FIRST_POLL
    app.schedule.put(Due(at, "poll", org_id, mailbox.id, mailbox.poll_seconds, mailbox.schedule))


def still_wanted(app: App, job: Job) -> bool:
    """Whether a poll's chain is the mailbox's live one; a dead chain is cut here."""
    if not job.token:
        return True  # a person or a push asked, not a chain
    mailbox = app.records.find(job.org_id, Mailbox, job.id)
    if mailbox and mailbox.value.state == "active" and mailbox.value.schedule == job.token:
        return True
    at = datetime.fromisoformat(job.next)
    app.schedule.remove(Due(at, "poll", job.org_id, job.id, job.every, job.token))
    return False


def promise_sweep(app: App, org_id: str, at: datetime) -> None:
    """Have the organisation's outbox looked at then, which the watch would do some minutes later."""
    app.schedule.put(Due(at, "outbox", org_id, "-"))


def _poll(app: App, due: Due, now: datetime) -> None:
    """Missed slots are not made up for, one look sees everything; mailboxes keep their own minutes."""
    interval = timedelta(seconds=due.every)
    following = due.at + interval * ((now - due.at) // interval + 1)
    jobs.put(
        app,
        Job("sync", due.org_id, due.id, token=due.token, every=due.every, next=following.isoformat()),
    )
    app.schedule.put(replace(due, at=following))


def _sweep(app: App, org_id: str, now: datetime) -> None:
    """Nudge every promise whose time has come, and come back while any is left."""
    times = []
    for item in outbox(app, org_id):
        times.append(item.not_before)
        if item.not_before <= now:
            jobs.put(app, Job("deliver", org_id, item.email_id, conversation_id=item.conversation_id))
    if times:
        app.schedule.put(Due(max(now + GRACE, min(times)), "outbox", org_id, "-"))


def outbox(app: App, org_id: str) -> Iterator[OutboxItem]:
    """Yield every promise of an organisation that is not kept yet."""
    return (item.value for item in every(app.records, org_id, OutboxItem))
