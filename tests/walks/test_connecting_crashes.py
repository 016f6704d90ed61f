"""Onboarding breaks off before every single change it makes; a retry ends as if it had not, and nothing lies about.

Dying before a read, or after a change, is for the outside the same as dying before the next change.
"""

from dataclasses import replace

import pytest

from shared import authorizing, disconnecting, integrating, owning, returning
from shared.contract import ConnectMailbox, PutIntegration
from shared.errors import Temporary, ZalionError
from shared.flows import Refused
from shared.model import PLATFORM, Grant, Mailbox, TenantBinding
from shared.registrations import secret_name
from tests import google
from tests.doors import Guard, dying, guarded
from tests.microsoft import Company
from tests.scenes import caller, connect, someone
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
