"""Key Vault's secrets on the wire, as azure-keyvault-secrets speaks to them.

Error bodies follow the documentation; they were not compared with a real vault.
https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups
"""

import re
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, override

import jwt

from sandbox.issuer import TENANT, Issuer
from sandbox.web import Reply, Request, WebServer

AUDIENCE = "https://vault.azure.net"
PAGE = 25
"""Secrets in a page of a list, as the service does it."""

LONGEST = 25 * 1024
RETENTION = 90 * 24 * 60 * 60

_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")


@dataclass(slots=True)
class Version:
    """One version of a secret."""

    value: str
    created: int
    updated: int
    properties: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


class KeyVault(WebServer):
    """One vault.

    Attributes:
        forbidden: answer 403, as to an identity without a role.
        purge_protected: answer 403 to a purge, and keep deleted secrets.
        deletion_seconds: how long a deletion goes on; meanwhile the name is nowhere.
        secrets, deleted: name -> its versions, oldest first.
        secrets_seen: every value that was ever kept.

    429 and 503 come from `fail_next`; `calls` counts.
    """

    def __init__(self, issuer: Issuer, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.forbidden = False
        self.purge_protected = False
        self.deletion_seconds = 0.0
        self.secrets: dict[str, list[Version]] = {}
        self.deleted: dict[str, list[Version]] = {}
        self.secrets_seen: set[str] = set()
        self._deleted_at: dict[str, float] = {}
        self._issuer = issuer
        self._writing = threading.RLock()
        super().__init__(port, tls)

    def seed(self, name: str, value: str) -> None:
        """Put a secret there, as an operator would."""
        now = int(time.time())
        self.secrets_seen.add(value)
        with self._writing:
            self.secrets.setdefault(name, []).append(Version(value, now, now, {}))

    def throttle(self, times: int, retry_after: int = 1) -> None:
        """Answer the next requests with 429 and Retry-After in seconds."""
        self.fail_next(
            times,
            429,
            headers={"Retry-After": str(retry_after)},
            body=_problem("Throttled", "Too many requests."),
        )

    @override
    def answer(self, request: Request) -> Reply:
        refused = self._refused(request)
        if refused:
            return refused
        kind, name, rest = [*request.path.strip("/").split("/"), "", ""][:3]
        with self._writing:
            if not name:
                return self._all(request, kind)
            if not _NAME.fullmatch(name):
                return _error(400, "BadParameter", "The request URI contains an invalid name.")
            return (
                self._secret(request, name, rest)
                if kind == "secrets"
                else self._deleted_secret(request, name)
            )

    def _refused(self, request: Request) -> Reply | None:
        """The challenge that tells a client where to get its token, or 403."""
        try:
            self._issuer.verify(request.bearer, AUDIENCE)
        except jwt.PyJWTError:
            challenge = f'Bearer authorization="{self._issuer.url}/{TENANT}", resource="{AUDIENCE}"'
            body = _problem("Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
            return Reply(401, body, {"WWW-Authenticate": challenge})
        if not request.query.get("api-version"):
            return _error(400, "BadParameter", "The api-version query parameter is missing.")
        if self.forbidden:
            return _error(403, "Forbidden", "Caller is not authorized to perform action on resource.")
        return None

    def _secret(self, request: Request, name: str, version: str) -> Reply:
        if request.method == "PUT":
            return self._set(name, request.json)
        if name not in self.secrets:
            return _missing(name)
        if request.method == "DELETE":
            self.deleted[name], self._deleted_at[name] = self.secrets.pop(name), time.time()
            return Reply(body=self._deleted(name))
        if version == "versions":
            return self._list(request, [self._item(name, each) for each in self.secrets[name]])
        found = self._find(name, version)
        return self._version(request, name, found) if found else _missing(name)

    def _version(self, request: Request, name: str, version: Version) -> Reply:
        if request.method == "PATCH":
            version.properties |= request.json
            version.updated = int(time.time())
            return Reply(body=self._item(name, version))
        if version.properties.get("attributes", {}).get("enabled") is False:
            return _error(403, "Forbidden", "Operation get is not allowed on a disabled secret.")
        return Reply(body=self._whole(name, version))

    def _set(self, name: str, body: dict[str, Any]) -> Reply:
        value = body.pop("value", None)
        if not isinstance(value, str) or len(value.encode()) > LONGEST:
            return _error(400, "BadParameter", f"The value must be a text of at most {LONGEST} bytes.")
        if name in self.deleted:
            inner = "ObjectIsBeingDeleted" if self._is_deleting(name) else "ObjectIsDeletedButRecoverable"
            return _error(
                409, "Conflict", f"Secret {name} is deleted: its name cannot be reused.", inner=inner
            )
        now = int(time.time())
        self.secrets_seen.add(value)
        self.secrets.setdefault(name, []).append(Version(value, now, now, body))
        return Reply(body=self._whole(name, self.secrets[name][-1]))

    def _deleted_secret(self, request: Request, name: str) -> Reply:
        if name not in self.deleted or self._is_deleting(name):
            return _missing(name)
        if request.method == "DELETE":
            if self.purge_protected:
                return _error(403, "Forbidden", "Operation purge is not allowed: purge protection is on.")
            del self.deleted[name]
            return Reply(204)
        if request.method == "POST":
            self.secrets[name] = self.deleted.pop(name)
            return Reply(body=self._item(name, self.secrets[name][-1]))
        return Reply(body=self._deleted(name))

    def _is_deleting(self, name: str) -> bool:
        return time.time() < self._deleted_at[name] + self.deletion_seconds

    def _all(self, request: Request, kind: str) -> Reply:
        if kind == "secrets":
            return self._list(request, [self._item(name) for name in sorted(self.secrets)])
        return self._list(request, [self._deleted(name) for name in sorted(self.deleted)])

    def _find(self, name: str, version: str) -> Version | None:
        versions = self.secrets[name]
        return next((each for each in versions if each.id == version), None) if version else versions[-1]

    def _list(self, request: Request, items: list[dict[str, Any]]) -> Reply:
        start = int(request.query.get("$skiptoken", "0"))
        size = min(int(request.query.get("maxresults", PAGE)), PAGE)
        following = f"{self.url}{request.path}?api-version={request.query['api-version']}"
        more = start + size < len(items)
        link = f"{following}&$skiptoken={start + size}&maxresults={size}" if more else None
        return Reply(body={"value": items[start : start + size], "nextLink": link})

    def _item(self, name: str, version: Version | None = None) -> dict[str, Any]:
        """A secret without its value; its id names the version if one is given."""
        shown = version or (self.secrets.get(name) or self.deleted[name])[-1]
        times = {"created": shown.created, "updated": shown.updated, "recoveryLevel": "Recoverable+Purgeable"}
        attributes = {"enabled": True, **shown.properties.get("attributes", {}), **times}
        suffix = f"/{version.id}" if version else ""
        return {**shown.properties, "id": f"{self.url}/secrets/{name}{suffix}", "attributes": attributes}

    def _whole(self, name: str, version: Version) -> dict[str, Any]:
        return {"value": version.value, **self._item(name, version)}

    def _deleted(self, name: str) -> dict[str, Any]:
        at = int(self._deleted_at[name])
        dates = {"deletedDate": at, "scheduledPurgeDate": at + RETENTION}
        return {**self._item(name), **dates, "recoveryId": f"{self.url}/deletedsecrets/{name}"}


def _problem(code: str, message: str, inner: str | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **({"innererror": {"code": inner}} if inner else {})}}


def _error(status: int, code: str, message: str, *, inner: str | None = None) -> Reply:
    return Reply(status, _problem(code, message, inner))


def _missing(name: str) -> Reply:
    text = f"A secret with (name/id) {name} was not found in this key vault."
    return _error(404, "SecretNotFound", text)
