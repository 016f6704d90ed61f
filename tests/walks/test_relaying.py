"""The organisation's rules: before any promise, and again before a mail leaves."""

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import batched

import pytest

from shared import bootstrap, integrating, proving, relaying, scheduling, working
from shared.callers import Caller
from shared.contract import Person, PutIntegration
from shared.errors import Conflict, NotAllowed, NotFound, Raced, Temporary
from shared.model import DomainProof, OutboxItem, Tally
from shared.rules import AgainstRules
from shared.settings import load
from shared.storage.base import Add, Move
from tests.doors import Guard, guarded
from tests.walks.test_crashes import attempt, failing, keep_promises


@pytest.fixture
def admin(scene):
    return Caller(scene.org_id, "admin@imap.example", frozenset({"admin"}))


@pytest.fixture
def rule(scene, admin):
    def rule(**settings):
        integrating.put(scene.app, admin, "smtp", PutIntegration(approved=True, settings=settings))

    return rule


def refused(scene, **changes):
    with pytest.raises(AgainstRules) as caught:
        scene.send(**changes)
    assert caught.value.fix
    assert scene.timeline() == []
    assert scene.app.records.range(scene.org_id, OutboxItem) == []
    return caught.value.field


def test_what_the_rules_allow_is_sent(scene, rule):
    rule(allowedRecipients=["supplier.example"], maxRecipients=1)
    assert scene.sent().state == "sent"


def test_what_the_rules_forbid_is_refused_before_any_promise_with_field_and_fix(scene, rule):
    other = [Person(address="a@other.example")]
    rule(allowedRecipients=["supplier.example"])
    assert refused(scene, to=other) == "to[0].address"
    assert refused(scene, bcc=other) == "bcc[0].address"
    rule(maxRecipients=1)
    assert refused(scene, cc=other) == "to"
    rule(allowedSenders=["elsewhere.example"])
    assert refused(scene) == "mailboxId"


def test_a_rule_made_after_the_promise_stops_the_mail_before_it_leaves_and_says_why(scene, rule):
    message = scene.send()
    rule(allowedRecipients=["elsewhere.example"])
    scene.work()
    stopped = scene.email(message.id)
    assert (stopped.state, stopped.error.code) == ("failed", "against_rules")
    assert "allowedRecipients" in stopped.error.fix
    assert scene.supplier.inbox() == []


def test_who_withdraws_the_approval_does_not_lift_the_rules(scene, admin, rule):
    rule(allowedRecipients=["elsewhere.example"])
    integrating.put(scene.app, admin, "smtp", PutIntegration(approved=False))
    assert refused(scene) == "to[0].address"


def test_another_workers_change_is_seen_within_half_a_minute(scene, rule):
    elsewhere = replace(scene.app, rules={})
    scene.send(app=elsewhere)
    rule(maxRecipients=1)
    scene.clock.advance(seconds=31)
    two = [Person(address="a@other.example"), Person(address="b@other.example")]
    with pytest.raises(AgainstRules):
        scene.send(app=elsewhere, to=two)


def test_an_hours_mails_are_counted_and_a_repeated_promise_is_not_a_second_one(scene, rule):
    rule(maxPerHour=2)
    first = scene.send(key="one")
    scene.send(key="two")
    with pytest.raises(AgainstRules) as caught:
        scene.send(key="three")
    assert caught.value.field == "mailboxId"
    assert scene.send(key="one").id == first.id
    scene.clock.advance(minutes=62)
    scene.send(key="three")
    assert len(scene.timeline()) == 3


def test_of_many_at_the_same_moment_exactly_as_many_as_allowed_are_promised(scene, rule):
    rule(maxPerHour=3)
    outcomes = []

    def one(number):
        try:
            outcomes.append(scene.send(key=f"key-{number}").state)
        except (AgainstRules, Temporary) as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["against_rules"] * 5 + ["queued"] * 3
    assert counted(scene) == len(scene.timeline()) == 3


def test_of_equal_requests_at_the_same_moment_all_get_the_promise_that_took_the_hours_last_place(scene, rule):
    rule(maxPerHour=1)
    outcomes = []

    def one():
        try:
            outcomes.append(scene.send(key="same").id)
        except Temporary as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) == {scene.timeline()[0].id}


def test_a_promise_whose_answer_was_lost_is_told_although_it_took_the_hours_last_place(scene, rule):
    rule(maxPerHour=1)
    lost = Guard(1, how="lost", error=lambda _: Raced(), only="records.commit")
    promised = scene.send(guarded(scene.app, lost), key="one")
    assert [one.id for one in scene.timeline()] == [promised.id]


def test_rules_cost_nothing_and_where_another_worker_counted_last_a_lost_turn(
    scene, watched, guard, rule, another
):
    def cost():
        scene.deliver(scene.send(app=watched), app=watched)
        guard.calls.clear()
        promised = scene.send(app=watched)
        promising = guard.count("records.")
        scene.deliver(promised, app=watched)
        return promising, guard.count("records.") - promising

    usual = cost()
    rule(maxPerHour=100)
    assert cost() == usual
    scene.send(another)
    guard.calls.clear()
    scene.send(app=watched)
    assert guard.count("records.") == usual[0] + 2


@pytest.fixture
def another(scene, world):
    """Another worker, which remembers for itself what it counted."""
    return bootstrap.build(load(world.environment()), scene.clock)


def test_of_workers_that_send_in_turn_exactly_as_many_as_allowed_are_promised(scene, rule, another):
    rule(maxPerHour=5)
    workers = [scene.app, another, scene.app, scene.app, another]
    assert [scene.send(worker).state for worker in workers] == ["queued"] * 5
    for worker in (scene.app, another):
        with pytest.raises(AgainstRules):
            scene.send(worker)
    assert counted(scene) == len(scene.timeline()) == 5


def test_nobody_is_refused_by_what_a_worker_remembers(scene, rule, another):
    rule(maxPerHour=1)
    scene.send(another)
    stored = scene.app.records.get(scene.org_id, Tally, "smtp")
    scene.app.records.commit(scene.org_id, Move(stored, Tally("smtp")))
    assert scene.send(another).state == "queued"


def counted(scene):
    return sum(scene.app.records.get(scene.org_id, Tally, "smtp").value.minutes.values())


@pytest.mark.parametrize("how", ["before", "lost"])
def test_a_mail_is_counted_once_wherever_its_promise_breaks(scene, rule, how):
    rule(maxPerHour=1_000)
    k, guard = 0, Guard()
    while len(guard.calls) >= k:
        k += 1
        guard = failing(how)
        guard.fail_at = k
        attempt(lambda: scene.send(app=guarded(scene.app, guard), key=f"key-{k}"))
        scene.send(key=f"key-{k}")
        assert counted(scene) == k, f"call {k}: {guard.calls}"
    assert k > 6


@pytest.mark.long
def test_a_mail_that_waited_is_counted_once_wherever_its_hand_over_breaks(scene, rule):
    rule(maxPerHour=1_000)
    k, guard = 0, Guard()
    while len(guard.calls) >= k:
        k += 1
        scene.clock.advance(minutes=70)
        promised = scene.send()
        list(scene.waiting())
        scene.clock.advance(minutes=2)
        guard = failing("lost")
        guard.fail_at = k
        attempt(lambda: scene.deliver(promised, app=guarded(scene.app, guard)))
        keep_promises(scene)
        assert scene.email(promised.id).state in {"sent", "uncertain"}, f"call {k}: {guard.calls}"
        assert counted(scene) == 1, f"call {k}: {guard.calls}"
    assert k > 8


def states(scene):
    return sorted(message.state for message in scene.timeline())


def later(scene, **pause):
    scene.clock.advance(**pause)
    scheduling.tick(scene.app)
    scene.work()


def test_a_limit_made_after_the_promise_lets_mails_leave_one_by_one_and_says_why(scene, rule):
    for _ in range(3):
        scene.send()
    rule(maxPerHour=1)
    scene.work()
    assert states(scene) == ["queued", "queued", "sent"]
    waiting = next(message for message in scene.timeline() if message.state == "queued")
    assert "maxPerHour" in waiting.error.fix
    assert waiting.next_at - scene.clock() > timedelta(minutes=58)
    later(scene, minutes=30)
    assert states(scene) == ["queued", "queued", "sent"]
    for sent in (2, 3):
        later(scene, minutes=62)
        assert states(scene) == ["queued"] * (3 - sent) + ["sent"] * sent
    assert len(scene.supplier.inbox()) == 3


def test_what_waited_for_hours_does_not_leave_all_at_once(scene, rule):
    rule(maxPerHour=2)
    for hour in range(3):
        scene.clock.advance(minutes=62 * bool(hour))
        for _ in range(2):
            scene.send()
    list(scene.waiting())  # the relay was away, say
    later(scene, minutes=62)
    assert states(scene) == ["queued"] * 4 + ["sent"] * 2


def test_a_mail_that_is_refused_for_now_is_counted_once_and_stands_in_nobodys_way(scene, rule):
    rule(maxPerHour=3)
    scene.world.post.faults.defer("DATA", times=3)
    for _ in range(3):
        scene.send()
    scene.work()
    assert states(scene) == ["queued"] * 3
    later(scene, minutes=6)
    assert states(scene) == ["sent"] * 3
    assert counted(scene) == 3


def test_mail_that_waits_for_room_leaves_soon_after_the_limit_was_raised(scene, rule):
    rule(maxPerHour=1)
    scene.send()
    scene.clock.advance(minutes=62)
    scene.send()
    list(scene.waiting())
    later(scene, minutes=3)
    assert states(scene) == ["queued", "sent"]
    queued = Queued(scene.app.queues)
    scene.app = replace(scene.app, queues=queued)
    rule(maxPerHour=2)
    [(job, delay)] = queued.jobs
    assert delay > relaying.REMEMBERED.total_seconds(), "by then every worker knows the new rules"
    later(scene, minutes=3)
    assert states(scene) == ["queued", "sent"], "nobody else comes by so soon"
    working.run(scene.app, job)
    scene.work()
    assert states(scene) == ["sent", "sent"]


class Queued:
    """Remembers what is put into the queues for later."""

    def __init__(self, queues):
        self.queues, self.jobs = queues, []

    def put(self, name, text, *, delay=0):
        self.jobs += [(text, delay)] if delay else []
        self.queues.put(name, text, delay=delay)


def test_of_many_handed_over_at_the_same_moment_exactly_as_many_as_allowed_leave(scene, rule):
    promised = [scene.send() for _ in range(6)]
    rule(maxPerHour=2)
    threads = [threading.Thread(target=insist, args=(scene, message)) for message in promised]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(scene) == ["queued"] * 4 + ["sent"] * 2
    assert len(scene.supplier.inbox()) == 2


def insist(scene, message):
    """What the queue does: a job that met another one comes back."""
    for _ in range(10):
        with suppress(Temporary):
            scene.deliver(message)
            return


class TestProof:
    @pytest.fixture
    def dns(self, world):
        yield world.dns
        world.dns.heal()

    def test_a_domain_is_proven_by_its_record_and_then_its_mailboxes_may_send(self, scene, admin, rule, dns):
        rule(allowedSenders=["imap.example"])
        asked = proving.ask(scene.app, admin, "IMAP.example")
        assert asked.name == "_zalion-challenge.imap.example"
        assert proving.ask(scene.app, admin, "imap.example") == asked
        with pytest.raises(Conflict) as caught:
            proving.verify(scene.app, admin, "imap.example")
        assert asked.text in caught.value.fix
        assert refused(scene) == "mailboxId"
        dns.put(asked.name, "TXT", "v=spf1 -all", asked.text)
        assert proving.verify(scene.app, admin, "imap.example").state == "proven"
        assert scene.sent().state == "sent"

    def test_a_proof_ends_with_its_record_and_survives_a_dns_that_is_down(self, scene, admin, rule, dns):
        rule(allowedSenders=["imap.example"])
        asked = proving.ask(scene.app, admin, "imap.example")
        dns.put(asked.name, "TXT", asked.text)
        proving.verify(scene.app, admin, "imap.example")
        dns.failing.add(asked.name)
        with pytest.raises(Temporary):
            proving.verify(scene.app, admin, "imap.example")
        assert scene.sent().state == "sent"
        dns.heal()
        dns.put(asked.name, "TXT", "zalion-domain=another")
        with pytest.raises(Conflict, match="1 other"):
            proving.verify(scene.app, admin, "imap.example")
        with pytest.raises(AgainstRules):
            scene.send()

    def test_another_organisations_token_proves_nothing(self, scene, admin, dns):
        theirs = proving.ask(
            scene.app, Caller("org-other", "it@other.example", frozenset({"admin"})), "two.example"
        )
        mine = proving.ask(scene.app, admin, "two.example")
        assert mine.token != theirs.token
        dns.put(mine.name, "TXT", theirs.text)
        with pytest.raises(Conflict):
            proving.verify(scene.app, admin, "two.example")

    def test_only_an_administrator_asks_and_only_what_was_asked_for_is_verified(self, scene, admin):
        with pytest.raises(NotAllowed):
            proving.ask(scene.app, scene.caller, "imap.example")
        with pytest.raises(NotFound) as caught:
            proving.verify(scene.app, admin, "never.example")
        assert caught.value.fix


def test_of_an_organisation_with_very_many_domains_each_proven_one_counts(scene, admin, rule):
    now = scene.clock()
    others = [DomainProof(f"a{number:04}.example", "t", "proven", now) for number in range(1_000)]
    own = DomainProof(scene.alice.address.rpartition("@")[2], "t", "proven", now)
    for batch in batched([*others, own], 100, strict=False):
        scene.app.records.commit(scene.org_id, *map(Add, batch))
    rule(allowedSenders=[own.domain])
    assert scene.sent().state == "sent"
    assert own in proving.listed(scene.app, admin)


def test_rules_are_forgotten_while_other_workers_read_theirs(scene):
    class Meanwhile(str):
        """An organisation that is compared at the moment when another thread remembers its rules."""

        __slots__ = ()

        def __eq__(self, other):
            scene.app.rules[f"other-{len(scene.app.rules)}", "smtp"] = (scene.clock(), None)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    scene.app.rules[Meanwhile(scene.org_id), "smtp"] = (scene.clock(), None)
    relaying.forget(scene.app, scene.org_id)
    assert (scene.org_id, "smtp") not in scene.app.rules
