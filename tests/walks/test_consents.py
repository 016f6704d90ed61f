"""Consents that come back through a browser: what connects an organisation's directory, and what does not."""

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared import authorizing, disconnecting, integrating, returning, scheduling
from shared.callers import spelled
from shared.contract import AskConsent, ConnectMailbox, PutIntegration
from shared.errors import Conflict, InvalidRequest, NotAllowed
from shared.flows import Refused
from shared.model import PLATFORM, AuditRecord, Flow, Grant, Integration, Mailbox, TenantBinding
from tests import microsoft
from tests.doors import Acting, guarded
from tests.microsoft import Company, connect
from tests.scenes import caller


@pytest.fixture
def company(world, app):
    made = Company(world, app)
    yield made
    world.entra.late_consents, world.entra.damage_state = 0, False


@pytest.fixture
def other(connected):
    """Another organisation, connected with its directory: the one that is to be harmed."""
    return connected


@pytest.fixture(scope="module")
def connected(world):
    """An organisation that is connected with its directory, with the real time."""
    from shared import bootstrap
    from shared.settings import load

    made = Company(world, bootstrap.build(load(world.environment())))
    approve(made)
    return made


def approve(company, **settings):
    """IT's whole way: approve, follow the link, consent, sign in."""
    company.put(**settings)
    back = company.browse(company.link())
    proof = returning.consented(company.app, "microsoft", back).url
    outcome = returning.signed_in(company.app, "microsoft", company.browse(proof))
    assert outcome.key == "approved"
    return back


def refused(act, *args):
    with pytest.raises(Refused) as caught:
        act(*args)
    return caught.value.error.reason


def binding(company, tenant_id):
    key = TenantBinding("microsoft", tenant_id, "").key
    stored = company.app.records.find(PLATFORM, TenantBinding, key)
    return stored.value.org_id if stored else None


def nothing_connected(company):
    integration = company.integration()
    return integration.state == "waiting_for_consent" and integration.tenant == ""


def test_a_consent_approves_the_integration_and_binds_its_directory(company):
    assert company.put().state == "waiting_for_consent"
    approve(company)
    integration = company.integration()
    assert (integration.state, integration.tenant) == ("approved", company.tenant.id)
    assert binding(company, company.tenant.id) == company.org_id
    given = [row.value for row in company.app.records.range(company.org_id, AuditRecord)]
    assert {"consent.asked", "consent.given"} <= {record.event for record in given}


def test_an_administrator_whose_domain_has_umlauts_is_the_one_who_asked_however_microsoft_spells_it(
    world, app
):
    company = Company(world, app, domain="müller.microsoft.example")
    company.admin = replace(company.admin, email=spelled(company.it.address))
    approve(company)
    assert company.integration().state == "approved"


def test_the_link_asks_for_the_least_and_for_no_permission_of_the_app_itself(company):
    company.put()
    query = dict(parse_qsl(urlsplit(company.link()).query))
    graph = "https://graph.microsoft.com/"
    assert query["scope"].split() == [f"{graph}Mail.Read", f"{graph}Mail.Send", "offline_access"]
    company.put(largeAttachments=True)
    query = dict(parse_qsl(urlsplit(company.link()).query))
    assert f"{graph}Mail.ReadWrite" in query["scope"].split()


def test_more_permissions_need_another_consent(company):
    approve(company)
    assert company.put(largeAttachments=True).state == "waiting_for_consent"
    assert company.put().state == "approved"
    approve(company, largeAttachments=True)
    assert company.put(largeAttachments=True).state == "approved"


def test_a_consent_that_is_slow_to_take_effect_everywhere_is_told_and_the_next_sign_in_works(company, world):
    approve(company)
    who, url, _ = connecting_of(company, "alice")
    world.entra.late_consents = 1
    back = company.browse(url, who.address)
    assert refused(returning.signed_in, company.app, "microsoft", back) == "approval_needed"
    assert connect(world, company.app, company.org_id, who).state == "active"


@pytest.mark.parametrize("act", ["put", "disconnect"])
def test_a_consent_that_is_given_just_when_it_changes_an_integration_is_not_overwritten(company, act):
    company.put()
    proof = returning.consented(company.app, "microsoft", company.browse(company.link())).url
    back = company.browse(proof)

    def meanwhile(name, times):
        if name == "records.find" and times == 1:
            assert returning.signed_in(company.app, "microsoft", back).key == "approved"

    app = guarded(company.app, Acting(then=meanwhile))
    if act == "put":
        integrating.put(app, company.admin, "microsoft", PutIntegration(approved=True, domains=["a.example"]))
        integration = company.integration()
        assert (integration.state, integration.tenant) == ("approved", company.tenant.id)
        assert integration.domains == ("a.example",)
    else:
        integrating.disconnect(app, company.admin, "microsoft")
        assert company.integration().state == "disconnected"
        assert binding(company, company.tenant.id) is None


def test_a_link_works_once(company):
    back = approve(company)
    company.put(largeAttachments=True)
    assert refused(returning.consented, company.app, "microsoft", back) == "already_used"


def test_a_link_ends_after_a_week(company, clock):
    company.put()
    link = company.link()
    clock.advance(days=7, minutes=1)
    assert refused(returning.consented, company.app, "microsoft", company.browse(link)) == "expired"
    assert nothing_connected(company)


def test_a_strangers_tenant_in_the_redirect_connects_nothing(company, other):
    """The redirect after a consent is typed by hand, with the state of a link of one's own."""
    company.put()
    state = dict(parse_qsl(urlsplit(company.link()).query))["state"]
    forged = {"admin_consent": "True", "tenant": other.tenant.id, "state": state}
    proof = returning.consented(company.app, "microsoft", forged).url
    back = company.browse(proof)  # our own administrator signs in: not an account of that directory
    assert refused(returning.signed_in, company.app, "microsoft", back) == "tenant_mismatch"
    assert nothing_connected(company)
    assert binding(company, other.tenant.id) == other.org_id


def test_whoever_signs_in_to_another_directory_than_the_consented_one_connects_nothing(company, other):
    """An answer of another directory's sign-in is put under our state."""
    company.put()
    back = company.browse(company.link())
    proof = returning.consented(company.app, "microsoft", back).url
    elsewhere = proof.replace(company.tenant.id, other.tenant.id)
    swapped = company.browse(elsewhere, other.it.address)
    assert refused(returning.signed_in, company.app, "microsoft", swapped) in {
        "tenant_mismatch",
        "start_again",
    }
    assert nothing_connected(company)


def test_a_second_organisation_that_consents_with_the_first_ones_tenant_is_refused(company, other):
    company.put()
    back = company.browse(company.link(), other.it.address)  # their administrator follows our link
    proof = returning.consented(company.app, "microsoft", back).url
    back = company.browse(proof, other.it.address)
    assert refused(returning.signed_in, company.app, "microsoft", back) == "tenant_taken"
    assert nothing_connected(company)
    assert binding(company, other.tenant.id) == other.org_id


def test_a_second_organisation_that_types_the_first_ones_tenant_is_refused(company, other):
    made, secret = other.own_app()  # they even know an app of that directory
    with pytest.raises(Conflict) as caught:
        company.own(made, secret, tenantId=other.tenant.id)
    assert caught.value.field == "settings.tenantId"
    assert company.integration().state == "not_approved"
    assert company.integration().tenant == ""
    assert binding(company, other.tenant.id) == other.org_id


def test_a_released_directory_can_be_taken_by_who_proves_it(company, world):
    first = Company(world, company.app)
    approve(first)
    integrating.disconnect(first.app, first.admin, "microsoft")
    assert binding(company, first.tenant.id) is None
    company.put()
    back = company.browse(company.link(), first.it.address)
    proof = returning.consented(company.app, "microsoft", back).url
    back = company.browse(proof, first.it.address)
    outcome = returning.signed_in(company.app, "microsoft", back)
    assert answer(company, outcome.ask, "yes").key == "approved"


@pytest.mark.parametrize(
    "tenant", ["", "common", "organizations", "../evil", "contoso.example", "x" * 5000, "\udc80"]
)
def test_a_tenant_that_is_no_directorys_id_is_refused(company, tenant):
    company.put()
    state = dict(parse_qsl(urlsplit(company.link()).query))["state"]
    forged = {"admin_consent": "True", "tenant": tenant, "state": state}
    assert refused(returning.consented, company.app, "microsoft", forged) == "start_again"
    assert nothing_connected(company)


def damaged(state):
    yield from (
        "",
        "x",
        ".",
        f"{state} Sign in to your account",
        state[:-1],
        f"~platform.{state}",
        f"{state}\x00",
    )
    yield from (state.upper(), f" {state}", "org-other." + state.rpartition(".")[2], "a" * 10_000, "/\\#?.x")


def test_a_damaged_state_connects_nothing_and_uses_nothing_up(company):
    company.put()
    back = company.browse(company.link())
    for state in damaged(back["state"]):
        assert (
            refused(returning.consented, company.app, "microsoft", {**back, "state": state}) == "start_again"
        )
    assert nothing_connected(company)
    proof = returning.consented(company.app, "microsoft", back).url
    signed = company.browse(proof)
    for state in damaged(signed["state"]):
        assert (
            refused(returning.signed_in, company.app, "microsoft", {**signed, "state": state})
            == "start_again"
        )
    assert nothing_connected(company)
    assert returning.signed_in(company.app, "microsoft", signed).key == "approved"


def test_a_state_that_a_localised_page_damaged_is_not_repaired(company, world):
    company.put()
    world.entra.damage_state = True
    assert (
        refused(returning.consented, company.app, "microsoft", company.browse(company.link()))
        == "start_again"
    )


def test_a_state_serves_its_own_purpose_only(company):
    company.put()
    back = company.browse(company.link())
    assert refused(returning.signed_in, company.app, "microsoft", back) == "start_again"
    proof = returning.consented(company.app, "microsoft", back).url
    signed = company.browse(proof)
    assert refused(returning.consented, company.app, "microsoft", signed) == "start_again"
    assert returning.signed_in(company.app, "microsoft", signed).key == "approved"


def test_a_code_of_somebody_elses_sign_in_is_worthless_under_our_state(connected):
    """Code injection: PKCE and nonce tie a code to the browser that began (RFC 9700 section 4.5)."""
    mine, theirs = (connecting_of(connected, name) for name in ("alice", "bob"))
    stolen = connected.browse(theirs[1], theirs[0].address)
    own = connected.browse(mine[1], mine[0].address)
    mixed = {**own, "code": stolen["code"]}
    assert refused(returning.signed_in, connected.app, "microsoft", mixed) == "start_again"
    assert grants(connected, mine[2]) == grants(connected, theirs[2]) == []


def grants(company, mailbox):
    return company.app.records.range(company.org_id, Grant, prefix=f"{mailbox.id}!")


def connecting_of(company, name, **changes):
    who = company.person(name)
    body = ConnectMailbox(address=who.address, receives_with="microsoft", sends_with="microsoft", **changes)
    mailbox, url = authorizing.connect(company.app, caller(company.org_id, who.address), body)
    assert mailbox.state == "needs_consent"
    return who, url, mailbox


def test_a_connect_that_nobody_signed_in_for_blocks_nobody_and_its_open_link_serves_no_other_owner(connected):
    who = connected.person("alice")
    body = ConnectMailbox(address=who.address, receives_with="microsoft", sends_with="microsoft")
    app, org_id = connected.app, connected.org_id
    curious = caller(org_id, connected.person("bob").address)
    mine, url = authorizing.connect(app, caller(org_id, who.address), body)
    back = connected.browse(url, who.address)
    theirs, other = authorizing.connect(app, curious, body)
    assert (theirs.id, theirs.owner) == (mine.id, curious.email)
    assert refused(returning.signed_in, app, "microsoft", back) == "start_again"  # hers, under his name
    assert grants(connected, mine) == []
    _, url = authorizing.connect(app, caller(org_id, who.address), body)
    assert returning.signed_in(app, "microsoft", connected.browse(url, who.address)).key == "connected"
    assert (
        refused(returning.signed_in, app, "microsoft", connected.browse(other, who.address)) == "start_again"
    )
    with pytest.raises(Conflict) as caught:
        authorizing.connect(app, curious, body)
    assert "administrator" in caught.value.fix
    with pytest.raises(Conflict) as caught:
        authorizing.connect(app, caller(org_id, who.address), body)
    assert "PATCH" in caught.value.fix


def test_a_mailbox_that_another_took_over_during_the_sign_in_keeps_nothing_of_it(connected):
    """The last moment: her sign-in is kept, but the mailbox is not hers any more."""
    who, url, mailbox = connecting_of(connected, "alice")
    curious = caller(connected.org_id, connected.person("bob").address)
    body = ConnectMailbox(address=who.address, receives_with="microsoft", sends_with="microsoft")

    def meanwhile(name, times):
        if name == "microsoft.receiver.check":
            authorizing.connect(connected.app, curious, body)

    app = guarded(connected.app, Acting(then=meanwhile))
    back = connected.browse(url, who.address)
    with pytest.raises(Refused):
        returning.signed_in(app, "microsoft", back)
    found = connected.app.records.get(connected.org_id, Mailbox, mailbox.id).value
    assert (found.state, found.owner) == ("needs_consent", curious.email)
    assert grants(connected, mailbox) == []


def test_a_declined_consent_says_so_although_the_redirect_claims_success(company):
    company.put()
    state = dict(parse_qsl(urlsplit(company.link()).query))["state"]
    back = {
        "admin_consent": "True",
        "error": "access_denied",
        "error_description": "AADSTS65004: declined",
        "tenant": company.tenant.id,
        "state": state,
    }
    assert refused(returning.consented, company.app, "microsoft", back) == "declined"
    assert nothing_connected(company)


def test_only_an_administrator_asks_for_a_link_and_only_for_an_approved_integration(company):
    with pytest.raises(NotAllowed):
        authorizing.ask_consent(company.app, caller(company.org_id, "a@b.example"), "microsoft", AskConsent())
    with pytest.raises(Conflict):
        company.link()
    company.put(approved=False)
    with pytest.raises(Conflict):
        company.link()


def test_an_unknown_return_url_is_refused_before_anything_begins(company):
    company.put()
    for url in ("https://evil.example/", f"{company.app.return_urls[0]}/x", "javascript:alert(1)"):
        with pytest.raises(InvalidRequest) as caught:
            company.link(return_url=url)
        assert caught.value.field == "returnUrl"
    assert company.app.records.range(company.org_id, Flow) == []


def test_withdrawn_meanwhile_the_consent_connects_nothing(company):
    company.put()
    proof = returning.consented(company.app, "microsoft", company.browse(company.link())).url
    company.put(approved=False)
    assert refused(returning.signed_in, company.app, "microsoft", company.browse(proof)) == "not_approved"
    assert binding(company, company.tenant.id) is None


def test_another_directory_does_not_quietly_replace_the_first(connected, world):
    second = Company(world, connected.app)
    back = connected.browse(connected.link(), second.it.address)
    proof = returning.consented(connected.app, "microsoft", back).url
    back = connected.browse(proof, second.it.address)
    assert refused(returning.signed_in, connected.app, "microsoft", back) == "other_directory"
    assert connected.integration().tenant == connected.tenant.id
    assert binding(connected, second.tenant.id) is None


def test_no_mailbox_connects_before_the_approval(company, world):
    who = company.person("alice")
    body = ConnectMailbox(address=who.address, receives_with="microsoft")
    steps = [lambda: None, company.put]  # untouched, waiting for consent
    for step in steps:
        step()
        with pytest.raises(Conflict):
            authorizing.connect(company.app, caller(company.org_id, who.address), body)
    approve(company)
    company.put(approved=False)
    with pytest.raises(Conflict):
        authorizing.connect(company.app, caller(company.org_id, who.address), body)
    assert company.app.records.range(company.org_id, Mailbox) == []


def test_an_approval_withdrawn_during_a_sign_in_connects_nothing(company):
    approve(company)
    who, url, _mailbox = connecting_of(company, "alice")
    company.put(approved=False)
    assert (
        refused(returning.signed_in, company.app, "microsoft", company.browse(url, who.address))
        == "not_approved"
    )
    assert company.app.records.range(company.org_id, Grant) == []


def test_a_consent_that_takes_effect_late_is_waited_for(company, world):
    company.put()
    back = company.browse(company.link())
    proof = returning.consented(company.app, "microsoft", back).url
    signed = company.browse(proof)
    world.entra.refuse_next(65001, error="invalid_grant", suberror="consent_required")
    outcome = returning.signed_in(company.app, "microsoft", signed)
    assert (outcome.key, outcome.after) == ("waiting", returning.PAUSE)
    again = returning.signed_in(company.app, "microsoft", signed)  # the page is loaded again meanwhile
    assert again.key == "waiting"
    assert nothing_connected(company)
    assert returning.signed_in(company.app, "microsoft", company.browse(outcome.url)).key == "approved"


def test_a_consent_that_never_takes_effect_is_given_up_after_a_while(company, world, clock):
    company.put()
    proof = returning.consented(company.app, "microsoft", company.browse(company.link())).url
    clock.advance(minutes=14)
    world.entra.refuse_next(65001, error="invalid_grant", suberror="consent_required")
    proof = returning.signed_in(company.app, "microsoft", company.browse(proof)).url
    clock.advance(minutes=2)
    world.entra.refuse_next(65001, error="invalid_grant", suberror="consent_required")
    back = company.browse(proof)
    assert refused(returning.signed_in, company.app, "microsoft", back) == "approval_needed"
    assert nothing_connected(company)


def test_a_page_loaded_again_says_how_things_stand(company):
    company.put()
    back = company.browse(company.link())
    proof = returning.consented(company.app, "microsoft", back).url
    signed = company.browse(proof)
    returning.signed_in(company.app, "microsoft", signed)
    for act, query in ((returning.consented, back), (returning.signed_in, signed)):
        assert act(company.app, "microsoft", query).key == "approved"
    who, url, mailbox = connecting_of(company, "alice")
    once = company.browse(url, who.address)
    assert returning.signed_in(company.app, "microsoft", once).key == "connected"
    again = returning.signed_in(company.app, "microsoft", once)
    assert (again.key, again.address) == ("connected", who.address)
    disconnecting.disconnect(company.app, caller(company.org_id, who.address), mailbox.id)
    assert refused(returning.signed_in, company.app, "microsoft", once) == "disconnected"


def test_a_code_that_was_redeemed_before_shows_how_things_stand(connected, world):
    who, url, _ = connecting_of(connected, "alice")
    back = connected.browse(url, who.address)
    world.entra.refuse_next(54005)
    assert refused(returning.signed_in, connected.app, "microsoft", back) == "already_used"


def test_who_signs_in_with_another_account_connects_nothing(connected):
    """Also a colleague's, whose mailbox would else be read in its place."""
    _, url, mailbox = connecting_of(connected, "alice")
    back = connected.browse(url, connected.person("bob").address)
    assert refused(returning.signed_in, connected.app, "microsoft", back) == "wrong_account"
    assert grants(connected, mailbox) == []
    assert connected.app.records.get(connected.org_id, Mailbox, mailbox.id).value.state == "needs_consent"


def sent_to(company, who):
    """The link that a curious colleague made for somebody's mailbox, followed by who owns it."""
    curious = company.person("mallory")
    body = ConnectMailbox(address=who.address, receives_with="microsoft")
    mailbox, url = authorizing.connect(company.app, caller(company.org_id, curious.address), body)
    back = company.browse(url, who.address)
    outcome = returning.signed_in(company.app, "microsoft", back)
    assert (outcome.key, outcome.address) == ("ask_mailbox_for", who.address)
    assert outcome.actor == outcome.owner == curious.address  # who could search all of it
    return mailbox, outcome.ask, back


def answer(company, state, word):
    return returning.answered(company.app, "microsoft", {"state": state, "answer": word})


def unconnected(company, mailbox):
    state = company.app.records.get(company.org_id, Mailbox, mailbox.id).value.state
    return state == "needs_consent" and grants(company, mailbox) == []


def test_whoever_is_sent_a_link_for_their_own_mailbox_is_asked_before_it_is_connected(connected):
    who = connected.person("alice")
    mailbox, state, back = sent_to(connected, who)
    assert unconnected(connected, mailbox)
    outcome = answer(connected, state, "yes")
    assert (outcome.key, outcome.address) == ("connected_for", who.address)
    assert connected.app.records.get(connected.org_id, Mailbox, mailbox.id).value.state == "active"
    assert answer(connected, state, "yes").key == "connected_for"  # the page is sent again
    assert returning.signed_in(connected.app, "microsoft", back).key == "connected_for"


@pytest.mark.parametrize("word", ["no", "", "YES!"])
def test_whoever_does_not_say_yes_connects_nothing_and_their_sign_in_is_forgotten(connected, word):
    mailbox, state, _ = sent_to(connected, connected.person("alice"))
    assert refused(answer, connected, state, word) == "not_wanted"
    assert unconnected(connected, mailbox)
    assert answer(connected, state, "yes").key == "answered"  # the first one counts
    assert unconnected(connected, mailbox)
    kept = [row.value for row in connected.app.records.range(connected.org_id, Flow)]
    assert {flow.sealed for flow in kept if flow.mailbox_id == mailbox.id} == {""}
    told = [row.value for row in connected.app.records.range(connected.org_id, AuditRecord)]
    assert ("sign_in.refused", "not_wanted") in {(one.event, one.outcome) for one in told}


def test_an_answer_nobody_was_asked_for_connects_nothing(connected):
    mailbox, state, back = sent_to(connected, connected.person("alice"))
    assert refused(answer, connected, back["state"], "yes") == "start_again"
    assert refused(answer, connected, state + "x", "yes") == "start_again"
    assert refused(returning.signed_in, connected.app, "microsoft", {**back, "state": state}) == "start_again"
    assert refused(returning.answered, connected.app, "google", {"state": state, "answer": "yes"}) == (
        "start_again"
    )
    assert unconnected(connected, mailbox)


def sealed_flows(company, mailbox):
    kept = [row.value for row in company.app.records.range(company.org_id, Flow)]
    return [flow.purpose for flow in kept if flow.mailbox_id == mailbox.id and flow.sealed]


def test_who_never_answers_is_forgotten_when_the_time_is_over(company, clock):
    approve(company)
    mailbox, _, _ = sent_to(company, company.person("alice"))
    assert sealed_flows(company, mailbox) == ["answer"]
    clock.advance(minutes=12)
    scheduling.tick(company.app)
    assert sealed_flows(company, mailbox) == []


def test_a_disconnect_forgets_what_was_signed_in_for_and_not_answered(company):
    approve(company)
    mailbox, _, _ = sent_to(company, company.person("alice"))
    disconnecting.disconnect(company.app, company.admin, mailbox.id)
    assert sealed_flows(company, mailbox) == []


def test_an_administrator_who_connects_somebodys_mailbox_for_them_is_named_as_no_owner(connected):
    who = connected.person("alice")
    body = ConnectMailbox(address=who.address, receives_with="microsoft", owner=who.address)
    _, url = authorizing.connect(connected.app, connected.admin, body)
    outcome = returning.signed_in(connected.app, "microsoft", connected.browse(url, who.address))
    assert (outcome.key, outcome.owner) == ("ask_mailbox", who.address)


def test_an_answer_that_comes_too_late_connects_nothing(company, clock):
    approve(company)
    mailbox, state, _ = sent_to(company, company.person("alice"))
    clock.advance(minutes=11)
    assert refused(answer, company, state, "yes") == "expired"
    assert unconnected(company, mailbox)


@pytest.mark.parametrize("word", ["yes", "no"])
def test_a_consent_link_sent_to_a_foreign_administrator_binds_nothing_before_they_say_yes(
    company, world, app, word
):
    victim = Company(world, app)
    company.put()
    back = victim.browse(company.link())
    proof = returning.consented(app, "microsoft", back).url
    outcome = returning.signed_in(app, "microsoft", victim.browse(proof))
    assert (outcome.key, outcome.actor) == ("ask_approval", company.admin.email)
    assert outcome.address == victim.it.address
    assert nothing_connected(company)
    assert binding(company, victim.tenant.id) is None
    if word == "no":
        assert refused(answer, company, outcome.ask, word) == "not_wanted"
        assert nothing_connected(company)
    else:
        assert answer(company, outcome.ask, word).key == "approved"
        assert binding(company, victim.tenant.id) == company.org_id


def test_a_directory_that_another_organisation_took_while_somebody_was_asked_stays_theirs(
    company, world, app
):
    victim = Company(world, app)
    company.put()
    proof = returning.consented(app, "microsoft", victim.browse(company.link())).url
    outcome = returning.signed_in(app, "microsoft", victim.browse(proof))
    approve(victim)
    assert refused(answer, company, outcome.ask, "yes") == "tenant_taken"
    assert nothing_connected(company)
    assert binding(company, victim.tenant.id) == victim.org_id


def test_what_changed_while_somebody_was_asked_counts(company):
    approve(company)
    mailbox, state, _ = sent_to(company, company.person("alice"))
    integrating.disconnect(company.app, company.admin, "microsoft")
    assert refused(answer, company, state, "yes") == "disconnected"
    assert grants(company, mailbox) == []


def sign_ins(company, mailbox=None):
    flows = [row.value for row in company.app.records.range(company.org_id, Flow)]
    return [f for f in flows if f.purpose == "sign_in" and (mailbox is None or f.mailbox_id == mailbox.id)]


def test_what_lies_about_after_abandoned_sign_ins_is_swept_up(company, clock):
    approve(company)
    for name in ("alice", "bob"):
        connecting_of(company, name)
    clock.advance(days=2)
    connecting_of(company, "carol")
    [left] = sign_ins(company)
    assert left.actor.startswith("carol")


def test_what_a_flow_keeps_is_sealed_and_gone_once_it_came_back(connected):
    who, url, mailbox = connecting_of(connected, "alice")
    [flow] = sign_ins(connected, mailbox)
    assert flow.sealed.startswith("v1.")
    assert dict(parse_qsl(urlsplit(url).query))["state"] not in str(flow)
    returning.signed_in(connected.app, "microsoft", connected.browse(url, who.address))
    [flow] = sign_ins(connected, mailbox)
    assert (flow.sealed, flow.spent) == ("", True)


def test_users_sign_in_after_the_consent_and_their_mailbox_is_followed(connected, world):
    mailbox = connect(world, connected.app, connected.org_id, connected.person("alice"))
    assert mailbox.state == "active"


def test_a_scene_begins_where_the_approval_in_the_browser_ends(world, app):
    ends = []
    for approve_ in (lambda company, _: microsoft.approve(world, app, company.admin), microsoft.begin):
        company = microsoft.Company(world, app)
        approve_(company, company.person("alice"))
        kept = app.records.get(company.org_id, Integration, "microsoft").value
        granted = world.entra.directory.consents[company.tenant.id, world.microsoft_app.client_id]
        owner = app.registrations.owner("microsoft", company.tenant.id)
        assert (kept.tenant, kept.updated_by, owner) == (
            company.tenant.id,
            company.it.address,
            company.org_id,
        )
        ends.append((replace(kept, tenant="", updated_at=None, updated_by=""), granted))
    assert ends[0] == ends[1]
