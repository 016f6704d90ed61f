"""A grant that no longer works: the mailbox says so and is left alone until it is reconnected."""

from dataclasses import replace

from shared import audit
from shared.app import App
from shared.errors import ConsentRequired, Raced, ZalionError
from shared.model import Mailbox, Problem
from shared.storage.base import Move, Stored


def insist(mailbox: Mailbox, detail: str = "") -> None:
    """Raise ConsentRequired where the grant is known not to work: each further try may lock the account.

    Args:
        detail: what to say instead of why it does not.
    """
    if mailbox.state == "needs_consent":
        told = mailbox.problem
        known = told.detail if told else "This mailbox has to be connected again."
        raise ConsentRequired(detail or known, fix=told.fix if told else None)


def needs_consent(app: App, org_id: str, mailbox: Stored[Mailbox], error: ZalionError) -> None:
    """Mark a mailbox whose grant no longer works; its polls end until somebody reconnects it."""
    if mailbox.value.state in {"needs_consent", "disconnected"}:
        return
    problem = Problem(error.code, error.detail, error.fix)
    new = replace(mailbox.value, state="needs_consent", problem=problem)
    event = audit.entry(app, "mailbox.needs_consent", actor="system", mailbox_id=mailbox.value.id)
    try:
        app.records.commit(org_id, Move(mailbox, new), event)
    except Raced:
        return  # it was changed meanwhile, perhaps reconnected: the next look will tell
