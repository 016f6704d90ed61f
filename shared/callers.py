"""Who calls: the JWT of Zalion's users and backend, checked in full (RFC 7519, RFC 8725).

The organisation comes from the token alone; no request can name another one.
"""

import math
import re
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Literal

import jwt

from shared import mime
from shared.errors import InvalidRequest, NotAllowed, Temporary, ZalionError

Role = Literal["admin", "member", "platform"]
ALGORITHMS = ["RS256"]
LEEWAY_SECONDS = 30

FRESH, KEPT = 300.0, 3600.0
"""Seconds after which keys are fetched anew, and for which they serve where they cannot be had."""

TIMEOUT = 5.0
"""Seconds without a word from the issuer."""

AGAIN, RETRY = 30.0, 10.0
"""Seconds before keys are fetched once more, after a fetch that succeeded and after one that failed."""

_ORG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Unauthenticated(ZalionError):
    """No token, or one we do not accept; the same answer for every reason but expiry."""

    status = 401
    code = "unauthenticated"
    title = "Sign in first"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody of an organisation. `email` is the address that owns mailboxes, as `spelled`."""

    org_id: str
    email: str
    roles: frozenset[str]

    def need(self, *roles: Role) -> None:
        """Raise NotAllowed unless the caller has one of the roles."""
        if not self.roles.intersection(roles):
            raise NotAllowed(f"This needs the role {' or '.join(roles)}.")


class _Keys:
    """An issuer's public keys, safe to share between threads.

    One asks for new ones; who shows a known one meanwhile waits for nobody, and nobody asks again at once.
    """

    def __init__(self, url: str) -> None:
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=TIMEOUT)
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._asked = -math.inf
        self._failed: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether the last fetch failed; nothing is fetched for the answer."""
        return self._failed is not None

    def find(self, kid: str) -> jwt.PyJWK | None:
        """Return a key, None if the issuer has no such. Raises Temporary where that cannot be known."""
        if self._is_due(kid) and self._lock.acquire(blocking=self._known(kid) is None):
            try:
                if self._is_due(kid):  # else somebody was faster
                    self._fetch()
            finally:
                self._lock.release()
        found = self._known(kid)
        if found is None and self._failed:
            raise Temporary(
                "The keys of the token issuer cannot be fetched.", retry_after=RETRY
            ) from self._failed
        return found

    def _known(self, kid: str) -> jwt.PyJWK | None:
        return self._keys.get(kid) if time.monotonic() < self._fetched + KEPT else None

    def _is_due(self, kid: str) -> bool:
        now, pause = time.monotonic(), RETRY if self._failed else AGAIN
        return now >= self._asked + pause and (kid not in self._keys or now >= self._fetched + FRESH)

    def _fetch(self) -> None:
        """Replace the keys, unless the issuer does not answer, or with something else than keys."""
        try:
            self._keys = {str(key.key_id): key for key in self._client.get_signing_keys()}
        except (jwt.PyJWTError, OSError, HTTPException, ValueError) as error:
            self._failed = error
        else:
            self._fetched, self._failed = time.monotonic(), None
        self._asked = time.monotonic()


class Tokens:
    """Checks bearer tokens against one issuer.

    Args:
        issuer, audience: exact values of `iss` and `aud`.
        jwks_url: where the issuer publishes its keys.
    """

    def __init__(self, issuer: str, audience: str, jwks_url: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = _Keys(jwks_url)

    @property
    def cut_off(self) -> bool:
        """Whether the issuer's keys could not be had when they were last needed; it is not asked for that."""
        return self._keys.failed

    def caller(self, authorization: str | None) -> Caller:
        """Return who the `Authorization` header speaks for. Raises Unauthenticated or Temporary."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("A bearer token is needed.", fix="Send `Authorization: Bearer <token>`.")
        return self._caller(self._claims(token.strip()))

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = self._keys.find(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise Unauthenticated("The token is not valid.")
            return jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss"], "strict_aud": True},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The token has expired.", fix="Get a new token.") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated("The token is not valid.") from error

    @staticmethod
    def _caller(claims: dict[str, Any]) -> Caller:
        org_id, email, roles = claims.get("org"), claims.get("email", ""), claims.get("roles", [])
        if not (isinstance(org_id, str) and _ORG.fullmatch(org_id) and isinstance(email, str)):
            raise Unauthenticated("The token names no organisation.")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Unauthenticated("The token's roles are not a list of names.")
        return Caller(org_id, spelled(email), frozenset(roles))


def spelled(email: str) -> str:
    """Return somebody's address in the one spelling that members and owners are kept in.

    What no mail could reach, such as the "" of a service, is in lower case only: no member is called so.
    """
    try:
        return mime.check_address(email, "email")
    except InvalidRequest:
        return email.lower()
