"""A mailbox's life: connect (verified by signing in), change, disconnect with a receipt.

A mailbox's id is made of its address: connecting it again after a disconnect continues where its
cursor stopped, so nothing that came meanwhile is lost.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from msgspec import UNSET

from shared import (
    adopting,
    audit,
    delivering,
    forms,
    jobs,
    mime,
    presence,
    renewing,
    scheduling,
    subscribing,
    syncing,
)
from shared.app import App
from shared.callers import Caller
from shared.contract import ConnectMailbox, DisconnectReceipt, PatchMailbox
from shared.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Raced,
    Unsupported,
    ZalionError,
)
from shared.jobs import Job
from shared.model import Grant, Integration, Mailbox, Problem, Review, SyncState, account_of, digest
from shared.storage.base import Add, Move, Remove, Stored, Write

NOT_SIGNED_IN = Problem(
    "consent_required", "Its user has not signed in yet.", "Open authorizeUrl in a browser and sign in."
)
KEPT = "E-mails already filed stay in their cases under your retention policy; no further mail is read."
OLDEST = timedelta(days=365)
TRIES = 5
FINISH_DELAY = 30
"""Seconds: longer than the writes of a disconnect take, and than a look needs to notice it."""
SKEW = timedelta(minutes=10)
"""A mailbox is followed from a little before now: the mail server's clock need not agree with ours."""


def connect(app: App, caller: Caller, body: ConnectMailbox) -> Mailbox:
    """Verify a mailbox by signing in on both sides, store its secrets, and start following it.

    Raises Conflict where it is connected already or the provider is not approved, ConsentRequired
    where the sign-in is refused, InvalidRequest naming the setting that is wrong.
    """
    caller.need("member", "admin")
    mailbox = _draft(app, caller, body)
    stored = app.records.find(caller.org_id, Mailbox, mailbox.id)
    if stored and not _may_start_over(app, caller.org_id, stored.value, mailbox):
        known = caller.email == stored.value.owner or "admin" in caller.roles
        fix = "Change it with PATCH." if known else "Ask your administrator: it is somebody else's."
        raise Conflict("This address is connected already.", field="address", fix=fix)
    secrets_ = adopting.sorted_out(app, mailbox, body.secret)
    if stored:
        old = stored.value
        since = min(mailbox.since, old.since)
        push = old.push if old.state == "needs_consent" else None  # a disconnect has ended it
        mailbox = replace(mailbox, since=since, push=push, created_at=old.created_at)
    waiting = replace(mailbox, state="needs_consent", problem=NOT_SIGNED_IN)
    if adopting.by_browser(app, mailbox):
        mailbox = waiting
    event = audit.entry(
        app, "mailbox.connected", actor=caller.email, mailbox_id=mailbox.id, outcome=mailbox.state
    )
    try:
        with _named(app, caller.org_id, stored, waiting) as begun:
            adopting.adopt(app, caller.org_id, mailbox, secrets_)
            if not adopting.by_browser(app, mailbox):  # else anybody could say so: `returning` notes it
                for account in _accounts(app, mailbox):
                    presence.note(app.records, account, (caller.org_id, mailbox.id))
            if mailbox.receives_with and mailbox.state == "active":
                scheduling.plan_polls(app, caller.org_id, mailbox)
            changes = _afresh(stored.value, mailbox) if stored else {}
            _commit(app, caller.org_id, mailbox.id, changes, Move(begun, mailbox), event)
    except Raced as raced:
        raise Conflict("This address was connected at the same time.", field="address") from raced
    _follow(app, caller.org_id, mailbox)
    return mailbox


@contextmanager
def _named(
    app: App, org_id: str, stored: Stored[Mailbox] | None, waiting: Mailbox
) -> Iterator[Stored[Mailbox]]:
    """Have a record name the mailbox while its secrets are tried and kept, so that none is without one.

    A disconnected one waits, too: what finishes its disconnect would destroy them. Where it fails, all is
    as before, but not when somebody else has taken it over.
    """
    if stored and stored.value.state != "disconnected":
        yield stored
        return
    [etag] = app.records.commit(org_id, Move(stored, waiting) if stored else Add(waiting))
    try:
        if stored:
            _destroy(app, org_id, stored.value)  # what a disconnect that broke off has left
        yield Stored(waiting, etag)
    except Raced:
        raise
    except ZalionError:
        with suppress(Raced):
            ended = stored.value if stored else replace(waiting, state="disconnected")
            [etag] = app.records.commit(org_id, Move(Stored(waiting, etag), ended))
            _destroy(app, org_id, waiting)
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
            _destroy(app, org_id, stored.value)
            raise Conflict("This mailbox was disconnected meanwhile.", fix="Connect it again.")
        new = replace(stored.value, state="active", problem=None, schedule=scheduling.new_token())
        if new.receives_with:
            scheduling.plan_polls(app, org_id, new)
        renewing.plan(app, org_id, new.id)
        event = audit.entry(app, "mailbox.signed_in", actor=actor, mailbox_id=mailbox.id)
        with suppress(Raced):  # a look that ended meanwhile has marked it
            app.records.commit(org_id, Move(stored, new), event)
            _follow(app, org_id, new)
            delivering.hasten(app, org_id, mailbox.id)
            return new
    raise Raced


def _follow(app: App, org_id: str, mailbox: Mailbox, *, again: bool = True) -> None:
    """Look into a mailbox now. Followed `again`, its push may have ended while nobody listened."""
    jobs.put(app, Job("sync", org_id, mailbox.id))
    if again and mailbox.push and mailbox.state == "active":
        jobs.put(app, Job("subscribe", org_id, mailbox.id, event="renew"))


def is_connected(app: App, caller: Caller, mailbox: Mailbox) -> bool:
    """Whether something is left to disconnect: also of a disconnect that broke off."""
    return mailbox.state != "disconnected" or app.grants.holds(caller.org_id, mailbox.id)


def mailboxes_of(app: App, org_id: str) -> list[Stored[Mailbox]]:
    """Return all mailboxes of an organisation."""
    found: list[Stored[Mailbox]] = []
    after = ""
    while page := app.records.range(org_id, Mailbox, after=after):
        found += page
        after = page[-1].value.key
    return found


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


def change(app: App, caller: Caller, mailbox_id: str, body: PatchMailbox) -> Mailbox:
    """Change what is given. New settings and secrets are tried by signing in before anything is kept."""
    stored = own(app, caller, mailbox_id, admin=True)
    old = stored.value
    if old.state == "disconnected":
        raise Conflict("This mailbox is disconnected.", fix="Connect it again with POST /mailboxes.")
    new = _changed(app, caller, old, body)
    if body.settings is not UNSET or body.secret is not UNSET:
        new = _tried(app, caller.org_id, new, body)
    if body.paused is not UNSET and new.state != "needs_consent":
        new = replace(new, state="paused" if body.paused else "active")
    event = audit.entry(app, "mailbox.changed", actor=caller.email, mailbox_id=old.id, outcome=new.state)
    if new.state == "active" and new.receives_with:
        scheduling.plan_polls(app, caller.org_id, new)
    _commit(app, caller.org_id, new.id, _afresh(old, new), Move(stored, new), event)
    _follow(app, caller.org_id, new, again=new.state != old.state)
    if new.state == "active" and old.state == "needs_consent":
        delivering.hasten(app, caller.org_id, new.id)
    return new


def disconnect(app: App, caller: Caller, mailbox_id: str) -> DisconnectReceipt:
    """End all access: no poll, no send, no secret, no held headers. Safe to repeat; returns a receipt."""
    stored = own(app, caller, mailbox_id, admin=True)
    now = app.clock()
    ended = replace(stored.value, state="disconnected", schedule="-", problem=None)
    event = audit.entry(app, "mailbox.disconnected", actor=caller.email, mailbox_id=mailbox_id)
    # enqueued first: should we die half-way, the job carries on; had nothing happened, it does nothing
    jobs.put(app, Job("disconnect", caller.org_id, mailbox_id), delay=FINISH_DELAY)
    _commit(app, caller.org_id, mailbox_id, {}, Move(stored, ended), event)
    return DisconnectReceipt(
        mailbox_id=mailbox_id,
        address=ended.address,
        state="disconnected",
        disconnected_at=now,
        destroyed=_destroyed(app, caller.org_id, ended),
        kept=KEPT,
    )


def finish(app: App, org_id: str, mailbox_id: str) -> None:
    """Destroy what a disconnect that broke off has left, or a look that was just at a mail; repeatable."""
    stored = app.records.find(org_id, Mailbox, mailbox_id)
    if stored and stored.value.state == "disconnected":
        _destroyed(app, org_id, stored.value)


def _destroyed(app: App, org_id: str, mailbox: Mailbox) -> list[str]:
    """Destroy all that lets us in and all that waits for its owner's decision; returns what there was."""
    _leave(app, org_id, mailbox)
    there = mailbox.push and app.grants.holds(org_id, mailbox.id)
    destroyed = [_end_push(app, org_id, mailbox)] if there else []
    destroyed += _destroy(app, org_id, mailbox)
    while reviews := app.records.range(org_id, Review, prefix=f"{mailbox.id}!", limit=100):
        app.records.commit(org_id, *(Remove(review.value) for review in reviews))
        destroyed.append(f"{len(reviews)} held headers")
    delivering.hasten(app, org_id, mailbox.id)  # what waits fails visibly, and now
    return destroyed


def _commit(app: App, org_id: str, mailbox_id: str, changes: Mapping[str, Any], *writes: Write) -> None:
    """Change a mailbox, and end the look that still reads it as it was. Raises Raced."""
    for _ in range(TRIES):
        with suppress(Raced):  # the look moved on, or somebody changed the mailbox: then it stays so
            app.records.commit(org_id, *writes, *syncing.interrupted(app, org_id, mailbox_id, **changes))
            return
    raise Raced


def _afresh(old: Mailbox, new: Mailbox) -> Mapping[str, Any]:
    """What must be forgotten of a mailbox's reading, as changes of its SyncState.

    Other settings may mean another server, where the old one's cursor would pass mail over.
    """
    name = new.receives_with
    same = name == old.receives_with and (name is None or old.settings[name] == new.settings[name])
    return {} if same else {"cursor": None}


def _end_push(app: App, org_id: str, mailbox: Mailbox) -> str:
    """End the push with the grant that is about to be destroyed; without a working one it ends by itself."""
    until = mailbox.push.until if mailbox.push else app.clock()
    try:
        ended = subscribing.cancel(app, org_id, mailbox)
    except ZalionError:
        return f"push (the provider could not be told; it ends by {until:%Y-%m-%d})"
    return "push" if ended else "push (goes on: the account is connected once more)"


def _destroy(app: App, org_id: str, mailbox: Mailbox) -> tuple[str, ...]:
    """Destroy what was kept of a mailbox, and withdraw what serves no other connection."""
    _leave(app, org_id, mailbox)
    return app.grants.destroy(org_id, mailbox.id, elsewhere=lambda grant: _elsewhere(app, mailbox, grant))


def _leave(app: App, org_id: str, mailbox: Mailbox) -> None:
    for account in (*_accounts(app, mailbox), *_people(app, org_id, mailbox.id)):
        presence.forget(app.records, account, (org_id, mailbox.id))


def _accounts(app: App, mailbox: Mailbox) -> Iterator[str]:
    """Yield the accounts that a mailbox is, at providers where that matters (`presence`)."""
    for name in dict.fromkeys((mailbox.receives_with, mailbox.sends_with)):
        if name and app.provider(name).one_account:
            yield account_of(name, mailbox.address)


def _people(app: App, org_id: str, mailbox_id: str) -> Iterator[str]:
    """Yield the accounts that consented for a mailbox: an address can change, a person does not."""
    for stored in app.records.range(org_id, Grant, prefix=f"{mailbox_id}!"):
        if stored.value.subject:
            yield account_of(stored.value.provider, stored.value.subject)


def _elsewhere(app: App, mailbox: Mailbox, grant: Grant) -> bool:
    """Whether what was granted serves another connection too; this one's presence is forgotten already."""
    names = filter(None, (mailbox.address, grant.subject))
    return app.provider(grant.provider).one_account and any(
        presence.places(app.records, account_of(grant.provider, name)) for name in names
    )


def approved(app: App, org_id: str, name: str, address: str) -> Integration:
    """Return the integration if mailboxes may connect under it.

    Raises Conflict where IT has not approved it, InvalidRequest where the address is outside its domains.
    """
    app.provider(name)
    stored = app.records.find(org_id, Integration, name)
    if stored is None or stored.value.state != "approved":
        refusal = Conflict(
            f"The {name} integration is not approved.", fix="Ask your administrator to approve it."
        )
        refusal.reason = "not_approved"
        raise refusal
    domains = stored.value.domains
    if domains and address.rpartition("@")[2] not in domains:
        raise InvalidRequest("Mailboxes of this domain may not be connected.", field="address")
    return stored.value


def _draft(app: App, caller: Caller, body: ConnectMailbox) -> Mailbox:
    """The mailbox as it will be, everything checked that needs no connection."""
    address = mime.check_address(body.address, "address")
    if body.receives_with is None and body.sends_with is None:
        raise InvalidRequest("Choose what the mailbox receives or sends with.", field="receivesWith")
    now = app.clock()
    since = body.since or now - SKEW
    if since.tzinfo is None or not now - OLDEST <= since <= now:
        raise InvalidRequest("This must be a time with zone within the last 365 days.", field="since")
    return Mailbox(
        id=digest(caller.org_id, address)[:16],
        address=address,
        owner=_owner(caller, body.owner),
        receives_with=body.receives_with,
        sends_with=body.sends_with,
        settings=_settings(app, caller, address, body),
        state="active",
        since=since,
        created_at=now,
        name=mime.check_name(body.name, "name"),
        folders=_folders(app, body.receives_with, body.folders),
        poll_seconds=body.poll_seconds,
        schedule=scheduling.new_token(),
        authserv_id=body.authserv_id,
    )


def _folders(app: App, name: str | None, given: Sequence[str]) -> tuple[str, ...]:
    """Return the folders to be read. Raises Unsupported where mailboxes are read as a whole."""
    if given and name and app.provider(name).reads_whole:
        detail = "This mailbox is read as a whole, whatever folders or labels its mail is in."
        raise Unsupported(detail, field="folders", fix="Leave folders empty.")
    return tuple(dict.fromkeys(given))


def _owner(caller: Caller, owner: str | None) -> str:
    if owner is None or owner.lower() == caller.email:
        if not caller.email:
            raise InvalidRequest("The token names no e-mail address to own the mailbox.", field="owner")
        return caller.email
    if "admin" not in caller.roles:
        raise NotAllowed("Only an administrator may connect a mailbox for somebody else.", field="owner")
    return mime.check_address(owner, "owner")


def _settings(
    app: App, caller: Caller, address: str, body: ConnectMailbox
) -> Mapping[str, Mapping[str, Any]]:
    sides = (("receivesWith", "receiver", body.receives_with), ("sendsWith", "sender", body.sends_with))
    for given in body.settings:
        if given not in {body.receives_with, body.sends_with}:
            raise InvalidRequest("This mailbox does not use that provider.", field=f"settings.{given}")
    settings: dict[str, Mapping[str, Any]] = {}
    for field, power, name in sides:
        if name is None:
            continue
        if getattr(app.provider(name), power) is None:
            raise Unsupported(f"{name} cannot do that.", field=field)
        settings[name] = _checked(app, caller, name, address, body.settings.get(name, {}))
    return settings


def _checked(
    app: App, caller: Caller, name: str, address: str, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Check a mailbox's own settings, and what only an administrator may choose."""
    form, path = app.provider(name).form, f"settings.{name}"
    decided = approved(app, caller.org_id, name, address).settings
    checked = forms.check(form, given, path=path, decided=decided)
    for one in form:
        if one.admin_only and checked.get(one.name) != one.default and "admin" not in caller.roles:
            raise NotAllowed("Only an administrator may choose this.", field=f"{path}.{one.name}")
    return checked


def _changed(app: App, caller: Caller, old: Mailbox, body: PatchMailbox) -> Mailbox:
    given = {
        name: getattr(body, name)
        for name in ("name", "folders", "poll_seconds", "authserv_id")
        if getattr(body, name) is not UNSET
    }
    mime.check_name(given.get("name", old.name), "name")
    if "folders" in given:
        given["folders"] = _folders(app, old.receives_with, given["folders"])
    settings = dict(old.settings)
    for name, values in (body.settings if body.settings is not UNSET else {}).items():
        if name not in settings:
            raise InvalidRequest("This mailbox does not use that provider.", field=f"settings.{name}")
        own = {field.name for field in app.provider(name).form if field.level == "mailbox"}
        kept = {key: value for key, value in old.settings[name].items() if key in own}
        settings[name] = _checked(app, caller, name, old.address, kept | values)
        given_anew = body.secret is not UNSET
        adopting.check_kept(app.provider(name), old.settings[name], settings[name], given_anew=given_anew)
    return replace(old, **given, settings=settings, schedule=scheduling.new_token())


def _tried(app: App, org_id: str, new: Mailbox, body: PatchMailbox) -> Mailbox:
    given = adopting.sorted_out(app, new, body.secret) if body.secret is not UNSET else {}
    adopting.adopt(app, org_id, new, given)
    if adopting.by_browser(app, new):
        return new  # what it signs in with has not changed
    state = "active" if new.state == "needs_consent" else new.state
    return replace(new, state=state, problem=None)


def _state(app: App, org_id: str, mailbox_id: str) -> SyncState | None:
    stored = app.records.find(org_id, SyncState, mailbox_id)
    return stored.value if stored else None
