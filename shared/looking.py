"""The owner's look into the own mailbox: a sync now; folders and search live, of which nothing is kept."""

from dataclasses import replace

from shared import audit, consenting, jobs, sealing
from shared.app import App
from shared.callers import Caller
from shared.errors import Conflict, Unsupported
from shared.jobs import Job
from shared.model import Envelope
from shared.owning import own
from shared.providers.base import Folder, Query


def soon(app: App, caller: Caller, mailbox_id: str) -> None:
    """Have the mailbox looked at now, for its owner or an administrator.

    Raises Unsupported where it only sends, ConsentRequired or Conflict where nothing is looked at now.
    """
    mailbox = own(app, caller, mailbox_id, admin=True).value
    if mailbox.receives_with is None:
        raise Unsupported("This mailbox only sends.", fix="Give it a receiving provider.")
    consenting.insist(mailbox, "This mailbox has to be connected again before it is looked at.")
    if mailbox.state != "active":
        fix = 'PATCH it with {"paused": false}.' if mailbox.state == "paused" else "Connect it again."
        raise Conflict(f"This mailbox is {mailbox.state}.", fix=fix)
    event = audit.entry(app, "mailbox.sync_requested", actor=caller.email, mailbox_id=mailbox.id)
    app.records.commit(caller.org_id, event)
    jobs.put(app, Job("sync", caller.org_id, mailbox.id, actor=caller.email))


def folders(app: App, caller: Caller, mailbox_id: str) -> list[Folder]:
    """Return the folders that can be chosen for following."""
    mailbox = own(app, caller, mailbox_id, admin=False).value
    told = audit.recorded(app, caller, "mailbox.folders_read", mailbox_id=mailbox_id)
    with told, app.searching(caller.org_id, mailbox) as searcher:
        return searcher.folders()


def search(
    app: App, caller: Caller, mailbox_id: str, query: Query, cursor: str | None
) -> tuple[list[Envelope], str | None]:
    """Return one page of matches, newest first, and the cursor of the next one or None."""
    mailbox = own(app, caller, mailbox_id, admin=False).value
    key = app.keys.cursors(caller.org_id)
    offset = (
        sealing.unpack_cursor(key, f"search!{mailbox_id}", caller.org_id, cursor)["offset"] if cursor else 0
    )
    counts: dict[str, int] = {}
    told = audit.recorded(app, caller, "mailbox.searched", mailbox_id=mailbox_id, counts=counts)
    with told, app.searching(caller.org_id, mailbox) as searcher:
        hits = searcher.search(replace(query, offset=offset))
        counts["found"] = len(hits.mails)
    following = None
    if hits.more:
        after = {"offset": offset + query.limit}
        following = sealing.pack_cursor(key, f"search!{mailbox_id}", caller.org_id, after)
    return [*hits.mails], following
