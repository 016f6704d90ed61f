"""Onboarding breaks off at every single I/O call; a retry ends as if it had not, and nothing lies about.

Dying after a call and before the next are the same to the outside, so dying before each is enough.
"""

from dataclasses import replace

import pytest

from shared import authorizing, connecting, integrating
from shared.contract import ConnectMailbox
from shared.errors import Temporary, ZalionError
from shared.flows import Refused
from shared.model import PLATFORM, Grant, Mailbox, TenantBinding
from shared.registrations import secret_name
from tests.doors import Guard, dying, guarded
from tests.microsoft import Company
from tests.scenes import caller, connect, someone
from tests.walks.test_consents import approve, connected  # noqa: F401 - a fixture


def broken(how, k):
    return Guard(how=how, fail_at=k, error=lambda _: Temporary("The wire broke.", retry_after=0))


def attempt(act):
    with dying():
        try:
            act()
        except (ZalionError, Refused):
            return


def vault_of(world, before):
    """Names of the secrets that came since; the organisation's data key is none of a mailbox."""
    return {name for name in set(world.vault.secrets) - before if name.startswith(("m-", "i-"))}


def sign_in(company, app, who):
    """What a user does: connect, and sign in in the browser."""
    body = ConnectMailbox(address=who.address, receives_with="microsoft", sends_with="microsoft")
    mailbox, url = authorizing.connect(app, caller(company.org_id, who.address), body)
    authorizing.signed_in(app, "microsoft", company.browse(url, who.address))
    return mailbox


def test_a_sign_in_ends_the_same_wherever_it_breaks(connected, world):  # noqa: F811
    app, org_id, k = connected.app, connected.org_id, 0
    while True:
        k += 1
        who, guard = connected.person("alice"), broken("before", k)
        attempt(lambda: sign_in(connected, guarded(app, guard), who))
        if len(guard.calls) < k:
            break
        found = [m.value for m in connecting.mailboxes_of(app, org_id) if m.value.address == who.address]
        held = [row.value for row in app.records.range(org_id, Grant)]
        assert {grant.mailbox_id for grant in held} <= {
            m.value.id for m in connecting.mailboxes_of(app, org_id)
        }
        if not found or found[0].state != "active":
            sign_in(connected, app, who)
        [mailbox] = [m.value for m in connecting.mailboxes_of(app, org_id) if m.value.address == who.address]
        assert mailbox.state == "active", f"call {k}: {guard.calls}"
        assert app.grants.credential(org_id, mailbox.id, "microsoft").username == who.address
        connecting.disconnect(app, caller(org_id, who.address), mailbox.id)
        assert app.records.range(org_id, Grant, prefix=f"{mailbox.id}!") == []
    assert k > 20


@pytest.mark.parametrize("how", ["before", "error"])
def test_a_connect_with_a_password_leaves_no_secret_without_its_mailbox(world, app, how):
    company, k = Company(world, app), 0
    for name in ("imap", "smtp"):
        integrating.put(app, company.admin, name, integrating.PutIntegration(approved=True))
    while True:
        k += 1
        who, guard, before = someone(world, "alice", "imap.example"), broken(how, k), set(world.vault.secrets)
        attempt(lambda: connect(world, guarded(app, guard), company.org_id, who))
        if len(guard.calls) < k:
            break
        rows = [
            m.value for m in connecting.mailboxes_of(app, company.org_id) if m.value.address == who.address
        ]
        if vault_of(world, before):
            assert rows, f"call {k} {guard.calls[k - 1]}: a secret without a mailbox"
        if k % 2 and not (rows and rows[0].state == "active"):  # its user tries again, or gives up
            assert connect(world, app, company.org_id, who).state == "active"
        elif rows:
            connecting.disconnect(app, caller(company.org_id, who.address), rows[0].id)
            assert vault_of(world, before) == set(), f"call {k} {guard.calls[k - 1]}"
    assert k > 12


def test_a_refused_connect_leaves_nothing(world, app):
    company = Company(world, app)
    for name in ("imap", "smtp"):
        integrating.put(app, company.admin, name, integrating.PutIntegration(approved=True))
    who, before = someone(world, "alice", "imap.example"), set(world.vault.secrets)
    with pytest.raises(ZalionError):
        connect(world, app, company.org_id, who, secret={"password": "wrong"})
    assert connecting.mailboxes_of(app, company.org_id) == []
    assert vault_of(world, before) == set()


def test_an_own_registration_ends_the_same_wherever_it_breaks(world, app):
    k = 0
    while True:
        k += 1
        company, guard, before = Company(world, app), broken("before", k), set(world.vault.secrets)
        made, secret = company.own_app()
        dying_company = replace(company, app=guarded(app, guard))
        attempt(lambda: dying_company.own(made, secret))
        if len(guard.calls) < k:
            break
        if k % 2:  # IT tries again, or gives up
            assert company.own(made, secret).state == "approved"
        integrating.disconnect(app, company.admin, "microsoft")
        key = TenantBinding("microsoft", company.tenant.id, "").key
        assert app.records.find(PLATFORM, TenantBinding, key) is None, f"call {k}: {guard.calls}"
        assert secret_name(company.org_id, "microsoft") not in world.vault.secrets
        assert vault_of(world, before) == set()
    assert k > 6


def test_an_approval_ends_the_same_wherever_it_breaks(world, app):
    k = 0
    while True:
        k += 1
        company, guard = Company(world, app), broken("before", k)
        company.put()
        proof = authorizing.consented(app, "microsoft", company.browse(company.link())).url
        back = company.browse(proof)
        attempt(lambda: authorizing.signed_in(guarded(app, guard), "microsoft", back))
        if len(guard.calls) < k:
            break
        if k % 2:
            approve(company)
            assert company.integration().state == "approved"
        integrating.disconnect(app, company.admin, "microsoft")
        key = TenantBinding("microsoft", company.tenant.id, "").key
        assert app.records.find(PLATFORM, TenantBinding, key) is None, f"call {k}: {guard.calls}"
    assert k > 8


def test_a_disconnected_integration_ends_the_same_wherever_it_breaks(world, app):
    k = 0
    while True:
        k += 1
        company, guard, before = Company(world, app), broken("before", k), set(world.vault.secrets)
        made, secret = company.own_app()
        company.own(made, secret)
        mailbox = sign_in(company, app, company.person("alice"))
        attempt(lambda: integrating.disconnect(guarded(app, guard), company.admin, "microsoft"))
        done = len(guard.calls) < k
        if not done:
            integrating.disconnect(app, company.admin, "microsoft")
        assert app.records.range(company.org_id, Grant) == [], f"call {k}: {guard.calls}"
        assert app.records.get(company.org_id, Mailbox, mailbox.id).value.state == "disconnected"
        assert vault_of(world, before) == set()
        if done:
            break
    assert k > 8
