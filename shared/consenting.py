"""A grant that no longer works: the mailbox says so and is left alone until it is reconnected.

Where the app itself signs in, nobody has to do that again: such a one is tried once a day, see `resuming`.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared import audit
from shared.app import App
from shared.errors import ConsentRequired, Raced, ZalionError
from shared.model import Mailbox, Problem
from shared.storage.base import Due, Move, Stored

AGAIN = timedelta(days=1)
"""As long as Google may take to know a delegation: https://support.google.com/a/answer/162106"""

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def insist(mailbox: Mailbox, detail: str = "", fix: str | None = None) -> None:
    """Raise ConsentRequired where the grant is known not to work: each further try may lock the account.

    Args:
        detail: what to say instead of why it does not; `fix` instead of what is to be done.
    """
    if mailbox.state == "needs_consent":
        told = mailbox.problem
        known = told.detail if told else "This mailbox has to be connected again."
        raise ConsentRequired(detail or known, fix=fix or (told.fix if told else None))


def needs_consent(app: App, org_id: str, mailbox: Stored[Mailbox], error: ZalionError) -> None:
    """Mark a mailbox whose grant no longer works; its polls end until somebody reconnects it."""
    if mailbox.value.state in {"needs_consent", "disconnected"}:
        return
    problem = Problem(error.code, error.detail, error.fix)
    paused = mailbox.value.state == "paused"
    new = replace(mailbox.value, state="needs_consent", problem=problem, was_paused=paused)
    event = audit.entry(app, "mailbox.needs_consent", actor="system", mailbox_id=mailbox.value.id)
    if by_app(new):
        plan(app, org_id, new.id)
    try:
        app.records.commit(org_id, Move(mailbox, new), event)
    except Raced:
        return  # it was changed meanwhile, perhaps reconnected: the next look will tell


def by_app(mailbox: Mailbox) -> bool:
    """Whether the app itself signs in, on one side at least."""
    sides = filter(None, (mailbox.receives_with, mailbox.sends_with))
    return any(mailbox.settings[side].get("access") == "application" for side in sides)


def plan(app: App, org_id: str, mailbox_id: str) -> Due:
    """Have a stopped mailbox tried at its next time of the day. Planned twice it is one entry."""
    now = app.clock()
    first = _EPOCH + AGAIN * (int(mailbox_id[:4], 16) / 0x10000)  # the id is a digest
    due = Due(first + AGAIN * ((now - first) // AGAIN + 1), "resume", org_id, mailbox_id)
    app.schedule.put(due)
    return due
