"""A grant that no longer works: the mailbox says so and is left alone until it is reconnected."""

from dataclasses import replace

from shared import audit
from shared.app import App
from shared.errors import Raced, ZalionError
from shared.model import Mailbox, Problem
from shared.storage.base import Move, Stored


def needs_consent(app: App, org_id: str, mailbox: Stored[Mailbox], error: ZalionError) -> None:
    """Mark a mailbox whose grant no longer works; its polls end until somebody reconnects it."""
    problem = Problem(error.code, error.detail, error.fix)
    new = replace(mailbox.value, state="needs_consent", problem=problem)
    event = audit.entry(app, "mailbox.needs_consent", actor="system", mailbox_id=mailbox.value.id)
    try:
        app.records.commit(org_id, Move(mailbox, new), event)
    except Raced:
        return  # it was changed meanwhile, perhaps reconnected: the next look will tell
