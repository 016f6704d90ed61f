"""Mailboxes that an organisation's administrator delegates at the provider, instead of each user signing in.

Such a grant reaches every domain of the customer, for whoever in Zalion claims one of them. So a domain is
proven by DNS and taken by one organisation before its administrator is told what to enter, and given back
only once the grant is gone. Which mailboxes it is used for is the organisation's own list, asked wherever
a token is. The record names a domain before it is taken and until it is given back (`Integration.delegated`).
"""

import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from shared import mime, proving
from shared.app import App
from shared.contract import AppSecret, CheckResource
from shared.errors import Conflict, ConsentRequired, InvalidRequest, NotFound, Unsupported, ZalionError
from shared.model import Grant, Integration, Problem
from shared.providers.base import Bearer, Connection, Delegation, OAuth, Registration
from shared.storage.base import Add, Move, Stored, every

LISTED = "settings.mailboxes"
MOST_CHECKED = 20
LIMIT = "limit"
"""What the check is called that no other mailbox is reached."""


def registered(
    app: App,
    org_id: str,
    stored: Stored[Integration] | None,
    integration: Integration,
    secret: AppSecret | None,
) -> tuple[Integration, Stored[Integration] | None]:
    """Accept the settings of a provider where users sign in, and try the delegation if there is to be one.

    A delegation that does not work yet is the integration's problem: it says what is to be entered where.
    Returns what is to be written, and the record that it takes the place of.
    Raises Conflict for a domain that is not proven, or another organisation's; what left the list is given
    back where it can be.
    """
    if secret:
        raise InvalidRequest("Zalion's own app is used at this provider.", field="secret")
    app.registrations.named(org_id, integration)  # is there an app of ours at all?
    listed = _listed(integration)
    wanted, held = _domains(listed), stored.value.delegated if stored else ()
    for domain in wanted:
        _insist(app, org_id, integration, domain)
    left = [address for address in held if _domain(address) not in wanted]
    integration = replace(integration, delegated=(*listed, *left))
    if not {*wanted} <= {*_domains(held)}:
        before = stored.value if stored else Integration(integration.provider)
        named = replace(before, delegated=integration.delegated)
        [etag] = app.records.commit(org_id, Move(stored, named) if stored else Add(named))
        stored = Stored(named, etag)
    for domain in wanted:
        _take(app, org_id, integration.provider, domain)
    integration = _given_back(app, org_id, integration, keep=wanted)
    if not listed:
        return integration, stored
    integration = replace(integration, settings={**integration.settings, "mailboxes": listed})
    return replace(integration, problem=_problem(app, org_id, integration)), stored


def _listed(integration: Integration) -> list[str]:
    """Return the mailboxes that are to be used without their users. Raises InvalidRequest."""
    if integration.state != "approved" or not integration.settings.get("applicationAccess"):
        return []
    listed = [str(address) for address in integration.settings.get("mailboxes", ())]
    if not listed:
        fix = "Name every mailbox that Zalion may use without its user."
        raise InvalidRequest("The delegation needs a list of mailboxes.", field=LISTED, fix=fix)
    return [mime.check_address(address, f"{LISTED}[{place}]") for place, address in enumerate(listed)]


def entered(app: App, org_id: str, integration: Integration) -> Delegation | None:
    """Return what has to be entered at the provider; None where nothing has to."""
    oauth = app.provider(integration.provider).oauth
    if oauth is None or oauth.by_admin or not integration.settings.get("applicationAccess"):
        return None
    found = oauth.delegation(app.registrations.named(org_id, integration), integration.settings)
    used = (scope for scopes in _granted(app, org_id, integration).values() for scope in scopes)
    return found and replace(found, scopes=tuple(dict.fromkeys([*found.scopes, *used])))


def checks(app: App, org_id: str, integration: Integration) -> Iterator[CheckResource]:
    """Try each listed mailbox, and one that is not. Raises Unsupported without a delegation."""
    if entered(app, org_id, integration) is None:
        fix = "Switch on applicationAccess and name the mailboxes first."
        raise Unsupported("There is no delegation to check.", fix=fix)
    granted = _granted(app, org_id, integration)
    listed = integration.settings["mailboxes"]
    for address in listed[:MOST_CHECKED]:
        try:
            _read(app, org_id, integration, address, granted.get(address, ()))
        except ZalionError as error:
            yield CheckResource(name=address, status="failed", detail=error.detail, fix=error.fix)
        else:
            yield CheckResource(name=address, status="ok", detail="Zalion can read this mailbox.")
    if len(listed) > MOST_CHECKED:
        told = f"Only the first {MOST_CHECKED} of {len(listed)} listed mailboxes were tried."
        fix = "Each of the others can be tested by itself once it is connected."
        yield CheckResource(name="other mailboxes", status="skipped", detail=told, fix=fix)
    yield _limit(app, org_id, integration)


def forget(app: App, org_id: str, integration: Integration) -> Integration:
    """Give the domains back whose grant is gone; of the others say what is left to do."""
    integration = _given_back(app, org_id, integration)
    if not integration.delegated:
        return integration
    kept = ", ".join(_domains(integration.delegated))
    fix = (
        "Delete Zalion's client id under domain-wide delegation in the Admin console, then disconnect again."
    )
    problem = Problem("delegation_left", f"The delegation is still in force at the provider for {kept}.", fix)
    return replace(integration, problem=problem)


def _insist(app: App, org_id: str, integration: Integration, domain: str) -> None:
    """Have a domain proven before it is taken: a customer's delegation reaches domains that nobody named."""
    owner = app.registrations.owner(integration.provider, domain)
    if owner == org_id:
        return
    proving.insist(app, org_id, domain, integration.updated_by, LISTED)
    if owner:  # told only to who has proven it
        raise _taken(domain)


def _take(app: App, org_id: str, provider: str, domain: str) -> None:
    if not app.registrations.bind(org_id, provider, domain):
        raise _taken(domain)


def _taken(domain: str) -> Conflict:
    detail = f"{domain} is connected to another organisation."
    return Conflict(detail, field=LISTED, fix="Ask Zalion's support if it is yours.")


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def _domains(addresses: Iterable[str]) -> list[str]:
    return sorted({_domain(address) for address in addresses})


def _granted(app: App, org_id: str, integration: Integration) -> dict[str, tuple[str, ...]]:
    """Return what connected mailboxes ask for, by address: it stays what it was when they were connected."""
    grants = (stored.value for stored in every(app.records, org_id, Grant))
    return {
        grant.username: grant.scopes
        for grant in grants
        if grant.type == "application" and grant.provider == integration.provider
    }


def _problem(app: App, org_id: str, integration: Integration) -> Problem | None:
    try:
        _read(app, org_id, integration, integration.settings["mailboxes"][0])
    except ConsentRequired as error:
        return Problem(error.reason or error.code, error.detail, error.fix)
    return None


def _read(app: App, org_id: str, integration: Integration, address: str, granted: Sequence[str] = ()) -> None:
    """Sign in for a mailbox, now and if it were connected anew, and look whether it can be read.

    Raises what the provider says.
    """
    oauth, registration = _signing(app, org_id, integration)
    scopes = tuple(dict.fromkeys([*granted, *oauth.scopes(integration.settings)]))
    token = oauth.application(registration, address, scopes).access_token
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
    """Ask for a mailbox that the delegation reaches and the list does not name: nobody must ask further."""
    oauth, registration = _signing(app, org_id, integration)
    outside = f"not-listed.{secrets.token_hex(4)}@{_domain(integration.settings['mailboxes'][0])}"
    detail, fix = "Another mailbox could be reached, too.", "Tell Zalion's support: this is ours to mend."
    try:
        oauth.application(registration, outside, oauth.scopes(integration.settings))
    except ZalionError as error:
        if error.reason == oauth.not_listed:
            detail = "Zalion asks the provider for no other mailbox."
            return CheckResource(name=LIMIT, status="ok", detail=detail)
        detail = "The provider was asked for another mailbox, too."
    return CheckResource(name=LIMIT, status="failed", detail=detail, fix=fix)


def _given_back(app: App, org_id: str, integration: Integration, keep: Collection[str] = ()) -> Integration:
    """Give back the domains whose grant is certainly gone; those to `keep` are not asked for."""
    gone = {
        domain
        for domain in _domains(integration.delegated)
        if domain not in keep and _released(app, org_id, integration, domain)
    }
    left = [address for address in integration.delegated if _domain(address) not in gone]
    return replace(integration, delegated=tuple(left))


def _released(app: App, org_id: str, integration: Integration, domain: str) -> bool:
    """Give a domain back if the grant is certainly gone; returns whether it is not ours any more."""
    if app.registrations.owner(integration.provider, domain) != org_id:
        return True
    named = [address for address in integration.delegated if _domain(address) == domain]
    reaching = replace(integration, settings={"applicationAccess": True, "mailboxes": named})
    try:
        oauth, registration = _signing(app, org_id, reaching)
        told = (_is_in_force(oauth, registration, address) for address in named)
        if next((one for one in told if one is not None), True):
            return False
    except ZalionError:
        return False  # we cannot ask
    app.registrations.release(org_id, integration.provider, domain)
    return True


def _is_in_force(oauth: OAuth, registration: Registration, address: str) -> bool | None:
    """Whether a single permission is left, which gives mail away; None where the address cannot tell.

    One delegation is for all users of a domain, so whoever can tell tells it for all. Raises Temporary.
    """
    for scope in oauth.delegable:
        try:
            oauth.application(registration, address, [scope])
        except ConsentRequired as error:
            if error.reason != oauth.delegation_missing:
                return None  # its user is gone, for example
        else:
            return True
    return False


def _signing(app: App, org_id: str, integration: Integration) -> tuple[OAuth, Registration]:
    oauth = app.provider(integration.provider).oauth
    if oauth is None:
        raise Unsupported("Nobody signs in at this provider.")
    return oauth, app.registrations.named(org_id, integration)
