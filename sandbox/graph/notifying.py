"""Graph tells subscribers: handshakes, delivery in the background, lifecycle events.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
"""

import queue
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests

from sandbox.graph.mailbox import Item
from sandbox.graph.subscriptions import Invalid, Subscription, moment

TOGETHER = 1000


@dataclass
class Faults:
    """What may go wrong with notifications.

    Attributes:
        lose: the part of them that is lost, 0 to 1.
        duplicate: how often each is sent.
        hold: keep them back until `release`.
        reorder: keep them back, and release them in another order.
        sent_404: the first one about a sent mail names an id that does not exist (docs#11068).
    """

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

    def heal(self) -> None:
        """Switch every fault off, and forget what was held back."""
        self.faults = Faults()
        self._held.clear()

    def add(self, made: Subscription) -> None:
        """Shake hands with both URLs of a subscription, and keep it. Raises Invalid."""
        for url in filter(None, (made.url, made.lifecycle_url)):
            self._shake_hands(url)
        self.subscriptions[made.id] = made

    def tell(self, address: str, item: Item, what: str, places: set[str]) -> None:
        """Tell the subscriptions to a mailbox that an item in a folder was created, updated or deleted."""
        for one in list(self.subscriptions.values()):
            if one.address != address or not one.wants(what, places):
                continue
            id_ = item.id if one.immutable else item.moving_id
            resource = f"Users/{address}/Messages/{id_}"
            data = {"@odata.type": "#Microsoft.Graph.Message", "@odata.id": resource, "id": id_}
            told = {**self._item(one), "changeType": what, "resource": resource, "resourceData": data}
            if self.faults.sent_404 and what == "created" and "sentitems" in places:
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
            "subscriptionExpirationDateTime": moment(one.until),
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
