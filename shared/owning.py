"""Whose mailbox it is: its owner's, and for what IT may do its administrator's."""

from shared.app import App
from shared.callers import Caller
from shared.errors import (
    NotAllowed,
    NotFound,
)
from shared.model import Mailbox, SyncState
from shared.storage.base import Stored, every


def mailboxes_of(app: App, org_id: str) -> list[Stored[Mailbox]]:
    """Return all mailboxes of an organisation."""
    return [*every(app.records, org_id, Mailbox)]


def visible(app: App, caller: Caller) -> list[tuple[Mailbox, SyncState | None]]:
    """Return the caller's own mailboxes; for an admin, all of the organisation."""
    caller.need("member", "admin")
    everything = "admin" in caller.roles
    return [
        (stored.value, _state(app, caller.org_id, stored.value.id))
        for stored in mailboxes_of(app, caller.org_id)
        if everything or stored.value.owner == caller.email
    ]


def own(app: App, caller: Caller, mailbox_id: str, *, admin: bool) -> Stored[Mailbox]:
    """Return a mailbox if the caller owns it or, where `admin` says so, administers it."""
    caller.need("member", "admin")
    stored = app.records.find(caller.org_id, Mailbox, mailbox_id)
    if stored is None:
        raise NotFound("There is no such mailbox.")
    if stored.value.owner != caller.email and not (admin and "admin" in caller.roles):
        raise NotAllowed("Only its owner may do this.")
    return stored


def show(app: App, caller: Caller, mailbox_id: str) -> tuple[Mailbox, SyncState | None]:
    """Return one mailbox and what the last look at it found."""
    mailbox = own(app, caller, mailbox_id, admin=True).value
    return mailbox, _state(app, caller.org_id, mailbox.id)


def _state(app: App, org_id: str, mailbox_id: str) -> SyncState | None:
    stored = app.records.find(org_id, SyncState, mailbox_id)
    return stored.value if stored else None
