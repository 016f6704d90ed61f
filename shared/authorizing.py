"""Consents and sign-ins in the browser: begun by a caller we know, finished by a redirect we do not trust.

A directory counts as the organisation's when somebody has signed in to it and the consent is in the
tokens (an `adminconsent` redirect can be typed by anybody:
https://learn.microsoft.com/entra/identity-platform/v2-admin-consent). What a state proves: `flows`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared import adopting, audit, connecting, flows, presence, registering
from shared.app import App
from shared.callers import Caller
from shared.contract import AskConsent, ConnectMailbox
from shared.errors import Conflict, InvalidRequest, Temporary, Unsupported, ZalionError
from shared.flows import Refused, Used, explained
from shared.integrating import redirect_uri
from shared.model import Flow, Integration, Mailbox, account_of
from shared.providers.base import Bearer, OAuth, Registration, Tokens
from shared.storage.base import Add, Move

PATIENCE = timedelta(minutes=15)
"""A fresh consent may take so long to have effect (docs#10907 and others)."""

PAUSE = 15
"""Seconds after which a page that waits for it tries again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the browser is told. `key` names the explanation; `url` is where it goes on by itself.

    `actor` is who began it in Zalion. `url` with `after` (seconds) is to be tried again; without it the
    browser is sent there at once.
    """

    key: str
    address: str = ""
    actor: str = ""
    return_url: str | None = None
    url: str | None = None
    after: int | None = None


def ask_consent(app: App, caller: Caller, provider: str, body: AskConsent) -> tuple[str, datetime]:
    """Make the personal link by which an administrator approves Zalion's app; returns it and its end.

    Raises Unsupported for a provider without consent, Conflict where IT has not approved the integration
    or has an app registration of its own.
    """
    caller.need("admin")
    oauth, integration = _consenting(app, caller.org_id, provider)
    _check_return(app, body.return_url)
    state, flow = flows.begun(app, caller.org_id, provider, "consent", caller.email, body.return_url)
    registration = app.registrations.named(caller.org_id, replace(integration, tenant=""))
    callback = f"{app.public_url}/api/consent/{provider}/callback"
    url = oauth.consent_url(registration, integration.settings, callback, state)
    event = audit.entry(app, "consent.asked", actor=caller.email, detail=provider)
    app.records.commit(caller.org_id, Add(flow), event)
    return url, flow.expires_at


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
    try:
        org_id, flow = flows.take(app, provider, query.get("state", ""), "consent")
    except Used as used:
        return _standing(app, used.org_id, used.flow)
    try:
        tenant = _oauth(app, provider).consented(query)
        return Outcome("waiting", url=_prove(app, org_id, replace(flow, tenant=tenant)))
    except ZalionError as error:
        raise _refused(app, org_id, flow, error) from error


def signed_in(app: App, provider: str, query: dict[str, str]) -> Outcome:
    """Take the redirect after a sign-in: of a mailbox's user, or of an administrator as proof.

    Raises Refused.
    """
    try:
        org_id, flow = flows.take(app, provider, query.get("state", ""), "proof", "sign_in")
    except Used as used:
        return _standing(app, used.org_id, used.flow)
    try:
        tokens = _redeem(app, org_id, flow, query)
        return (_approve if flow.purpose == "proof" else _attach)(app, org_id, flow, tokens)
    except ZalionError as error:
        if error.reason == "already_used":  # AADSTS54005: somebody redeemed this code before
            return _standing(app, org_id, flow)
        if flow.purpose == "proof" and _may_still_come(app, flow, error):
            return _wait(app, org_id, flow)
        raise _refused(app, org_id, flow, error) from error


def _standing(app: App, org_id: str, flow: Flow) -> Outcome:
    """Say how things stand where a page is loaded again; nothing is changed by it. Raises Refused."""
    if flow.purpose == "sign_in":
        mailbox = app.records.find(org_id, Mailbox, flow.mailbox_id)
        if mailbox and mailbox.value.state in {"active", "paused"}:
            return _connected(flow, mailbox.value)
    else:
        stored = app.records.find(org_id, Integration, flow.provider)
        if stored and stored.value.state == "approved" and flow.tenant in {"", stored.value.tenant}:
            return Outcome("approved", return_url=flow.return_url)
        if stored and stored.value.state == "waiting_for_consent" and _is_waiting(app, flow):
            return _wait(app, org_id, flow)
    raise Refused(explained("already_used"), flow.return_url)


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


def _sign_in_url(app: App, caller: Caller, mailbox: Mailbox, provider: str, return_url: str | None) -> str:
    state, flow = flows.begun(app, caller.org_id, provider, "sign_in", caller.email, return_url)
    flow = replace(flow, mailbox_id=mailbox.id)
    registration = app.registrations.of(caller.org_id, provider)
    wanted = _oauth(app, provider).scopes(mailbox.settings[provider])
    hint = "" if mailbox.settings[provider].get("shared") else mailbox.address
    return _go(app, caller.org_id, state, flow, registration, wanted, hint)


def _prove(app: App, org_id: str, before: Flow) -> str:
    """Have the administrator's browser sign in to the directory that the consent claimed."""
    state, flow = flows.begun(app, org_id, before.provider, "proof", before.actor, before.return_url)
    until = before.expires_at if before.purpose == "proof" else app.clock() + PATIENCE + flows.SIGN_IN
    flow = replace(flow, tenant=before.tenant, expires_at=until)
    integration = app.records.get(org_id, Integration, before.provider).value
    registration = app.registrations.named(org_id, replace(integration, tenant=before.tenant))
    wanted = _oauth(app, before.provider).scopes(integration.settings)
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
    """Begin a sign-in at the provider, and return where the browser goes."""
    callback = redirect_uri(app, flow.provider)
    url, known = _oauth(app, flow.provider).begin(registration, scopes, callback, state, hint)
    flows.keep(app, org_id, flow, known)
    return url


def _redeem(app: App, org_id: str, flow: Flow, query: dict[str, str]) -> Tokens:
    integration = app.records.get(org_id, Integration, flow.provider).value
    if flow.purpose == "proof":
        integration = replace(integration, tenant=flow.tenant)
    registration = app.registrations.named(org_id, integration)
    return _oauth(app, flow.provider).redeem(registration, flows.known(app, org_id, flow), query)


def _approve(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Outcome:
    """The directory is proven: it signed in, and its tokens carry what was consented to."""
    if tokens.tenant.lower() != flow.tenant:
        raise explained("tenant_mismatch")
    stored = app.records.get(org_id, Integration, flow.provider)
    integration = stored.value
    if integration.state not in {"waiting_for_consent", "approved"} or integration.settings.get("clientId"):
        raise explained("not_approved")
    if integration.tenant not in {"", flow.tenant}:
        raise explained("other_directory")
    _insist(app, flow.provider, integration.settings, tokens)
    named = replace(integration, tenant=flow.tenant, consented=tuple(sorted(tokens.scopes)), problem=None)
    try:
        stored = registering.take_tenant(app, org_id, stored, named)
    except Conflict as error:
        raise explained("tenant_taken") from error
    if integration.settings.get("applicationAccess"):
        registering.check_reach(app, org_id, named)
    event = audit.entry(
        app, "consent.given", actor=tokens.address, detail=f"{flow.provider}, asked for by {flow.actor}"
    )
    approved = replace(named, state="approved", updated_at=app.clock(), updated_by=flow.actor)
    app.records.commit(org_id, Move(stored, approved), event)
    return Outcome("approved", return_url=flow.return_url)


def _attach(app: App, org_id: str, flow: Flow, tokens: Tokens) -> Outcome:
    """A mailbox's user has signed in: is it the mailbox, with the permissions it needs? Then follow it."""
    mailbox = app.records.get(org_id, Mailbox, flow.mailbox_id).value
    if mailbox.state == "disconnected":
        raise explained("disconnected")
    integration = connecting.approved(app, org_id, flow.provider, mailbox.address)
    settings = mailbox.settings[flow.provider]
    _insist(app, flow.provider, settings, tokens)
    _check_directory(app, org_id, integration, tokens, mailbox.address)
    registration = app.registrations.named(org_id, integration)
    opens = _oauth(app, flow.provider).opens
    if not (settings.get("shared") or opens(registration, tokens, mailbox.address)):
        raise explained("wrong_account", address=mailbox.address)
    credential = Bearer(tokens.address, tokens.access_token)
    for side, power in ((mailbox.receives_with, "receiver"), (mailbox.sends_with, "sender")):
        if side == flow.provider:
            adopting.try_out(app, org_id, mailbox, side, power, lambda: credential)
    if app.provider(flow.provider).one_account and tokens.subject:
        presence.note(app.records, account_of(flow.provider, tokens.subject), (org_id, mailbox.id))
    app.grants.store_consent(org_id, mailbox.id, flow.provider, tokens)
    connecting.activate(app, org_id, mailbox.id, flow.actor)
    return _connected(flow, mailbox)


def _connected(flow: Flow, mailbox: Mailbox) -> Outcome:
    """Say whose wish it was where it was not the mailbox's own user: a link can be sent to anybody."""
    key = "connected" if flow.actor == mailbox.address else "connected_for"
    return Outcome(key, mailbox.address, flow.actor, flow.return_url)


def _check_directory(app: App, org_id: str, integration: Integration, tokens: Tokens, address: str) -> None:
    """Raise for an account of another directory: than the proven one, or of another organisation's."""
    if _oauth(app, integration.provider).by_admin:
        if tokens.tenant.lower() != integration.tenant:
            raise explained("wrong_account", address=address)
    elif tokens.tenant and app.registrations.owner(integration.provider, tokens.tenant) not in {None, org_id}:
        raise explained("tenant_taken")


def _insist(app: App, provider: str, settings: Mapping[str, object], tokens: Tokens) -> None:
    """Raise where a permission was not granted: with less, mail would be lost without a word."""
    wanted = _oauth(app, provider).scopes(settings)
    if not {scope.lower() for scope in wanted} <= {scope.lower() for scope in tokens.scopes}:
        raise explained("partial_consent")


def _wait(app: App, org_id: str, flow: Flow) -> Outcome:
    again = _prove(app, org_id, flow)
    return Outcome("waiting", return_url=flow.return_url, url=again, after=PAUSE)


def _is_waiting(app: App, flow: Flow) -> bool:
    return flow.purpose == "proof" and flow.expires_at - flows.SIGN_IN > app.clock()


def _may_still_come(app: App, flow: Flow, error: ZalionError) -> bool:
    """Whether a fresh consent may only not have reached every server of the provider yet."""
    late = error.reason in {"approval_needed", "partial_consent", "microsoft_busy", "app_not_found"}
    return (late or isinstance(error, Temporary)) and _is_waiting(app, flow)


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
    if error.reason == "wrong_account" and not error.facts.get("address"):  # the provider said it, of nobody
        error = _wrong_account(app, org_id, flow)
    return Refused(error, flow.return_url)


def _wrong_account(app: App, org_id: str, flow: Flow) -> ZalionError:
    if flow.purpose != "sign_in":
        return explained("tenant_mismatch")
    return explained("wrong_account", address=app.records.get(org_id, Mailbox, flow.mailbox_id).value.address)
