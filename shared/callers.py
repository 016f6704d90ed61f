"""Who calls: the JWT of Zalion's users and backend, checked in full (RFC 7519, RFC 8725).

The organisation comes from the token alone; no request can name another one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from shared import mime
from shared.errors import InvalidRequest, NotAllowed, Temporary, ZalionError

Role = Literal["admin", "member", "platform"]
ALGORITHMS = ["RS256"]
LEEWAY_SECONDS = 30
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


class Tokens:
    """Checks bearer tokens against one issuer.

    Args:
        issuer, audience: exact values of `iss` and `aud`.
        jwks_url: where the issuer publishes its keys; cached five minutes, a cooldown between refetches.
    """

    def __init__(self, issuer: str, audience: str, jwks_url: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = jwt.PyJWKClient(jwks_url, cache_jwk_set=True, lifespan=300, timeout=5)

    def caller(self, authorization: str | None) -> Caller:
        """Return who the `Authorization` header speaks for. Raises Unauthenticated or Temporary."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("A bearer token is needed.", fix="Send `Authorization: Bearer <token>`.")
        return self._caller(self._claims(token.strip()))

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            return jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss"], "strict_aud": True},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise Temporary("The keys of the token issuer cannot be fetched.", retry_after=10) from error
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


Check = Callable[[str | None], Caller]
