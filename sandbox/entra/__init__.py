"""Entra ID on the wire, as MSAL and browsers speak to it: sign-in, consent, tokens, errors with AADSTS codes.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow. The pages need no script.
"""

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, override
from urllib.parse import urlencode

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.entra import forms
from sandbox.entra.directory import EXTRA, GRAPH, Application, Directory, Refusal, Tenant, User
from sandbox.web import Reply, Request, WebServer

COMMON = {"common", "organizations"}
CODE_SECONDS = 600
IDLE_SECONDS = 90 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Access:
    """What an access token allows. `address` and `oid` are None where the app itself signed in."""

    tenant_id: str
    client_id: str
    oid: str | None
    address: str | None
    permissions: frozenset[str]
    app_only: bool
    expires_at: float


@dataclass(slots=True)
class _Code:
    """An authorization code: for whom, for what, and its PKCE challenge."""

    query: Mapping[str, str]
    user: User
    tenant: Tenant
    scopes: frozenset[str]
    expires_at: float
    used: bool = False


@dataclass(slots=True)
class _Refresh:
    user: User
    tenant: Tenant
    client_id: str
    generation: int
    last_used: float = field(default_factory=time.time)


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
        self._refusals: deque[Refusal] = deque()
        self._codes: dict[str, _Code] = {}
        self._refreshes: dict[str, _Refresh] = {}
        self._entering = threading.RLock()
        self._kid = uuid.uuid4().hex
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        super().__init__(port, tls)

    # What tests and the world do

    def authority(self, tenant: Tenant | str) -> str:
        """Return the URL of a directory's endpoints."""
        return f"{self.url}/{tenant.id if isinstance(tenant, Tenant) else tenant}"

    def refuse_next(
        self, code: int, times: int = 1, error: str = "invalid_grant", suberror: str = ""
    ) -> None:
        """Refuse the next token requests with an AADSTS code."""
        self._refusals.extend([Refusal(code, "Refused by the test.", error=error, suberror=suberror)] * times)

    def revoke_sessions(self, user: User) -> None:
        """End every refresh token of a user, as an administrator can, or as a password reset does."""
        user.generation += 1

    def age_refresh_tokens(self, seconds: float) -> None:
        """Let time pass for refresh tokens that are not used."""
        for refresh in self._refreshes.values():
            refresh.last_used -= seconds

    def find_user(self, tenant_id: str, key: str) -> User | None:
        """Return somebody by id or address; for Graph."""
        return self.directory.find_user(tenant_id, key)

    def access(self, bearer: str) -> Access:
        """Return what an access token for Graph allows. Raises jwt.PyJWTError."""
        claims = jwt.decode(bearer, self._key.public_key(), algorithms=["RS256"], audience=GRAPH)
        app_only = "roles" in claims
        address = claims.get("upn")
        user = self.directory.users.get(address) if address else None
        if user and not user.enabled:
            raise jwt.InvalidTokenError("the account is disabled")
        permissions = claims["roles"] if app_only else claims["scp"].split()
        return Access(
            claims["tid"],
            claims["appid"],
            claims.get("oid"),
            address,
            frozenset(permissions),
            app_only,
            claims["exp"],
        )

    # On the wire

    @override
    def answer(self, request: Request) -> Reply:
        name, _, path = request.path.strip("/").partition("/")
        with self._entering:
            try:
                return self._route(request, name, path)
            except Refusal as refusal:
                return self._refused(refusal, request)

    def _route(self, request: Request, name: str, path: str) -> Reply:
        asked = {**request.query, **(request.form if request.method == "POST" else {})}
        match path:
            case "v2.0/.well-known/openid-configuration":
                return Reply(body=self._configuration(name))
            case "discovery/v2.0/keys":
                return Reply(body=self._jwks())
            case "oauth2/v2.0/authorize":
                return self._authorize(name, asked)
            case "v2.0/adminconsent" | "adminconsent":
                return self._admin_consent(name, asked, v2=path.startswith("v2"))
            case "oauth2/v2.0/token":
                self.secrets_seen |= {
                    asked[key]
                    for key in ("client_secret", "client_assertion", "code", "refresh_token")
                    if asked.get(key)
                }
                return self._token(name, asked)
        return Reply(404)

    def _refused(self, refusal: Refusal, request: Request) -> Reply:
        if "oauth2/v2.0/token" not in request.path and "well-known" not in request.path:
            return forms.failure(refusal)
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

    def _jwks(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**key, "kid": self._kid, "use": "sig"}]}

    def _application(self, client_id: str, tenant: Tenant | None) -> Application:
        app = self.directory.applications.get(client_id)
        if app is None or (tenant and tenant is not app.tenant and not app.multi_tenant):
            raise Refusal(700016, "Application not found in the directory.", error="unauthorized_client")
        if app.disabled:
            raise Refusal(7000112, "Application is disabled.", error="unauthorized_client")
        if tenant is None and not app.multi_tenant:
            raise Refusal(50194, "Application is not configured as multi-tenant.", error="invalid_request")
        return app

    # Signing in

    def _authorize(self, name: str, asked: dict[str, str]) -> Reply:
        tenant = None if name in COMMON else self.directory.find_tenant(name)
        app = self._application(asked.get("client_id", ""), tenant)
        if asked.get("redirect_uri") not in app.redirect_uris:
            raise Refusal(50011, "The redirect URI does not match.", error="invalid_request")
        if asked.get("action") == "decline":
            return self._back(asked, {"error": "access_denied", "error_description": "AADSTS65004: declined"})
        user = self._who(asked, tenant)
        if isinstance(user, Reply):
            return user
        try:
            scopes = self._wanted(user, app, asked)
        except Refusal as refusal:
            return self._back(asked, {"error": refusal.error, "error_description": str(refusal)})
        if scopes is None:
            wanted = _scopes(asked.get("scope", "")) - EXTRA
            return forms.consent(asked, app, wanted, user.address)
        code = secrets.token_urlsafe(32)
        self.secrets_seen.add(code)
        self._codes[code] = _Code(asked, user, user.tenant, scopes, time.time() + CODE_SECONDS)
        return self._back(asked, {"code": code})

    def _who(self, asked: dict[str, str], tenant: Tenant | None) -> User | Reply:
        """Return who signs in, or the form to do so."""
        hint = asked.get("login_hint") or (self.auto_sign_in if isinstance(self.auto_sign_in, str) else "")
        if self.auto_sign_in and hint:
            user = self.directory.users.get(hint.lower())
        elif asked.get("prompt") == "none":
            return self._back(
                asked, {"error": "login_required", "error_description": "AADSTS50058: no session"}
            )
        elif asked.get("action") in {"signin", "accept"}:
            user = self.directory.users.get(asked.get("login", "").lower())
            if asked["action"] == "signin" and (user is None or user.password != asked.get("password")):
                return forms.sign_in(asked, "AADSTS50126: Your account or password is incorrect.")
        else:
            return forms.sign_in(asked)
        try:
            return self._admitted(user, tenant)
        except Refusal as refusal:
            return self._back(asked, {"error": refusal.error, "error_description": str(refusal)})

    @staticmethod
    def _admitted(user: User | None, tenant: Tenant | None) -> User:
        if user is None or (tenant and user.tenant is not tenant):
            raise Refusal(50020, "User account does not exist in tenant.", error="interaction_required")
        if not user.enabled:
            raise Refusal(50057, "The user account is disabled.", error="invalid_grant")
        blocked = user.blocked or user.tenant.blocked
        if blocked:
            raise Refusal(blocked, "Blocked.", error="interaction_required")
        return user

    def _wanted(self, user: User, app: Application, asked: dict[str, str]) -> frozenset[str] | None:
        """Return the scopes the sign-in gets, or None where the user is to be asked. Raises Refusal."""
        wanted = _scopes(asked.get("scope", "")) - EXTRA
        if not user.tenant.has_exchange:
            raise Refusal(650052, "The organization lacks a service principal.", error="invalid_client")
        if not wanted <= app.delegated:
            raise Refusal(
                650057, "Invalid resource: not listed in the registration.", error="invalid_resource"
            )
        granted = self._in_force(user, user.tenant, app)
        if wanted <= granted:
            return wanted | granted
        if not (user.tenant.user_consent or user.admin):
            raise Refusal(90094, "An administrator has to grant permission.", error="consent_required")
        if asked.get("action") != "accept":
            return None
        self.directory.personal[user.address, app.client_id] = wanted | granted
        return wanted | granted

    def _in_force(self, user: User | None, tenant: Tenant, app: Application) -> frozenset[str]:
        if self.late_consents > 0:
            self.late_consents -= 1
            return frozenset()
        return self.directory.granted(user, tenant, app)

    def _admin_consent(self, name: str, asked: dict[str, str], *, v2: bool) -> Reply:
        tenant = None if name in COMMON else self.directory.find_tenant(name)
        app = self._application(asked.get("client_id", ""), tenant)
        if asked.get("redirect_uri") not in app.redirect_uris:
            raise Refusal(50011, "The redirect URI does not match.", error="invalid_request")
        if asked.get("action") == "decline":
            declined = {"error": "access_denied", "error_description": "AADSTS65004: declined"}
            return self._back(asked, {**declined, "admin_consent": "True"})
        user = self._who(asked, tenant)
        if isinstance(user, Reply):
            return user
        if not user.admin:
            return forms.failure(Refusal(90094, "You need to be an administrator to do this."))
        wanted = self._asked_of_admin(app, asked, v2=v2)
        if not self.auto_sign_in and asked.get("action") != "accept":
            return forms.consent(asked, app, wanted, user.address)
        application = app.application if not v2 or "/.default" in asked.get("scope", "") else frozenset()
        self.directory.consent(user.tenant, app, delegated=wanted, application_permissions=application)
        return self._back(
            asked, {"admin_consent": "True", "tenant": user.tenant.id, "scope": " ".join(sorted(wanted))}
        )

    @staticmethod
    def _asked_of_admin(app: Application, asked: dict[str, str], *, v2: bool) -> frozenset[str]:
        wanted = _scopes(asked.get("scope", "")) - EXTRA
        return app.delegated if not v2 or ".default" in wanted else wanted & app.delegated

    def _back(self, asked: Mapping[str, str], answer: dict[str, str]) -> Reply:
        """Send the browser back to the app, with the state it came with."""
        state = asked.get("state", "") + (" Sign in to your account" if self.damage_state else "")
        query = urlencode({**answer, **({"state": state} if state else {})})
        if asked.get("response_mode") == "form_post":
            fields = "".join(
                f"<input type='hidden' name='{name}' value='{value}'>" for name, value in answer.items()
            )
            body = (
                f"<form method='post' action='{asked['redirect_uri']}'>{fields}<button>Go on</button></form>"
            )
            return Reply(200, body.encode(), {"Content-Type": "text/html; charset=utf-8"})
        return Reply(302, None, {"Location": f"{asked['redirect_uri']}?{query}"})

    # Tokens

    def _token(self, name: str, asked: dict[str, str]) -> Reply:
        if self._refusals:
            raise self._refusals.popleft()
        tenant = None if name in COMMON else self.directory.find_tenant(name)
        app = self._application(asked.get("client_id", ""), tenant)
        self._prove(app, asked, name)
        match asked.get("grant_type"):
            case "authorization_code":
                return self._redeem(app, asked)
            case "refresh_token":
                return self._refresh(app, tenant, asked)
            case "client_credentials":
                if tenant is None:
                    raise Refusal(9001023, "Not supported over /common.", error="invalid_request")
                return self._for_app(app, tenant)
        raise Refusal(70003, "Unsupported grant type.", error="unsupported_grant_type")

    def _prove(self, app: Application, asked: dict[str, str], name: str) -> None:
        """Check the client's secret or certificate."""
        if assertion := asked.get("client_assertion"):
            self._check_assertion(app, assertion, name)
            return
        given = asked.get("client_secret")
        if not given:
            raise Refusal(7000218, "client_assertion or client_secret is needed.", error="invalid_client")
        if given not in app.secrets:
            raise Refusal(7000215, "Invalid client secret provided.", error="invalid_client")
        if app.secrets[given] < time.time():
            raise Refusal(7000222, "The provided client secret keys are expired.", error="invalid_client")

    def _check_assertion(self, app: Application, assertion: str, name: str) -> None:
        audience = [f"{self.url}/{each}/oauth2/v2.0/token" for each in {name, app.tenant.id}]
        for pem in app.certificates:
            key: Any = x509.load_pem_x509_certificate(pem.encode()).public_key()
            try:
                jwt.decode(assertion, key, algorithms=["PS256", "RS256"], audience=audience)
            except jwt.PyJWTError:
                continue
            return
        raise Refusal(700027, "The certificate is not registered on the application.", error="invalid_client")

    def _redeem(self, app: Application, asked: dict[str, str]) -> Reply:
        code = self._codes.get(asked.get("code", ""))
        if code is None or code.query["client_id"] != app.client_id:
            raise Refusal(70000, "The provided code is malformed.")
        if code.used:
            raise Refusal(54005, "The code was already redeemed.")
        if code.expires_at < time.time():
            raise Refusal(70008, "The code has expired.")
        if code.query.get("redirect_uri") != asked.get("redirect_uri"):
            raise Refusal(50011, "The redirect URI does not match.", error="invalid_request")
        if "code_challenge" in code.query:
            digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != code.query["code_challenge"]:
                raise Refusal(501481, "The code_verifier does not match.")
        code.used = True
        return self._tokens(app, code.user, code.scopes, nonce=code.query.get("nonce"))

    def _refresh(self, app: Application, tenant: Tenant | None, asked: dict[str, str]) -> Reply:
        refresh = self._refreshes.get(asked.get("refresh_token", ""))
        if refresh is None or refresh.client_id != app.client_id:
            raise Refusal(70000, "The refresh token is not valid.")
        if tenant and refresh.tenant is not tenant:
            raise Refusal(700005, "The token was issued for another tenant.")
        if refresh.generation != refresh.user.generation:
            raise Refusal(50173, "The grant has expired due to it being revoked.")
        if time.time() - refresh.last_used > IDLE_SECONDS:
            raise Refusal(700082, "The refresh token has expired due to inactivity.")
        if not refresh.user.enabled:
            raise Refusal(50057, "The user account is disabled.")
        if blocked := refresh.user.blocked or refresh.user.tenant.blocked:
            raise Refusal(blocked, "Blocked.", error="interaction_required")
        granted = self._in_force(refresh.user, refresh.tenant, app)
        wanted = _scopes(asked.get("scope", "")) - EXTRA
        if not wanted or not wanted <= granted:
            raise Refusal(65001, "The user or administrator has not consented.", suberror="consent_required")
        refresh.last_used = time.time()
        return self._tokens(app, refresh.user, granted)

    def _for_app(self, app: Application, tenant: Tenant) -> Reply:
        claims = {"roles": sorted(self._in_force(None, tenant, app)), "oid": app.client_id}
        access = self._sign(app, tenant, {**claims, "aud": GRAPH})
        return Reply(body={"token_type": "Bearer", "expires_in": self.token_seconds, "access_token": access})

    def _tokens(
        self, app: Application, user: User, scopes: frozenset[str], nonce: str | None = None
    ) -> Reply:
        person = {"oid": user.oid, "upn": user.address}
        access = self._sign(app, user.tenant, {**person, "aud": GRAPH, "scp": " ".join(sorted(scopes))})
        refresh = secrets.token_urlsafe(48)
        self._refreshes[refresh] = _Refresh(user, user.tenant, app.client_id, user.generation)
        identity = self._sign(
            app,
            user.tenant,
            {
                "oid": user.oid,
                "aud": app.client_id,
                "preferred_username": user.address,
                "name": user.name,
                **({"nonce": nonce} if nonce else {}),
            },
        )
        self.secrets_seen |= {refresh}
        info = json.dumps({"uid": user.oid, "utid": user.tenant.id}).encode()
        return Reply(
            body={
                "token_type": "Bearer",
                "scope": " ".join(f"{GRAPH}{scope}" for scope in sorted(scopes)) + " openid profile",
                "expires_in": self.token_seconds,
                "access_token": access,
                "refresh_token": refresh,
                "id_token": identity,
                "client_info": base64.urlsafe_b64encode(info).rstrip(b"=").decode(),
            }
        )

    def _sign(self, app: Application, tenant: Tenant, claims: dict[str, Any]) -> str:
        now = int(time.time())
        standard = {
            "iss": f"{self.url}/{tenant.id}/v2.0",
            "tid": tenant.id,
            "appid": app.client_id,
            "sub": claims.get("oid", app.client_id),
            "iat": now,
            "nbf": now,
            "exp": now + self.token_seconds,
            "ver": "2.0",
            "jti": uuid.uuid4().hex,
        }
        token = jwt.encode({**standard, **claims}, self._key, algorithm="RS256", headers={"kid": self._kid})
        self.secrets_seen.add(token)
        return token


def _scopes(text: str) -> frozenset[str]:
    return frozenset(scope.removeprefix(GRAPH) for scope in text.split())
