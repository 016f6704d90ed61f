"""Consents and sign-ins in the browser, begun: by a caller we know. What comes back: `returning`."""

from dataclasses import replace
from datetime import datetime, timedelta

from shared import adopting, audit, connecting, flows
from shared.app import App
from shared.callers import Caller
from shared.contract import AskConsent, ConnectMailbox
from shared.errors import Conflict, InvalidRequest, Unsupported
from shared.integrating import redirect_uri
from shared.model import Flow, Integration, Mailbox
from shared.providers.base import OAuth, Registration
from shared.storage.base import Add

PATIENCE = timedelta(minutes=15)
"""A fresh consent may take so long to have effect (docs#10907 and others)."""


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


def prove(app: App, org_id: str, before: Flow) -> str:
    """Have the administrator's browser sign in to the directory that the consent claimed."""
    state, flow = flows.begun(app, org_id, before.provider, "proof", before.actor, before.return_url)
    until = before.expires_at if before.purpose == "proof" else app.clock() + PATIENCE + flows.SIGN_IN
    flow = replace(flow, tenant=before.tenant, expires_at=until)
    integration = app.records.get(org_id, Integration, before.provider).value
    registration = app.registrations.named(org_id, replace(integration, tenant=before.tenant))
    wanted = oauth_of(app, before.provider).scopes(integration.settings)
    return _go(app, org_id, state, flow, registration, wanted, "")


def oauth_of(app: App, provider: str) -> OAuth:
    """Return how one signs in at a provider in a browser. Raises Unsupported."""
    oauth = app.provider(provider).oauth
    if oauth is None:
        raise Unsupported("Nobody signs in at this provider in a browser.", field="provider")
    return oauth


def _consenting(app: App, org_id: str, provider: str) -> tuple[OAuth, Integration]:
    oauth = oauth_of(app, provider)
    stored = app.records.find(org_id, Integration, provider)
    if stored is None or stored.value.state in {"not_approved", "disconnected"}:
        fix = f"Approve it first: PUT /integrations/{provider}."
        raise Conflict("The integration is not approved.", fix=fix)
    if stored.value.settings.get("clientId"):
        fix = "Approve the permissions of your own app registration in Microsoft's portal."
        raise Conflict("This organisation has an app registration of its own.", fix=fix)
    return oauth, stored.value


def _check_return(app: App, return_url: str | None) -> None:
    if return_url is not None and return_url not in app.return_urls:
        raise InvalidRequest("This is none of the registered return URLs.", field="returnUrl")


def _sign_in_url(app: App, caller: Caller, mailbox: Mailbox, provider: str, return_url: str | None) -> str:
    state, flow = flows.begun(app, caller.org_id, provider, "sign_in", caller.email, return_url)
    flow = replace(flow, mailbox_id=mailbox.id, owner=mailbox.owner)
    registration = app.registrations.of(caller.org_id, provider)
    wanted = oauth_of(app, provider).scopes(mailbox.settings[provider])
    hint = "" if mailbox.settings[provider].get("shared") else mailbox.address
    return _go(app, caller.org_id, state, flow, registration, wanted, hint)


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
    url, known = oauth_of(app, flow.provider).begin(registration, scopes, callback, state, hint)
    flows.keep(app, org_id, flow, known)
    return url
