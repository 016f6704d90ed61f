"""One subscription: what it is about, and until when.

https://learn.microsoft.com/graph/api/resources/subscription
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import unquote

LONGEST = timedelta(minutes=10_080)
SHORTEST = timedelta(minutes=45)
LONGEST_STATE = 128
KINDS = {"created", "updated", "deleted"}

_RESOURCE = re.compile(
    r"(?:(?P<me>me)|users/(?P<user>[^/]+))(?:/mailfolders/(?P<folder>[^/]+))?/messages", re.IGNORECASE
)


class Invalid(Exception):
    """What Graph answers with 400 ValidationError."""


@dataclass(frozen=True)
class Target:
    """What a resource names: whose messages (None: the user's own), in which folder (empty: any)."""

    user: str | None
    folder: str

    @classmethod
    def of(cls, resource: str) -> Self:
        """Read a resource. Raises Invalid."""
        path, query, _ = resource.partition("?")
        match = _RESOURCE.fullmatch(re.sub(r"\('([^']+)'\)", r"/\1", path).strip("/"))
        if not match or query:  # the sandbox tells of all messages: a filter it would not honour is refused
            raise Invalid("The resource is not valid.")
        return cls(unquote(match["user"]) if match["user"] else None, unquote(match["folder"] or ""))


@dataclass
class Subscription:
    """One subscription. `silent` ones are valid and never tell anything, as shared mailboxes' are."""

    resource: str
    change_type: str
    url: str
    lifecycle_url: str | None
    client_state: str | None
    until: datetime
    address: str
    folder: str
    tenant_id: str
    client_id: str
    creator: str
    immutable: bool
    silent: bool = False
    reauthorized: int = 0
    id: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any], **known: Any) -> Self:
        """Read what a client asks for. Raises Invalid."""
        for name in ("resource", "changeType", "notificationUrl", "expirationDateTime"):
            if not body.get(name):
                raise Invalid(f"{name} is needed.")
        kinds = {kind.strip() for kind in body["changeType"].split(",")}
        urls = [body["notificationUrl"], *filter(None, [body.get("lifecycleNotificationUrl")])]
        if not kinds <= KINDS:
            raise Invalid("changeType is not valid.")
        if not all(url.startswith("https://") for url in urls):
            raise Invalid("Notification URLs have to be https.")
        if len(body.get("clientState") or "") > LONGEST_STATE:
            raise Invalid("clientState is longer than 128 characters.")
        return cls(
            id=str(uuid.uuid4()),
            resource=body["resource"],
            change_type=body["changeType"],
            url=body["notificationUrl"],
            lifecycle_url=body.get("lifecycleNotificationUrl"),
            client_state=body.get("clientState"),
            until=end(body["expirationDateTime"]),
            **known,
        )

    @property
    def subject(self) -> tuple[str, ...]:
        """What no second subscription may share."""
        return (
            self.client_id,
            self.tenant_id,
            self.creator,
            self.resource.strip("/").lower(),
            self.change_type,
        )

    def wants(self, what: str, places: set[str]) -> bool:
        """Whether it tells of this kind of change in a folder of these names."""
        alive = not self.silent and self.until > datetime.now(UTC)
        here = not self.folder or self.folder in places or self.folder.lower() in places
        return alive and here and what in self.change_type.replace(" ", "").split(",")

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
            "expirationDateTime": moment(self.until),
            "creatorId": self.creator,
            "latestSupportedTlsVersion": "v1_2",
        }


def end(text: str) -> datetime:
    """Read when a subscription is to end, raised to the shortest life there is. Raises Invalid."""
    now, until = datetime.now(UTC), datetime.fromisoformat(text).astimezone(UTC)
    if until > now + LONGEST or until < now:
        raise Invalid("Subscription expiration can only be 10080 minutes in the future.")
    return max(until, now + SHORTEST)


def moment(at: datetime) -> str:
    """Write a time as Graph does."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
