"""Secrets that a user typed: sorted by provider, tried by signing in, and only then kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from typing import Any

import msgspec

from shared import audit, renewing
from shared.app import App
from shared.callers import Caller
from shared.contract import Secret, misfit
from shared.errors import Conflict, InvalidRequest, ZalionError
from shared.grants import spare_of
from shared.model import Grant, Mailbox
from shared.providers import silence
from shared.providers.base import Bearer, Credential, OAuth, Password, Provider
from shared.storage.base import Save, Write


def sorted_out(app: App, mailbox: Mailbox, given: Mapping[str, Any]) -> dict[str, Secret]:
    """Sort the secrets by provider; one without provider names is for both sides.

    Providers that people sign in at have none.
    """
    sides = dict.fromkeys(filter(None, (mailbox.receives_with, mailbox.sends_with)))
    names = [name for name in sides if app.provider(name).oauth is None]
    if given and not names:
        raise InvalidRequest("This provider takes no secret: its users sign in there.", field="secret")
    named = _is_by_name(names, given)
    secrets_: dict[str, Secret] = {}
    for name in names:
        path = f"secret.{name}" if named else "secret"
        try:
            secret = msgspec.convert(given.get(name, {}) if named else given, Secret)
        except msgspec.ValidationError as error:
            detail, place = misfit(error)
            raise InvalidRequest(detail, field=f"{path}.{place}" if place else path) from None
        tokens = app.provider(name).tokens and (secret.access_token or secret.refresh_token)
        if not (secret.password or tokens):
            what = "password or token" if app.provider(name).tokens else "password"
            raise InvalidRequest(f"A {what} is needed.", field=path)
        secrets_[name] = secret
    if not named and len(names) > 1 and any(secret.refresh_token for secret in secrets_.values()):
        # a rotated token that comes back from the other side counts as stolen (RFC 9700 section 4.14.2)
        fix = 'Give each side its own: {"imap": {...}, "smtp": {...}}.'
        raise InvalidRequest("One refresh token cannot serve two sides.", field="secret", fix=fix)
    return secrets_


def _is_by_name(names: Sequence[str], given: Mapping[str, Any]) -> bool:
    """Whether there is one for each provider. Raises InvalidRequest for a provider that needs none."""
    others = [name for name in given if name not in names]
    if others and len(others) < len(given):
        fix = f"Known: {', '.join(names)}."
        raise InvalidRequest("This mailbox needs no secret for that.", field=f"secret.{others[0]}", fix=fix)
    return bool(given) and not others


@contextmanager
def adopted(
    app: App, caller: Caller, event: str, mailbox: Mailbox, given: Mapping[str, Secret], old: Mailbox | None
) -> Iterator[list[Write]]:
    """Sign in on both sides with what was given (else with the stored grants), and keep it beside these.

    A sign-in that fails is on record as an `event` of the caller's.

    Yields the writes that put it in their place, to be committed with the mailbox: a secret is valid with
    the settings that it was given for, or not at all. What is of no use in the end is destroyed, as is what
    changes that broke off have left: who was at one before we began loses the race for the mailbox.
    """
    org_id = caller.org_id
    places = {name: _place(name, mailbox, secret, old) for name, secret in given.items()}
    unused = {place for name, place in places.items() if place != name}
    left = app.grants.spares(org_id, mailbox.id)
    try:
        yield _adopt(app, caller, event, mailbox, given, places)
        unused |= left
    finally:
        with suppress(ZalionError):  # the next change, or the disconnect, destroys it
            app.grants.sweep(org_id, mailbox.id, unused)


def _adopt(
    app: App,
    caller: Caller,
    event: str,
    mailbox: Mailbox,
    given: Mapping[str, Secret],
    places: Mapping[str, str],
) -> list[Write]:
    """A refresh token is kept first: redeeming it may rotate it (RFC 6749 section 6)."""
    org_id = caller.org_id
    for name, secret in given.items():
        if _is_redeemed(secret):
            _keep(app, org_id, mailbox, name, places[name], secret)
    with audit.recorded(app, caller, event, mailbox_id=mailbox.id, riding=[]):  # the change tells of success
        for side, power in ((mailbox.receives_with, "receiver"), (mailbox.sends_with, "sender")):
            if side and by_browser(app, mailbox) != side:
                tried = _tried(app, org_id, mailbox, side, given.get(side), places.get(side))
                try_out(app, org_id, mailbox, side, power, tried)
    for name, secret in given.items():
        if not _is_redeemed(secret):
            _keep(app, org_id, mailbox, name, places[name], secret)
    if any(secret.refresh_token for secret in given.values()):
        renewing.plan(app, org_id, mailbox.id)
    spares = {name: place for name, place in places.items() if place != name}
    return [*app.grants.put_in_place(org_id, mailbox.id, spares), *_by_app(app, mailbox)]


def _place(name: str, mailbox: Mailbox, secret: Secret, old: Mailbox | None) -> str:
    """Where to keep a secret until its settings are in force.

    Where they are already, a refresh token needs no such place: what comes of a rotation is not lost then,
    whatever becomes of the change.
    """
    in_force = old is not None and old.settings.get(name) == mailbox.settings[name]
    return name if in_force and _is_redeemed(secret) else spare_of(name)


def _is_redeemed(secret: Secret) -> bool:
    """Whether there is nothing but a refresh token to try."""
    return not (secret.password or secret.access_token)


def _by_app(app: App, mailbox: Mailbox) -> Iterator[Write]:
    """Remember for which sides the app itself signs in."""
    for side, oauth in by_app(app, mailbox):
        scopes = tuple(oauth.scopes(mailbox.settings[side]))
        yield Save(Grant(mailbox.id, side, "application", mailbox.address, scopes=scopes))


def by_app(app: App, mailbox: Mailbox) -> Iterator[tuple[str, OAuth]]:
    """Yield the providers that the app itself signs in at."""
    for side in dict.fromkeys(filter(None, (mailbox.receives_with, mailbox.sends_with))):
        oauth = app.provider(side).oauth
        if oauth and by_browser(app, mailbox) != side:
            yield side, oauth


def check_kept(
    provider: Provider, old: Mapping[str, Any], new: Mapping[str, Any], *, given_anew: bool
) -> None:
    """Check that what was given for the old settings may serve the new ones, or a secret was `given_anew`.

    Raises InvalidRequest for another place to sign in at, Conflict where people would have to sign in again.
    """
    moved = is_another_place(provider, old, new)
    if provider.oauth is None:
        if moved and not given_anew:
            detail = "The stored secret was given for another server or user name."
            raise InvalidRequest(detail, field="secret", fix="Give the secret for the new one, too.")
        return
    by_app = old.get("access") == "application"
    if moved or not (by_app or {*provider.oauth.scopes(new)} <= {*provider.oauth.scopes(old)}):
        fix = "Disconnect the mailbox and connect it again: its cases stay, and no mail is missed."
        raise Conflict("This needs another sign-in.", field=f"settings.{provider.name}", fix=fix)


def is_another_place(provider: Provider, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether we sign in somewhere else, or as somebody else, by the new settings."""
    return any(old.get(one.name) != new.get(one.name) for one in provider.form if one.place)


def by_browser(app: App, mailbox: Mailbox) -> str | None:
    """Return the provider that the mailbox's user has to sign in at, if there is one."""
    for name in (mailbox.receives_with, mailbox.sends_with):
        if name and app.provider(name).oauth and mailbox.settings[name].get("access") != "application":
            return name
    return None


def try_out(
    app: App,
    org_id: str,
    mailbox: Mailbox,
    name: str,
    power: str,
    credential: Callable[[], Credential] | None,
) -> None:
    """Sign in on one side; without a credential with the stored grant.

    Raises what the provider says, with the place of these settings in a request.
    """
    provider = app.provider(name)
    try:
        session = getattr(provider, power)(app.connection(org_id, mailbox, name, credential))
        with closing(session):
            session.check()
    except ZalionError as error:
        if error.field in {one.name for one in provider.form}:
            error.field = f"settings.{name}.{error.field}"
        elif error.fix == silence.CHECK:  # whichever of them it is
            error.field = error.field or f"settings.{name}"
        raise


def _tried(
    app: App, org_id: str, mailbox: Mailbox, name: str, secret: Secret | None, place: str | None
) -> Callable[[], Credential] | None:
    """The credential to try: a typed secret's, or the app's own; None for the stored grant."""
    username = _username(mailbox, name)
    if oauth := app.provider(name).oauth:
        registration, scopes = app.registrations.of(org_id, name), oauth.scopes(mailbox.settings[name])
        return lambda: Bearer(username, oauth.application(registration, username, scopes).access_token)
    if secret and secret.password:
        tried: Credential = Password(username, secret.password)
        return lambda: tried
    if secret and secret.access_token:
        bearer = Bearer(username, secret.access_token)
        return lambda: bearer
    return (lambda: app.grants.credential(org_id, mailbox.id, place)) if place else None


def _keep(app: App, org_id: str, mailbox: Mailbox, name: str, place: str, secret: Secret) -> None:
    username = _username(mailbox, name)
    if secret.password:
        app.grants.store_password(org_id, mailbox.id, place, username, secret.password)
        return
    expires_in = secret.expires_in if secret.access_token else None
    app.grants.store_token(
        org_id,
        mailbox.id,
        place,
        username,
        access_token=secret.access_token,
        expires_at=app.clock() + timedelta(seconds=expires_in) if expires_in else None,
        refresh_token=secret.refresh_token,
        token_url=secret.token_url,
        client_id=secret.client_id,
        client_secret=secret.client_secret,
    )


def _username(mailbox: Mailbox, name: str) -> str:
    return str(mailbox.settings[name].get("username") or mailbox.address)
