"""Setting up an app registration: the customer's own is tried before it is kept, Zalion's waits for consent.

The order of the checks gives usable messages: is there such a directory, are id and secret right, is
the directory nobody else's, and does the app reach only what it should?
"""

from dataclasses import replace
from datetime import date, timedelta
from typing import Literal
from uuid import UUID

from shared import audit, delegating, explaining
from shared.app import App
from shared.contract import AppSecret
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotFound
from shared.model import Integration, Problem
from shared.providers.base import Bearer, Connection, OAuth
from shared.registrations import secret_name
from shared.storage.base import Add, Due, Move, Save, Stored

WARNED = (30, 14, 3)
"""Days before the end of a secret when its end is told."""

TENANT = "settings.tenantId"

REGISTRATION = ("tenantId", "clientId", "secretExpiresAt")
"""The settings that belong to a registration of the organisation's own."""


def registered(
    app: App, org_id: str, stored: Stored[Integration] | None, new: Integration, secret: AppSecret | None
) -> tuple[Integration, Stored[Integration] | None]:
    """Try and keep the organisation's own registration, or wait for the consent to Zalion's.

    Returns what is to be written, and the record that it takes the place of. Who only withdraws the approval
    need not prove anything. Raises InvalidRequest naming the setting that is wrong, Conflict for another
    organisation's directory.
    """
    oauth = app.provider(new.provider).oauth
    if oauth and not oauth.by_admin:
        return delegating.registered(app, org_id, stored, new, secret)
    if new.state == "not_approved" and secret is None:
        own = _proven(stored)  # mailboxes live on with it: left out, it stays; another one is tried
        new = replace(new, settings={**own, **new.settings})
        if all(new.settings[name] == value for name, value in own.items()):
            return new, stored
    if new.settings.get("clientId") or new.settings.get("tenantId"):
        return _own(app, org_id, stored, new, secret)
    if secret:
        fix = "Give settings.tenantId and settings.clientId too."
        raise InvalidRequest("A secret belongs to a registration of your own.", field="secret", fix=fix)
    app.registrations.named(org_id, new)  # is there an app of ours at all?
    if new.proof:  # its own registration is given up
        app.vault.destroy(secret_name(org_id, new.provider))
        new = replace(new, proof="", consented=())
    if not new.tenant or not {*_oauth(app, new).scopes(new.settings)} <= {*new.consented}:
        return replace(new, state="waiting_for_consent"), stored
    stored = take_tenant(app, org_id, stored, new)  # an approval that broke off may not have got so far
    if new.settings.get("applicationAccess"):
        check_reach(app, org_id, new)
    return new, stored


def forget(app: App, org_id: str, integration: Integration) -> Integration:
    """Destroy the secret of the organisation's own registration and give its directory back."""
    app.vault.destroy(secret_name(org_id, integration.provider))
    if integration.tenant:
        app.registrations.release(org_id, integration.provider, integration.tenant)
    ended = replace(delegating.forget(app, org_id, integration), tenant="", proof="", consented=())
    app.records.commit(org_id, Save(ended))
    return ended


def take_tenant(
    app: App, org_id: str, stored: Stored[Integration] | None, named: Integration
) -> Stored[Integration]:
    """Bind the proven directory that `named` names; returns the record as it is then.

    The record comes first and names it while it waits, so that `forget` finds whatever was bound.
    Raises Conflict where another organisation has it.
    """
    waiting = replace(named, state="waiting_for_consent")
    if stored is None or stored.value.tenant != named.tenant:
        [etag] = app.records.commit(org_id, Move(stored, waiting) if stored else Add(waiting))
    else:
        waiting, etag = stored.value, stored.etag
    if not app.registrations.bind(org_id, named.provider, named.tenant):
        before = stored.value if stored else Integration(named.provider)
        app.records.commit(org_id, Move(Stored(waiting, etag), replace(before, tenant="")))
        raise Conflict(
            "This directory is connected to another organisation.",
            field=TENANT,
            fix="Ask Zalion's support if it is yours.",
        )
    return Stored(waiting, etag)


def check_reach(app: App, org_id: str, integration: Integration, secret: str | None = None) -> None:
    """Prove that the app itself cannot reach a mailbox it should not.

    Only a refusal proves it, a mailbox that does not exist says nothing; and nothing but its token says that
    it could send as everybody though it reads nobody.
    https://learn.microsoft.com/exchange/permissions-exo/application-rbac. Raises InvalidRequest without a
    control mailbox, Conflict where it can be read or the app may send as everybody.
    """
    control, path = integration.settings.get("controlMailbox"), "settings.controlMailbox"
    receiver = app.provider(integration.provider).receiver
    if not control or receiver is None:
        raise InvalidRequest("Name a mailbox that the app must not be able to read.", field=path)
    registration = app.registrations.named(org_id, integration, secret)
    tokens = _oauth(app, integration).application(registration, anew=True)
    bearer = Bearer(str(control), tokens.access_token)
    access = {"access": "application"}
    session = receiver(Connection(str(control), access, lambda: bearer, app.allowed_hosts, app.endpoints))
    try:
        session.check()
    except (ConsentRequired, NotFound) as refusal:
        if refusal.reason != "no_access":
            fix = "Name a mailbox that exists and that the app must not be able to read."
            raise InvalidRequest(
                "There is no such mailbox to prove it with.", field=path, fix=fix
            ) from refusal
        if not tokens.unlimited:
            return
    finally:
        session.close()
    told = explaining.explain("access_too_wide")
    error = Conflict(told.detail, field=path, fix=told.fix)
    error.reason = told.key
    raise error


def _proven(stored: Stored[Integration] | None) -> dict[str, object]:
    """Return the settings of the organisation's own registration, where it has one."""
    if stored is None or not stored.value.proof:
        return {}
    return {name: value for name, value in stored.value.settings.items() if name in REGISTRATION}


def _oauth(app: App, integration: Integration) -> OAuth:
    oauth = app.provider(integration.provider).oauth
    if oauth is None:
        raise InvalidRequest("This provider has no app registration.", field="settings.clientId")
    return oauth


def _own(
    app: App, org_id: str, stored: Stored[Integration] | None, new: Integration, secret: AppSecret | None
) -> tuple[Integration, Stored[Integration]]:
    tenant, client = _identifier(new, "tenantId"), _identifier(new, "clientId")
    if new.tenant not in {"", tenant}:
        fix = f"Disconnect first (DELETE /integrations/{new.provider}): its mailboxes lie in the old one."
        raise Conflict("The organisation is connected with another directory.", field=TENANT, fix=fix)
    if (ends := _ends(new)) and ends <= app.clock().date():
        raise InvalidRequest("This day is past.", field="settings.secretExpiresAt")
    settings = {**new.settings, "tenantId": tenant, "clientId": client}
    new = replace(new, settings=settings, tenant=tenant, proof=_proof(new, secret), consented=())
    given = (secret.certificate or secret.client_secret) if secret else None
    _oauth(app, new).application(app.registrations.named(org_id, new, given), anew=True)
    if new.settings.get("applicationAccess"):
        check_reach(app, org_id, new, given)
    bound = take_tenant(app, org_id, stored, new)
    if given:
        app.vault.set(secret_name(org_id, new.provider), given)
    _plan_warnings(app, org_id, new)
    return new, bound


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
    """Tell that the secret of a registration ends soon: at the integration and in the audit trail.

    Raises Raced: whoever changed it may have renewed it.
    """
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
    app.records.commit(org_id, Move(stored, replace(stored.value, problem=problem)), event)


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
