"""Gmail's pushes as a subscriber gets them: the token through google-auth, the rate, and what goes wrong."""

import base64
import json
from datetime import timedelta

import pytest
import requests
from google.auth.transport.requests import Request as AuthRequest
from google.oauth2 import id_token
from googleapiclient.errors import HttpError

from sandbox.web import Reply, WebServer
from sandbox.world import GOOGLE_TOPIC
from tests.sandbox.conftest import mail
from tests.sandbox.google import body, letter, person


class Bell(WebServer):
    """A subscriber's endpoint."""

    def __init__(self, tls):
        self.pushes = []
        self.statuses = []
        super().__init__(0, tls)

    def answer(self, request):
        self.pushes.append(request)
        return Reply(self.statuses.pop(0) if self.statuses else 204)

    @property
    def ids(self):
        return [int(data(one)["historyId"]) for one in self.pushes]


def data(push):
    found = push.json["message"]["data"]
    return json.loads(base64.urlsafe_b64decode(found + "=="))


@pytest.fixture
def bell(world):
    bell = Bell(world.authority.server_context())
    world.google.pubsub.push_to(f"{bell.url}/hook?key=1")
    yield bell
    bell.stop()


@pytest.fixture
def ann(world, bell):
    ann = person(world)
    world.google.faults.push_seconds = 0
    return ann


def watch(who, **more):
    found = who.users().watch(userId="me", body={"topicName": GOOGLE_TOPIC, **more}).execute()
    who.google.pubsub.settle()
    return found


def test_a_watch_tells_at_once_and_of_every_change(ann, bell, world):
    answer = watch(ann)
    assert int(answer["expiration"]) / 1000 == pytest.approx(ann.google.now() + 7 * 86400, abs=30)
    world.add_user("sup@watch.example", "x")
    ann.google.arrive(ann.address, mail("s@x.example"))
    ann.users().messages().send(userId="me", body=body(letter(ann, "sup@watch.example"))).execute()
    ann.google.pubsub.settle()
    assert bell.ids[0] == int(answer["historyId"])
    assert bell.ids == sorted(bell.ids) and len(bell.ids) == 3
    assert bell.ids[-1] == ann.box.history_id
    assert {data(one)["emailAddress"] for one in bell.pushes} == {ann.address}
    first = bell.pushes[0].json
    assert first["subscription"] == "projects/zalion-mail/subscriptions/gmail-push"
    assert first["message"]["messageId"] and first["message"]["publishTime"]


def test_the_token_convinces_googles_own_library(ann, bell, world):
    watch(ann)
    session = requests.Session()
    session.trust_env, session.verify = False, str(world.authority.pem)
    for path in ("v1", "v3"):  # certificates, and a JWKS
        url = f"{world.google.url}/oauth2/{path}/certs"
        claims = id_token.verify_token(
            bell.pushes[0].bearer,
            AuthRequest(session),
            f"{bell.url}/hook?key=1",
            url,
            clock_skew_in_seconds=5,
        )
    assert claims["iss"] == "https://accounts.google.com"
    assert (claims["email"], claims["email_verified"]) == (world.google.pubsub.account, True)
    assert claims["exp"] - claims["iat"] == 3600
    forged = world.google.pubsub.token("https://elsewhere.example", email="x@evil.example")
    with pytest.raises(ValueError, match="audience"):
        id_token.verify_token(forged, AuthRequest(session), bell.url, f"{world.google.url}/oauth2/v1/certs")


def test_within_a_second_pushes_are_dropped(ann, bell):
    watch(ann)
    ann.google.faults.push_seconds = 30
    for _ in range(3):
        ann.google.arrive(ann.address, mail("s@x.example"))
    ann.google.pubsub.settle()
    assert len(bell.pushes) == 1


def test_a_refused_push_comes_again(ann, bell):
    bell.statuses = [500, 401]
    watch(ann)
    assert len(bell.pushes) == 3
    assert bell.pushes[0].json["message"]["messageId"] == bell.pushes[2].json["message"]["messageId"]
    assert ann.google.pubsub.answers[-3:] == [500, 401, 204]


def test_pushes_are_lost_doubled_held_and_shuffled(ann, bell):
    watch(ann)
    faults, pubsub = ann.google.faults, ann.google.pubsub
    faults.lose = 1.0
    ann.google.arrive(ann.address, mail("s@x.example"))
    faults.lose, faults.duplicate = 0.0, 2
    ann.google.arrive(ann.address, mail("s@x.example"))
    pubsub.settle()
    assert len(bell.pushes) == 3 and bell.ids[1] == bell.ids[2]
    faults.duplicate = 1
    faults.hold = True
    for _ in range(8):
        ann.google.arrive(ann.address, mail("s@x.example"))
    pubsub.settle()
    assert len(bell.pushes) == 3
    faults.reorder = True
    pubsub.release()
    pubsub.settle()
    assert len(bell.pushes) == 11 and bell.ids[3:] != sorted(bell.ids[3:])


def test_a_watch_ends_silently_and_stop_ends_it_too(ann, bell):
    watch(ann)
    ann.google.skip(timedelta(days=7, seconds=1).total_seconds())
    ann.google.arrive(ann.address, mail("s@x.example"))
    watch(ann)
    ann.google.faults.dead_watches.add(ann.address)
    ann.google.arrive(ann.address, mail("s@x.example"))
    ann.google.faults.dead_watches.clear()
    ann.users().stop(userId="me").execute()
    ann.google.arrive(ann.address, mail("s@x.example"))
    ann.google.pubsub.settle()
    assert len(bell.pushes) == 2


def test_a_label_filter_tells_only_of_its_labels(ann, bell):
    watch(ann, labelIds=["SENT"], labelFilterBehavior="include")
    ann.google.arrive(ann.address, mail("s@x.example"))
    ann.google.pubsub.settle()
    assert len(bell.pushes) == 1


def test_a_topic_has_to_be_ours_and_open_to_gmail(ann):
    ann.google.pubsub.add_topic(
        "projects/zalion-mail/topics/closed", "https://localhost:1/"
    ).publisher = False
    refused = {
        "projects/other/topics/gmail": 400,
        "gmail": 400,
        "projects/zalion-mail/topics/gone": 404,
        "projects/zalion-mail/topics/closed": 403,
    }
    for topic, status in refused.items():
        with pytest.raises(HttpError) as error:
            ann.users().watch(userId="me", body={"topicName": topic}).execute()
        assert error.value.status_code == status
    watch(ann)
    ann.google.pubsub.add_topic("projects/zalion-mail/topics/second", "https://localhost:1/")
    with pytest.raises(HttpError, match="Only one user push notification client"):
        ann.users().watch(userId="me", body={"topicName": "projects/zalion-mail/topics/second"}).execute()
