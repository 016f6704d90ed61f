"""Running one job, and deciding what becomes of it when it fails."""

import logging
import random
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec

from shared import (
    casework,
    deadline,
    delivering,
    disconnecting,
    jobs,
    logs,
    noticing,
    registering,
    renewing,
    resuming,
    scheduling,
    subscribing,
    syncing,
    uploading,
)
from shared.app import App
from shared.errors import Busy, Temporary, ZalionError
from shared.jobs import Job
from shared.shares import JOBS

ATTEMPTS = 5
SOON = 15.0
"""Seconds until a look is repeated."""

MOST_PUT_BACK = 10_000
"""Jobs that a process remembers to have put back."""

LONGEST_PAUSE = 900.0
"""Seconds: hidden messages make Azure's scaler start instances, so none is hidden for long."""


def run(app: App, text: str) -> None:
    """Run a queue message.

    What should be tried later goes back as a new message with the delay the other side asked for, see
    `_later`; what is final is done. A bug, or a job that cannot be read, is raised: the host retries, then
    poisons.
    """
    own_id = secrets.token_hex(8)
    with logs.bind(correlation_id=own_id), logs.telling("job.failed"):
        job = jobs.read(text)  # a newer version may have written it
    bound = logs.bind(
        correlation_id=job.correlation_id or own_id,
        org_id=job.org_id,
        mailbox_id=job.id if job.type in jobs.OF_A_MAILBOX else None,
        job=job.type,
    )
    with bound, logs.telling("job.failed"):
        try:
            taken = app.shares.taken(job.org_id, jobs.queue_of(job), JOBS, app.clock)
            with taken, deadline.within(app.longest_job):
                _STEPS[job.type](app, job)
        except Busy as error:
            _back(app, job, error)
        except Temporary as error:
            _later(app, job, error)
        except ZalionError as error:
            logs.log("job.ended", code=error.code, error=error)


def _sync(app: App, job: Job) -> None:
    if scheduling.still_wanted(app, job):
        _look(app, job)


_STEPS: Mapping[str, Callable[[App, Job], object]] = {
    "sync": _sync,
    "deliver": delivering.deliver,
    "hasten": lambda app, job: delivering.hasten(app, job.org_id),
    "carry": lambda app, job: casework.carry(app, job.org_id, job.id),
    "subscribe": lambda app, job: subscribing.subscribe(
        app, job.org_id, job.id, job.event, retried=job.attempt > 0
    ),
    "notices": noticing.fan_out,
    "expiry": lambda app, job: registering.warn(app, job.org_id, job.id),
    "resume": lambda app, job: resuming.try_one(app, job.org_id, job.id),
    "settle": lambda app, job: uploading.settle(app, job.org_id, job.id),
    "mended": lambda app, job: resuming.try_all(app, job.org_id, job.id),
    "grant": lambda app, job: renewing.renew(app, job.org_id, job.id),
    "disconnect": lambda app, job: disconnecting.finish(app, job.org_id, job.id),
}


def _look(app: App, job: Job) -> None:
    """Look into a mailbox; once more a little later where a push was faster than what it tells of."""
    found = syncing.sync(app, job.org_id, job.id, look=job.look, actor=job.actor, pushed=job.pushed)
    if job.again and not found:
        jobs.put(app, msgspec.structs.replace(job, again=False), delay=SOON)


def _back(app: App, job: Job, error: Busy) -> None:
    """Put a job back as it is; once, however many of its kind come by meanwhile."""
    same = msgspec.json.encode(msgspec.structs.replace(job, every=0, next="", attempt=0, correlation_id=""))
    delay = min(error.retry_after * random.uniform(1, 1.3), LONGEST_PAUSE)  # noqa: S311 - spreads, protects nothing
    now = app.clock()
    # one that waits for something longer is no reason to wait as long
    if now < app.put_back.get(same, now) <= now + timedelta(seconds=error.retry_after * 1.3):
        logs.log("job.merged")
        return
    jobs.put(app, job, delay=delay)
    if len(app.put_back) >= MOST_PUT_BACK:
        app.put_back.clear()
    app.put_back[same] = now + timedelta(seconds=delay)


def _later(app: App, job: Job, error: Temporary) -> None:
    """Put a job back, in the end to the poison queue; but no look at a mailbox.

    What keeps us from one is mostly the customer's server. The mailbox says so, and its polls go on; one that
    stopped is tried again the next day.
    """
    again = msgspec.structs.replace(job, attempt=job.attempt + 1)
    if again.attempt >= ATTEMPTS and job.type in {"sync", "resume"}:
        logs.log("job.left_to_the_polls", code=error.code, error=error)
        return
    if again.attempt >= ATTEMPTS:
        logs.log("job.poisoned", level=logging.ERROR, code=error.code, error=error)
        app.queues.put(f"{jobs.queue_of(job)}-poison", msgspec.json.encode(again).decode())
        return
    logs.log("job.postponed", code=error.code, attempt=again.attempt, error=error)
    jobs.put(app, again, delay=min(error.retry_after * 2**job.attempt, LONGEST_PAUSE))
