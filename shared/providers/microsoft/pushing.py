"""Change notifications of Graph: a hint that a mailbox has new mail.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from shared.errors import InvalidRequest, NotFound
from shared.providers.base import Notice, Notification, Push
from shared.providers.microsoft.graph import Session, segment, when

LIFE = timedelta(days=6, hours=20)
"""Just below what Graph keeps (7 days)."""

EARLY = timedelta(hours=48)
"""Renewed so long before its end: days of retries before anything is lost."""

_EVENTS: dict[str, Literal["changed", "renew", "ended"]] = {
    "reauthorizationRequired": "renew",
    "subscriptionRemoved": "ended",
    "missed": "changed",
}


class GraphPusher(Session):
    """Pusher of `base` over Graph."""

    def subscribe(self, url: str, secret: str) -> Push:
        """See `Pusher.subscribe`. What an earlier attempt left behind at the same address is removed."""
        resource = f"{self.path}/messages".removeprefix("/")
        for old in self.api.call("GET", "/subscriptions").json["value"]:
            if old["notificationUrl"] == url and old["resource"].strip("/") == resource:
                self.cancel(old["id"])
        body = {
            "changeType": "created",
            "notificationUrl": url,
            "lifecycleNotificationUrl": f"{url}/lifecycle",
            "resource": resource,
            "expirationDateTime": _end(),
            "clientState": secret,
            "latestSupportedTlsVersion": "v1_2",
        }
        return _push(self.api.call("POST", "/subscriptions", json=body).json)

    def renew(self, id_: str) -> Push:
        """See `Pusher.renew`; it also gives the subscription a fresh token (reauthorizes)."""
        body = {"expirationDateTime": _end()}
        return _push(self.api.call("PATCH", f"/subscriptions/{segment(id_)}", json=body).json)

    def cancel(self, id_: str) -> None:
        """See `Pusher.cancel`."""
        try:
            self.api.call("DELETE", f"/subscriptions/{segment(id_)}")
        except NotFound:
            return


class _Item(msgspec.Struct):
    clientState: str = ""  # noqa: N815 - Graph's name
    lifecycleEvent: str = ""  # noqa: N815


class _Collection(msgspec.Struct):
    value: list[_Item]


def notices(notification: Notification) -> Sequence[Notice]:
    """Read a notification or lifecycle notification; any number of mailboxes and tenants may be in one.

    Raises InvalidRequest for what is neither.
    """
    try:
        found = msgspec.json.decode(notification.body, type=_Collection)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest("This is no notification.", field="body") from error
    return [Notice(item.clientState, _EVENTS.get(item.lifecycleEvent, "changed")) for item in found.value]


def _push(found: dict[str, str]) -> Push:
    until = when(found["expirationDateTime"]) or datetime.now(UTC)
    return Push(found["id"], until, until - EARLY)


def _end() -> str:
    return (datetime.now(UTC) + LIFE).strftime("%Y-%m-%dT%H:%M:%S.0000000Z")
