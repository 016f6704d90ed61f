"""Gmail's push: a watch that publishes to our Pub/Sub topic, and the messages that Pub/Sub posts to us.

A message names an address and nothing else; that it comes from our subscription is proven by the token
that Pub/Sub signs. https://developers.google.com/workspace/gmail/api/guides/push and
https://docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

import base64
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec

from shared import logs
from shared.errors import (
    ConsentRequired,
    NotAllowed,
    NotFound,
    Rejected,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.providers import googling
from shared.providers.base import Notice, Notification, Push
from shared.providers.google.client import ME, Session
from shared.providers.google.signing import ISSUERS
from shared.providers.http import Answer, Api

DAILY = timedelta(days=1)
"""A watch lasts seven days; Google asks to renew it each day."""

LEEWAY = 60
"""Seconds that Google's clock may differ from ours."""

AGAIN = 60
"""Seconds before unknown keys are fetched again: a forged token must not make us ask each time."""

RETRY = 10
"""Seconds before keys that could not be had are fetched again."""

QUICK = (3.0, 5.0)
"""Seconds to connect, and to wait: notices of all mailboxes wait meanwhile."""

LONGEST, SHORTEST = 24 * 3600, 300
_AGE = re.compile(r"max-age=(\d{1,9})")


class GmailPusher(Session):
    """Pusher of `base` over Gmail. There is one watch for a mailbox, whoever connected it."""

    def subscribe(self, url: str, secret: str) -> Push:  # noqa: ARG002 - Pub/Sub knows where we are
        """See `Pusher.subscribe`. No labels are named: filters move mail before anybody could tell."""
        topic = self.connection.endpoints.get("google_topic")
        if not topic:
            raise Unsupported("There is no Pub/Sub topic for Gmail's notifications here.")
        found = self._watch(topic)
        until = datetime.fromtimestamp(int(found["expiration"]) / 1000, UTC)
        return Push("watch", until, datetime.now(UTC) + DAILY)

    def _watch(self, topic: str) -> Mapping[str, Any]:
        """Watch; a mailbox has one watch only, so that of an older topic is ended first."""
        try:
            with _ours_to_mend("google_no_access"):
                return self._watched(topic)
        except ConsentRequired as error:
            if error.reason != "google_no_mailbox":  # Gmail has the same word for both
                raise
        self.cancel("")  # raises where there is no Gmail
        with _ours_to_mend("google_no_access", "google_no_mailbox"):
            return self._watched(topic)

    def _watched(self, topic: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.run(self.api().watch(userId=ME, body={"topicName": topic}))
        return found

    def renew(self, id_: str) -> Push:
        """See `Pusher.renew`: watching again is all there is to it."""
        return self.subscribe("", id_)

    def cancel(self, id_: str) -> None:  # noqa: ARG002 - there is only one
        """See `Pusher.cancel`."""
        try:
            self.run(self.api().stop(userId=ME))
        except NotFound:
            return


@contextmanager
def _ours_to_mend(*reasons: str) -> Iterator[None]:
    """A topic that is not there, or where Gmail may not publish, is no user's problem."""
    try:
        yield
    except (NotFound, Rejected, ConsentRequired) as error:
        if isinstance(error, ConsentRequired) and error.reason not in reasons:
            raise
        raise googling.error_of("google_misconfigured") from error


class _Keys:
    """Google's public keys, remembered as long as Google says; safe to share between threads.

    Those that are known serve on while new ones cannot be had. One asks; who shows a known one meanwhile
    waits for nobody.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._until = self._again = 0.0
        self._place = ""

    def find(self, notification: Notification, kid: str) -> jwt.PyJWK | None:
        """Return a key, or None. Raises Temporary while there are none."""
        place, now = notification.endpoints["google_certs"], time.monotonic()
        known = self._keys.get(kid) if place == self._place else None
        if known and now <= self._until:
            return known
        if not self._lock.acquire(blocking=known is None):
            return known
        try:
            return self._asked(notification, kid, now)
        finally:
            self._lock.release()

    def _asked(self, notification: Notification, kid: str, now: float) -> jwt.PyJWK | None:
        """Return a key, after asking Google where it is time for that."""
        place = notification.endpoints["google_certs"]
        if place != self._place:
            self._keys, self._place, self._again = {}, place, now
        if not self._knows(place, kid, now) and now >= self._again:
            self._again = now + AGAIN
            self._fetch_or_keep(place, notification.allowed_hosts, now)
        if not self._keys:
            raise Temporary("Google's key server gave no keys yet.", retry_after=RETRY)
        return self._keys.get(kid)

    def _knows(self, place: str, kid: str, now: float) -> bool:
        return place == self._place and now <= self._until and kid in self._keys

    def _fetch_or_keep(self, place: str, allowed_hosts: frozenset[str], now: float) -> None:
        try:
            self._fetch(place, allowed_hosts)
        except Temporary as error:
            self._again = now + RETRY
            logs.log("keys.missing", level=logging.WARNING, provider="google", code=error.code)

    def _fetch(self, place: str, allowed_hosts: frozenset[str]) -> None:
        api = Api(place, "Google's key server", lambda: "", _unavailable, allowed_hosts, timeout=QUICK)
        try:
            answer = api.anonymous("GET", place, b"", {"Accept": "application/json"})
            keys = jwt.PyJWKSet.from_dict(answer.json).keys
        except (jwt.PyJWTError, AttributeError, TypeError) as error:
            raise Temporary("Google's key server gave no keys.", retry_after=RETRY) from error
        finally:
            api.close()
        age = _AGE.search(answer.headers.get("cache-control", ""))
        lasts = min(max(int(age[1]) if age else SHORTEST, SHORTEST), LONGEST)
        self._keys = {str(key.key_id): key for key in keys}
        self._until = time.monotonic() + lasts


_KEYS = _Keys()


class _Message(msgspec.Struct):
    data: str = ""


class _Posted(msgspec.Struct):
    message: _Message
    subscription: str = ""


class _Change(msgspec.Struct):
    emailAddress: str  # noqa: N815 - Gmail's name


def notices(notification: Notification) -> Sequence[Notice]:
    """Read one message that Pub/Sub posts. Raises NotAllowed for one that is not from our subscription.

    A genuine one that cannot be read says nothing to us: refused, it would come again for days
    (https://cloud.google.com/pubsub/docs/push#receive_push), and a poll does what it might have asked for.
    """
    _prove(notification)
    try:
        posted = msgspec.json.decode(notification.body, type=_Posted)
        if posted.subscription != notification.endpoints.get("google_subscription"):
            raise NotAllowed("This is not from our subscription.")
        data = base64.urlsafe_b64decode(posted.message.data.replace("+", "-").replace("/", "_") + "==")
        change = msgspec.json.decode(data, type=_Change)
    except (msgspec.DecodeError, ValueError):
        logs.log("notice.unreadable", level=logging.WARNING, provider="google")
        return []
    return [Notice(address=change.emailAddress.strip().lower())]


def _prove(notification: Notification) -> None:
    """Check the token in full: signature, issuer, audience, times, and whose it is."""
    expected = notification.endpoints
    scheme, _, token = notification.authorization.partition(" ")
    if scheme.lower() != "bearer" or not expected.get("google_audience") or not expected.get("google_pusher"):
        raise NotAllowed("Pub/Sub's token is missing.")
    claims = _claims(notification, token.strip())
    ours = claims.get("email") == expected["google_pusher"] and claims.get("email_verified") is True
    if not ours or claims["iss"] not in ISSUERS:
        raise NotAllowed("Pub/Sub's token is somebody else's.")


def _claims(notification: Notification, token: str) -> Mapping[str, Any]:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        key = _KEYS.find(notification, str(kid))
        if key is None:
            raise NotAllowed("Pub/Sub's token is signed with a key that Google does not publish.")
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=notification.endpoints["google_audience"],
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "aud", "iss", "email"], "strict_aud": True},
        )
    except jwt.PyJWTError as error:
        raise NotAllowed("Pub/Sub's token is not valid.") from error
    return claims


def _unavailable(answer: Answer) -> ZalionError:
    return Temporary("Google's key server is not available.", retry_after=answer.pause(10))
