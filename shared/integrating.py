"""IT's gate: which providers an organisation has approved, with the settings their mailboxes share."""

from contextlib import suppress
from dataclasses import replace

from shared import audit, delegating, disconnecting, forms, jobs, owning, registering, relaying, rules
from shared.app import App
from shared.callers import Caller
from shared.contract import CheckResource, PutIntegration
from shared.errors import Conflict, InvalidRequest, Raced
from shared.jobs import Job
from shared.model import Integration, Problem
from shared.providers.base import Delegation, Provider
from shared.storage.base import Add, Move, Stored, Write

TRIES = 3

Shown = tuple[Integration, Provider, str | None, Delegation | None]
"""An integration, its provider, the redirect URI that an app registration of one's own must name, and what an
administrator enters at the provider."""


def show(app: App, caller: Caller, name: str) -> Shown:
    """Return one integration, as not approved where nobody has touched it yet."""
    caller.need("admin")
    stored = app.records.find(caller.org_id, Integration, name)
    return _shown(app, caller.org_id, stored.value if stored else Integration(name))


def _shown(app: App, org_id: str, integration: Integration) -> Shown:
    provider = app.provider(integration.provider)
    problem = integration.problem or registering.expiring(integration, app.clock().date())
    if problem and integration.state == "approved":
        integration = replace(integration, state="needs_attention", problem=problem)
    callback = redirect_uri(app, integration.provider) if provider.oauth else None
    return integration, provider, callback, delegating.entered(app, org_id, integration)


def redirect_uri(app: App, provider: str) -> str:
    """Return where the provider sends a browser after a sign-in."""
    return f"{app.public_url}/api/oauth/{provider}/callback"


def put(app: App, caller: Caller, name: str, body: PutIntegration) -> Shown:
    """Approve (or no longer approve) a provider and replace its shared settings."""
    caller.need("admin")
    app.provider(name)
    for _ in range(TRIES):
        with suppress(Raced):  # a consent that came back meanwhile has changed it
            integration = _saved(app, caller, name, body)
            relaying.forget(app, caller.org_id)
            # what waits is tried again once every worker knows the new rules
            delay = relaying.REMEMBERED.total_seconds() + 1
            jobs.put(app, Job("hasten", caller.org_id, "-"), delay=delay)
            if integration.state == "approved" and app.provider(name).oauth:
                jobs.put(app, Job("mended", caller.org_id, name))
            return _shown(app, caller.org_id, integration)
    raise Raced


def _saved(app: App, caller: Caller, name: str, body: PutIntegration) -> Integration:
    """Check what was given, try it, and write it down. Raises Raced."""
    provider, stored = app.provider(name), app.records.find(caller.org_id, Integration, name)
    old = stored.value if stored else Integration(name)
    given = forms.check(rules.form(provider), body.settings, path="settings", partial=True)
    integration = replace(
        old,
        state="approved" if body.approved else "not_approved",
        # who only withdraws the approval does not lift the rules that connected mailboxes send by
        settings=rules.checked(given) if given or body.approved else old.settings,
        domains=tuple(rules.domain(text, f"domains[{n}]") for n, text in enumerate(body.domains)),
        updated_at=app.clock(),
        updated_by=caller.email,
        problem=None,
    )
    if provider.oauth:
        integration, stored = registering.registered(app, caller.org_id, stored, integration, body.secret)
    elif body.secret:
        raise InvalidRequest("This provider has no app registration.", field="secret")
    event = audit.entry(app, "integration.saved", actor=caller.email, outcome=integration.state, detail=name)
    app.records.commit(caller.org_id, _instead(stored, integration), event)
    return integration


def _instead(stored: Stored[Integration] | None, new: Integration) -> Write:
    return Move(stored, new) if stored else Add(new)


def check(app: App, caller: Caller, name: str) -> list[CheckResource]:
    """Try what an administrator has entered at the provider, for each mailbox that it is used for."""
    caller.need("admin")
    stored = app.records.find(caller.org_id, Integration, name)
    if stored is None or stored.value.state != "approved":
        fix = f"Approve it first: PUT /integrations/{name}."
        raise Conflict("The integration is not approved.", fix=fix)
    found = list(delegating.checks(app, caller.org_id, stored.value))
    bad = next((one for one in found if one.status == "failed"), None)
    problem = Problem("delegation", f"{bad.name}: {bad.detail}", bad.fix) if bad else None
    event = audit.entry(
        app, "integration.tested", actor=caller.email, outcome="failed" if bad else "done", detail=name
    )
    app.records.commit(caller.org_id, Move(stored, replace(stored.value, problem=problem)), event)
    if any(one.status == "ok" and one.name != delegating.LIMIT for one in found):
        jobs.put(app, Job("mended", caller.org_id, name))
    return found


def disconnect(app: App, caller: Caller, name: str) -> Shown:
    """Withdraw the approval and disconnect every mailbox that uses this provider."""
    caller.need("admin")
    provider, ended = app.provider(name), _ended(app, caller, name)
    for mailbox in (found.value for found in owning.mailboxes_of(app, caller.org_id)):
        if name in {mailbox.receives_with, mailbox.sends_with} and disconnecting.is_connected(
            app, caller, mailbox
        ):
            disconnecting.disconnect(app, caller, mailbox.id)
    if provider.oauth:  # last, because ending a mailbox's push needs the registration
        ended = registering.forget(app, caller.org_id, ended)
    return _shown(app, caller.org_id, ended)


def _ended(app: App, caller: Caller, name: str) -> Integration:
    """Write down that it ends: whatever comes back from a browser from now on is refused."""
    for _ in range(TRIES):
        stored = app.records.find(caller.org_id, Integration, name)
        old = stored.value if stored else Integration(name)
        ended = replace(old, state="disconnected", problem=None)
        ended = replace(ended, updated_at=app.clock(), updated_by=caller.email)
        event = audit.entry(app, "integration.disconnected", actor=caller.email, detail=name)
        with suppress(Raced):
            app.records.commit(caller.org_id, _instead(stored, ended), event)
            return ended
    raise Raced
