"""What lies in the queues: a few ids and the correlation id, never content. A job is a hint to look."""

from typing import Literal

import msgspec

from shared import logs
from shared.app import DELIVER, SYNC, App

Type = Literal[
    "sync",
    "deliver",
    "hasten",
    "carry",
    "subscribe",
    "notices",
    "expiry",
    "grant",
    "resume",
    "settle",
    "mended",
    "disconnect",
]

OF_A_MAILBOX = frozenset({"sync", "subscribe", "grant", "resume", "disconnect"})
"""Types whose `id` is a mailbox's."""


class Job(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """One nudge.

    Attributes:
        type: what to look at.
        org_id: whose.
        id: mailbox (`OF_A_MAILBOX`), provider (`expiry`, `mended`), message (`deliver`), conversation
            (`carry`) or day (`settle`).
        case_id, conversation_id: where the message of a `deliver` is found; the case may have changed since.
        token, every, next: the poll schedule that sent it, see `scheduling`.
        look: Message-IDs that became known late, to look for once.
        actor: who asked, for the audit trail.
        pushed: the provider told us, so push is alive.
        event: for `notices` and `subscribe`, what the provider said.
        again: whether a look that finds nothing is repeated once: the provider may tell before it shows.
        mailboxes: for `notices`, (organisation, mailbox) of each.
        accounts: for `notices`, accounts whose mailboxes are still to be found, see `presence`.
        attempt: how often it was put back.
        correlation_id: of the request or timer that caused it.
    """

    type: Type
    org_id: str
    id: str
    case_id: str = ""
    conversation_id: str = ""
    token: str = ""
    every: int = 0
    next: str = ""
    look: tuple[str, ...] = ()
    actor: str = "system"
    pushed: bool = False
    event: Literal["", "changed", "due", "renew", "ended", "missed", "heard"] = ""
    again: bool = False
    mailboxes: tuple[tuple[str, str], ...] = ()
    accounts: tuple[str, ...] = ()
    attempt: int = 0
    correlation_id: str = ""


def put(app: App, job: Job, *, delay: float = 0) -> None:
    """Enqueue a job; it inherits the current correlation id unless it has one."""
    job = msgspec.structs.replace(job, correlation_id=job.correlation_id or logs.correlation_id())
    app.queues.put(queue_of(job), msgspec.json.encode(job).decode(), delay=delay)


def queue_of(job: Job) -> str:
    """Name the queue a job belongs to."""
    return DELIVER if job.type in {"deliver", "carry", "disconnect", "hasten"} else SYNC


def read(text: str) -> Job:
    """Decode a queue message. Raises msgspec.ValidationError: a bug, so it goes to poison."""
    return msgspec.json.decode(text, type=Job)
