"""Whose a delegated domain is: who proves it, until its delegation is gone; wherever a change of it breaks off."""

import itertools

import pytest

from shared import integrating
from shared.contract import PutIntegration
from shared.errors import Conflict, ConsentRequired
from shared.model import Integration
from tests.doors import Guard, guarded
from tests.google import MODIFY, READ, SEND, admin_of, approve, person, prove
from tests.walks.test_connecting_crashes import attempt, broken, changes
from tests.walks.test_google import tokens_asked

NUMBERS = itertools.count(1)


@pytest.fixture
def service(world):
    return world.google_service.client_id


@pytest.fixture
def org():
    return f"org-domains-{next(NUMBERS)}"


def customer(world, *scopes):
    """Somebody at a customer of Google's whose administrator has delegated."""
    who = person(world, "carol", f"d{next(NUMBERS)}.google.example")
    world.google.directory.delegate(domain_of(who), world.google_service.client_id, *scopes or (READ, SEND))
    return who


def domain_of(who):
    return who.address.rpartition("@")[2]


def settings(*who, **more):
    return {"applicationAccess": True, "mailboxes": [one.address for one in who], **more}


def taken(world, app, org, *who, **more):
    prove(world, app, org, *map(domain_of, who))
    return approve(app, org, **settings(*who, **more))[0]


def owner(app, who):
    return app.registrations.owner("google", domain_of(who))


def disconnected(app, org):
    return integrating.disconnect(app, admin_of(org), "google")[0]


def test_a_domain_that_nobody_proves_is_nobodys_and_the_record_to_publish_is_told(world, app, org):
    who = customer(world)
    before = tokens_asked(world)
    with pytest.raises(Conflict) as caught:
        approve(app, org, **settings(who))
    assert caught.value.field == "settings.mailboxes"
    assert f"_zalion-challenge.{domain_of(who)}" in caught.value.fix
    assert (owner(app, who), tokens_asked(world)) == (None, before)
    assert taken(world, app, org, who).state == "approved"


def test_another_domain_of_a_customer_is_out_of_a_thiefs_reach(world, app, org):
    who = customer(world)
    second = f"group.{domain_of(who)}"
    world.add_google_domain(second, customer=domain_of(who))
    boss = person(world, "ceo", second)
    taken(world, app, org, who)
    own = customer(world)
    before = tokens_asked(world)
    prove(world, app, f"{org}-thief", domain_of(own))
    with pytest.raises(Conflict) as caught:
        approve(app, f"{org}-thief", **settings(own, boss))
    assert second in caught.value.fix
    assert (owner(app, boss), tokens_asked(world)) == (None, before)
    assert taken(world, app, org, who, boss).state == "approved"


def test_a_domain_belongs_to_one_organisation_until_its_delegation_is_gone(world, app, org, service):
    who = customer(world)
    taken(world, app, org, who)
    with pytest.raises(Conflict) as caught:
        taken(world, app, f"{org}-b", who)
    assert "another organisation" in caught.value.detail
    assert "still in force" in disconnected(app, org).problem.detail
    with pytest.raises(Conflict):
        taken(world, app, f"{org}-b", who)
    world.google.directory.undelegate(domain_of(who), service)
    disconnected(app, org)
    assert taken(world, app, f"{org}-b", who)


@pytest.mark.parametrize("left", [READ, SEND, MODIFY])
@pytest.mark.parametrize("drafts", [False, True])
def test_a_single_permission_that_is_left_keeps_the_domain(world, app, org, service, left, drafts):
    who = customer(world, READ, SEND, MODIFY)
    taken(world, app, org, who, drafts=drafts)
    world.google.directory.delegate(domain_of(who), service, left)
    assert "still in force" in disconnected(app, org).problem.detail
    assert owner(app, who) == org


def test_a_domain_that_left_the_list_is_given_back_once_its_delegation_is_gone(world, app, org, service):
    one, two = customer(world), customer(world)
    taken(world, app, org, one, two)
    taken(world, app, org, one)
    assert owner(app, two) == org
    world.google.directory.undelegate(domain_of(two), service)
    taken(world, app, org, one)
    assert (owner(app, one), owner(app, two)) == (org, None)
    world.google.directory.undelegate(domain_of(one), service)
    approve(app, org)
    assert owner(app, one) is None
    assert app.records.get(org, Integration, "google").value.delegated == ()


def test_a_user_who_is_gone_does_not_keep_a_domain(world, app, org, service):
    who = customer(world)
    colleague = person(world, "dave", domain_of(who))
    taken(world, app, org, who, colleague)
    who.account.suspended = True
    world.google.directory.undelegate(domain_of(who), service)
    disconnected(app, org)
    assert owner(app, who) is None


def test_one_mailbox_tells_that_a_delegation_is_still_in_force(world, app, org, service):
    who = customer(world)
    colleagues = [person(world, "dave", domain_of(who)) for _ in range(4)]
    colleagues[0].account.suspended = True  # can tell nothing
    taken(world, app, org, colleagues[0], who, *colleagues[1:])
    before = tokens_asked(world)
    assert "still in force" in disconnected(app, org).problem.detail
    assert tokens_asked(world) == before + 2
    world.google.directory.undelegate(domain_of(who), service)
    before = tokens_asked(world)
    disconnected(app, org)
    assert owner(app, who) is None
    assert tokens_asked(world) <= before + 6, "each permission, of the first who can tell"


def test_a_google_that_cannot_answer_keeps_the_domain_and_is_asked_once(world, app, org, service):
    who = customer(world)
    taken(world, app, org, who, *(person(world, "dave", domain_of(who)) for _ in range(3)))
    world.google.directory.undelegate(domain_of(who), service)
    before = tokens_asked(world)
    world.google_service.disabled = True
    try:
        assert "still in force" in disconnected(app, org).problem.detail
    finally:
        world.google_service.disabled = False
    assert tokens_asked(world) == before + 1
    assert owner(app, who) == org


def test_naming_a_domain_that_was_given_back_reaches_nobody(world, app, org):
    """Who is not approved may name what they like: tokens are for the domains that are theirs."""
    who = customer(world)
    body = PutIntegration(approved=False, settings=settings(who))
    integrating.put(app, admin_of(org), "google", body)
    registration, before = app.registrations.of(org, "google"), tokens_asked(world)
    with pytest.raises(ConsentRequired):
        app.provider("google").oauth.application(registration, who.address, [READ])
    assert tokens_asked(world) == before


def test_taking_domains_leaves_none_without_its_record_wherever_it_breaks(world, app, org, service):
    def act(guard, name, *who):
        return approve(guarded(app, guard), name, **settings(*who))

    def undisturbed(guard):
        who = customer(world), customer(world)
        prove(world, app, f"{org}-0", *map(domain_of, who))
        return act(guard, f"{org}-0", *who)

    for number, (k, step) in enumerate(changes(undisturbed)):
        name, who = f"{org}-{k}", (customer(world), customer(world))
        prove(world, app, name, *map(domain_of, who))
        attempt(lambda name=name, who=who, k=k: act(broken("before", k), name, *who))
        if number % 2:
            assert act(Guard(), name, *who)[0].state == "approved", step
        for one in who:
            world.google.directory.undelegate(domain_of(one), service)
        disconnected(app, name)
        assert [owner(app, one) for one in who] == [None, None], step
