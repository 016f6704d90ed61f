"""Microsoft tells us of new mail: within one notice when it does, within one poll when it does not."""

import email
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared import (
    connecting,
    disconnecting,
    looking,
    noticing,
    owning,
    scheduling,
    subscribing,
    turns,
    views,
    working,
)
from shared.contract import PatchMailbox
from shared.errors import Busy, ConsentRequired, InvalidRequest, RateLimited, Rejected, Temporary, ZalionError
from shared.jobs import Job
from shared.model import AuditRecord, Turn
from shared.providers.base import Query
from shared.providers.microsoft import pushing
from shared.storage.base import Save
from tests import microsoft
from tests.doors import Guard, guarded
from tests.microsoft import connect, faults
from tests.scenes import leave, write


@pytest.fixture(scope="module")
def office(world):
    """One Microsoft scene for this file, with live push; every test begins a conversation of its own."""
    scene = microsoft.office(world, sharedMailboxes=True)
    yield scene
    scene.bell.stop()


@pytest.fixture(autouse=True)
def no_microsoft_faults(world):
    yield
    microsoft.calm(world)


@pytest.fixture
def first(office):
    """A mail that has left from the case."""
    message = office.sent()
    office.settle()
    return message


@pytest.fixture
def arrived(office, first):
    """The same as it arrived at the supplier's."""
    return office.arrived(first)


def ids(office, first):
    return [message.message_id for message in office.answers(first)]


def saved(office, push, box=None):
    office.app.records.commit(office.org_id, Save(replace(office.record(box), push=push)))


def overdue(office):
    """Its push has to be renewed now."""
    now = office.clock()
    saved(office, replace(office.record().push, until=now + timedelta(hours=40), renew_at=now))


def events(office, event):
    found = office.app.records.range(office.org_id, AuditRecord)
    return [row.value for row in found if row.value.event == event]


def tell(office, app=None, **changes):
    """Post what Graph would, straight to the use case."""
    body = json.dumps({"value": [notice(office, **changes)]}).encode()
    return noticing.take(app or office.app, "microsoft", body)


def notice(office, **changes):
    [subscription] = office.subscriptions()
    return {
        "subscriptionId": subscription.id,
        "clientState": subscription.client_state,
        "tenantId": subscription.tenant_id,
        "changeType": "created",
        "resource": f"Users/{office.alice.address}/Messages/x",
        **changes,
    }


# Within one notice, within one poll


def test_a_reply_stands_in_the_case_within_one_notice(office, first, arrived):
    wanted = office.supplier.reply(arrived)["Message-ID"]
    office.settle()
    assert ids(office, first) == [wanted]


def test_a_reply_sent_from_outlook_itself_stands_in_the_case_within_one_notice(office, first, arrived):
    wanted = office.supplier.reply(arrived, "Our offer")["Message-ID"]
    office.settle()
    raw = next(raw for raw in office.alice.inbox() if wanted.encode() in raw)
    with faults(office.world.graph.notifier.faults, sent_404=True):  # docs#11068: the first id is a dead one
        office.alice.reply(raw, "Too dear")
    office.settle()
    last = office.timeline()[-1]
    assert (last.direction, last.origin, last.text.strip()) == ("out", "mailbox", "Too dear")
    assert len(ids(office, first)) == 2


def test_with_all_notices_lost_it_stands_there_within_one_dead_man_poll(office, first, arrived):
    with faults(office.world.graph.notifier.faults, lose=1.0):
        wanted = office.supplier.reply(arrived)["Message-ID"]
        office.settle()
    assert ids(office, first) == []
    office.poll()
    assert ids(office, first) == [wanted]


def test_of_200_mails_that_came_while_we_were_down_all_that_belong_are_filed_once(office, first, arrived):
    """Half the notices lost, the order scrambled, three doubled; then the queue runs as usual."""
    notifier = office.world.graph.notifier
    ours = email.message_from_bytes(arrived)["Message-ID"]
    belonging, graph = set(), office.world.graph
    with faults(graph, contract=None), faults(notifier.faults, lose=0.5, reorder=True):
        for number in range(200):
            related = {"In_Reply_To": ours, "References": ours} if number % 10 == 0 else {}
            raw = write(office.supplier.address, office.alice.address, f"Re: {number}", "x", **related)
            notifier.faults.duplicate = 2 if number in {10, 20, 30} else 1
            office.world.graph.deliver(
                office.supplier.address, office.alice.address, raw.as_bytes(policy=email.policy.SMTP)
            )
            if related:
                belonging.add(raw["Message-ID"])
        read = office.alice.box.bodies_read.total()
        notifier.release()
        office.settle()
    assert sorted(ids(office, first)) == sorted(belonging)
    assert office.alice.box.bodies_read.total() - read == len(belonging)  # no other body
    for item in office.alice.box.listed():
        if item.raw.endswith(b"x\r\n"):
            office.alice.box.remove(item)  # or every look of the next ten minutes would list them


def test_notices_that_come_an_hour_late_file_nothing_twice(office, first, arrived):
    notifier = office.world.graph.notifier
    with faults(notifier.faults, hold=True):
        wanted = office.supplier.reply(arrived)["Message-ID"]
        office.poll()
        assert ids(office, first) == [wanted]
    notifier.release()
    office.settle()
    assert ids(office, first) == [wanted]


# What is no notice


def test_a_notice_costs_no_read_of_storage_and_one_write_to_the_queue(office):
    guard = Guard()
    app = guarded(office.app, guard)
    app.keys.notices()  # once a process
    guard.calls.clear()
    assert tell(office, app) == {"changed": 1}
    assert guard.calls == ["queues.put"]
    office.work()


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "wrong",
        None,
        7,
        "org-x.mailbox.00",
        "{org}.{mailbox}.00",
        "{org}.other.{proof}",
        "x" * 5000,
        "ä.ö.ü",
    ],
)
def test_a_forged_notice_changes_nothing_costs_no_call_and_is_counted(office, caplog, secret):
    org_id, id_, proof = noticing.secret_of(office.app, office.org_id, office.mailbox.id).split(".")
    if isinstance(secret, str):
        secret = secret.format(org=org_id, mailbox=id_, proof=proof)
    guard, before = Guard(), office.calls()
    with caplog.at_level("INFO"):
        assert tell(office, guarded(office.app, guard), clientState=secret) == {"forged": 1}
    assert [call for call in guard.calls if not call.startswith("vault.")] in (
        [],
        ["records.find"],  # the key that proves, once a process
    )
    assert office.calls() == before
    assert office.work() == 0
    [line] = [json.loads(line) for line in caplog.messages if "notice.forged" in line]
    assert line["count"] == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b"{}", b'{"value":{}}', b"\xff\xfe", b'{"value":[' + b" " * 5_000_000 + b"]}"],
)
def test_what_is_no_notification_is_refused_and_counted(office, caplog, body):
    with caplog.at_level("INFO"), pytest.raises(InvalidRequest):
        noticing.take(office.app, "microsoft", body)
    assert sum("notice.forged" in line for line in caplog.messages) == 1
    assert office.work() == 0


def test_one_post_may_name_thousands_of_mailboxes_of_several_tenants_and_an_odd_entry_harms_none(office):
    places = [(f"org-{number % 3}", f"{number:016x}") for number in range(700)]
    items = [
        {"clientState": noticing.secret_of(office.app, *place), "changeType": "created"} for place in places
    ]
    odd = [{}, {"clientState": None}, {"clientState": {}}, None, "text", {"clientState": "a.b.c"}]
    body = json.dumps({"value": items * 5 + odd + [notice(office)]}).encode()
    guard = Guard()
    app = guarded(office.app, guard)
    app.keys.notices()
    guard.calls.clear()
    assert noticing.take(app, "microsoft", body) == {"changed": 3501, "forged": len(odd)}
    assert guard.calls == ["queues.put"] * 3  # 250 mailboxes a job
    fanned = Guard()
    noticing.fan_out(
        guarded(office.app, fanned), Job("notices", "-", "-", event="changed", mailboxes=places[:9])
    )
    assert fanned.calls == ["queues.put"] * 9
    assert list(office.waiting())  # taken off the queue, not run


def test_a_notice_for_a_mailbox_that_was_disconnected_asks_nothing_of_graph(office):
    person, box = office.colleague("former")
    secret = noticing.secret_of(office.app, office.org_id, box.id)
    disconnecting.disconnect(office.app, office.admin, box.id)
    assert office.subscriptions(person.address) == []
    before = office.calls()
    assert tell(office, clientState=secret) == {"changed": 1}
    office.work()
    assert office.calls() == before


# The life of a subscription


def test_our_own_address_is_woken_before_graph_shakes_hands(office):
    """A cold start eats the first request; the subscription is made all the same."""
    office.bell.fail_next(1, 503)
    person, box = office.colleague("cold")
    assert len(office.subscriptions(person.address)) == 1
    assert office.record(box).push.silent is False


def test_a_handshake_that_fails_once_is_tried_again(office):
    office.bell.fail_next(2, 503)
    person, _ = office.colleague("colder")
    assert len(office.subscriptions(person.address)) == 1


def test_while_graph_cannot_reach_us_polls_find_the_mail_and_a_look_an_hour_later_tries_again(office):
    office.bell.fail_next(100, 503)
    person, box = office.colleague("unreached")
    assert office.record(box).push is None
    assert office.sync(box)["ignore"] == 0
    office.bell.heal()
    office.settle()
    assert office.subscriptions(person.address) == []
    office.poll(minutes=61)
    assert len(office.subscriptions(person.address)) == 1


def test_the_secret_fits_and_is_never_given_out_again(office):
    assert len(noticing.secret_of(office.app, "o" * 64, "m" * 16)) <= 128
    [one] = office.subscriptions()
    assert one.client_state == noticing.secret_of(office.app, office.org_id, office.mailbox.id)
    assert one.immutable
    assert one.lifecycle_url == f"{one.url}/lifecycle"


def test_reauthorization_is_answered_by_one_renewal(office):
    [one] = office.subscriptions()
    before, until = one.reauthorized, office.record().push.until
    office.world.graph.notifier.lifecycle(one, "reauthorizationRequired")
    office.settle()
    assert one.reauthorized == before + 1
    assert office.record().push.until >= until
    assert office.subscriptions() == [one]


def test_a_removed_subscription_is_made_anew_and_what_came_meanwhile_is_filed(office, first, arrived):
    [old] = office.subscriptions()
    office.world.graph.notifier.subscriptions.pop(old.id)
    wanted = office.supplier.reply(arrived)["Message-ID"]  # nobody tells
    office.world.graph.notifier.lifecycle(old, "subscriptionRemoved")
    office.settle()
    [new] = office.subscriptions()
    assert new.id != old.id
    assert ids(office, first) == [wanted]


def test_missed_notices_are_made_good_by_a_look(office, first, arrived):
    with faults(office.world.graph.notifier.faults, lose=1.0):
        wanted = office.supplier.reply(arrived)["Message-ID"]
    [one] = office.subscriptions()
    office.world.graph.notifier.lifecycle(one, "missed")
    office.settle()
    assert ids(office, first) == [wanted]
    assert office.subscriptions() == [one]


def due(office, within=timedelta(days=8)):
    """When the timer looks at this mailbox's push next."""
    entries = office.app.schedule.until(office.clock() + within)
    return sorted(
        entry.at
        for entry in entries
        if (entry.kind, entry.org_id, entry.id) == ("push", office.org_id, office.mailbox.id)
    )


def test_the_timer_renews_two_days_before_the_end_whatever_the_poll_interval(office):
    """No look takes part: the mailbox is polled once a day and nothing comes."""
    connecting.change(office.app, office.admin, office.mailbox.id, PatchMailbox(poll_seconds=86_400))
    subscribing.subscribe(office.app, office.org_id, office.mailbox.id, "renew")
    office.settle()
    until = office.record().push.until
    early = until - max(due(office))
    assert pushing.EARLY <= early <= pushing.EARLY + subscribing.SPREAD + timedelta(minutes=1)
    [one] = office.subscriptions()
    before = one.reauthorized
    overdue(office)
    scheduling.tick(at(office, max(due(office)) + timedelta(minutes=1)))
    looks = len(events(office, "mailbox.read"))
    jobs = [text for text in office.waiting() if '"subscribe"' in text and office.mailbox.id in text]
    assert jobs
    subscribing.subscribe(office.app, office.org_id, office.mailbox.id, "due")
    subscribing.subscribe(office.app, office.org_id, office.mailbox.id, "due")  # a look saw it, too
    assert one.reauthorized == before + 1
    assert len(events(office, "mailbox.read")) == looks
    connecting.change(office.app, office.admin, office.mailbox.id, PatchMailbox(poll_seconds=600))
    office.settle()


def at(office, moment):
    """The app at another time."""
    return replace(office.app, clock=lambda: moment)


def test_a_renewal_that_fails_comes_back_within_six_hours_and_a_paused_mailbox_has_none(office):
    overdue(office)
    office.world.graph.faults.throttled[office.alice.address] = 1
    with pytest.raises(RateLimited):
        subscribing.subscribe(office.app, office.org_id, office.mailbox.id, "due")
    assert min(due(office)) <= office.clock() + subscribing.AGAIN
    subscribing.subscribe(office.app, office.org_id, office.mailbox.id, "due")
    connecting.change(office.app, office.admin, office.mailbox.id, PatchMailbox(paused=True))
    before = office.calls()
    subscribing.subscribe(office.app, office.org_id, office.mailbox.id, "due")
    assert office.calls() == before
    connecting.change(office.app, office.admin, office.mailbox.id, PatchMailbox(paused=False))
    office.settle()


def test_a_subscription_that_is_gone_when_it_is_renewed_is_made_anew_with_a_back_fill(office, first, arrived):
    [old] = office.subscriptions()
    office.world.graph.notifier.subscriptions.pop(old.id)
    wanted = office.supplier.reply(arrived)["Message-ID"]
    overdue(office)
    subscribing.subscribe(office.app, office.org_id, office.mailbox.id, "due")
    office.settle()
    assert len(office.subscriptions()) == 1
    assert ids(office, first) == [wanted]


def test_an_attempt_that_died_before_it_was_written_down_leaves_no_second_subscription(office):
    saved(office, None)
    office.sync()
    office.settle()
    assert len(office.subscriptions()) == 1


# Mailboxes that Graph never tells of, and the admin's plain word


def shared_mailbox(office, name):
    shared = office.person(name)
    shared.box.grant_access(office.alice.address, "full_access", "send_as")
    settings = {"microsoft": {"shared": True}}
    box = connect(office.world, office.app, office.org_id, shared, office.alice.address, settings=settings)
    office.settle()
    return shared, box


def test_a_shared_mailbox_that_graph_refuses_to_tell_of_is_polled_and_its_admin_told(office):
    poison, before = office.app.queues.length("sync-poison"), office.calls()
    with faults(office.world.graph.faults, silent_shared=False):
        shared, box = shared_mailbox(office, "counter")
        for _ in range(3):
            office.poll()
        assert (office.calls() - before)["POST", "subscriptions"] == 1  # and not with every poll
    assert office.subscriptions(shared.address) == []
    found = shown(office, box)
    assert (found.push, found.state, found.problem.code) == ("silent", "active", "push_silent")
    assert "shared mailboxes" in found.problem.detail
    assert "IT" in found.problem.fix
    assert office.app.queues.length("sync-poison") == poison


def test_a_shared_mailbox_whose_valid_subscription_stays_silent_is_polled_and_its_admin_told(office):
    shared, box = shared_mailbox(office, "desk")
    [old] = office.subscriptions(shared.address)
    assert (old.silent, shown(office, box).push) == (True, "live")
    for number in range(2 * subscribing.MOST_MISSED):
        office.world.graph.deliver("x@supplier.example", shared.address, letter(office, shared, number))
        office.poll()
    assert old.id not in {one.id for one in office.subscriptions(shared.address)}  # made anew once
    found = shown(office, box)
    assert (found.push, found.push_until, found.state) == ("silent", None, "active")
    assert found.problem.code == "push_silent"
    assert "every 10 minutes" in found.problem.detail
    assert found.problem.fix
    [one] = office.subscriptions(shared.address)
    one.silent = False  # IT has put it right
    office.world.graph.arrive(shared.address, letter(office, shared, "heard"))
    office.settle()
    assert (shown(office, box).push, shown(office, box).problem) == ("live", None)


def test_a_back_fill_of_many_looks_is_nothing_that_push_has_missed(office, monkeypatch):
    """All its mail is old, and each full page takes Graph so long that a job looks no further."""
    graph, answer, person = office.world.graph, office.world.graph.answer, office.person("bulk")
    monkeypatch.setattr(graph, "contract", None)  # it would hold each of the mails against it
    start = datetime.now(UTC) - timedelta(days=2)
    for number in range(320):
        person.box.add(letter(office, person, number), "archive", at=start + timedelta(minutes=number))

    def slow(request):
        reply = answer(request)
        if request.path.endswith("/messages") and len(reply.body["value"]) == 50:
            office.clock.advance(minutes=4.5)
        return reply

    monkeypatch.setattr(graph, "answer", slow)
    since = datetime.now(UTC) - timedelta(days=3)
    box = connect(office.world, office.app, office.org_id, person, since=since)
    office.settle()
    for _ in range(8):
        office.sync(box)
        office.work()
    looks = [row.outcome for row in events(office, "mailbox.read") if row.mailbox_id == box.id]
    assert looks.count("unfinished") > 2 * subscribing.MOST_MISSED
    assert office.state(box).synced_at
    changes = [row.outcome for row in events(office, "push.changed") if row.mailbox_id == box.id]
    assert changes == ["kept"]
    assert (office.record(box).push.missed, shown(office, box).problem) == (0, None)


@pytest.mark.parametrize("why", ["paused", "signed out"])
def test_a_push_that_ended_while_nobody_looked_is_made_anew_when_the_mailbox_is_followed_again(office, why):
    person, box = office.colleague("away")
    [old] = office.subscriptions(person.address)
    admin = office.admin
    if why == "paused":
        connecting.change(office.app, admin, box.id, PatchMailbox(paused=True))
    else:
        office.world.entra.revoke_sessions(office.world.entra.directory.users[person.address])
        office.clock.advance(hours=2)
        with pytest.raises(ConsentRequired):
            office.sync(box)
    office.world.graph.notifier.lifecycle(old, "subscriptionRemoved")
    office.settle()
    assert office.subscriptions(person.address) == []
    if why == "paused":
        connecting.change(office.app, admin, box.id, PatchMailbox(paused=False))
    else:
        connect(office.world, office.app, office.org_id, person)
    office.settle()
    assert len(office.subscriptions(person.address)) == 1


@pytest.mark.parametrize("how", ["deaf", "ended"])
def test_a_push_that_cannot_be_made_anew_is_made_within_an_hour(office, how):
    """It went deaf or was ended, and our own address is down just then: it must not be dead for days."""
    person, box = office.colleague("deaf")
    [old] = office.subscriptions(person.address)
    office.bell.fail_next(1000, 503)
    if how == "deaf":
        old.silent = True
        for number in range(subscribing.MOST_MISSED):
            office.world.graph.deliver("x@supplier.example", person.address, letter(office, person, number))
            office.poll()
    else:
        office.world.graph.notifier.subscriptions.pop(old.id)
        with pytest.raises(Rejected):
            subscribing.subscribe(office.app, office.org_id, box.id, "ended")
    assert office.subscriptions(person.address) == []
    office.bell.heal()
    office.poll(minutes=61)
    [new] = office.subscriptions(person.address)
    assert (new.silent, office.record(box).push.id) == (False, new.id)


def test_a_refused_push_does_not_cost_the_mailbox_its_second_chance_to_sign_in(office):
    """Graph refuses one subscription too many, and an hour later a single call is refused by mistake."""
    _, box = office.colleague("crowd")
    with faults(office.world.graph.faults, subscriptions=0), pytest.raises(ConsentRequired):
        subscribing.subscribe(office.app, office.org_id, box.id, "ended")
    office.clock.advance(minutes=50)
    office.world.graph.fail_next(1, 401, body={"error": {"code": "InvalidAuthenticationToken"}})
    with pytest.raises(Temporary):
        office.sync(box)
    office.sync(box)
    assert (office.record(box).state, office.state(box).problem) == ("active", None)


def letter(office, to, subject):
    return write("x@supplier.example", to.address, f"News {subject}", "x").as_bytes(policy=email.policy.SMTP)


def shown(office, box):
    record, state = owning.show(office.app, office.admin, box.id)
    return views.mailbox(office.app.provider, record, state)


# Throttling


def test_a_storm_of_429_delays_only_the_mailbox_it_names_and_its_pause_is_kept(office, first, arrived):
    _, box = office.colleague("calm")
    faults_ = office.world.graph.faults
    faults_.retry_after = 120
    faults_.throttled[office.alice.address] = 1
    wanted = office.supplier.reply(arrived)["Message-ID"]
    office.settle()
    assert office.state().problem.code == "rate_limited"
    assert office.state().rest_until > office.clock() + timedelta(seconds=100)
    before = office.calls()
    office.supplier.reply(arrived, "One more")
    office.settle()  # told again, and nothing is asked of Graph before the pause is over
    assert office.calls() == before
    office.sync(box)
    assert office.calls() != before
    assert ids(office, first) == []
    office.clock.advance(seconds=121)
    office.sync()
    assert wanted in ids(office, first)
    assert len(ids(office, first)) == 2
    assert (office.state().problem, office.state().rest_until) == (None, None)


def test_many_workers_speak_with_one_mailbox_at_most_three_at_a_time(office, first, arrived):
    """Looks, sends, searches and the doctor's questions at once; Graph never has to refuse one."""
    graph = office.world.graph
    for number in range(3):
        office.supplier.reply(arrived, f"Answer {number}")
    messages = [office.send(subject=f"Offer {number}") for number in range(3)]
    graph.admission.most.clear()
    graph.admission.lasts = 0.05
    acts = [
        *(lambda message=message: office.deliver(message) for message in messages),
        *([office.sync] * 2),
        *(
            [lambda: looking.search(office.app, office.caller, office.mailbox.id, Query(text="Answer"), None)]
            * 2
        ),
        lambda: looking.folders(office.app, office.caller, office.mailbox.id),
    ]
    errors = together(acts)
    graph.admission.lasts = 0.0
    # one of the two looks may find the other under way, and comes back later
    assert {error.detail for error in errors} <= {"Another worker looks at this mailbox."}
    assert 2 <= graph.admission.most[office.alice.address] <= 3
    office.settle()
    for _ in range(6):
        if {office.email(message.id).state for message in messages} == {"sent"}:
            break
        time.sleep(1)
        office.settle()
    assert [office.email(message.id).state for message in messages] == ["sent"] * 3
    assert len(ids(office, first)) == 3


def test_a_worker_that_died_with_its_turn_keeps_a_mail_waiting_for_minutes_and_loses_none(office):
    dead = Turn(office.mailbox.id, "send", "dead", office.clock() + turns.LONGEST)
    office.app.records.commit(office.org_id, Save(dead))
    message = office.send()
    poison = office.app.queues.length("deliver-poison")
    office.work()
    assert (office.email(message.id).state, office.email(message.id).attempts) == ("queued", 0)
    assert office.app.queues.length("deliver-poison") == poison
    office.poll(minutes=6)
    assert office.email(message.id).state == "sent"


def turns_held(office):
    return office.app.records.range(office.org_id, Turn, prefix=office.mailbox.id)


def test_a_turn_is_given_back_with_the_write_that_says_the_mail_is_sent(office):
    office.deliver(office.send())  # signs in, where that has ended
    message, guard = office.send(), Guard()
    office.deliver(message, app=guarded(office.app, guard))
    assert office.email(message.id).state == "sent"
    assert turns_held(office) == []
    assert guard.counts["records.commit"] == 3  # taken, sending, sent


def test_a_turn_whose_send_breaks_is_given_back_at_once(office):
    leaving = []
    at = (office.app.records, office.clock, office.org_id, office.mailbox.id, "send")
    with suppress(Temporary), turns.taken(*at, leaving=leaving):
        assert len(turns_held(office)) == 1
        raise Temporary("The wire broke.")
    assert (turns_held(office), leaving) == ([], [])


def test_a_turn_that_is_to_be_given_back_by_the_caller_is_held_until_it_does(office):
    leaving = []
    at = (office.app.records, office.clock, office.org_id, office.mailbox.id, "send")
    with turns.taken(*at, leaving=leaving):
        pass
    with pytest.raises(Busy), turns.taken(*at):
        pass
    office.app.records.commit(office.org_id, *leaving)
    with turns.taken(*at):
        assert len(turns_held(office)) == 1


def together(acts):
    """Run all at once; returns what was raised."""
    errors = []

    def run(act):
        try:
            act()
        except ZalionError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


class Collected:
    """A queue at hand: what is put into it."""

    def __init__(self):
        self.texts = []

    def put(self, queue, text, *, delay=0.0):
        self.texts.append(text)


class Noted:
    """A schedule at hand: what is due when."""

    def __init__(self):
        self.dues = set()

    def put(self, due):
        self.dues.add(due)

    def until(self, now):
        yield from [due for due in self.dues if due.at <= now]

    def remove(self, due):
        self.dues.discard(due)


@pytest.fixture
def crowded(world):
    """A scene of its own, whose thousand mailboxes are in nobody's way: they are on a schedule of their own, too."""
    scene = microsoft.office(world)
    yield replace(scene, app=replace(scene.app, schedule=Noted()))
    scene.bell.stop()
    leave(scene)


@pytest.mark.long
def test_a_thousand_renewals_due_within_the_hour_are_each_made_once_and_so_many_at_a_time(crowded):
    """The timer only fans out. Through the real queue and host: tests/api/test_notifications.py."""
    graph, guard, queue = crowded.world.graph, Guard(), Collected()
    due = microsoft.many_due(crowded, 1000)
    assert scheduling.tick(guarded(replace(crowded.app, queues=queue), guard)) >= 1000
    assert guard.count("records.") + guard.count("schedule.put") < 100  # what else is due; no mailbox is read
    renewals = [text for text in queue.texts if '"subscribe"' in text]
    assert len(renewals) >= 1000
    with faults(graph, contract=None), microsoft.Gauge(graph, "/subscriptions") as gauge:
        with ThreadPoolExecutor(microsoft.AT_ONCE) as pool:
            list(pool.map(lambda text: working.run(crowded.app, text), renewals))
        assert 1 < gauge.most <= microsoft.AT_ONCE
    assert {one.reauthorized for one in due} == {1}
    assert all(one.until > datetime.now(UTC) + timedelta(days=6) for one in due)
