"""Who did what, when, to which mailbox, case or message. Records are only ever added; no content.

`entry` makes a record for the caller to commit together with the change it tells of, so that
neither can exist without the other; a read commits its record alone, a live one by `recorded`.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from shared import logs, sealing
from shared.app import App
from shared.callers import Caller
from shared.errors import Raced, ZalionError
from shared.model import AuditRecord
from shared.storage.base import Add, Remove, Write

EXPORT_PAGE = 500
SCANNED = 2000
"""Records looked at for one page of a filtered query: a page may be short, and still has a cursor."""


def entry(
    app: App,
    event: str,
    *,
    actor: str,
    outcome: str = "done",
    mailbox_id: str | None = None,
    case_id: str | None = None,
    email_id: str | None = None,
    counts: Mapping[str, int] | None = None,
    detail: str = "",
) -> Add:
    """Make the record of an event (past tense, e.g. `message.sent`) as a write to commit.

    The log tells of it once it is committed, see `tell`.
    """
    return Add(
        AuditRecord(
            at=app.clock(),
            id=secrets.token_hex(6),
            event=event,
            actor=actor,
            outcome=outcome,
            correlation_id=logs.correlation_id(),
            mailbox_id=mailbox_id,
            case_id=case_id,
            email_id=email_id,
            counts=counts or {},
            detail=detail,
        )
    )


def tell(writes: Iterable[Write]) -> None:
    """Log the events among the writes of a commit that was carried out; what never happened is in no log."""
    for write in writes:
        record = write.record
        if isinstance(record, AuditRecord) and not isinstance(write, Remove):
            logs.log(
                record.event,
                outcome=record.outcome,
                mailbox_id=record.mailbox_id,
                case_id=record.case_id,
                email_id=record.email_id,
                count=sum(record.counts.values()),
            )


def told(writes: Iterable[Write]) -> Add | None:
    """Find the record of an event among the writes of a commit."""
    return next((w for w in writes if isinstance(w, Add) and isinstance(w.record, AuditRecord)), None)


def is_on_record(app: App, org_id: str, told: Add) -> bool:
    """Whether the commit that `told` was part of was carried out.

    A commit whose answer was lost is refused when it is repeated (`Records.commit`). Its event has an id
    of its own, so that it tells what was done from what another has done meanwhile.
    """
    return app.records.find(org_id, AuditRecord, told.record.key) is not None


def commit(app: App, org_id: str, *writes: Write) -> None:
    """Carry out a change with the record that tells of it. Raises Raced only where it was not carried out."""
    try:
        app.records.commit(org_id, *writes)
    except Raced:
        event = told(writes)
        if event is None or not is_on_record(app, org_id, event):
            raise
        tell(writes)


@dataclass
class Ending:
    """How a live read ended that broke nowhere."""

    outcome: str = "done"


@contextmanager
def recorded(
    app: App,
    caller: Caller,
    event: str,
    *,
    mailbox_id: str,
    case_id: str | None = None,
    email_id: str | None = None,
    counts: Mapping[str, int] | None = None,
    riding: list[Add] | None = None,
) -> Iterator[Ending]:
    """Have one record of a caller's live read, however it ends: who has seen something is on record even so.

    Also of what is put into a mailbox: what became of it is known only once it ended.

    Yields what the outcome may be given to that a good end has.

    Args:
        counts: may be filled in meanwhile.
        riding: takes the record of a read that ended well, for the caller to commit with what follows.
    """
    ending, outcome, ended = Ending(), ZalionError.code, False
    try:
        yield ending
        outcome, ended = ending.outcome, True
    except ZalionError as error:
        outcome = error.code
        raise
    finally:
        record = entry(
            app,
            event,
            actor=caller.email,
            outcome=outcome,
            mailbox_id=mailbox_id,
            case_id=case_id,
            email_id=email_id,
            counts=counts,
        )
        if riding is None or not ended:
            commit(app, caller.org_id, record)
        else:
            riding.append(record)


def query(
    app: App,
    org_id: str,
    *,
    since: datetime | None,
    until: datetime | None,
    mailbox_id: str | None,
    case_id: str | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[AuditRecord], str | None]:
    """Return records oldest first, and the cursor of the next page or None.

    Args:
        since: inclusive; until: exclusive; both aware UTC.
        limit: at most this many records; a filtered page may hold fewer and still have a next one.

    Raises InvalidRequest for a cursor that is not ours.
    """
    key = app.keys.cursors(org_id)
    after = sealing.unpack_cursor(key, "audit", org_id, cursor)["after"] if cursor else ""
    start = f"{since:%Y%m%dT%H%M%S%f}" if since else ""
    stop = f"{until:%Y%m%dT%H%M%S%f}" if until else ""
    scanned = limit if mailbox_id is None and case_id is None else SCANNED
    rows = app.records.range(org_id, AuditRecord, after=max(after, start), until=stop, limit=scanned)
    wanted = [row.value for row in rows if _fits(row.value, mailbox_id, case_id)][:limit]
    if len(rows) < scanned and len(wanted) < limit:
        return wanted, None
    last = wanted[-1] if len(wanted) == limit else rows[-1].value
    return wanted, sealing.pack_cursor(key, "audit", org_id, {"after": last.key})


def _fits(record: AuditRecord, mailbox_id: str | None, case_id: str | None) -> bool:
    return mailbox_id in (None, record.mailbox_id) and case_id in (None, record.case_id)
