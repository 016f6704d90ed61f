"""The token endpoint: codes, refresh tokens, and apps that sign in as themselves.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow#request-an-access-token
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509

from sandbox.entra.directory import GRAPH, Application, Refusal, Tenant, User, resource_scopes
from sandbox.web import Reply

if TYPE_CHECKING:
    from sandbox.entra.server import Entra

CODE_SECONDS = 600
IDLE_SECONDS = 90 * 24 * 3600


@dataclass(slots=True)
class Code:
    """An authorization code: for whom, for what, and its PKCE challenge."""

    query: Mapping[str, str]
    user: User
    scopes: frozenset[str]
    expires_at: float
    used: bool = False


@dataclass(slots=True)
class Refresh:
    """A refresh token; it dies with the user's generation."""

    user: User
    client_id: str
    generation: int
    last_used: float = field(default_factory=time.time)


class Codes:
    """The codes given out."""

    def __init__(self, seen: set[str]) -> None:
        self._seen = seen
        self._codes: dict[str, Code] = {}

    def issue(self, query: Mapping[str, str], user: User, scopes: frozenset[str]) -> str:
        """Give out a code."""
        code = secrets.token_urlsafe(32)
        self._seen.add(code)
        self._codes[code] = Code(query, user, scopes, time.time() + CODE_SECONDS)
        return code

    def redeem(self, app: Application, asked: Mapping[str, str]) -> Code:
        """Take a code back; it is good once. Raises Refusal."""
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
        return code


def answer(entra: "Entra", name: str, asked: dict[str, str]) -> Reply:
    """Answer a token request. Raises Refusal."""
    if entra.refusals:
        raise entra.refusals.popleft()
    tenant = entra.directory.tenant_of(name)
    app = entra.directory.application(asked.get("client_id", ""), tenant)
    _prove(entra, app, asked, name)
    match asked.get("grant_type"):
        case "authorization_code":
            code = entra.codes.redeem(app, asked)
            asked_for = {*code.query.get("scope", "").split()}
            return _tokens(entra, app, code.user, code.scopes, asked_for, code.query.get("nonce"))
        case "refresh_token":
            return _refreshed(entra, app, tenant, asked)
        case "client_credentials":
            if tenant is None:
                raise Refusal(9001023, "Not supported over /common.", error="invalid_request")
            if asked.get("scope") != f"{GRAPH}.default":
                raise Refusal(70011, "The scope has to be the resource's .default.", error="invalid_scope")
            return Reply(body=_access(entra, entra.application_token(app, tenant)))
    raise Refusal(70003, "Unsupported grant type.", error="unsupported_grant_type")


def _prove(entra: "Entra", app: Application, asked: Mapping[str, str], name: str) -> None:
    """Check the client's secret or certificate. Raises Refusal."""
    if assertion := asked.get("client_assertion"):
        audience = [f"{entra.url}/{each}/oauth2/v2.0/token" for each in {name, app.tenant.id}]
        _check_assertion(app, assertion, audience)
        return
    given = asked.get("client_secret")
    if not given:
        raise Refusal(7000218, "client_assertion or client_secret is needed.", error="invalid_client")
    if given not in app.secrets:
        raise Refusal(7000215, "Invalid client secret provided.", error="invalid_client")
    if app.secrets[given] < time.time():
        raise Refusal(7000222, "The provided client secret keys are expired.", error="invalid_client")


def _check_assertion(app: Application, assertion: str, audience: list[str]) -> None:
    """Check that one of the app's living certificates signed this, for us, as the app. Raises Refusal."""
    for certificate in map(x509.load_pem_x509_certificate, map(str.encode, app.certificates)):
        key: Any = certificate.public_key()
        try:
            claims = jwt.decode(assertion, key, algorithms=["PS256", "RS256"], audience=audience)
        except jwt.PyJWTError:
            continue
        living = certificate.not_valid_after_utc > datetime.now(UTC)
        if living and claims.get("iss") == claims.get("sub") == app.client_id:
            return
    raise Refusal(700027, "The certificate is not registered on the application.", error="invalid_client")


def _refreshed(entra: "Entra", app: Application, tenant: Tenant | None, asked: Mapping[str, str]) -> Reply:
    refresh = entra.refreshes.get(asked.get("refresh_token", ""))
    if refresh is None or refresh.client_id != app.client_id:
        raise Refusal(70000, "The refresh token is not valid.")
    user = refresh.user
    if tenant and user.tenant is not tenant:
        raise Refusal(700005, "The token was issued for another tenant.")
    if refresh.generation != user.generation:
        raise Refusal(50173, "The grant has expired due to it being revoked.")
    if time.time() - refresh.last_used > IDLE_SECONDS:
        raise Refusal(700082, "The refresh token has expired due to inactivity.")
    if not user.enabled:
        raise Refusal(50057, "The user account is disabled.")
    if blocked := user.blocked or user.tenant.blocked:
        raise Refusal(blocked, "Blocked.", error="interaction_required")
    granted = entra.in_force(user, user.tenant, app)
    wanted = resource_scopes(asked.get("scope", ""))
    if not wanted or not wanted <= granted:
        raise Refusal(65001, "The user or administrator has not consented.", suberror="consent_required")
    refresh.last_used = time.time()
    return _tokens(entra, app, user, granted, {*asked.get("scope", "").split(), "offline_access"})


def _tokens(
    entra: "Entra",
    app: Application,
    user: User,
    scopes: frozenset[str],
    asked_for: set[str],
    nonce: str | None = None,
) -> Reply:
    """Answer with tokens: a refresh token for offline_access only, an id_token for openid only."""
    info = json.dumps({"uid": user.oid, "utid": user.tenant.id}).encode()
    body = {
        **_access(entra, entra.access_token(app, user, scopes)),
        "scope": " ".join(
            [*(GRAPH + scope for scope in sorted(scopes)), *sorted(asked_for & {"openid", "profile"})]
        ),
        "client_info": base64.urlsafe_b64encode(info).rstrip(b"=").decode(),
    }
    if "offline_access" in asked_for:
        body["refresh_token"] = refresh = secrets.token_urlsafe(48)
        entra.refreshes[refresh] = Refresh(user, app.client_id, user.generation)
        entra.secrets_seen.add(refresh)
    if "openid" in asked_for:
        body["id_token"] = entra.id_token(app, user, nonce)
    return Reply(body=body)


def _access(entra: "Entra", token: str) -> dict[str, Any]:
    seconds = entra.token_seconds
    return {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}
