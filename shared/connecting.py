"""A mailbox's life: connect (verified by signing in), follow, change. Its end: `disconnecting`.

A mailbox's id is made of its address: connecting it again after a disconnect continues where its
cursor stopped, so nothing that came meanwhile is lost. Where mail was held it begins anew from its
`since`: the disconnect destroyed what was held, and it is found again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from msgspec import UNSET

from shared import (
    adopting,
    audit,
    choosing,
    delivering,
    disconnecting,
    jobs,
    leasing,
    owning,
    presence,
    renewing,
    scheduling,
)
from shared.app import App
from shared.callers import Caller
from shared.contract import ConnectMailbox, PatchMailbox
from shared.errors import (
    Conflict,
    Raced,
    ZalionError,
)
from shared.jobs import Job
from shared.model import Mailbox, Problem
from shared.storage.base import Move, Remove, Stored, Write, written

NOT_SIGNED_IN = Problem(
    "consent_required", "Its user has not signed in yet.", "Open authorizeUrl in a browser and sign in."
)
TRIES = 5


def connect(app: App, caller: Caller, body: ConnectMailbox) -> Mailbox:
    """Verify a mailbox by signing in on both sides, store its secrets, and start following it.

    Raises Conflict where it is connected already or the provider is not approved, ConsentRequired
    where the sign-in is refused, InvalidRequest naming the setting that is wrong.
    """
    caller.need("member", "admin")
    mailbox = choosing.draft(app, caller, body)
    stored = app.records.find(caller.org_id, Mailbox, mailbox.id)
    if stored and not _may_start_over(app, caller.org_id, stored.value, mailbox):
        known = caller.email == stored.value.owner or "admin" in caller.roles
        fix = "Change it with PATCH." if known else "Ask your administrator: it is somebody else's."
        raise Conflict("This address is connected already.", field="address", fix=fix)
    secrets_ = adopting.sorted_out(app, mailbox, body.secret)
    old = stored.value if stored else None
    if old:
        mailbox = _continued(old, mailbox)
    waiting = replace(mailbox, state="needs_consent", problem=NOT_SIGNED_IN)
    if adopting.by_browser(app, mailbox):
        mailbox = waiting
    changes = _afresh(app, old, mailbox) if old else {}
    event = audit.entry(
        app, "mailbox.connected", actor=caller.email, mailbox_id=mailbox.id, outcome=mailbox.state
    )
    try:
        with (
            _named(app, caller.org_id, stored, waiting, changes) as begun,
            adopting.adopted(app, caller, "mailbox.connected", mailbox, secrets_, old) as kept,
        ):
            _end_consents(app, caller.org_id, mailbox, begun)
            if not adopting.by_browser(app, mailbox):  # else anybody could say so: `returning` notes it
                for account in disconnecting.accounts(app, mailbox):
                    presence.note(app.records, account, (caller.org_id, mailbox.id))
            if mailbox.receives_with and mailbox.state == "active":
                scheduling.plan_polls(app, caller.org_id, mailbox)
            leasing.interrupting(app, caller.org_id, mailbox.id, changes, Move(begun, mailbox), event, *kept)
    except Raced as raced:
        raise Conflict("This address was connected at the same time.", field="address") from raced
    _follow(app, caller.org_id, mailbox, waited=stored is not None)
    disconnecting.drop(app, caller.org_id, mailbox)
    return mailbox


def _end_consents(app: App, org_id: str, mailbox: Mailbox, begun: Stored[Mailbox]) -> None:
    """End what a person granted where the app itself signs in from now on.

    Raises Raced, with nothing ended, where somebody has signed in since this change began.
    """
    for name, _ in adopting.by_app(app, mailbox):
        if app.records.get(org_id, Mailbox, mailbox.id).etag != begun.etag:
            raise Raced
        disconnecting.end_consent(app, org_id, mailbox, name)


def _continued(old: Mailbox, new: Mailbox) -> Mailbox:
    """Go on where the mailbox stopped. A disconnect ended its push, which another system knows nothing of."""
    goes_on = old.state == "needs_consent" and old.receives_with == new.receives_with
    push = old.push if goes_on else None
    return replace(new, since=min(new.since, old.since), push=push, created_at=old.created_at)


@contextmanager
def _named(
    app: App, org_id: str, stored: Stored[Mailbox] | None, waiting: Mailbox, changes: Mapping[str, Any]
) -> Iterator[Stored[Mailbox]]:
    """Have a record name the mailbox while its secrets are tried and kept, so that none is without one.

    A disconnected one waits, too: what finishes its disconnect would destroy them. Where it fails, all is
    as before, but not when somebody else has taken it over.
    """
    if stored and stored.value.state != "disconnected":
        yield stored
        return
    scheduling.watch(app, org_id)  # before there can be a promise
    leasing.interrupting(app, org_id, waiting.id, changes)  # first: nobody sees afterwards what is new of it
    begun = written(app.records, org_id, waiting, stored)
    try:
        if stored:
            disconnecting.destroy(app, org_id, stored.value)  # what a disconnect that broke off has left
        yield begun
    except Raced:
        raise
    except ZalionError:
        with suppress(Raced):
            ended = stored.value if stored else replace(waiting, state="disconnected")
            [etag] = app.records.commit(org_id, Move(begun, ended))
            disconnecting.destroy(app, org_id, waiting)
            if not stored:
                app.records.commit(org_id, Remove(ended, etag))
        raise


def _may_start_over(app: App, org_id: str, old: Mailbox, new: Mailbox) -> bool:
    """Whether a mailbox may be connected anew: it was disconnected, or waits for its owner's sign-in.

    Somebody else's, too, where nobody has ever signed in for it.
    """
    waits = old.state == "needs_consent"
    return old.state == "disconnected" or (
        waits and (old.owner == new.owner or not app.grants.holds(org_id, old.id))
    )


def activate(app: App, org_id: str, mailbox: Mailbox, actor: str) -> Mailbox:
    """Follow a mailbox whose user has signed in; what waits to be sent leaves now.

    Raises Conflict for one that was disconnected, or became somebody else's, meanwhile; what its user gave is
    destroyed then.
    """
    for _ in range(TRIES):
        stored = app.records.get(org_id, Mailbox, mailbox.id)
        if stored.value.owner != mailbox.owner:
            app.grants.destroy(org_id, mailbox.id, elsewhere=lambda _: True)  # the new owner may be using it
            raise Conflict("This mailbox is connected by somebody else by now.")
        if stored.value.state == "disconnected":
            disconnecting.destroy(app, org_id, stored.value)
            raise Conflict("This mailbox was disconnected meanwhile.", fix="Connect it again.")
        with suppress(Raced):  # a look that ended meanwhile has marked it
            return resume(app, org_id, stored, actor, event="mailbox.signed_in")
    raise Raced


def resume(
    app: App, org_id: str, stored: Stored[Mailbox], actor: str, *, event: str = "mailbox.resumed"
) -> Mailbox:
    """Follow a mailbox that stopped; what waits to be sent leaves now. Raises Raced where it has changed."""
    new = replace(_going_on(stored.value), schedule=scheduling.new_token())
    if new.receives_with and new.state == "active":
        scheduling.plan_polls(app, org_id, new)
    renewing.plan(app, org_id, new.id)
    app.records.commit(org_id, Move(stored, new), audit.entry(app, event, actor=actor, mailbox_id=new.id))
    _follow(app, org_id, new, waited=True)
    return new


def _going_on(mailbox: Mailbox) -> Mailbox:
    """Return a mailbox as it was before it stopped."""
    return replace(
        mailbox, state="paused" if mailbox.was_paused else "active", problem=None, was_paused=False
    )


def _follow(app: App, org_id: str, mailbox: Mailbox, *, again: bool = True, waited: bool = False) -> None:
    """Look into a mailbox now.

    Args:
        again: its push may have ended while nobody listened.
        waited: mail may have waited for it, and leaves now.
    """
    jobs.put(app, Job("sync", org_id, mailbox.id))
    if again and mailbox.push and mailbox.state == "active":
        jobs.put(app, Job("subscribe", org_id, mailbox.id, event="renew"))
    if waited and mailbox.state != "needs_consent":  # a paused one sends, too
        delivering.hasten(app, org_id, mailbox.id)


def change(app: App, caller: Caller, mailbox_id: str, body: PatchMailbox) -> Mailbox:
    """Change what is given. New settings, secrets and folders are tried before anything is kept."""
    stored = owning.own(app, caller, mailbox_id, admin=True)
    old = stored.value
    if old.state == "disconnected":
        raise Conflict("This mailbox is disconnected.", fix="Connect it again with POST /mailboxes.")
    if body.paused is True and old.state == "needs_consent" and body.secret is UNSET:
        raise Conflict("This mailbox waits for its owner's sign-in.", fix="Connect it again, then pause it.")
    asked = choosing.changed(app, caller, old, body)
    with _tried(app, caller, old, asked, body) as (new, kept):
        event = audit.entry(app, "mailbox.changed", actor=caller.email, mailbox_id=old.id, outcome=new.state)
        if new.state == "active" and new.receives_with:
            scheduling.plan_polls(app, caller.org_id, new)
        changes = _afresh(app, old, new)
        leasing.interrupting(app, caller.org_id, new.id, changes, Move(stored, new), event, *kept)
    waited = old.state == "needs_consent"
    _follow(app, caller.org_id, new, again=new.state != old.state, waited=waited)
    return new


def _afresh(app: App, old: Mailbox, new: Mailbox) -> Mapping[str, Any]:
    """What must be forgotten of a mailbox's reading, as changes of its SyncState.

    Another place may mean another server, where the old one's cursor would pass mail over, as it does from
    before an earlier `since`. When other folders are chosen, what the last look said of them is no longer so.
    """
    told = {} if old.folders == new.folders else {"problem": None}
    name = new.receives_with
    moved = name != old.receives_with or (
        name is not None
        and adopting.is_another_place(app.provider(name), old.settings[name], new.settings[name])
    )
    return {**told, "cursor": None} if moved or new.since < old.since else told


@contextmanager
def _tried(
    app: App, caller: Caller, old: Mailbox, new: Mailbox, body: PatchMailbox
) -> Iterator[tuple[Mailbox, list[Write]]]:
    """Try what is new; yields the mailbox as it is then, and what is to be written with it."""
    if body.settings is UNSET and body.secret is UNSET:
        if new.folders != old.folders and new.state != "needs_consent":
            looked = audit.recorded(app, caller, "mailbox.changed", mailbox_id=new.id, riding=[])
            with looked, app.receiving(caller.org_id, new) as receiver:
                receiver.check()  # one that is not there would be left out without a word
        yield _paused(new, body), []
        return
    given = adopting.sorted_out(app, new, body.secret) if body.secret is not UNSET else {}
    with adopting.adopted(app, caller, "mailbox.changed", new, given, old) as kept:
        if not adopting.by_browser(app, new):  # else what it signs in with has not changed
            new = _going_on(new) if new.state == "needs_consent" else replace(new, problem=None)
        yield _paused(new, body), kept


def _paused(mailbox: Mailbox, body: PatchMailbox) -> Mailbox:
    if body.paused is UNSET:
        return mailbox
    if mailbox.state == "needs_consent":
        return replace(mailbox, was_paused=body.paused)
    return replace(mailbox, state="paused" if body.paused else "active")
