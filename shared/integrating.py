"""IT's gate: which providers an organisation has approved, with the settings their mailboxes share."""

from dataclasses import replace

from shared import audit, connecting, forms
from shared.app import App
from shared.callers import Caller
from shared.contract import PutIntegration
from shared.errors import InvalidRequest
from shared.model import Integration
from shared.providers.base import Provider
from shared.storage.base import Save


def show(app: App, caller: Caller, name: str) -> tuple[Integration, Provider]:
    """Return one integration, as not approved where nobody has touched it yet."""
    caller.need("admin")
    provider = app.provider(name)
    stored = app.records.find(caller.org_id, Integration, name)
    return stored.value if stored else Integration(name), provider


def put(app: App, caller: Caller, name: str, body: PutIntegration) -> tuple[Integration, Provider]:
    """Approve (or no longer approve) a provider and replace its shared settings."""
    caller.need("admin")
    provider = app.provider(name)
    integration = Integration(
        provider=name,
        state="approved" if body.approved else "not_approved",
        settings=forms.check(provider.form, body.settings, path="settings", partial=True),
        domains=tuple(_domain(domain, place) for place, domain in enumerate(body.domains)),
        updated_at=app.clock(),
        updated_by=caller.email,
    )
    event = audit.entry(app, "integration.saved", actor=caller.email, outcome=integration.state, detail=name)
    app.records.commit(caller.org_id, Save(integration), event)
    return integration, provider


def disconnect(app: App, caller: Caller, name: str) -> tuple[Integration, Provider]:
    """Withdraw the approval and disconnect every mailbox that uses this provider."""
    integration, provider = show(app, caller, name)
    ended = replace(integration, state="disconnected", updated_at=app.clock(), updated_by=caller.email)
    event = audit.entry(app, "integration.disconnected", actor=caller.email, detail=name)
    app.records.commit(caller.org_id, Save(ended), event)
    for stored in connecting.mailboxes_of(app, caller.org_id):
        mailbox = stored.value
        if name in {mailbox.receives_with, mailbox.sends_with} and mailbox.state != "disconnected":
            connecting.disconnect(app, caller, mailbox.id)
    return ended, provider


def _domain(text: str, place: int) -> str:
    domain = text.strip().lower()
    if not domain or "@" in domain or "." not in domain or not domain.isprintable():
        raise InvalidRequest("This is not a domain name.", field=f"domains[{place}]")
    return domain
