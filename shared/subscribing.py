"""Keeping a mailbox's push alive: made, prolonged long before its end, made anew, or given up as silent.

Push only makes things faster: every mailbox is polled all the same, so whatever goes wrong here costs
minutes and never a mail. The subscription is part of the mailbox's record, which every look reads.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from shared import audit, jobs, noticing, presence
from shared.app import App
from shared.errors import NotFound, Raced, Unsupported, ZalionError
from shared.jobs import Job
from shared.model import Mailbox, Subscription, account_of
from shared.providers.base import Push
from shared.storage.base import Due, Move, Stored

UNTRIED = timedelta(days=7)
"""So long a mailbox that can have no push is left alone."""

SPREAD = timedelta(hours=12)
"""Mailboxes connected together are not renewed together."""

MOST_MISSED = 3
"""After so many missed mails in a row it is made anew, after twice as many it counts as silent."""

LATE = timedelta(minutes=5)
"""Graph tells within three minutes; mail that a poll finds later than that was missed."""

AGAIN = timedelta(hours=6)
"""When a renewal that came to nothing is tried again: the push lives on for a day or more.

Nor does a renewal follow another sooner, whatever a provider says of its end: Gmail notifies at once when a
watch begins, and a look that this starts asks whether the push is due.
"""

SOONER = timedelta(hours=1)
"""The same where there is no push until then.

Not with every look: while our topic, or our address, is out of order, that would be tens of tries an hour for
each mailbox, and a watch costs as much of Gmail's quota as fifty looks.
"""

Event = Literal["due", "renew", "ended", "missed", "heard"]


def needs(app: App, mailbox: Mailbox, *, pushed: bool, late: bool, found: bool) -> Event | None:
    """Say what a look at the mailbox means for its push; nothing is read for it.

    Args:
        pushed: the look was asked for by push.
        late: it found mail that push should have told us of.
        found: it found any mail.
    """
    if not app.has_push(mailbox):
        return None
    push = mailbox.push
    if _is_due(mailbox, app.clock()):
        return "due"
    if push is None:
        return None
    if not pushed and late and not push.silent:
        return "missed"
    return "heard" if pushed and found and (push.missed or push.silent) else None


def _is_due(mailbox: Mailbox, now: datetime, *, retried: bool = False) -> bool:
    """Whether a push is to be made or renewed; soon after a try that came to nothing only by its own job."""
    if mailbox.push_again and now < mailbox.push_again and not retried:
        return False
    return mailbox.push is None or _due_at(mailbox.push) <= now


def _due_at(push: Subscription) -> datetime:
    """When a push is renewed; a silent one is made anew after its end."""
    return push.until if push.silent else push.renew_at or push.until


def subscribe(app: App, org_id: str, mailbox_id: str, event: str, *, retried: bool = False) -> None:
    """Bring a mailbox's push to life.

    Args:
        event: `renew` prolongs it or makes it, `due` does if that is still wanted, and makes one anew that
            missed too much; `ended` makes it anew; `missed` counts a mail that it kept from us, `heard`
            forgets those.
        retried: the provider has asked to wait, and that is over.

    Raises Temporary, RateLimited or ConsentRequired, as the provider says.
    """
    stored = app.records.find(org_id, Mailbox, mailbox_id)
    if stored is None or stored.value.state != "active" or not app.has_push(stored.value):
        return
    push = stored.value.push
    if event == "due" and not _is_due(stored.value, app.clock(), retried=retried):
        return  # a look and the timer both saw it
    if push and event in {"missed", "heard"}:
        changed = _heard(push) if event == "heard" else _missed(push, app.clock())
        _save(app, org_id, stored, changed, event)
        if changed.missed == MOST_MISSED:
            jobs.put(app, Job("subscribe", org_id, mailbox_id, event="due"))
        return
    deaf = push is not None and push.missed >= MOST_MISSED and event == "due"
    dead = push is None or deaf or event == "ended" or push.until <= app.clock()
    again = app.clock() + (SOONER if dead else AGAIN)
    _see_to_it(app, org_id, stored.value, again)  # whatever becomes of this attempt
    try:
        renewed = None if deaf or event == "ended" else _renewed(app, org_id, stored.value)
        kept = _kept(app, stored.value, renewed or _made(app, org_id, stored.value))
    except ZalionError:
        _put_off(app, org_id, stored, again, ended=event == "ended")
        raise
    _see_to_it(app, org_id, stored.value, _due_at(kept))
    _save(app, org_id, stored, kept, "kept")
    if renewed is None and push:
        jobs.put(app, Job("sync", org_id, mailbox_id))  # what came while nobody told us


def cancel(app: App, org_id: str, mailbox: Mailbox) -> bool:
    """End a mailbox's push while its grant still works; returns whether there was one to end.

    One that serves other connections of the same account, too, goes on.
    """
    if mailbox.push is None or not mailbox.push.id or not app.has_push(mailbox):
        return False
    name = mailbox.receives_with or ""
    if app.provider(name).one_account and presence.places(app.records, account_of(name, mailbox.address)):
        return False
    with app.pushing(org_id, mailbox) as pusher:
        pusher.cancel(mailbox.push.id)
    return True


def _see_to_it(app: App, org_id: str, mailbox: Mailbox, at: datetime) -> None:
    """Have the timer look at the push then; it finds either a renewal due or nothing to do."""
    app.schedule.put(Due(at, "push", org_id, mailbox.id))


def _put_off(app: App, org_id: str, stored: Stored[Mailbox], again: datetime, *, ended: bool) -> None:
    """Note that this attempt came to nothing; a push that ended is due, whatever it once promised."""
    push = stored.value.push
    push = replace(push, renew_at=app.clock()) if push and ended else push
    with suppress(Raced):  # whoever changed the mailbox meanwhile has it looked at, too
        app.records.commit(org_id, Move(stored, replace(stored.value, push=push, push_again=again)))


def _heard(push: Subscription) -> Subscription:
    return replace(push, missed=0, silent=False)


def _missed(push: Subscription, now: datetime) -> Subscription:
    """One more mail was missed. From `MOST_MISSED` on it is due until a new one exists."""
    missed = push.missed + 1
    renew_at = now if missed == MOST_MISSED else push.renew_at
    return replace(push, missed=missed, silent=missed >= 2 * MOST_MISSED, renew_at=renew_at)


def _kept(app: App, mailbox: Mailbox, push: Push | None) -> Subscription:
    """What is remembered of a new promise; a mailbox that can have none counts as silent."""
    if push is None:
        return Subscription("", app.clock() + UNTRIED, silent=True)
    spread = SPREAD * (int(mailbox.id[:4], 16) / 0xFFFF)  # the id is a digest
    renew_at = max(push.renew_at - spread, app.clock() + AGAIN)
    if app.clock() < push.until:
        renew_at = min(renew_at, push.until)
    return Subscription(push.id, push.until, mailbox.push.missed if mailbox.push else 0, renew_at=renew_at)


def _renewed(app: App, org_id: str, mailbox: Mailbox) -> Push | None:
    """Prolong it; None where there is none, or the provider has dropped it."""
    if mailbox.push is None or not mailbox.push.id:
        return None
    try:
        with app.pushing(org_id, mailbox) as pusher:
            return pusher.renew(mailbox.push.id)
    except NotFound:
        return None


def _made(app: App, org_id: str, mailbox: Mailbox) -> Push | None:
    """Make a new one; None where this mailbox can have none."""
    url = f"{app.public_url}/api/notifications/{mailbox.receives_with}"
    secret = noticing.secret_of(app, org_id, mailbox.id)
    try:
        with app.pushing(org_id, mailbox) as pusher:
            return pusher.subscribe(url, secret)
    except Unsupported:
        return None


def _save(
    app: App, org_id: str, stored: Stored[Mailbox], push: Subscription, outcome: str
) -> Stored[Mailbox]:
    again = None if outcome == "kept" else stored.value.push_again
    new = replace(stored.value, push=push, push_again=again)
    said = "silent" if push.silent else outcome
    event = audit.entry(app, "push.changed", actor="system", mailbox_id=new.id, outcome=said)
    etag, _ = app.records.commit(org_id, Move(stored, new), event)
    return Stored(new, etag)


def is_late(received_at: datetime | None, now: datetime) -> bool:
    """Whether a mail that a poll finds should have been told by push."""
    return received_at is not None and now - received_at > LATE
