"""Pub/Sub as Gmail uses it: topics, and push to one URL with an OIDC token.

https://docs.cloud.google.com/pubsub/docs/push and .../authenticate-push-subscriptions
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, override

from sandbox.courier import Courier
from sandbox.google.faults import Faults
from sandbox.google.headers import b64

ACKNOWLEDGED = {102, 200, 201, 202, 204}


@dataclass
class Topic:
    """A topic and its one push subscription.

    Attributes:
        publisher: whether Gmail's service account may publish here.
        audience: of the token; the URL itself where it is empty.
    """

    name: str
    url: str
    subscription: str
    audience: str = ""
    publisher: bool = True


@dataclass(frozen=True)
class Push:
    """One delivery: where to, and what."""

    topic: Topic
    address: str
    history_id: int
    id: str

    def body(self) -> dict[str, Any]:
        """Return the JSON that is posted; the guide shows the id as a string, Gmail sends a number."""
        shown = self.history_id if int(self.id) % 2 else str(self.history_id)
        data = b64(json.dumps({"emailAddress": self.address, "historyId": shown}).encode())
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        message = {"data": data, "messageId": self.id, "publishTime": at}
        old = {"message_id": self.id, "publish_time": at}
        return {"message": {**message, **old}, "subscription": self.topic.subscription}


class PubSub(Courier[Push]):
    """Publishes what mailboxes tell. A real subscription tries for days, this one a few times.

    Attributes:
        account: the service account that pushes; `sub` is its number.
        told: the data of every acknowledged push.
    """

    retries = (0.1, 0.3)
    timeout = 10

    def __init__(
        self, ca: str, faults: Faults, identity: Callable[[dict[str, Any]], str], account: str
    ) -> None:
        self.account, self.sub = account, "1" * 21
        self.topics: dict[str, Topic] = {}
        self.told: list[dict[str, Any]] = []
        self._faults, self._identity = faults, identity
        self._last: dict[str, float] = {}
        self._ids = random.Random(4711)
        super().__init__(ca, faults)

    def add_topic(self, name: str, url: str, audience: str = "") -> Topic:
        """Make a topic (projects/P/topics/T) with a push subscription."""
        subscription = name.replace("/topics/", "/subscriptions/") + "-push"
        self.topics[name] = Topic(name, url, subscription, audience)
        return self.topics[name]

    def push_to(self, url: str, topic: str = "") -> None:
        """Push to another URL from now on: this topic's, or all."""
        for one in self.topics.values():
            if topic in {"", one.name}:
                one.url = url

    def publish(self, topic: str, address: str, history_id: int) -> None:
        """Tell; within a second of the last push of the same user it is dropped."""
        now = time.monotonic()
        found = self.topics.get(topic)
        if found is None or not found.publisher:
            return
        if now - self._last.get(address, -1e9) < self._faults.push_seconds:
            return
        self._last[address] = now
        self.send(Push(found, address, history_id, str(self._ids.randrange(10**15, 10**16))))

    def token(self, audience: str, **claims: Any) -> str:
        """Return a token as pushes carry it; `claims` may be wrong."""
        standard = {"aud": audience, "azp": self.sub, "sub": self.sub, "email": self.account}
        return self._identity({**standard, "email_verified": True, **claims})

    @override
    def request(self, things: Sequence[Push]) -> tuple[str, Any, dict[str, str]]:
        (push,) = things
        url = push.topic.url
        return url, push.body(), {"Authorization": f"Bearer {self.token(push.topic.audience or url)}"}

    @override
    def acknowledged(self, status: int) -> bool:
        return status in ACKNOWLEDGED

    @override
    def arrived(self, things: Sequence[Push]) -> None:
        self.told += [{"emailAddress": one.address, "historyId": one.history_id} for one in things]
