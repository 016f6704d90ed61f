"""Who signs tokens in the sandbox: for the app's callers, for its managed identity and for mailboxes."""

import base64
import secrets
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, override
from urllib.parse import unquote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.web import Reply, Request, WebServer

AUDIENCE = "zalion-email"
TENANT = "5a11d0b0-0000-4000-8000-000000000001"
"""The Entra tenant the app's managed identity lives in."""

DAY = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class MailGrant:
    """One consent of a mailbox's owner: refreshing replaces the refresh token (RFC 9700 section 4.14.2)."""

    address: str
    retired: set[str] = field(default_factory=set)


class Issuer(WebServer):
    """The token issuer of the sandbox.

    Callers' tokens are RS256 JWTs (`issue`, `/jwks.json`). `/msi/token` is App Service's managed
    identity endpoint. `/oauth/token` refreshes mailbox tokens and `/tokeninfo` tells a mail server
    whose they are; both know only what `grant` gave out.

    Attributes:
        identity_header: the secret of the managed identity endpoint.
        client_id, client_secret: the OAuth client of the mailboxes.
        token_seconds: lifetime of a mailbox's access token.
        secrets_seen: every token that was given out.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.identity_header = secrets.token_urlsafe(24)
        self.client_id, self.client_secret = "zalion-mail", secrets.token_urlsafe(24)
        self.token_seconds = 3600
        self.secrets_seen = {self.identity_header, self.client_secret}
        self._tokens_lock = threading.Lock()
        self._grants: dict[str, MailGrant] = {}
        self._access: dict[str, tuple[MailGrant, float]] = {}
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate()
        super().__init__(port, tls)

    # Callers

    def issue(self, org: str, email: str = "", roles: Sequence[str] = ("member",), **overrides: Any) -> str:
        """Return a caller's token, valid for a day; `overrides` replace claims, None removes one."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": email or f"service:{org}",
            "org": org,
            "email": email,
            "roles": list(roles),
            "iat": now,
            "nbf": now,
            "exp": now + DAY,
        } | overrides
        return self._sign({name: value for name, value in claims.items() if value is not None})

    def rotate(self, *, forget: bool = False) -> None:
        """Sign with a new key from now on; old keys stay published unless they are to be forgotten."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._keys = ({} if forget else self._keys) | {uuid.uuid4().hex: key}

    def verify(self, token: str, audience: str) -> dict[str, Any]:
        """Return the claims of a token of ours. Raises jwt.PyJWTError."""
        key = self._keys.get(str(jwt.get_unverified_header(token).get("kid")))
        if key is None:
            raise jwt.InvalidKeyError("signed by nobody we know")
        return dict(jwt.decode(token, key.public_key(), algorithms=["RS256"], audience=audience))

    # Mailboxes

    def grant(self, address: str) -> str:
        """Return the first refresh token of a new consent of the mailbox's owner."""
        token = secrets.token_urlsafe(32)
        self.secrets_seen.add(token)
        with self._tokens_lock:
            self._grants[token] = MailGrant(address.lower())
        return token

    def access_token(self, address: str) -> str:
        """Return an access token for the mailbox, without a refresh token."""
        with self._tokens_lock:
            return self._new_access(MailGrant(address.lower()))

    def revoke(self, address: str) -> None:
        """End every consent of the mailbox's owner, and with it its tokens."""
        with self._tokens_lock:
            self._drop(lambda grant: grant.address == address.lower())

    def address_of(self, token: str) -> str | None:
        """Return whose mailbox a valid access token opens."""
        with self._tokens_lock:
            grant, expires = self._access.get(token, (None, 0.0))
        return grant.address if grant and time.time() < expires else None

    # On the wire

    @override
    def answer(self, request: Request) -> Reply:
        match request.method, request.path:
            case "GET", "/.well-known/openid-configuration":
                return Reply(body={"issuer": self.url, "jwks_uri": f"{self.url}/jwks.json"})
            case "GET", "/jwks.json":
                return Reply(body={"keys": [self._jwk(kid) for kid in self._keys]})
            case "GET", "/msi/token":
                return self._identity_token(request)
            case "POST", "/oauth/token":
                return self._refresh(request)
        return Reply(404, {"error": "not_found"})

    def tokeninfo(self, request: Request) -> Reply:
        """Answer a mail server that asks whose an access token is."""
        address = self.address_of(request.query.get("access_token", ""))
        return (
            Reply(body={"email": address, "expires_in": 3000})
            if address
            else Reply(401, {"error": "invalid_token"})
        )

    def _identity_token(self, request: Request) -> Reply:
        """https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference."""
        resource = request.query.get("resource", "")
        if request.headers.get("x-identity-header") != self.identity_header:
            return Reply(401, {"statusCode": 401, "message": "The X-IDENTITY-HEADER is wrong."})
        if not resource or not request.query.get("api-version"):
            return Reply(400, {"statusCode": 400, "message": "resource and api-version are required."})
        now = int(time.time())
        claims: dict[str, Any] = {"aud": resource, "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT}
        claims |= {"oid": "zalion-app", "sub": "zalion-app", "iat": now, "nbf": now, "exp": now + DAY}
        body = {"access_token": self._sign(claims), "expires_on": str(now + DAY)}
        return Reply(body=body | {"resource": resource, "token_type": "Bearer"})

    def _refresh(self, request: Request) -> Reply:
        """RFC 6749 section 6."""
        form = request.form
        if not self._is_client(request, form):
            return Reply(401, {"error": "invalid_client"}, {"WWW-Authenticate": "Basic"})
        if form.get("grant_type") != "refresh_token":
            return Reply(400, {"error": "unsupported_grant_type"})
        given = form.get("refresh_token", "")
        with self._tokens_lock:
            grant = self._grants.pop(given, None)
            if grant is None:
                # Used twice: one of the two is a thief, so the whole consent ends (RFC 9700 section 4.14.2).
                self._drop(lambda grant: given in grant.retired)
                return Reply(400, {"error": "invalid_grant", "error_description": "expired, used or revoked"})
            grant.retired.add(given)
            fresh = secrets.token_urlsafe(32)
            self.secrets_seen.add(fresh)
            self._grants[fresh] = grant
            body = {"access_token": self._new_access(grant), "refresh_token": fresh}
        return Reply(body=body | {"token_type": "Bearer", "expires_in": self.token_seconds})

    def _is_client(self, request: Request, form: dict[str, str]) -> bool:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        given = form.get("client_id", ""), form.get("client_secret", "")
        if scheme.lower() == "basic":
            name, _, word = base64.b64decode(encoded).decode().partition(":")
            given = unquote_plus(name), unquote_plus(word)
        return given == (self.client_id, self.client_secret)

    def _new_access(self, grant: MailGrant) -> str:
        token = secrets.token_urlsafe(32)
        self.secrets_seen.add(token)
        self._access[token] = grant, time.time() + self.token_seconds
        return token

    def _drop(self, applies: Callable[[MailGrant], bool]) -> None:
        self._grants = {token: grant for token, grant in self._grants.items() if not applies(grant)}
        self._access = {token: pair for token, pair in self._access.items() if not applies(pair[0])}

    def _sign(self, claims: dict[str, Any]) -> str:
        kid = next(reversed(self._keys))
        token = jwt.encode(claims, self._keys[kid], algorithm="RS256", headers={"kid": kid})
        self.secrets_seen.add(token)
        return token

    def _jwk(self, kid: str) -> dict[str, Any]:
        public = self._keys[kid].public_key()
        return {
            **jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True),
            "kid": kid,
            "use": "sig",
            "alg": "RS256",
        }


class TokenInfo(WebServer):
    """The issuer's `/tokeninfo` over plain HTTP, for the mail server on the same machine."""

    def __init__(self, issuer: Issuer, port: int = 0) -> None:
        self._issuer = issuer
        super().__init__(port)

    @override
    def answer(self, request: Request) -> Reply:
        return self._issuer.tokeninfo(request)
