"""What a mailbox is to be: everything checked that needs no connection."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from types import MappingProxyType
from typing import Any

from msgspec import UNSET

from shared import (
    adopting,
    forms,
    mime,
    scheduling,
)
from shared.app import App
from shared.callers import Caller, spelled
from shared.contract import ConnectMailbox, PatchMailbox
from shared.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    Unsupported,
)
from shared.model import Integration, Mailbox, digest

OLDEST = timedelta(days=365)
SKEW = timedelta(minutes=10)
"""A mailbox is followed from a little before now: the mail server's clock need not agree with ours."""


def draft(app: App, caller: Caller, body: ConnectMailbox) -> Mailbox:
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
        since=since.astimezone(UTC),
        created_at=now,
        name=mime.check_name(body.name, "name"),
        folders=_folders(app, body.receives_with, body.folders),
        poll_seconds=body.poll_seconds,
        schedule=scheduling.new_token(),
        authserv_id=body.authserv_id,
    )


def changed(app: App, caller: Caller, old: Mailbox, body: PatchMailbox) -> Mailbox:
    """The mailbox with what is given changed, checked as `draft` is; nothing is tried."""
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
        settings[name] = _checked(app, caller, name, old.address, values, kept)
        given_anew = body.secret is not UNSET
        adopting.check_kept(app.provider(name), old.settings[name], settings[name], given_anew=given_anew)
    return replace(old, **given, settings=settings, schedule=scheduling.new_token())


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


def _folders(app: App, name: str | None, given: Sequence[str]) -> tuple[str, ...]:
    """Return the folders to be read. Raises Unsupported where mailboxes are read as a whole."""
    if given and name and app.provider(name).reads_whole:
        detail = "This mailbox is read as a whole, whatever folders or labels its mail is in."
        raise Unsupported(detail, field="folders", fix="Leave folders empty.")
    return tuple(dict.fromkeys(given))


def _owner(caller: Caller, owner: str | None) -> str:
    if owner is None or spelled(owner) == caller.email:
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
        if getattr(app.provider(name, field=field), power) is None:
            raise Unsupported(f"{name} cannot do that.", field=field)
        settings[name] = _checked(app, caller, name, address, body.settings.get(name, {}))
    return settings


def _checked(
    app: App,
    caller: Caller,
    name: str,
    address: str,
    given: Any,
    old: Mapping[str, Any] = MappingProxyType({}),
) -> Mapping[str, Any]:
    """Check a mailbox's own settings, and what only an administrator may choose; `old` may stay.

    What is `given` replaces the old ones by name.
    """
    form, path = app.provider(name).form, f"settings.{name}"
    if not isinstance(given, dict):
        raise InvalidRequest("This must be an object.", field=path)
    decided = approved(app, caller.org_id, name, address).settings
    checked = forms.check(form, {**old, **given}, path=path, decided=decided)
    for one in form:
        allowed = (one.default, old.get(one.name, one.default))
        if one.admin_only and checked.get(one.name) not in allowed and "admin" not in caller.roles:
            raise NotAllowed("Only an administrator may choose this.", field=f"{path}.{one.name}")
    return checked
