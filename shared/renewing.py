"""Keeping the sign-ins alive that nobody uses: of mailboxes that are paused, or only send.

A refresh token ends when it is not used, Google's after six months, Entra's after 90 days:
https://learn.microsoft.com/entra/identity-platform/refresh-tokens#token-lifetime
"""

from datetime import UTC, datetime, timedelta

from shared.app import App
from shared.consenting import needs_consent
from shared.errors import ConsentRequired
from shared.model import Grant, Mailbox
from shared.storage.base import Due

EVERY = timedelta(days=30)
"""Two attempts may fail before a token is lost."""

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def plan(app: App, org_id: str, mailbox_id: str) -> None:
    """Have a mailbox's sign-in renewed at its next time. Planned twice it is one entry."""
    app.schedule.put(Due(_next(mailbox_id, app.clock()), "grant", org_id, mailbox_id))


def renew(app: App, org_id: str, mailbox_id: str) -> None:
    """Renew what a mailbox signs in with, where its access token has ended, and plan the next time.

    A mailbox that is disconnected or has nothing to renew is left in peace from then on. Raises Temporary.
    """
    mailbox = app.records.find(org_id, Mailbox, mailbox_id)
    grants = [row.value for row in app.records.range(org_id, Grant, prefix=f"{mailbox_id}!")]
    renewable = [grant.provider for grant in grants if "refresh_token" in grant.sealed and not grant.is_spare]
    if mailbox is None or mailbox.value.state == "disconnected" or not renewable:
        return
    plan(app, org_id, mailbox_id)
    for provider in renewable:
        try:
            app.grants.credential(org_id, mailbox_id, provider)
        except ConsentRequired as error:
            if mailbox.value.state == "active":  # a paused one stays so: it tells when it is wanted again
                needs_consent(app, org_id, mailbox, error)


def _next(mailbox_id: str, now: datetime) -> datetime:
    """Each mailbox has its own day and minute of the month, whenever that is asked."""
    first = _EPOCH + EVERY * (int(mailbox_id[:4], 16) / 0x10000)  # the id is a digest
    return first + EVERY * ((now - first) // EVERY + 1)
