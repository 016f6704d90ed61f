"""What providers' notifications come to: jobs. A notice is a hint; whoever signs it may ask us to look.

The secret that comes back with each notice names organisation and mailbox and is signed, so that
nothing is read from storage to check it. Where a provider proves its notices by itself and names an
address, the job finds out whose it is.
"""

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import batched
from typing import Literal

from shared import jobs, logs, presence, sealing
from shared.app import App
from shared.errors import InvalidRequest, NotAllowed, NotFound
from shared.jobs import Job
from shared.model import PLATFORM, account_of
from shared.providers.base import Notice, Notification

LARGEST = 4 * 1024 * 1024
"""Octets of a notification: thousands of entries."""

TOGETHER = 250
"""Mailboxes a job names; a queue message takes 48 KiB, and an id has at most 64 + 16 characters."""


Event = Literal["changed", "renew", "ended"]


def secret_of(app: App, org_id: str, mailbox_id: str) -> str:
    """Return what a mailbox's notices must carry: at most 128 characters, as Graph allows."""
    return f"{org_id}.{mailbox_id}.{_proof(app, org_id, mailbox_id)}"


def take(app: App, provider: str, body: bytes, authorization: str = "") -> Counter[str]:
    """Enqueue what a notification asks for, one look a mailbox; returns how many notices were what.

    Raises NotFound for a provider without push, InvalidRequest for what is no notification, NotAllowed for
    a forged one, Temporary where the queue is down: the provider then sends it again.
    """
    read = app.provider(provider).notices
    if read is None:
        raise NotFound("This provider sends no notifications.", field="provider")
    wanted: dict[Event, dict[tuple[str, str], None]] = {"changed": {}, "renew": {}, "ended": {}}
    counts: Counter[str] = Counter()
    accounts: dict[str, None] = {}
    for notice in _read(read, provider, Notification(body, authorization, app.endpoints, app.allowed_hosts)):
        if notice.address:
            accounts[account_of(provider, notice.address)] = None
            counts[notice.event] += 1
            continue
        place = _place(app, notice.secret)
        counts[notice.event if place else "forged"] += 1
        if place:
            wanted[notice.event][place] = None
    for event, places in wanted.items():
        _enqueue(app, event, places)
    if accounts:
        jobs.put(app, Job("notices", PLATFORM, "-", event="changed", accounts=tuple(accounts)))
    if counts["forged"]:
        logs.log("notice.forged", provider=provider, count=counts["forged"])
    return counts


def _read(
    read: Callable[[Notification], Sequence[Notice]], provider: str, notification: Notification
) -> Sequence[Notice]:
    """Read a notification; what is none is counted like a forged one."""
    try:
        _check_size(notification.body)
        return read(notification)
    except (InvalidRequest, NotAllowed):
        logs.log("notice.forged", provider=provider, count=1)
        raise


def _check_size(body: bytes) -> None:
    if len(body) > LARGEST:
        raise InvalidRequest("This is larger than any notification.", field="body")


def fan_out(app: App, job: Job) -> None:
    """Enqueue the jobs of every mailbox that a notification named."""
    for org_id, mailbox_id in job.mailboxes:
        if job.event == "changed":
            jobs.put(app, Job("sync", org_id, mailbox_id, pushed=True))
        else:
            jobs.put(app, Job("subscribe", org_id, mailbox_id, event=job.event))
    for account in job.accounts:
        for org_id, mailbox_id in presence.places(app.records, account):
            jobs.put(app, Job("sync", org_id, mailbox_id, pushed=True, again=True))


def _enqueue(app: App, event: Event, places: Iterable[tuple[str, str]]) -> None:
    for chunk in batched(places, TOGETHER, strict=False):
        jobs.put(app, Job("notices", PLATFORM, "-", event=event, mailboxes=chunk))


def _place(app: App, secret: str) -> tuple[str, str] | None:
    """Return the organisation and mailbox that a genuine secret names."""
    parts = secret.rsplit(".", 2)
    if len(parts) != 3:  # noqa: PLR2004 - organisation, mailbox, proof
        return None
    org_id, mailbox_id, proof = parts
    genuine = hmac.compare_digest(proof.encode(), _proof(app, org_id, mailbox_id).encode())
    return (org_id, mailbox_id) if genuine else None


def _proof(app: App, org_id: str, mailbox_id: str) -> str:
    """128 bits that only we can make for this mailbox."""
    return sealing.derive(app.keys.notices(), f"{org_id}.{mailbox_id}").hex()[:32]
