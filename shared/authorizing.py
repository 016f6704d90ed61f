"""Consents and sign-ins in the browser: begun by a caller we know, finished by a redirect we do not trust.

A redirect proves nothing by itself; its `state` does: 256 random bits of which only the hash is kept,
bound to organisation, purpose and time, and used once. A directory counts as the organisation's when
somebody has signed in to it and the consent is in the tokens (an `adminconsent` redirect can be typed
by anybody: https://learn.microsoft.com/entra/identity-platform/v2-admin-consent).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared import adopting, audit, connecting, delegating, explaining, presence, registering, sealing
from shared.app import App
from shared.callers import Caller
from shared.contract import AskConsent, ConnectMailbox
from shared.errors import (
    Conflict,
    ConsentRequired,
    InvalidRequest,
    Raced,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.integrating import redirect_uri
from shared.model import Flow, Integration, Mailbox, account_of, digest
from shared.providers.base import Bearer, OAuth, Registration, Tokens
from shared.storage.base import Add, Move, Remove, Stored

INVITATION = timedelta(days=7)
"""How long an administrator has to follow a consent link."""

SIGN_IN = timedelta(minutes=10)
"""How long a person may take to sign in: as long as Entra's code lives."""

PATIENCE = timedelta(minutes=15)
"""A fresh consent may take so long to have effect (docs#10907 and others)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the browser is told. `key` names the explanation; `url` is where it goes on by itself.

    `url` with `after` (seconds) is to be tried again; without it the browser is sent there at once.
    """

    key: str
    good: bool = True
    address: str = ""
    return_url: str | None = None
    url: str | None = None
    after: int | None = None


class Refused(Exception):
    """A redirect that came to nothing: why, and where the browser goes back to."""

    def __init__(self, error: ZalionError, return_url: str | None = None) -> None:
        super().__init__(error.detail)
        self.error = error
        self.return_url = return_url


def ask_consent(app: App, caller: Caller, provider: str, body: AskConsent) -> tuple[str, datetime]:
    """Make the personal link by which an administrator approves Zalion's app; returns it and its end.

    Raises Unsupported for a provider without consent, Conflict where IT has not approved the integration
    or has an app registration of its own.
    """
    caller.need("admin")
    oauth, integration = _consenting(app, caller.org_id, provider)
    state, flow = _begin(app, caller.org_id, provider, caller.email, body.return_url)
    expires_at = app.clock() + INVITATION
    flow = replace(flow, purpose="consent", expires_at=expires_at)
    registration = app.registrations.named(caller.org_id, replace(integration, tenant=""))
    callback = f"{app.public_url}/api/consent/{provider}/callback"
    url = oauth.consent_url(registration, integration.settings, callback, state)
    event = audit.entry(app, "consent.asked", actor=caller.email, detail=provider)
    app.records.commit(caller.org_id, Add(flow), event)
    return url, expires_at


def connect(app: App, caller: Caller, body: ConnectMailbox) -> tuple[Mailbox, str | None]:
    """Connect a mailbox; where its user has to sign in, also return the link to do so."""
    _check_return(app, body.return_url)
    mailbox = connecting.connect(app, caller, body)
    name = adopting.by_browser(app, mailbox)
    if name is None:
        return mailbox, None
    return mailbox, _sign_in_url(app, caller, mailbox, name, body.return_url)


def consented(app: App, provider: str, query: dict[str, str]) -> Outcome:
    """Take the redirect after a consent; the same browser then proves whose directory it is.

    Raises Refused.
    """
    org_id, flow = _take(app, provider, query, "consent")
    try:
        tenant = _oauth(app, provider).consented(query)
        return Outcome("waiting", url=_prove(app, org_id, replace(flow, tenant=tenant.lower())))
    except ZalionError as error:
        raise _refused(app, org_id, flow, error) from error


def signed_in(app: App, provider: str, query: dict[str, str]) -> Outcome:
    """Take the redirect after a sign-in: of a mailbox's user, or of an administrator as proof.

    Raises Refused.
    """
    org_id, flow = _take(app, provider, query, "proof", "sign_in")
    try:
        tokens = _redeem(app, org_id, flow, query)
        return (_approve if flow.purpose == "proof" else _attach)(app, org_id, flow, tokens)
    except ZalionError as error:
        if flow.purpose == "proof" and _may_still_come(app, flow, error):
            again = _prove(app, org_id, flow)
            return Outcome("waiting", return_url=flow.return_url, url=again, after=15)
        raise _refused(app, org_id, flow, error) from error


def _consenting(app: App, org_id: str, provider: str) -> tuple[OAuth, Integration]:
    oauth = _oauth(app, provider)
    stored = app.records.find(org_id, Integration, provider)
    if stored is None or stored.value.state in {"not_approved", "disconnected"}:
        fix = f"Approve it first: PUT /integrations/{provider}."
        raise Conflict("The integration is not approved.", fix=fix)
    if stored.value.settings.get("clientId"):
        fix = "Approve the permissions of your own app registration in Microsoft's portal."
        raise Conflict("This organisation has an app registration of its own.", fix=fix)
    return oauth, stored.value


def _oauth(app: App, provider: str) -> OAuth:
    oauth = app.provider(provider).oauth
    if oauth is None:
        raise Unsupported("Nobody signs in at this provider in a browser.", field="provider")
    return oauth


def _check_return(app: App, return_url: str | None) -> None:
    if return_url is not None and return_url not in app.return_urls:
        raise InvalidRequest("This is none of the registered return URLs.", field="returnUrl")


def _begin(app: App, org_id: str, provider: str, actor: str, return_url: str | None) -> tuple[str, Flow]:
    """Make a state and the record that it leads to, not yet stored."""
    _check_return(app, return_url)
    state = f"{org_id}.{secrets.token_urlsafe(32)}"
    flow = Flow(
        id=digest(state),
        provider=provider,
        purpose="sign_in",
        expires_at=app.clock() + SIGN_IN,
        actor=actor,
        return_url=return_url,
    )
    return state, flow


def _take(app: App, provider: str, query: dict[str, str], *purposes: str) -> tuple[str, Flow]:
    """Use a state up. Raises Refused for one that is unknown, used, expired or another purpose's."""
    state = query.get("state", "")
    org_id = state.rpartition(".")[0]
    stored = _find(app, org_id, digest(state))
    flow = stored.value if stored else None
    if stored is None or flow is None or flow.provider != provider or flow.purpose not in purposes:
        raise Refused(_explained("already_used"))
    try:
        app.records.commit(org_id, Remove(flow, stored.etag))
    except Raced as error:
        raise Refused(_explained("already_used")) from error
    if flow.expires_at < app.clock():
        raise Refused(_explained("expired"), flow.return_url)
    return org_id, flow


def _find(app: App, org_id: str, id_: str) -> Stored[Flow] | None:
    try:
        return app.records.find(org_id, Flow, id_)
    except ValueError:
        return None  # what a stranger typed is no organisation


def _sign_in_url(app: App, caller: Caller, mailbox: Mailbox, provider: str, return_url: str | None) -> str:
    state, flow = _begin(app, caller.org_id, provider, caller.email, return_url)
    flow = replace(flow, mailbox_id=mailbox.id)
    registration = app.registrations.of(caller.org_id, provider)
    wanted = _oauth(app, provider).scopes(mailbox.settings[provider])
    hint = "" if mailbox.settings[provider].get("shared") else mailbox.address
    return _go(app, caller.org_id, state, flow, registration, wanted, hint)


def _prove(app: App, org_id: str, consent: Flow) -> str:
    """Have the administrator's browser sign in to the directory that the consent claimed."""
    state, flow = _begin(app, org_id, consent.provider, consent.actor, consent.return_url)
    until = consent.expires_at if consent.purpose == "proof" else app.clock() + PATIENCE
    flow = replace(flow, purpose="proof", tenant=consent.tenant, expires_at=until)
    integration = app.records.get(org_id, Integration, consent.provider).value
    registration = app.registrations.named(org_id, replace(integration, tenant=consent.tenant))
    wanted = _oauth(app, consent.provider).scopes(integration.settings)
    return _go(app, org_id, state, flow, registration, wanted, "")


def _go(
    app: App,
    org_id: str,
    state: str,
    flow: Flow,
    registration: Registration,
    scopes: tuple[str, ...],
    hint: str,
) -> str:
    """Store the flow with what the provider must know again, and return where the browser goes."""
    callback = redirect_uri(app, flow.provider)
    url, begun = _oauth(app, flow.provider).begin(registration, scopes, callback, state, hint)
    kid, key = app.keys.key(org_id)
    sealed = sealing.seal(key, begun, kid=kid, aad=(org_id, "flow", flow.id))
    app.records.commit(org_id, Add(replace(flow, sealed=sealed)))
    return url


def _redeem(app: App, org_id: str, flow: Flow, query: dict[str, str]) -> Tokens:
    integration = app.records.get(org_id, Integration, flow.provider).value
    if flow.purpose == "proof":
        integration = replace(integration, tenant=flow.tenant)
    registration = app.registrations.named(org_id, integration)
    key = app.keys.by_kid(org_id, sealing.kid_of(flow.sealed))
    begun = sealing.unseal(key, flow.sealed, aad=(org_id, "flow", flow.id))
    return _oauth(app, flow.provider).redeem(registration, begun, query)


def _approve(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Outcome:
    """The directory is proven: it signed in, and its tokens carry what was consented to."""
    if tokens.tenant.lower() != flow.tenant:
        raise _explained("tenant_mismatch")
    stored = app.records.get(org_id, Integration, flow.provider)
    integration = replace(stored.value, tenant=flow.tenant, problem=None)
    _insist(app, flow.provider, integration.settings, tokens)
    if integration.state not in {"waiting_for_consent", "approved"}:
        raise _explained("not_approved")
    try:
        delegating.take_tenant(app, org_id, flow.provider, flow.tenant)
    except Conflict as error:
        raise _explained("tenant_taken") from error
    if integration.settings.get("applicationAccess"):
        registering.check_reach(app, org_id, integration)
    event = audit.entry(app, "consent.given", actor=flow.actor, detail=flow.provider)
    approved = replace(integration, state="approved", updated_at=app.clock(), updated_by=flow.actor)
    app.records.commit(org_id, Move(stored, approved), event)
    return Outcome("approved", return_url=flow.return_url)


def _attach(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Outcome:
    """A mailbox's user has signed in: is it the mailbox, with the permissions it needs? Then follow it."""
    mailbox = app.records.get(org_id, Mailbox, flow.mailbox_id).value
    integration = connecting.approved(app, org_id, flow.provider, mailbox.address)
    _check_directory(app, org_id, integration, tokens, mailbox.address)
    _insist(app, flow.provider, mailbox.settings[flow.provider], tokens)
    credential = Bearer(tokens.address, tokens.access_token)
    for side, power in ((mailbox.receives_with, "receiver"), (mailbox.sends_with, "sender")):
        if side == flow.provider:
            adopting.try_out(app, org_id, mailbox, side, power, lambda: credential)
    if app.provider(flow.provider).one_account and tokens.subject:
        presence.note(app.records, account_of(flow.provider, tokens.subject), (org_id, mailbox.id))
    app.grants.store_consent(org_id, mailbox.id, flow.provider, tokens)
    connecting.activate(app, org_id, mailbox.id, flow.actor)
    return Outcome("connected", address=mailbox.address, return_url=flow.return_url)


def _check_directory(app: App, org_id: str, integration: Integration, tokens: Tokens, address: str) -> None:
    """Raise for an account of another directory: than the proven one, or of another organisation's."""
    if _oauth(app, integration.provider).by_admin:
        if tokens.tenant.lower() != integration.tenant:
            raise _explained("wrong_account", address=address)
    elif tokens.tenant and app.registrations.owner(integration.provider, tokens.tenant) not in {None, org_id}:
        raise _explained("tenant_taken")


def _insist(app: App, provider: str, settings: Mapping[str, object], tokens: Tokens) -> None:
    """Raise where a permission was not granted: with less, mail would be lost without a word."""
    wanted = _oauth(app, provider).scopes(settings)
    if not {scope.lower() for scope in wanted} <= {scope.lower() for scope in tokens.scopes}:
        raise _explained("partial_consent")


def _may_still_come(app: App, flow: Flow, error: ZalionError) -> bool:
    """Whether a fresh consent may only not have reached every server of the provider yet."""
    late = error.reason in {"approval_needed", "partial_consent", "microsoft_busy", "app_not_found"}
    return (late or isinstance(error, Temporary)) and flow.expires_at > app.clock()


def _refused(app: App, org_id: str, flow: Flow, error: ZalionError) -> Refused:
    event = audit.entry(
        app,
        "consent.refused" if flow.purpose != "sign_in" else "sign_in.refused",
        actor=flow.actor,
        outcome=error.reason or error.code,
        mailbox_id=flow.mailbox_id or None,
        detail=flow.provider,
    )
    app.records.commit(org_id, event)
    return Refused(error, flow.return_url)


def _explained(key: str, **facts: str) -> ZalionError:
    explanation = explaining.explain(key, **facts)
    error = ConsentRequired(explanation.detail, fix=explanation.fix)
    error.reason = key
    return error
