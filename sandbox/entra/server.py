"""Entra's endpoints, and what tests and the mail world do to it."""

import ssl
import threading
import time
import uuid
from collections import deque
from typing import Any, override

import jwt

from sandbox.entra import asking, forms, tokens
from sandbox.entra.directory import COMMON, GRAPH, Application, Directory, Refusal, Tenant, User
from sandbox.entra.signing import Access, Signer
from sandbox.web import Reply, Request, WebServer


class Entra(WebServer):
    """One Entra ID with any number of directories.

    Attributes:
        directory: what it knows; `consent` and the like are there.
        auto_sign_in: answer `authorize` and `adminconsent` at once for the `login_hint` (or this address),
            as with a browser that is signed in already.
        token_seconds: lifetime of an access token.
        late_consents: so many token requests after a consent still see what was in force before.
        damage_state: append words to the state of redirects, as a localised page did (teams-js#2515).
        secrets_seen: every token, code, assertion and client secret that was given out or shown.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.directory = Directory()
        self.auto_sign_in: bool | str = False
        self.token_seconds = 3600
        self.late_consents = 0
        self.damage_state = False
        self.secrets_seen: set[str] = set()
        self.sessions: dict[str, User] = {}
        self.refusals: deque[Refusal] = deque()
        self.codes = tokens.Codes(self.secrets_seen)
        self.refreshes: dict[str, tokens.Refresh] = {}
        self._issued: dict[str, str] = {}
        self._ended: set[str] = set()
        self._entering = threading.RLock()
        super().__init__(port, tls)
        self._signer = Signer(self.url)

    # What tests and the world do

    def authority(self, tenant: Tenant | str) -> str:
        """Return the URL of a directory's endpoints."""
        return f"{self.url}/{tenant.id if isinstance(tenant, Tenant) else tenant}"

    def refuse_next(
        self, code: int, times: int = 1, error: str = "invalid_grant", suberror: str = ""
    ) -> None:
        """Refuse the next token requests with an AADSTS code."""
        self.refusals.extend([Refusal(code, "Refused by the test.", error=error, suberror=suberror)] * times)

    @override
    def heal(self) -> None:
        self.refusals.clear()
        self.token_seconds, self.late_consents, self.damage_state = 3600, 0, False
        super().heal()

    def revoke_sessions(self, user: User) -> None:
        """End every refresh token of a user, as an administrator can, or as a password reset does."""
        user.generation += 1

    def end_access(self, app: Application) -> None:
        """Let the access tokens that an app was given until now end before their time."""
        self._ended |= {token for token, client_id in self._issued.items() if client_id == app.client_id}

    def age_refresh_tokens(self, seconds: float) -> None:
        """Let time pass for refresh tokens that are not used."""
        for refresh in self.refreshes.values():
            refresh.last_used -= seconds

    # What Graph asks

    def find_user(self, tenant_id: str, key: str) -> User | None:
        """Return somebody by id or address."""
        return self.directory.find_user(tenant_id, key)

    def access(self, bearer: str) -> Access:
        """Return what an access token for Graph allows. Raises jwt.PyJWTError."""
        access = self._signer.access(bearer)
        if bearer in self._ended:
            raise jwt.InvalidTokenError("the token was ended")
        user = self.directory.users.get(access.address or "")
        if user and not user.enabled:
            raise jwt.InvalidTokenError("the account is disabled")
        return access

    # Tokens

    def access_token(self, app: Application, user: User, scopes: frozenset[str]) -> str:
        """Return a token with which an app acts for somebody at Graph."""
        person = {"oid": user.oid, "upn": user.address}
        return self._signed(app, user.tenant, {**person, "aud": GRAPH, "scp": " ".join(sorted(scopes))})

    def application_token(self, app: Application, tenant: Tenant) -> str:
        """Return a token with which an app acts for itself, with what was consented to."""
        roles = sorted(self.in_force(None, tenant, app))
        return self._signed(app, tenant, {"roles": roles, "oid": app.client_id, "aud": GRAPH})

    def id_token(self, app: Application, user: User, nonce: str | None) -> str:
        """Return the proof of who signed in."""
        person = {"oid": user.oid, "preferred_username": user.address, "name": user.name}
        claims = {**person, "aud": app.client_id, **({"nonce": nonce} if nonce else {})}
        return self._signed(app, user.tenant, claims)

    def in_force(self, user: User | None, tenant: Tenant, app: Application) -> frozenset[str]:
        """Return the permissions an app has now, which may not yet be what was consented to."""
        late = self.late_consents > 0
        self.late_consents -= late
        return self.directory.granted(user, tenant, app, late=late)

    def _signed(self, app: Application, tenant: Tenant, claims: dict[str, Any]) -> str:
        token = self._signer.sign(app, tenant, self.token_seconds, claims)
        self.secrets_seen.add(token)
        self._issued[token] = app.client_id
        return token

    # On the wire

    @override
    def answer(self, request: Request) -> Reply:
        name, _, path = request.path.strip("/").partition("/")
        with self._entering:
            try:
                return self._route(request, name, path)
            except Refusal as refusal:
                if "oauth2/v2.0/token" in path or "well-known" in path:
                    return _refused(refusal, request)
                return forms.failure(refusal)

    def _route(self, request: Request, name: str, path: str) -> Reply:
        asked = {**request.query, **(request.form if request.method == "POST" else {})}
        match path:
            case "v2.0/.well-known/openid-configuration":
                return Reply(body=self._configuration(name))
            case "discovery/v2.0/keys":
                return Reply(body=self._signer.jwks())
            case "oauth2/v2.0/authorize":
                return asking.authorize(self, name, asked)
            case "v2.0/adminconsent" | "adminconsent":
                return asking.consent(self, name, asked, v2=path.startswith("v2"))
            case "oauth2/v2.0/token":
                shown = ("client_secret", "client_assertion", "code", "refresh_token", "code_verifier")
                self.secrets_seen |= {asked[key] for key in shown if asked.get(key)}
                return tokens.answer(self, name, asked)
        return Reply(404)

    def _configuration(self, name: str) -> dict[str, Any]:
        tenant = name if name in COMMON else self.directory.find_tenant(name).id
        base = f"{self.url}/{tenant}"
        return {
            "issuer": f"{self.url}/{'{tenantid}' if name in COMMON else tenant}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }


def _refused(refusal: Refusal, request: Request) -> Reply:
    body: dict[str, Any] = {
        "error": refusal.error,
        "error_description": f"{refusal} Trace ID: {uuid.uuid4()} Correlation ID: {uuid.uuid4()}",
        "error_codes": [refusal.code],
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "trace_id": str(uuid.uuid4()),
        "correlation_id": request.headers.get("client-request-id", str(uuid.uuid4())),
    }
    if refusal.suberror:
        body["suberror"] = refusal.suberror
    return Reply(401 if refusal.error == "invalid_client" else 400, body)
