"""Gmail's push: what Pub/Sub posts is proven, costs nothing, and never does more than make us look."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import batched

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.world import GOOGLE_PROJECT
from shared import bootstrap, checking, noticing, presence, scheduling, subscribing, views, working
from shared.app import SYNC
from shared.errors import ConsentRequired, RateLimited, Temporary
from shared.jobs import Job
from shared.model import PLATFORM, Mailbox, Presence, account_of
from shared.providers.google import pushing
from shared.settings import load
from shared.storage.base import Add, Remove
from tests.doors import guarded
from tests.google import build, notification
from tests.scenes import Clock, encoded
from tests.walks.test_google import meanwhile


@pytest.fixture(scope="module")
def stage(world):
    clock = Clock()
    scene = build(world, bootstrap.build(load(world.environment()), clock), clock)
    scene.settle()
    scene.settle()  # watching a mailbox is told at once
    return scene


@pytest.fixture(autouse=True)
def _quick(world):
    world.google.faults.push_seconds = 0


def body(stage, address="", **changes):
    return notification(stage, address, **changes)[0]


def token(stage, **claims):
    audience = claims.pop("aud", stage.app.endpoints["google_audience"])
    return f"Bearer {stage.world.google.pubsub.token(audience, **claims)}"


def posted(stage, content, authorization):
    """Post to our address; returns status and how many notices lie in the queue then."""
    list(stage.waiting())
    answer = requests.post(
        stage.bell.url,
        data=content,
        headers={"Authorization": authorization},
        verify=str(stage.world.authority.pem),
        timeout=10,
    )
    return answer.status_code, sum('"notices"' in text for text in stage.waiting())


def unsigned(stage):
    claims = jwt.decode(token(stage).split()[1], options={"verify_signature": False})
    return f"Bearer {jwt.encode(claims, None, algorithm='none')}"


def self_made(stage):
    genuine = token(stage).split()[1]
    claims = jwt.decode(genuine, options={"verify_signature": False})
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = jwt.get_unverified_header(genuine)["kid"]
    return f"Bearer {jwt.encode(claims, key, algorithm='RS256', headers={'kid': kid})}"


FORGED = {
    "no token": lambda stage: "",
    "no bearer": lambda stage: "Basic YTpi",
    "nonsense": lambda stage: "Bearer a.b.c",
    "another audience": lambda stage: token(stage, aud="https://elsewhere.example"),
    "another issuer": lambda stage: token(stage, iss="https://issuer.example"),
    "another account": lambda stage: token(stage, email="somebody@else.iam.gserviceaccount.com"),
    "an unverified account": lambda stage: token(stage, email_verified=False),
    "an expired token": lambda stage: token(stage, exp=int(time.time()) - 120),
    "a token without end": lambda stage: token(stage, exp=None),
    "no signature": unsigned,
    "another key": self_made,
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_is_forged_is_refused_and_asks_for_nothing(stage, kind):
    assert posted(stage, body(stage), FORGED[kind](stage)) == (403, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"message":{"data":"!"},OURS}', b'{"message":{"data":"e30="},OURS}'],
)
def test_a_genuine_one_that_says_nothing_is_acknowledged_and_logged(stage, content, caplog):
    """Pub/Sub would send it again for days."""
    ours = json.dumps(json.loads(body(stage))["subscription"]).encode()
    content = content.replace(b"OURS", b'"subscription":' + ours)
    with caplog.at_level("WARNING"):
        assert posted(stage, content, token(stage)) == (202, 0)
    assert "notice.unreadable" in caplog.text
    assert posted(stage, content, "") == (403, 0)


def test_another_subscription_is_not_ours(stage):
    other = body(stage, subscription="projects/other/subscriptions/s")
    assert posted(stage, other, token(stage)) == (403, 0)


def test_a_genuine_one_asks_once_and_a_replay_changes_nothing(stage):
    before = stage.timeline(), stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value
    genuine = token(stage)
    for _ in range(3):
        assert posted(stage, body(stage), genuine) == (202, 1)
        noticing.take(stage.app, "google", body(stage), genuine)
        stage.work()
    assert (
        stage.timeline(),
        stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value,
    ) == before


def test_it_costs_one_message_in_the_queue_and_no_read_and_the_queue_names_nobody(stage, guard):
    noticing.take(stage.app, "google", body(stage), token(stage))  # the keys are known from now on
    list(stage.waiting())
    certificates = stage.world.google.calls["GET", "/oauth2/v3/certs"]
    noticing.take(guarded(stage.app, guard), "google", body(stage), token(stage))
    assert guard.calls == ["queues.put"]
    assert stage.world.google.calls["GET", "/oauth2/v3/certs"] == certificates
    [text] = stage.waiting()
    assert stage.alice.address not in text
    assert json.loads(text)["accounts"] == [account_of("google", stage.alice.address)]


def test_a_mailbox_that_nobody_has_connected_is_acknowledged_and_forgotten(stage):
    assert posted(stage, body(stage, "nobody@elsewhere.example"), token(stage)) == (202, 1)
    noticing.take(stage.app, "google", body(stage, "nobody@elsewhere.example"), token(stage))
    assert stage.work() == 1


@pytest.fixture
def keys(stage):
    """Google's keys as we know them, a minute after they were fetched."""
    known = pushing._KEYS
    noticing.take(stage.app, "google", body(stage), token(stage))
    known._again = 0.0
    return known


def foreign(stage):
    return f"Bearer {jwt.encode({'a': 1}, 'x' * 32, algorithm='HS256', headers={'kid': 'unknown'})}"


def fetched(world):
    return world.google.calls["GET", "/oauth2/v3/certs"]


def test_a_push_is_for_every_mailbox_of_the_account_however_many_there_are(app):
    account = account_of("google", "shared@everywhere.example")
    there = [Presence(account, f"org-{number:04}", "0") for number in range(1001)]
    for batch in batched(there, 100, strict=False):
        app.records.commit(PLATFORM, *map(Add, batch))
    assert len(presence.places(app.records, account)) == 1001
    for batch in batched(there, 100, strict=False):
        app.records.commit(PLATFORM, *map(Remove, batch))


def test_new_keys_of_google_are_fetched_once_and_unknown_ones_not_each_time(stage, world, keys):
    keys._until = 0.0
    before = fetched(world)
    noticing.take(stage.app, "google", body(stage), token(stage))
    for _ in range(3):
        assert posted(stage, body(stage), foreign(stage))[0] == 403
    assert fetched(world) == before + 1


def test_forged_ones_hold_up_nothing_while_googles_key_server_fails(stage, world, keys):
    before = fetched(world)
    world.google.fail_next(9, 503)
    for _ in range(3):
        assert posted(stage, body(stage), foreign(stage))[0] in {403, 503}
    assert fetched(world) == before + 1
    assert posted(stage, body(stage), token(stage)) == (202, 1)


def test_the_keys_that_are_known_serve_until_there_are_new_ones(stage, world, keys):
    keys._until = 0.0
    world.google.fail_next(1, 503)
    assert posted(stage, body(stage), token(stage)) == (202, 1)


def test_who_shows_a_known_key_does_not_wait_for_who_asks_for_new_ones(stage, world, keys):
    keys._until = 0.0
    genuine = body(stage), token(stage)
    taken = []

    def others():
        with ThreadPoolExecutor(1) as pool:
            taken.append(pool.submit(noticing.take, stage.app, "google", *genuine).result(timeout=2))

    with meanwhile(world.google, others):
        noticing.take(stage.app, "google", *genuine)
    assert len(taken) == 1


def test_while_no_keys_are_known_a_push_is_told_to_come_back(stage, world, keys):
    keys._keys, keys._until = {}, 0.0
    world.google.fail_next(1, 503)
    for _ in range(2):
        assert posted(stage, body(stage), token(stage)) == (503, 0)
    keys._again = 0.0
    assert posted(stage, body(stage), token(stage)) == (202, 1)


def test_a_push_that_is_faster_than_the_history_is_looked_at_once_more(stage, world):
    stage.sent()
    stage.work()
    count = len(stage.timeline())
    stage.supplier.reply(stage.supplier.inbox()[-1])
    world.google.pubsub.settle()
    world.google.faults.late_history = 1
    waiting = stage.app.queues.length(SYNC) - 1
    stage.work()
    assert len(stage.timeline()) == count
    assert stage.app.queues.length(SYNC) == waiting + 1  # in a few seconds
    working.run(stage.app, again(stage))
    assert len(stage.timeline()) == count + 1


def again(stage):
    import msgspec

    return msgspec.json.encode(Job("sync", stage.org_id, stage.mailbox.id, pushed=True)).decode()


def test_lost_doubled_and_shuffled_pushes_lose_and_double_nothing(stage, world):
    stage.sent()
    stage.settle()
    before = len(stage.timeline())
    world.google.faults.lose, world.google.faults.duplicate, world.google.faults.reorder = 0.5, 3, True
    for number in range(4):
        stage.supplier.reply(stage.supplier.inbox()[-1], f"Answer {number}")
    world.google.pubsub.release()
    stage.settle()
    stage.clock.advance(minutes=11)
    scheduling.tick(stage.app)
    stage.work()
    assert len(stage.timeline()) == before + 4


def watches(world):
    return sum(one.method == "watch" for one in world.google.requests)


def test_a_watch_that_died_is_made_good_by_polls_and_made_anew(stage, world):
    world.google.faults.dead_watches.add(stage.alice.address)
    stage.sent()
    stage.work()
    before, watched = len(stage.timeline()), watches(world)
    for number in range(1, subscribing.MOST_MISSED + 1):
        assert watches(world) == watched
        stage.supplier.reply(stage.supplier.inbox()[-1], f"Answer {number}")
        stage.clock.advance(minutes=20)
        assert stage.sync()["file"] == 1  # a poll
        if number == subscribing.MOST_MISSED:
            world.google.faults.dead_watches.clear()
        stage.work()
        assert len(stage.timeline()) == before + number
        assert stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value.push.missed == number
    assert watches(world) == watched + 1
    stage.settle()
    stage.supplier.reply(stage.supplier.inbox()[-1], "Told at once")
    stage.settle()
    assert len(stage.timeline()) == before + subscribing.MOST_MISSED + 1


def test_a_watch_is_renewed_once_though_its_end_lies_behind_our_clock(stage, world):
    """Gmail notifies when a watch begins, and a look that this starts asks whether the watch is due."""
    stage.clock.advance(hours=40)
    before = watches(world)
    scheduling.tick(stage.app)
    for _ in range(6):
        stage.settle()
    assert watches(world) == before + 1


def test_the_watch_is_renewed_daily(stage, world):
    def needs(**later):
        clock = Clock(stage.clock.ahead + timedelta(**later))
        mailbox = stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value
        return subscribing.needs(
            replace(stage.app, clock=clock), mailbox, pushed=False, late=False, found=False
        )

    stage.clock.ahead = timedelta()
    subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "renew")
    assert (needs(hours=11), needs(hours=25)) == (None, "due")
    before = watches(world)
    subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "renew")
    assert watches(world) == before + 1


def test_a_watch_that_lasts_less_than_the_pause_between_renewals_is_renewed_at_its_end(stage, world):
    stage.clock.ahead = timedelta()
    world.google.faults.watch_seconds = 3 * 3600
    subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "renew")
    push = stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value.push
    assert push.renew_at == push.until
    before = watches(world)
    stage.clock.advance(hours=4)  # its new end is behind our clock
    scheduling.tick(stage.app)
    for _ in range(6):
        stage.settle()
    assert watches(world) == before + 1
    world.google.faults.clear()
    stage.clock.ahead = timedelta()
    subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "renew")


@pytest.mark.long
@pytest.mark.parametrize(("days", "hours"), [(2, 6), (8, 1)])
def test_a_watch_that_cannot_be_renewed_is_not_tried_with_every_look(world, app, clock, days, hours):
    """For the first two days it still works; after eight it has ended."""
    stage = build(world, app, clock)
    stage.settle()
    stage.settle()
    topic = world.google.pubsub.topics[stage.app.endpoints["google_topic"]]
    topic.publisher = False
    stage.clock.advance(days=days)
    before = watches(world)

    def looks(minutes):
        for _ in range(minutes // 20):
            stage.clock.advance(minutes=20)
            scheduling.tick(stage.app)
            stage.settle()
        return watches(world) - before

    assert looks(60 * hours - 20) == 1
    assert looks(40) == 2
    topic.publisher = True
    assert looks(60 * hours) == 3
    assert looks(60) == 3
    assert stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value.push_again is None


def test_a_renewal_that_google_asks_to_wait_with_is_tried_again_after_that_pause(stage, world):
    stage.clock.ahead = timedelta(hours=40)
    world.google.faults.throttled[stage.alice.address] = 1
    before = watches(world)
    with pytest.raises(RateLimited):
        subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "due")
    subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "due")  # a look saw it, too
    assert watches(world) == before + 1
    job = Job("subscribe", stage.org_id, stage.mailbox.id, event="due", attempt=1)  # it was put back
    working.run(stage.app, encoded(job))
    assert watches(world) == before + 2
    stage.clock.ahead = timedelta()


def test_a_topic_that_does_not_exist_leaves_the_mailbox_polled(world, stage):
    app = replace(stage.app, endpoints={**stage.app.endpoints, "google_topic": ""})

    subscribing.subscribe(app, stage.org_id, stage.mailbox.id, "ended")
    silent = stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value
    assert silent.push.silent
    [check] = [one for one in checking.doctor(stage.app, stage.caller, silent.id) if one.name == "push"]
    problem = views.mailbox(stage.app.provider, silent, None).problem
    for told in (check.detail, check.fix, problem.detail, problem.fix):
        assert "shared mailbox" not in told
        assert "allow the app" not in told, "that is Microsoft's remedy"
    assert (check.status, problem.code) == ("warning", "push_silent")
    subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "ended")
    assert not stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value.push.silent


def with_topic(stage, name):
    return replace(stage.app, endpoints={**stage.app.endpoints, "google_topic": name})


@pytest.mark.parametrize("mistake", ["no publisher", "no such topic", "another project"])
def test_our_own_mistake_at_pubsub_is_no_users_problem(stage, world, mistake):
    topic = world.google.pubsub.topics[stage.app.endpoints["google_topic"]]
    app = stage.app
    if mistake == "no publisher":
        topic.publisher = False
    else:
        project = GOOGLE_PROJECT if mistake == "no such topic" else "another"
        app = with_topic(stage, f"projects/{project}/topics/none")
    try:
        with pytest.raises(Temporary) as caught:
            subscribing.subscribe(app, stage.org_id, stage.mailbox.id, "renew")
    finally:
        topic.publisher = True
    assert caught.value.reason == "google_misconfigured"
    assert stage.app.records.get(stage.org_id, Mailbox, stage.mailbox.id).value.state == "active"


def test_a_watch_of_an_older_topic_is_ended_first(stage, world):
    name = f"projects/{GOOGLE_PROJECT}/topics/moved"
    world.google.pubsub.add_topic(name, stage.bell.url)
    subscribing.subscribe(with_topic(stage, name), stage.org_id, stage.mailbox.id, "renew")
    assert stage.alice.box.watches[GOOGLE_PROJECT].topic == name
    subscribing.subscribe(stage.app, stage.org_id, stage.mailbox.id, "renew")
    assert stage.alice.box.watches[GOOGLE_PROJECT].topic == stage.app.endpoints["google_topic"]


def test_an_account_that_lost_its_gmail_says_so(stage):
    pusher = stage.app.provider("google").pusher(stage.app.connection(stage.org_id, stage.mailbox, "google"))
    stage.alice.account.has_gmail = False
    try:
        with pytest.raises(ConsentRequired) as caught:
            pusher.renew("watch")
    finally:
        stage.alice.account.has_gmail = True
        pusher.close()
    assert caught.value.reason == "google_no_mailbox"
