"""Setting up an app registration: the customer's own is tried before it is kept, Zalion's waits for consent.

The order of the checks gives usable messages: is there such a directory, are id and secret right, is
the directory nobody else's, and does the app reach only what it should?
"""

from dataclasses import replace
from datetime import date, timedelta
from typing import Literal
from uuid import UUID

from shared import audit, delegating
from shared.app import App
from shared.contract import AppSecret
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotFound
from shared.model import Integration, Problem
from shared.providers.base import Bearer, Connection
from shared.registrations import secret_name
from shared.storage.base import Due, Save

WARNED = (30, 14, 3)
"""Days before the end of a secret when its end is told."""


def registered(app: App, org_id: str, integration: Integration, secret: AppSecret | None) -> Integration:
    """Try and keep the organisation's own registration, or wait for the consent to Zalion's.

    Raises InvalidRequest naming the setting that is wrong, Conflict for another organisation's directory.
    """
    oauth = app.provider(integration.provider).oauth
    if oauth and not oauth.by_admin:
        return delegating.registered(app, org_id, integration, secret)
    if integration.settings.get("clientId") or integration.settings.get("tenantId"):
        integration = _own(app, org_id, integration, secret)
    elif secret:
        fix = "Give settings.tenantId and settings.clientId too."
        raise InvalidRequest("A secret belongs to a registration of your own.", field="secret", fix=fix)
    else:
        app.registrations.named(org_id, integration)  # is there an app of ours at all?
    if integration.tenant and integration.settings.get("applicationAccess"):
        check_reach(app, org_id, integration)
    if integration.state == "approved" and not integration.tenant:
        return replace(integration, state="waiting_for_consent")
    return integration


def forget(app: App, org_id: str, integration: Integration) -> Integration:
    """Destroy the secret of the organisation's own registration and give its directory back."""
    app.vault.destroy(secret_name(org_id, integration.provider))
    if integration.tenant:
        app.registrations.release(org_id, integration.provider, integration.tenant)
    ended = replace(delegating.forget(app, org_id, integration), tenant="", proof="")
    app.records.commit(org_id, Save(ended))
    return ended


def check_reach(app: App, org_id: str, integration: Integration) -> None:
    """Prove that the app itself cannot read a mailbox it should not.

    https://learn.microsoft.com/exchange/permissions-exo/application-rbac. Raises InvalidRequest without a
    control mailbox, Conflict where it can be read.
    """
    control, path = integration.settings.get("controlMailbox"), "settings.controlMailbox"
    provider = app.provider(integration.provider)
    if not control or provider.oauth is None or provider.receiver is None:
        raise InvalidRequest("Name a mailbox that the app must not be able to read.", field=path)
    token = provider.oauth.application(app.registrations.named(org_id, integration)).access_token
    session = provider.receiver(
        Connection(
            str(control),
            {"access": "application"},
            lambda: Bearer(str(control), token),
            app.allowed_hosts,
            app.endpoints,
        )
    )
    try:
        session.check()
    except (ConsentRequired, NotFound):
        return
    finally:
        session.close()
    fix = "Limit the app in Exchange (RBAC for Applications) and take back tenant-wide Mail permissions."
    raise Conflict(
        "The app can read the control mailbox: its permissions reach too far.", field=path, fix=fix
    )


def _own(app: App, org_id: str, integration: Integration, secret: AppSecret | None) -> Integration:
    tenant = _identifier(integration, "tenantId")
    integration = replace(
        integration,
        settings={
            **integration.settings,
            "tenantId": tenant,
            "clientId": _identifier(integration, "clientId"),
        },
        proof=_proof(integration, secret),
    )
    given = (secret.certificate or secret.client_secret) if secret else None
    oauth = app.provider(integration.provider).oauth
    if oauth is None:
        raise InvalidRequest("This provider has no app registration.", field="settings.clientId")
    oauth.application(app.registrations.named(org_id, integration, given))
    delegating.take_tenant(app, org_id, integration.provider, tenant)
    if given:
        app.vault.set(secret_name(org_id, integration.provider), given)
    _plan_warnings(app, org_id, integration)
    return replace(integration, tenant=tenant)


def _identifier(integration: Integration, name: str) -> str:
    try:
        return str(UUID(str(integration.settings.get(name, ""))))
    except ValueError:
        fix = "Copy it from the app registration's overview page."
        raise InvalidRequest(
            "This must be an ID like 1b4e28ba-….", field=f"settings.{name}", fix=fix
        ) from None


def _proof(integration: Integration, secret: AppSecret | None) -> Literal["", "secret", "certificate"]:
    if secret is None:
        if not integration.proof:
            raise InvalidRequest("Give a client secret or a certificate.", field="secret")
        return integration.proof
    if bool(secret.client_secret) == bool(secret.certificate):
        raise InvalidRequest("Give either a client secret or a certificate.", field="secret")
    return "certificate" if secret.certificate else "secret"


def _plan_warnings(app: App, org_id: str, integration: Integration) -> None:
    ends = _ends(integration)
    for days in WARNED:
        at = app.clock() + (ends - app.clock().date() - timedelta(days=days)) if ends else app.clock()
        if ends and at > app.clock():
            app.schedule.put(Due(at, "expiry", org_id, integration.provider, 0, f"{ends:%Y%m%d}"))


def warn(app: App, org_id: str, provider: str) -> None:
    """Tell that the secret of a registration ends soon: at the integration and in the audit trail."""
    stored = app.records.find(org_id, Integration, provider)
    ends = _ends(stored.value) if stored else None
    if stored is None or ends is None or stored.value.state == "disconnected":
        return
    days = (ends - app.clock().date()).days
    if days > max(WARNED):
        return  # renewed since
    problem = expiring(stored.value, app.clock().date())
    event = audit.entry(
        app, "integration.secret_ending", actor="system", outcome=f"{days} days", detail=provider
    )
    app.records.commit(org_id, Save(replace(stored.value, problem=problem)), event)


def expiring(integration: Integration, today: date) -> Problem | None:
    """Say that the secret of a registration ends soon, or has."""
    ends = _ends(integration)
    if ends is None or (ends - today).days > max(WARNED):
        return None
    detail = f"The secret of the app registration ends on {ends:%Y-%m-%d}."
    return Problem(
        "secret_ending", detail, "Create a new one, give it here with its end, then delete the old."
    )


def _ends(integration: Integration) -> date | None:
    text = integration.settings.get("secretExpiresAt")
    return date.fromisoformat(str(text)) if text else None
