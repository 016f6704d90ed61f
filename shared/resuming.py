"""Mailboxes that stopped although nobody has to sign in for them: they go on once the cause is mended.

Where the app itself signs in, what stops a mailbox lies at the provider or in the integration, and whoever
mends it there has nothing to do at the mailbox. So it is tried when its integration was saved or tested, when
somebody tests it, and once a day.
"""

from shared import adopting, connecting, consenting, jobs, owning
from shared.app import App
from shared.jobs import Job
from shared.model import Mailbox
from shared.storage.base import Stored

AGAIN = "Connect the mailbox again: no mail is missed, and what waits leaves then."


def try_all(app: App, org_id: str, provider: str) -> None:
    """Have every mailbox tried that stopped and that the app itself signs in to at this provider."""
    for mailbox in (stored.value for stored in owning.mailboxes_of(app, org_id)):
        if provider in {mailbox.receives_with, mailbox.sends_with} and _may_go_on(app, mailbox):
            jobs.put(app, Job("resume", org_id, mailbox.id))


def try_one(app: App, org_id: str, mailbox_id: str) -> None:
    """Sign in to a mailbox that stopped; it goes on where that works, else it is tried again in a day.

    Raises what the provider says.
    """
    due = consenting.plan(app, org_id, mailbox_id)  # whatever becomes of this try
    stored = app.records.find(org_id, Mailbox, mailbox_id)
    if stored is None or not _may_go_on(app, stored.value):
        app.schedule.remove(due)
        return
    if stored.value.receives_with:
        with app.receiving(org_id, stored.value) as receiver:
            receiver.check()
    if stored.value.sends_with:
        with app.sending(org_id, stored.value) as sender:
            sender.check()
    connecting.resume(app, org_id, stored, "system")


def tested(app: App, org_id: str, stored: Stored[Mailbox], actor: str, *, signed_in: bool) -> None:
    """Have a stopped mailbox go on that was just signed in to on each of its sides.

    Raises ConsentRequired where somebody has to sign in, or that did not work; Raced.
    """
    if adopting.by_browser(app, stored.value):
        consenting.insist(stored.value, "This mailbox stopped and waits to be connected again.", AGAIN)
    if not signed_in:
        fix = "Mend the checks above, then test again."
        consenting.insist(stored.value, "This mailbox stopped and goes on once it can be signed in to.", fix)
    connecting.resume(app, org_id, stored, actor)


def _may_go_on(app: App, mailbox: Mailbox) -> bool:
    stopped = mailbox.state == "needs_consent" and consenting.by_app(mailbox)
    return stopped and adopting.by_browser(app, mailbox) is None
