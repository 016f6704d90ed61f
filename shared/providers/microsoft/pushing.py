"""Change notifications of Graph: a hint that a mailbox has new mail.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from shared import logs
from shared.errors import ConsentRequired, InvalidRequest, NotFound, Unsupported, ZalionError
from shared.providers.base import Notice, Notification, Push
from shared.providers.microsoft.graph import Duplicate, Session, Unreached, segment, when

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
        """See `Pusher.subscribe`. Microsoft promises no pushes of shared mailboxes, and mostly refuses them.

        https://learn.microsoft.com/graph/outlook-change-notifications-overview
        """
        try:
            return self._subscribed(url, secret)
        except ConsentRequired as refusal:
            if refusal.reason != "no_access" or not self.connection.settings.get("shared"):
                raise
            fix = "Ask IT to allow the app itself to read this mailbox."
            raise Unsupported("Microsoft does not tell of mail in shared mailboxes.", fix=fix) from refusal

    def _subscribed(self, url: str, secret: str) -> Push:
        """Subscribe. What an earlier attempt left behind at the same address is removed."""
        resource = f"{self.path}/messages".removeprefix("/")
        if self.connection.settings.get("access") != "application":
            self._clear(url, resource)
        self._warm_up(url)
        body = {
            "changeType": "created",
            "notificationUrl": url,
            "lifecycleNotificationUrl": f"{url}/lifecycle",
            "resource": resource,
            "expirationDateTime": _end(),
            "clientState": secret,
            "latestSupportedTlsVersion": "v1_2",
        }
        try:
            return _push(self.asked("POST", "/subscriptions", json=body))
        except Duplicate:
            self._clear(url, resource)
        except Unreached:
            self._warm_up(url)  # the first handshake may have met a cold start
        return _push(self.asked("POST", "/subscriptions", json=body))

    def renew(self, id_: str) -> Push:
        """See `Pusher.renew`; it also gives the subscription a fresh token (reauthorizes)."""
        body = {"expirationDateTime": _end()}
        return _push(self.asked("PATCH", f"/subscriptions/{segment(id_)}", json=body))

    def cancel(self, id_: str) -> None:
        """See `Pusher.cancel`."""
        try:
            self.api.call("DELETE", f"/subscriptions/{segment(id_)}")
        except NotFound:
            return

    def _clear(self, url: str, resource: str) -> None:
        """Remove what an earlier attempt made; with the app's own sign-in the list is the whole tenant's."""
        for page in self.listed("/subscriptions"):
            for old in page:
                if old["notificationUrl"] == url and old["resource"].strip("/") == resource:
                    self.cancel(old["id"])

    def _warm_up(self, url: str) -> None:
        """Wake our own address: Graph's handshake waits 10 seconds, and a cold start may take longer."""
        if not url.startswith("https:"):
            return  # the sandbox
        try:
            self.api.anonymous("POST", f"{url}?validationToken=warm", b"", {"Content-Type": "text/plain"})
        except ZalionError as error:  # whether Graph reaches it is another question: it will tell
            logs.log("push.cold", code=error.code)


class _Item(msgspec.Struct):
    clientState: str | None = None  # noqa: N815 - Graph's name
    lifecycleEvent: str | None = None  # noqa: N815


class _Collection(msgspec.Struct):
    value: list[msgspec.Raw]


def notices(notification: Notification) -> Sequence[Notice]:
    """Read a notification or lifecycle notification; any number of mailboxes and tenants may be in one.

    An entry of another shape proves nothing and harms no other. Raises InvalidRequest for what is neither.
    """
    try:
        found = msgspec.json.decode(notification.body, type=_Collection)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest("This is no notification.", field="body") from error
    return [_notice(entry) for entry in found.value]


def _notice(entry: msgspec.Raw) -> Notice:
    try:
        item = msgspec.json.decode(entry, type=_Item)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Notice("")
    return Notice(item.clientState or "", _EVENTS.get(item.lifecycleEvent or "", "changed"))


def _push(found: dict[str, str]) -> Push:
    until = when(found["expirationDateTime"]) or datetime.now(UTC)
    return Push(found["id"], until, until - EARLY)


def _end() -> str:
    return (datetime.now(UTC) + LIFE).strftime("%Y-%m-%dT%H:%M:%S.0000000Z")
