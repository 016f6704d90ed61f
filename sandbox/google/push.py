"""Pub/Sub as Gmail uses it: topics, and push to one URL with an OIDC token.

https://docs.cloud.google.com/pubsub/docs/push and .../authenticate-push-subscriptions
"""

import json
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from sandbox.google.faults import Faults
from sandbox.google.headers import b64

ACKNOWLEDGED = {102, 200, 201, 202, 204}
DEADLINE = 10


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


@dataclass
class PubSub:
    """Publishes what mailboxes tell, in the background.

    Attributes:
        identity: makes the signed token of given claims.
        account: the service account that pushes; `sub` is its number.
        told: the data of every acknowledged push.
        answers: status codes of all deliveries, 0 where nobody answered.
        dropped: pushes that the rate of one a second swallowed.
        retries: seconds before each further attempt (real ones go on for days).
    """

    ca: str
    faults: Faults
    identity: Callable[[dict[str, Any]], str]
    account: str
    sub: str = "1" * 21
    topics: dict[str, Topic] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    dropped: int = 0
    retries: tuple[float, ...] = (0.1, 0.3)

    def __post_init__(self) -> None:
        self._waiting: queue.Queue[Push | None] = queue.Queue()
        self._held: list[Push] = []
        self._holding = False
        self._last: dict[str, float] = {}
        self._ids = random.Random(4711)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = self.ca
        self._thread = threading.Thread(target=self._deliver, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the delivery."""
        self._waiting.put(None)
        self._thread.join(5)
        self._session.close()

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
        if now - self._last.get(address, -1e9) < self.faults.push_seconds:
            self.dropped += 1
            return
        self._last[address] = now
        if self._ids.random() < self.faults.lose:
            return
        push = Push(found, address, history_id, str(self._ids.randrange(10**15, 10**16)))
        for _ in range(self.faults.duplicate):
            if self._holding or self.faults.reorder:
                self._held.append(push)
            else:
                self._waiting.put(push)

    def hold(self) -> None:
        """Keep pushes back from now on."""
        self._holding = True

    def release(self) -> None:
        """Deliver what was held back, shuffled where `reorder` is on."""
        self._holding = False
        held, self._held = self._held, []
        if self.faults.reorder:
            self._ids.shuffle(held)
        for one in held:
            self._waiting.put(one)

    def settle(self, seconds: float = 10) -> None:
        """Return when everything was delivered."""
        deadline = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def token(self, audience: str, **claims: Any) -> str:
        """Return a token as pushes carry it; `claims` may be wrong."""
        standard = {"aud": audience, "azp": self.sub, "sub": self.sub, "email": self.account}
        return self.identity({**standard, "email_verified": True, **claims})

    @staticmethod
    def body(push: Push) -> dict[str, Any]:
        """Return the JSON that is posted; the guide shows the id as a string, Gmail sends a number."""
        odd = int(push.id) % 2
        data = {"emailAddress": push.address, "historyId": push.history_id if odd else str(push.history_id)}
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        message = {"data": b64(json.dumps(data).encode()), "messageId": push.id, "publishTime": at}
        old = {"message_id": push.id, "publish_time": at}
        return {"message": {**message, **old}, "subscription": push.topic.subscription}

    def _deliver(self) -> None:
        while (push := self._waiting.get()) is not None:
            self._post(push)
            self._waiting.task_done()

    def _post(self, push: Push) -> None:
        """Post until it is acknowledged; a real subscription would not give up for days."""
        body = self.body(push)
        for pause in (*self.retries, 0):
            headers = {"Authorization": f"Bearer {self.token(push.topic.audience or push.topic.url)}"}
            try:
                answer = self._session.post(push.topic.url, json=body, headers=headers, timeout=DEADLINE)
                self.answers.append(answer.status_code)
            except requests.RequestException:
                self.answers.append(0)
            if self.answers[-1] in ACKNOWLEDGED:
                self.told.append({"emailAddress": push.address, "historyId": push.history_id})
                return
            time.sleep(pause)
