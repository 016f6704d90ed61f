"""Mailboxes that an organisation's administrator delegates at the provider, instead of each user signing in.

Such a grant reaches every mailbox of a domain, for whoever in Zalion claims the domain. So a domain is taken
by one organisation before its administrator is told what to enter, and given back only once the grant is
gone. Which mailboxes it is used for is the organisation's own list, asked wherever a token is.
"""

from collections.abc import Iterator
from dataclasses import replace

from shared import mime
from shared.app import App
from shared.contract import AppSecret, CheckResource
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotFound, Unsupported, ZalionError
from shared.model import Integration, Problem
from shared.providers.base import Bearer, Connection, Delegation, OAuth, Registration

LISTED = "settings.mailboxes"
MOST_CHECKED = 20
OUTSIDE = "not-listed"
"""An address that nobody can have listed: it has no domain."""


def registered(app: App, org_id: str, integration: Integration, secret: AppSecret | None) -> Integration:
    """Accept the settings of a provider where users sign in, and try the delegation if there is to be one.

    A delegation that does not work yet is the integration's problem: it says what is to be entered where.
    """
    if secret:
        raise InvalidRequest("Zalion's own app is used at this provider.", field="secret")
    app.registrations.named(org_id, integration)  # is there an app of ours at all?
    if integration.state != "approved" or not integration.settings.get("applicationAccess"):
        return integration
    listed = [str(address) for address in integration.settings.get("mailboxes", ())]
    if not listed:
        fix = "Name every mailbox that Zalion may use without its user."
        raise InvalidRequest("The delegation needs a list of mailboxes.", field=LISTED, fix=fix)
    listed = [mime.check_address(address, f"{LISTED}[{place}]") for place, address in enumerate(listed)]
    integration = replace(integration, settings={**integration.settings, "mailboxes": listed})
    for domain in _domains(integration):
        _take(app, org_id, integration.provider, domain)
    return replace(integration, problem=_problem(app, org_id, integration))


def entered(app: App, org_id: str, integration: Integration) -> Delegation | None:
    """Return what has to be entered at the provider; None where nothing has to."""
    oauth = app.provider(integration.provider).oauth
    if oauth is None or oauth.by_admin or not integration.settings.get("applicationAccess"):
        return None
    return oauth.delegation(app.registrations.named(org_id, integration), integration.settings)


def checks(app: App, org_id: str, integration: Integration) -> Iterator[CheckResource]:
    """Try each listed mailbox, and one that is not. Raises Unsupported without a delegation."""
    if entered(app, org_id, integration) is None:
        fix = "Switch on applicationAccess and name the mailboxes first."
        raise Unsupported("There is no delegation to check.", fix=fix)
    for address in integration.settings["mailboxes"][:MOST_CHECKED]:
        try:
            _read(app, org_id, integration, address)
        except ZalionError as error:
            yield CheckResource(name=address, status="failed", detail=error.detail, fix=error.fix)
        else:
            yield CheckResource(name=address, status="ok", detail="Zalion can read this mailbox.")
    yield _limit(app, org_id, integration)


def forget(app: App, org_id: str, integration: Integration) -> Integration:
    """Give the domains back whose grant is gone; of the others say what is left to do."""
    if entered(app, org_id, integration) is None:
        return integration
    kept = [domain for domain in _domains(integration) if not _released(app, org_id, integration, domain)]
    if not kept:
        return integration
    detail = f"The delegation is still in force at the provider for {', '.join(kept)}."
    fix = (
        "Delete Zalion's client id under domain-wide delegation in the Admin console, then disconnect again."
    )
    return replace(integration, problem=Problem("delegation_left", detail, fix))


def _take(app: App, org_id: str, provider: str, domain: str) -> None:
    if not app.registrations.bind(org_id, provider, domain):
        raise Conflict(
            f"{domain} is connected to another organisation.",
            field=LISTED,
            fix="Ask Zalion's support if it is yours.",
        )


def _domains(integration: Integration) -> list[str]:
    return sorted({address.rpartition("@")[2] for address in integration.settings.get("mailboxes", ())})


def _problem(app: App, org_id: str, integration: Integration) -> Problem | None:
    try:
        _read(app, org_id, integration, integration.settings["mailboxes"][0])
    except ConsentRequired as error:
        return Problem(error.reason or error.code, error.detail, error.fix)
    return None


def _read(app: App, org_id: str, integration: Integration, address: str) -> None:
    """Sign in for a mailbox and look whether it can be read. Raises what the provider says."""
    oauth, registration = _signing(app, org_id, integration)
    token = oauth.application(registration, address, oauth.scopes(integration.settings)).access_token
    receiver = app.provider(integration.provider).receiver
    if receiver is None:
        raise NotFound("This provider reads no mailboxes.")
    session = receiver(
        Connection(
            address,
            {"access": "application"},
            lambda: Bearer(address, token),
            app.allowed_hosts,
            app.endpoints,
        )
    )
    try:
        session.check()
    finally:
        session.close()


def _limit(app: App, org_id: str, integration: Integration) -> CheckResource:
    oauth, registration = _signing(app, org_id, integration)
    try:
        oauth.application(registration, OUTSIDE, oauth.scopes(integration.settings))
    except ConsentRequired:
        detail = "Zalion asks the provider for no other mailbox."
        return CheckResource(name="limit", status="ok", detail=detail)
    return CheckResource(name="limit", status="failed", detail="Another mailbox could be reached, too.")


def _released(app: App, org_id: str, integration: Integration, domain: str) -> bool:
    """Give a domain back if the grant is certainly gone; returns whether it was."""
    oauth, registration = _signing(app, org_id, integration)
    address = next(one for one in integration.settings["mailboxes"] if one.endswith(f"@{domain}"))
    try:
        oauth.application(registration, address, oauth.scopes(integration.settings))
    except ConsentRequired as error:
        if error.reason == oauth.delegation_missing:
            app.registrations.release(org_id, integration.provider, domain)
            return True
    except ZalionError:
        return False  # nobody knows: it stays taken
    return False


def _signing(app: App, org_id: str, integration: Integration) -> tuple[OAuth, Registration]:
    oauth = app.provider(integration.provider).oauth
    if oauth is None:
        raise Unsupported("Nobody signs in at this provider.")
    return oauth, app.registrations.named(org_id, integration)
