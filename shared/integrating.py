"""IT's gate: which providers an organisation has approved, with the settings their mailboxes share."""

from dataclasses import replace

from shared import audit, connecting, forms, registering, relaying, rules
from shared.app import App
from shared.callers import Caller
from shared.contract import PutIntegration
from shared.errors import InvalidRequest
from shared.model import Integration
from shared.providers.base import Provider
from shared.storage.base import Save

Shown = tuple[Integration, Provider, str | None]
"""An integration, its provider, and the redirect URI that an app registration of one's own must name."""


def show(app: App, caller: Caller, name: str) -> Shown:
    """Return one integration, as not approved where nobody has touched it yet."""
    caller.need("admin")
    stored = app.records.find(caller.org_id, Integration, name)
    return _shown(app, stored.value if stored else Integration(name))


def _shown(app: App, integration: Integration) -> Shown:
    provider = app.provider(integration.provider)
    problem = integration.problem or registering.expiring(integration, app.clock().date())
    if problem and integration.state == "approved":
        integration = replace(integration, state="needs_attention", problem=problem)
    return integration, provider, redirect_uri(app, integration.provider) if provider.oauth else None


def redirect_uri(app: App, provider: str) -> str:
    """Return where the provider sends a browser after a sign-in."""
    return f"{app.public_url}/api/oauth/{provider}/callback"


def put(app: App, caller: Caller, name: str, body: PutIntegration) -> Shown:
    """Approve (or no longer approve) a provider and replace its shared settings."""
    caller.need("admin")
    provider = app.provider(name)
    stored = app.records.find(caller.org_id, Integration, name)
    integration = replace(
        stored.value if stored else Integration(name),
        state="approved" if body.approved else "not_approved",
        settings=rules.checked(
            forms.check(rules.form(provider), body.settings, path="settings", partial=True)
        ),
        domains=tuple(_domain(domain, place) for place, domain in enumerate(body.domains)),
        updated_at=app.clock(),
        updated_by=caller.email,
        problem=None,
    )
    if provider.oauth:
        integration = registering.registered(app, caller.org_id, stored, integration, body.secret)
    elif body.secret:
        raise InvalidRequest("This provider has no app registration.", field="secret")
    event = audit.entry(app, "integration.saved", actor=caller.email, outcome=integration.state, detail=name)
    app.records.commit(caller.org_id, Save(integration), event)
    relaying.forget(app, caller.org_id)
    return _shown(app, integration)


def disconnect(app: App, caller: Caller, name: str) -> Shown:
    """Withdraw the approval and disconnect every mailbox that uses this provider."""
    caller.need("admin")
    provider = app.provider(name)
    stored = app.records.find(caller.org_id, Integration, name)
    integration = stored.value if stored else Integration(name)
    ended = replace(
        integration, state="disconnected", problem=None, updated_at=app.clock(), updated_by=caller.email
    )
    event = audit.entry(app, "integration.disconnected", actor=caller.email, detail=name)
    app.records.commit(caller.org_id, Save(ended), event)
    for mailbox in (found.value for found in connecting.mailboxes_of(app, caller.org_id)):
        if name in {mailbox.receives_with, mailbox.sends_with} and connecting.is_connected(
            app, caller, mailbox
        ):
            connecting.disconnect(app, caller, mailbox.id)
    if provider.oauth:  # last, because ending a mailbox's push needs the registration
        ended = registering.forget(app, caller.org_id, ended)
    return _shown(app, ended)


def _domain(text: str, place: int) -> str:
    domain = text.strip().lower()
    if not domain or "@" in domain or "." not in domain or not domain.isprintable():
        raise InvalidRequest("This is not a domain name.", field=f"domains[{place}]")
    return domain
