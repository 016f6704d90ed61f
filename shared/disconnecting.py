"""The end of all access to a mailbox: no poll, push, secret or held headers. What broke off is finished."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from shared import (
    audit,
    delivering,
    flows,
    jobs,
    leasing,
    owning,
    presence,
    subscribing,
)
from shared.app import App
from shared.callers import Caller
from shared.contract import DisconnectReceipt
from shared.errors import (
    ZalionError,
)
from shared.jobs import Job
from shared.model import Grant, Mailbox, Review, account_of
from shared.storage.base import Move, Remove, Write

KEPT = (
    "E-mails already filed stay in their cases; Zalion deletes none of them by itself. No further mail is"
    " read."
)
HELD_AT_ONCE = 99
"""A transaction takes 100 writes, the record of what they end among them."""

FINISH_DELAY = 30
"""Seconds: longer than the writes of a disconnect take, and than a look needs to notice it."""


def disconnect(app: App, caller: Caller, mailbox_id: str) -> DisconnectReceipt:
    """End all access: no poll, no send, no secret, no held headers. Safe to repeat; returns a receipt."""
    stored = owning.own(app, caller, mailbox_id, admin=True)
    now = app.clock()
    ended = replace(stored.value, state="disconnected", schedule="-", problem=None)
    event = audit.entry(app, "mailbox.disconnected", actor=caller.email, mailbox_id=mailbox_id)
    # enqueued first: should we die half-way, the job carries on; had nothing happened, it does nothing
    jobs.put(app, Job("disconnect", caller.org_id, mailbox_id), delay=FINISH_DELAY)
    leasing.interrupting(app, caller.org_id, mailbox_id, {}, Move(stored, ended), event)
    return DisconnectReceipt(
        mailbox_id=mailbox_id,
        address=ended.address,
        state="disconnected",
        disconnected_at=now,
        destroyed=_destroyed(app, caller.org_id, ended, caller.email),
        kept=KEPT,
    )


def finish(app: App, org_id: str, mailbox_id: str) -> None:
    """Destroy what a disconnect that broke off has left, or a look that was just at a mail; repeatable."""
    stored = app.records.find(org_id, Mailbox, mailbox_id)
    if stored and stored.value.state == "disconnected":
        _destroyed(app, org_id, stored.value, "system")


def is_connected(app: App, caller: Caller, mailbox: Mailbox) -> bool:
    """Whether something is left to disconnect: also of a disconnect that broke off."""
    return mailbox.state != "disconnected" or app.grants.holds(caller.org_id, mailbox.id)


def _destroyed(app: App, org_id: str, mailbox: Mailbox, actor: str) -> list[str]:
    """Destroy all that lets us in and all that waits for its owner's decision; returns what there was.

    Each part is on record with the transaction that ends it: a disconnect that breaks off answers with no
    receipt, and whoever finishes it has nobody to give one to.
    """
    flows.end(app, org_id, mailbox.id)
    _leave(app, org_id, mailbox)
    push = _end_push(app, org_id, mailbox)
    destroyed = [*push, *_destroy(app, org_id, mailbox, actor=actor, push=push)]
    while reviews := app.records.range(org_id, Review, prefix=f"{mailbox.id}!", limit=HELD_AT_ONCE):
        # first, and for good: connected again it is read from its start, where these are found and held anew
        leasing.interrupting(app, org_id, mailbox.id, {"cursor": None})
        held = f"{len(reviews)} held headers"
        event = audit.entry(app, "mailbox.reviews_destroyed", actor=actor, mailbox_id=mailbox.id, detail=held)
        audit.commit(app, org_id, *(Remove(review.value) for review in reviews), event)
        destroyed.append(held)
    delivering.hasten(app, org_id, mailbox.id)  # what waits fails visibly, and now
    return destroyed


def _end_push(app: App, org_id: str, mailbox: Mailbox) -> list[str]:
    """End the push with the grant that is about to be destroyed; without a working one it ends by itself."""
    if not (mailbox.push and app.records.find(org_id, Grant, f"{mailbox.id}!{mailbox.receives_with}")):
        return []
    try:
        ended = subscribing.cancel(app, org_id, mailbox)
    except ZalionError:
        return [f"push (the provider could not be told; it ends by {mailbox.push.until:%Y-%m-%d})"]
    return ["push" if ended else "push (goes on: the account is connected once more)"]


def destroy(app: App, org_id: str, mailbox: Mailbox) -> tuple[str, ...]:
    """Destroy what was kept of a mailbox, and withdraw what serves no other connection."""
    _leave(app, org_id, mailbox)
    return _destroy(app, org_id, mailbox)


def drop(app: App, org_id: str, mailbox: Mailbox) -> None:
    """Destroy what was kept for providers that a mailbox was connected with before, and no longer is."""
    used = {mailbox.receives_with, mailbox.sends_with}
    for account in _granted(app, org_id, mailbox, used):
        presence.forget(app.records, account, (org_id, mailbox.id))
    _destroy(app, org_id, mailbox, used)


def end_consent(app: App, org_id: str, mailbox: Mailbox, provider: str) -> None:
    """Destroy what a person granted, before another sign-in at its provider takes its place; repeatable."""
    grants = {
        row.value.provider: row.value for row in app.records.range(org_id, Grant, prefix=f"{mailbox.id}!")
    }
    grant = grants.pop(provider, None)
    if grant and grant.type == "consent":
        for account in _accounts_of(app, mailbox, grant):
            presence.forget(app.records, account, (org_id, mailbox.id))
        _destroy(app, org_id, mailbox, kept=grants)


def _destroy(
    app: App,
    org_id: str,
    mailbox: Mailbox,
    kept: Collection[str | None] = (),
    *,
    actor: str = "system",
    push: Sequence[str] = (),
) -> tuple[str, ...]:
    """Destroy grants; who connected the account while its consent was being withdrawn finds that out now.

    Whoever is noted only after that finds out by itself (`returning`). What became of the `push` is on
    record with the grant that it was ended with: while that is there, a repeated call ends it again.
    """
    ended: set[str] = set()

    def elsewhere(grant: Grant) -> bool:
        names = _accounts_of(app, mailbox, grant)
        found = any(presence.places(app.records, name) for name in names)
        ended.update(() if found else names)
        return found

    def commit(grant: Grant, there: Sequence[str], writes: Sequence[Write]) -> None:
        detail = ", ".join([*(push if grant.provider == mailbox.receives_with else ()), *there])
        event = audit.entry(
            app, "mailbox.secrets_destroyed", actor=actor, mailbox_id=mailbox.id, detail=detail
        )
        audit.commit(app, org_id, *writes, *([event] if detail else ()))

    destroyed = app.grants.destroy(org_id, mailbox.id, kept=kept, elsewhere=elsewhere, commit=commit)
    for place in {place for account in ended for place in presence.places(app.records, account)}:
        jobs.put(app, Job("sync", *place))
    return destroyed


def _leave(app: App, org_id: str, mailbox: Mailbox) -> None:
    for account in {*accounts(app, mailbox), *_granted(app, org_id, mailbox)}:
        presence.forget(app.records, account, (org_id, mailbox.id))


def accounts(app: App, mailbox: Mailbox) -> Iterator[str]:
    """Yield the accounts that a mailbox is, at providers where that matters (`presence`)."""
    for name in dict.fromkeys((mailbox.receives_with, mailbox.sends_with)):
        if name and app.provider(name).one_account:
            yield account_of(name, mailbox.address)


def _granted(app: App, org_id: str, mailbox: Mailbox, kept: Collection[str | None] = ()) -> Iterator[str]:
    """Yield the accounts of what was granted for a mailbox, with whatever provider it was connected then."""
    for stored in app.records.range(org_id, Grant, prefix=f"{mailbox.id}!"):
        if stored.value.provider not in kept and not stored.value.is_spare:
            yield from _accounts_of(app, mailbox, stored.value)


def _accounts_of(app: App, mailbox: Mailbox, grant: Grant) -> list[str]:
    """Name the account by address and by person: an address can change, a person does not."""
    names = filter(None, (mailbox.address, grant.subject))
    one = app.provider(grant.provider).one_account
    return [account_of(grant.provider, name) for name in names] if one else []
