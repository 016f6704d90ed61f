"""Onboarding breaks off before every single change it makes; a retry ends as if it had not, and nothing lies about.

Dying before a read, or after a change, is for the outside the same as dying before the next change.
"""

from dataclasses import replace

import pytest

from shared import authorizing, connecting, disconnecting, integrating, owning, returning
from shared.contract import ConnectMailbox, PatchMailbox, PutIntegration
from shared.errors import Temporary, ZalionError
from shared.flows import Refused
from shared.model import PLATFORM, AuditRecord, Grant, Mailbox, TenantBinding
from shared.registrations import secret_name
from shared.storage.base import Move
from tests import google
from tests.doors import Acting, Guard, dying, guarded
from tests.microsoft import Company
from tests.scenes import PASSWORD, caller, connect, someone
from tests.walks.test_consents import approve, connected  # noqa: F401 - a fixture

CHANGES = (".commit", ".put", ".set", ".destroy", ".remove", ".redeem")


def changes(act):
    """Yield, for each change that `act(app_with_doors)` makes, a guard that breaks off before it.

    `act` gets the guard, and is carried out once undisturbed.
    """
    seen = Guard()
    act(seen)
    found = [k for k, name in enumerate(seen.calls, 1) if name.endswith(CHANGES)]
    assert len(found) > 3
    for k in found:
        yield k, seen.calls[k - 1]


def broken(how, k):
    return Guard(how=how, fail_at=k, error=lambda _: Temporary("The wire broke.", retry_after=0))


def attempt(act):
    with dying():
        try:
            act()
        except (ZalionError, Refused):
            return


def secrets_since(world, before):
    """Names of the secrets that came since; the organisation's data key is none of a mailbox."""
    return {name for name in set(world.vault.secrets) - before if name.startswith(("m-", "i-"))}


def sign_in(company, app, who):
    """What a user does: connect, and sign in in the browser."""
    body = ConnectMailbox(address=who.address, receives_with="microsoft", sends_with="microsoft")
    mailbox, url = authorizing.connect(app, caller(company.org_id, who.address), body)
    returning.signed_in(app, "microsoft", company.browse(url, who.address))
    return mailbox


def mailbox_of(app, company, who):
    found = [row.value for row in owning.mailboxes_of(app, company.org_id)]
    return next((mailbox for mailbox in found if mailbox.address == who.address), None)


def bound(app, company):
    return app.records.find(PLATFORM, TenantBinding, TenantBinding("microsoft", company.tenant.id, "").key)


def test_a_sign_in_ends_the_same_wherever_it_breaks(connected):  # noqa: F811
    app, org_id = connected.app, connected.org_id

    def act(guard):
        return sign_in(connected, guarded(app, guard), connected.person("dan"))

    for number, (k, name) in enumerate(changes(act)):
        who = connected.person("alice")
        attempt(lambda: sign_in(connected, guarded(app, broken("before", k)), who))
        mailbox = mailbox_of(app, connected, who)
        if number % 2 == 0 or mailbox is None:  # its user tries again, or gives up
            if mailbox is None or mailbox.state != "active":
                mailbox = sign_in(connected, app, who)
            assert mailbox_of(app, connected, who).state == "active", name
            assert app.grants.credential(org_id, mailbox.id, "microsoft").username == who.address
        else:
            disconnecting.disconnect(app, caller(org_id, who.address), mailbox.id)
            assert app.records.range(org_id, Grant, prefix=f"{mailbox.id}!") == [], name


def test_a_sign_in_that_broke_off_keeps_the_consent_of_another_organisation_alive_only_with_a_grant(
    world, app, clock
):
    stage = google.build(world, app, clock)
    app, org_id = stage.app, f"{stage.org_id}-b"
    google.approve(app, org_id)

    def act(guard, who=None):
        who = who or stage.person("dan")
        begun = google.request(who.address)
        mailbox, url = authorizing.connect(app, caller(org_id, who.address), begun)
        attempt(lambda: google.sign_in(world, guarded(app, guard), url, who.address))
        return mailbox

    kept_alive = set()
    for k, name in changes(act):
        who = stage.person("alice")
        first = google.connect(world, app, stage.org_id, who)
        second = act(broken("before", k), who)
        ended = disconnecting.disconnect(app, caller(stage.org_id, who.address), first.id).destroyed
        stays = "google consent (withdrawn at the provider)" not in ended
        kept_alive.add(stays)
        assert not stays or app.grants.holds(org_id, second.id), name
        assert stays or mailbox_of(app, replace(stage, org_id=org_id), who).state != "active", name
    assert kept_alive == {True, False}


@pytest.mark.parametrize("how", ["before", "error"])
def test_a_connect_with_a_password_leaves_no_secret_without_its_mailbox(world, app, how):
    company = Company(world, app)
    for name in ("imap", "smtp"):
        integrating.put(app, company.admin, name, PutIntegration(approved=True))

    def act(guard, who=None):
        who = who or someone(world, "alice", "imap.example")
        return connect(world, guarded(app, guard), company.org_id, who)

    for number, (k, name) in enumerate(changes(act)):
        who, before = someone(world, "alice", "imap.example"), set(world.vault.secrets)
        attempt(lambda: act(broken(how, k), who))
        mailbox = mailbox_of(app, company, who)
        if secrets_since(world, before):
            assert mailbox, f"{name}: a secret without a mailbox"
        if mailbox is None or (number % 2 == 0 and mailbox.state != "active"):
            assert act(Guard(), who).state == "active"
        else:
            disconnecting.disconnect(app, caller(company.org_id, who.address), mailbox.id)
            assert secrets_since(world, before) == set(), name


OTHER = "what opens the other account"


@pytest.fixture
def open_company(world, app):
    company = Company(world, app)
    for name in ("imap", "smtp"):
        integrating.put(app, company.admin, name, PutIntegration(approved=True))
    return company


def moving(world, company, how):
    """Return a mailbox, and what moves it to another account, by PATCH or by POST over one that waits."""
    who, other = someone(world, "alice", "imap.example"), someone(world, "other", "imap.example")
    world.add_user(other.address, OTHER)
    place = {"host": "localhost", "port": world.ports["imaps"], "security": "tls"}
    reading = {"sends_with": None, "settings": {"imap": place}}
    mailbox = connect(world, company.app, company.org_id, who, **reading)
    asking = caller(company.org_id, who.address)
    settings = {"imap": {**place, "username": other.address}}
    patch = PatchMailbox(settings=settings, secret={"password": OTHER})
    if how == "PATCH":
        return mailbox, lambda app: connecting.change(app, asking, mailbox.id, patch)
    stored = company.app.records.get(company.org_id, Mailbox, mailbox.id)
    company.app.records.commit(company.org_id, Move(stored, replace(stored.value, state="needs_consent")))
    given = {**reading, "settings": settings, "secret": {"password": OTHER}}
    return mailbox, lambda app: connect(world, app, company.org_id, who, **given)


def signs_in(app, org_id, mailbox):
    """Say to whom a mailbox belongs by its record, and which password it is opened with."""
    found = app.records.get(org_id, Mailbox, mailbox.id).value
    credential = guarded(app, Guard()).grants.credential(org_id, mailbox.id, "imap")  # nothing is remembered
    return found.settings["imap"].get("username", found.address), credential.password


@pytest.mark.long
@pytest.mark.parametrize("how", ["PATCH", "POST"])
def test_a_secret_is_valid_with_the_settings_that_it_was_given_for_or_not_at_all(
    world, app, open_company, how
):
    org_id, fates = open_company.org_id, set()

    def act(guard):
        moving(world, open_company, how)[1](guarded(app, guard))

    for number, (k, name) in enumerate(changes(act)):
        before = set(world.vault.secrets)
        mailbox, move = moving(world, open_company, how)
        attempt(lambda: move(guarded(app, broken(("before", "error")[number % 2], k))))
        username, opened = signs_in(app, org_id, mailbox)
        assert opened == (PASSWORD if username == mailbox.address else OTHER), name
        changed = username != mailbox.address
        fates.add(changed)
        told = [
            row.value for row in app.records.range(org_id, AuditRecord) if row.value.mailbox_id == mailbox.id
        ]
        assert len(told) == 1 + changed, name
        if number % 3 == 1 and (how == "PATCH" or not changed):
            move(app)
            assert signs_in(app, org_id, mailbox)[1] == OTHER, name
            assert len(secrets_since(world, before)) == 1, f"{name}: what is not used is destroyed"
        disconnecting.disconnect(app, caller(org_id, mailbox.address), mailbox.id)
        assert secrets_since(world, before) == set(), name
    assert fates == {True, False}


def test_a_change_that_loses_its_race_changes_no_secret(world, app, open_company):
    before, org_id = set(world.vault.secrets), open_company.org_id
    mailbox, move = moving(world, open_company, "PATCH")

    def overtake(name, _):
        if name == "vault.set":
            stored = app.records.get(org_id, Mailbox, mailbox.id)
            app.records.commit(org_id, Move(stored, replace(stored.value, name="Alice")))

    with pytest.raises(ZalionError):
        move(guarded(app, Acting(then=overtake)))
    assert signs_in(app, org_id, mailbox) == (mailbox.address, PASSWORD)
    assert len(secrets_since(world, before)) == 1


def test_a_refused_connect_leaves_nothing(world, app):
    company = Company(world, app)
    for name in ("imap", "smtp"):
        integrating.put(app, company.admin, name, PutIntegration(approved=True))
    who, before = someone(world, "alice", "imap.example"), set(world.vault.secrets)
    with pytest.raises(ZalionError):
        connect(world, app, company.org_id, who, secret={"password": "wrong"})
    assert owning.mailboxes_of(app, company.org_id) == []
    assert secrets_since(world, before) == set()


def test_an_own_registration_ends_the_same_wherever_it_breaks(world, app):
    def act(guard, company=None):
        company = replace(company or Company(world, app), app=guarded(app, guard))
        return company.own(*company.own_app())

    for number, (k, name) in enumerate(changes(act)):
        company, before = Company(world, app), set(world.vault.secrets)
        attempt(lambda: act(broken("before", k), company))
        if number % 2:  # IT tries again, or gives up
            assert act(Guard(), company).state == "approved"
        integrating.disconnect(app, company.admin, "microsoft")
        assert bound(app, company) is None, name
        assert secret_name(company.org_id, "microsoft") not in world.vault.secrets
        assert secrets_since(world, before) == set()


def test_an_approval_ends_the_same_wherever_it_breaks(world, app):
    def act(guard, company=None):
        company = company or Company(world, app)
        company.put()
        proof = returning.consented(app, "microsoft", company.browse(company.link())).url
        return returning.signed_in(guarded(app, guard), "microsoft", company.browse(proof))

    for number, (k, name) in enumerate(changes(act)):
        company = Company(world, app)
        attempt(lambda: act(broken("before", k), company))
        place = "microsoft", company.tenant.id
        faster = app.registrations.bind("org-elsewhere", *place)  # another organisation proves it meanwhile
        attempt(company.put)
        owner = app.registrations.owner(*place)
        assert company.integration().state != "approved" or owner == company.org_id, name
        if faster:
            app.registrations.release("org-elsewhere", *place)
        if number % 2:
            approve(company)
            assert company.integration().state == "approved"
        integrating.disconnect(app, company.admin, "microsoft")
        assert bound(app, company) is None, name


def test_a_disconnected_integration_ends_the_same_wherever_it_breaks(world, app):
    def act(guard, company=None):
        company = company or Company(world, app)
        company.own(*company.own_app())
        sign_in(company, app, company.person("alice"))
        return integrating.disconnect(guarded(app, guard), company.admin, "microsoft")

    for k, name in changes(act):
        company, before = Company(world, app), set(world.vault.secrets)
        attempt(lambda: act(broken("before", k), company))
        integrating.disconnect(app, company.admin, "microsoft")
        assert app.records.range(company.org_id, Grant) == [], name
        assert {row.value.state for row in app.records.range(company.org_id, Mailbox)} == {"disconnected"}
        assert secrets_since(world, before) == set()
