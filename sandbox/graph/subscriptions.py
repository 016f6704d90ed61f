"""Graph's change notifications: subscriptions with their handshake, delivery in the background, lifecycle.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
"""

import queue
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import requests

LONGEST = timedelta(minutes=10_080)
SHORTEST = timedelta(minutes=45)
TOGETHER = 1000


class Invalid(Exception):
    """What Graph answers with 400 ValidationError."""


@dataclass
class Subscription:
    """One subscription. `silent` ones are valid and never tell anything, as shared mailboxes' are."""

    id: str
    resource: str
    change_type: str
    url: str
    lifecycle_url: str | None
    client_state: str | None
    until: datetime
    address: str
    tenant_id: str
    client_id: str
    immutable: bool
    silent: bool = False
    reauthorized: int = 0

    def shown(self, *, secret: bool = False) -> dict[str, Any]:
        """Return its JSON; `clientState` only in the answer to its creation."""
        return {
            "id": self.id,
            "resource": self.resource,
            "applicationId": self.client_id,
            "changeType": self.change_type,
            "clientState": self.client_state if secret else None,
            "notificationUrl": self.url,
            "lifecycleNotificationUrl": self.lifecycle_url,
            "expirationDateTime": _time(self.until),
            "creatorId": self.client_id,
            "latestSupportedTlsVersion": "v1_2",
        }


@dataclass
class Faults:
    """What may go wrong with notifications."""

    lose: float = 0.0
    duplicate: int = 1
    reorder: bool = False
    hold: bool = False
    sent_404: bool = False


@dataclass
class Notifier:
    """Keeps subscriptions and tells them.

    Attributes:
        ca: CA bundle that notification URLs are checked against.
        check: called with every body that is sent.
        told: every delivered notification item.
        answers: status codes of the deliveries.
    """

    ca: str
    check: Callable[[Any], object] = lambda _: None
    faults: Faults = field(default_factory=Faults)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    retries: tuple[float, ...] = (0.2, 0.5)

    def __post_init__(self) -> None:
        self._waiting: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue()
        self._held: list[tuple[str, dict[str, Any]]] = []
        self._random = random.Random(4711)
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

    def create(self, body: Mapping[str, Any], **known: Any) -> Subscription:
        """Check, shake hands with both URLs, and keep it. Raises Invalid."""
        until = datetime.fromisoformat(body["expirationDateTime"]).astimezone(UTC)
        made = Subscription(
            id=str(uuid.uuid4()),
            resource=body["resource"],
            change_type=body["changeType"],
            url=body["notificationUrl"],
            lifecycle_url=body.get("lifecycleNotificationUrl"),
            client_state=body.get("clientState"),
            until=self._checked(until),
            **known,
        )
        if len(made.client_state or "") > 128:
            raise Invalid("clientState is longer than 128 characters.")
        for url in filter(None, (made.url, made.lifecycle_url)):
            self._shake_hands(url)
        self.subscriptions[made.id] = made
        return made

    def prolong(self, subscription: Subscription, text: str) -> None:
        """Set a new end. Raises Invalid."""
        subscription.until = self._checked(datetime.fromisoformat(text).astimezone(UTC))
        subscription.reauthorized += 1

    def tell(self, address: str, item: Mapping[str, str], *, folder: str) -> None:
        """Tell every subscription of a mailbox of a new item."""
        for one in list(self.subscriptions.values()):
            if one.address != address or one.silent or one.until < datetime.now(UTC):
                continue
            id_ = item["id"] if one.immutable else item["moving_id"]
            resource = f"Users/{address}/Messages/{id_}"
            data = {"@odata.type": "#Microsoft.Graph.Message", "@odata.id": resource, "id": id_}
            told = {**self._item(one), "changeType": "created", "resource": resource, "resourceData": data}
            if self.faults.sent_404 and folder == "sentitems":
                gone = {**told, "resourceData": {**data, "id": id_[:-6] + "GONE=="}}
                self._enqueue(one.url, gone)
            self._enqueue(one.url, told)

    def lifecycle(self, subscription: Subscription, event: str) -> None:
        """Tell something about the subscription itself; `subscriptionRemoved` ends it, too."""
        if event == "subscriptionRemoved":
            self.subscriptions.pop(subscription.id, None)
        if subscription.lifecycle_url:
            told = {**self._item(subscription), "lifecycleEvent": event}
            self._waiting.put((subscription.lifecycle_url, told))

    def release(self) -> None:
        """Deliver what was held back."""
        self.faults.hold = False
        held, self._held = self._held, []
        if self.faults.reorder:
            self._random.shuffle(held)
        for one in held:
            self._waiting.put(one)

    def settle(self, seconds: float = 10) -> None:
        """Return when everything was delivered."""
        deadline = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def _item(self, one: Subscription) -> dict[str, Any]:
        return {
            "subscriptionId": one.id,
            "subscriptionExpirationDateTime": _time(one.until),
            "clientState": one.client_state,
            "tenantId": one.tenant_id,
        }

    def _enqueue(self, url: str, told: dict[str, Any]) -> None:
        if self._random.random() < self.faults.lose:
            return
        for _ in range(self.faults.duplicate):
            if self.faults.hold or self.faults.reorder:
                self._held.append((url, told))
            else:
                self._waiting.put((url, told))

    @staticmethod
    def _checked(until: datetime) -> datetime:
        now = datetime.now(UTC)
        if until > now + LONGEST or until < now:
            raise Invalid("Subscription expiration can only be 10080 minutes in the future.")
        return max(until, now + SHORTEST)

    def _shake_hands(self, url: str) -> None:
        token = (
            f"Validation: Testing client application reachability for subscription {secrets.token_hex(8)}+/="
        )
        joint = "&" if "?" in url else "?"
        try:
            answer = self._session.post(
                f"{url}{joint}validationToken={quote(token, safe='')}",
                data=b"",
                headers={"Content-Type": "text/plain; charset=utf-8"},
                timeout=10,
            )
        except requests.RequestException as error:
            raise Invalid("Subscription validation request timed out.") from error
        plain = answer.headers.get("Content-Type", "").startswith("text/plain")
        if answer.status_code != 200 or answer.text != token or not plain:
            raise Invalid("Subscription validation request failed.")

    def _deliver(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < TOGETHER and not self._waiting.empty():
                following = self._waiting.queue[0]
                if following is None or following[0] != first[0]:
                    break
                batch.append(self._waiting.get())  # type: ignore[arg-type]
            self._post(first[0], [told for _, told in batch])
            for _ in batch:
                self._waiting.task_done()

    def _post(self, url: str, items: list[dict[str, Any]]) -> None:
        self.check({"value": items})
        for pause in (*self.retries, 0):
            try:
                answer = self._session.post(url, json={"value": items}, timeout=3)
                self.answers.append(answer.status_code)
            except requests.RequestException:
                self.answers.append(0)
            if self.answers[-1] // 100 == 2:
                self.told += items
                return
            time.sleep(pause)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
