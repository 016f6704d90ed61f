"""Whose mailbox it is: its owner's, and for what IT may do its administrator's."""

from collections.abc import Iterator, Sequence
from itertools import islice

from shared import sealing
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


def visible(
    app: App, caller: Caller, *, limit: int, cursor: str | None
) -> tuple[list[tuple[Mailbox, SyncState | None]], str | None]:
    """Return one page of the caller's own mailboxes, and the next one's cursor; for an admin, of all.

    Raises InvalidRequest for a cursor that is not ours.
    """
    caller.need("member", "admin")
    org_id, everything = caller.org_id, "admin" in caller.roles
    key = app.keys.cursors(org_id)
    after = sealing.unpack_cursor(key, "mailboxes", org_id, cursor)["after"] if cursor else ""
    if everything:
        found = [row.value for row in app.records.range(org_id, Mailbox, after=after, limit=limit + 1)]
    else:
        found = list(islice(_owned(app, caller, after), limit + 1))
    page = found[:limit]
    more = len(found) > limit
    following = sealing.pack_cursor(key, "mailboxes", org_id, {"after": page[-1].key}) if more else None
    if everything:
        states = _states(app, org_id, after, page)
        return [(mailbox, states.get(mailbox.id)) for mailbox in page], following
    return [(mailbox, _state(app, org_id, mailbox.id)) for mailbox in page], following


def _owned(app: App, caller: Caller, after: str) -> Iterator[Mailbox]:
    for stored in every(app.records, caller.org_id, Mailbox, after=after):
        if stored.value.owner == caller.email:
            yield stored.value


def _states(app: App, org_id: str, after: str, page: Sequence[Mailbox]) -> dict[str, SyncState]:
    """Read what the last looks at neighbours found, at once; one person's mailboxes lie far apart."""
    if not page:
        return {}
    rows = app.records.range(org_id, SyncState, after=after, until=f"{page[-1].key}!")
    return {row.value.mailbox_id: row.value for row in rows}


def own(app: App, caller: Caller, mailbox_id: str, *, admin: bool) -> Stored[Mailbox]:
    """Return a mailbox if the caller owns it or, where `admin` says so, administers it."""
    caller.need("member", "admin")
    stored = app.records.find(caller.org_id, Mailbox, mailbox_id)
    if stored is None:
        raise NotFound("There is no such mailbox.", field="mailboxId")
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
