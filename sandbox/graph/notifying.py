"""Graph tells subscribers: handshakes, delivery in the background, lifecycle events.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, override
from urllib.parse import quote

import requests

from sandbox.courier import Courier, Mishaps
from sandbox.graph.mailbox import Item
from sandbox.graph.subscriptions import Invalid, Subscription, moment


@dataclass
class Faults(Mishaps):
    """What may go wrong with notifications.

    Attributes:
        sent_404: the first one about a sent mail names an id that does not exist (docs#11068).
    """

    sent_404: bool = False


class Notifier(Courier[tuple[str, dict[str, Any]]]):
    """Keeps subscriptions and tells them.

    Attributes:
        told: every delivered notification item.
    """

    together = 1000

    def __init__(self, ca: str, check: Callable[[Any], object]) -> None:
        self.faults = Faults()
        self.subscriptions: dict[str, Subscription] = {}
        self.told: list[dict[str, Any]] = []
        self._check = check
        super().__init__(ca, self.faults)

    def heal(self) -> None:
        """Switch every fault off, and forget what was held back."""
        self.faults.clear()
        self.forget()

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
                self.send((one.url, gone))
            self.send((one.url, told))

    def lifecycle(self, subscription: Subscription, event: str) -> None:
        """Tell something about the subscription itself; `subscriptionRemoved` ends it, too."""
        if event == "subscriptionRemoved":
            self.subscriptions.pop(subscription.id, None)
        if subscription.lifecycle_url:
            told = {**self._item(subscription), "lifecycleEvent": event}
            self.send_surely((subscription.lifecycle_url, told))

    def _item(self, one: Subscription) -> dict[str, Any]:
        return {
            "subscriptionId": one.id,
            "subscriptionExpirationDateTime": moment(one.until),
            "clientState": one.client_state,
            "tenantId": one.tenant_id,
        }

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

    @override
    def fits(self, first: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]]) -> bool:
        return first[0] == other[0]

    @override
    def request(self, things: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, Any, dict[str, str]]:
        body = {"value": [told for _, told in things]}
        self._check(body)
        return things[0][0], body, {}

    @override
    def arrived(self, things: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.told += [told for _, told in things]
