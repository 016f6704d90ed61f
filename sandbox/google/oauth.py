"""Google's sign-in: authorize, token, revoke, userinfo and certificates.

https://developers.google.com/identity/protocols/oauth2/web-server and .../oauth2/service-account
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

import jwt

from sandbox.google import forms
from sandbox.google.directory import GMAIL_SCOPES, SCOPE, SIGN_IN, Client, Directory, User, full
from sandbox.google.faults import Faults
from sandbox.google.grants import Access, Grants, Refresh
from sandbox.google.keys import Keys
from sandbox.google.problems import Problem, Refusal
from sandbox.web import Reply, Request

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
UNAUTHORIZED = (
    "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the"
    " scopes requested."
)
STALE = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    " Check your iat and exp values in the JWT claim."
)


@dataclass
class SignIn:
    """The endpoints of accounts.google.com and oauth2.googleapis.com.

    Attributes:
        auto_sign_in: answer `authorize` at once, for the `login_hint`, or for this address whatever the hint is.
    """

    url: str
    issuer: str
    directory: Directory
    grants: Grants
    keys: Keys
    faults: Faults
    now: Callable[[], float]
    auto_sign_in: bool | str = False
    _proofs: dict[str, User] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply | None:
        """Answer, or None for paths that are somebody else's."""
        routes: dict[str, Callable[[Request], Reply]] = {
            "/.well-known/openid-configuration": lambda _: Reply(body=self._configuration()),
            "/oauth2/v3/certs": lambda _: self._public(self.keys.jwks()),
            "/oauth2/v1/certs": lambda _: self._public(self.keys.certificates()),
            "/o/oauth2/v2/auth": self._authorize,
            "/o/oauth2/auth": self._authorize,
            "/token": self._token,
            "/revoke": self._revoke,
            "/tokeninfo": self._tokeninfo,
            "/v1/userinfo": self._userinfo,
            "/oauth2/v3/userinfo": self._userinfo,
        }
        route = routes.get(request.path)
        return route(request) if route else None

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.url}/o/oauth2/v2/auth",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/v1/userinfo",
            "revocation_endpoint": f"{self.url}/revoke",
            "jwks_uri": f"{self.url}/oauth2/v3/certs",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["plain", "S256"],
        }

    @staticmethod
    def _public(body: Any) -> Reply:
        return Reply(200, body, {"Cache-Control": "public, max-age=19845, must-revalidate, no-transform"})

    # Signing in

    def _authorize(self, request: Request) -> Reply:
        asked = {**request.query, **(request.form if request.method == "POST" else {})}
        ticked = [v for k, v in parse_qsl(request.body.decode()) if k == "granted"]
        try:
            client, wanted = self._checked(asked)
            if asked.get("action") == "cancel":
                return self._back(asked, {"error": "access_denied"})
            user = self._who(asked)
            if isinstance(user, Reply):
                return user
            self._admit(user, client)
        except Refusal as refusal:
            return forms.failure(refusal)
        granted = self.grants.consents.get((user.sub, client.project), set())
        if self.auto_sign_in:
            chosen = wanted - {full(scope) for scope in self.faults.partial_consent}
        elif asked.get("action") == "continue":
            chosen = frozenset(ticked) & wanted | wanted & SIGN_IN
        elif wanted <= granted and "consent" not in asked.get("prompt", ""):
            chosen = wanted
        else:
            proof = secrets.token_urlsafe(24)
            self._proofs[proof] = user
            return forms.consent(asked, client.name, wanted, user.address, proof)
        return self._granted(asked, client, user, chosen)

    def _granted(self, asked: dict[str, str], client: Client, user: User, chosen: frozenset[str]) -> Reply:
        if not chosen:
            return self._back(asked, {"error": "access_denied"})
        held = self.grants.consents.setdefault((user.sub, client.project), set())
        first = not held
        merged = chosen | held if asked.get("include_granted_scopes") == "true" else chosen
        held |= chosen
        offline = asked.get("access_type") == "offline" and (first or "consent" in asked.get("prompt", ""))
        code = self.grants.new_code({**asked, "offline": "1" if offline else ""}, user, frozenset(merged))
        shown = {"code": code, "scope": " ".join(sorted(merged)), "authuser": "0", "prompt": "consent"}
        return self._back(asked, {**shown, "hd": user.domain.name})

    def _checked(self, asked: dict[str, str]) -> tuple[Client, frozenset[str]]:
        client = self.directory.clients.get(asked.get("client_id", ""))
        if client is None:
            raise Refusal("invalid_client", "The OAuth client was not found.", 401)
        if asked.get("redirect_uri") not in client.redirect_uris:
            raise Refusal("redirect_uri_mismatch", "The redirect URI is not registered.")
        if asked.get("response_type") != "code":
            raise Refusal("invalid_request", "response_type has to be code.")
        wanted = frozenset(full(scope) for scope in asked.get("scope", "").split())
        unknown = wanted - SIGN_IN - GMAIL_SCOPES
        if unknown or not wanted:
            raise Refusal(
                "invalid_scope", f"Some requested scopes were invalid. {{invalid={sorted(unknown)}}}"
            )
        return client, wanted

    def _who(self, asked: dict[str, str]) -> User | Reply:
        """Return who signs in, or the form to do so."""
        if self.auto_sign_in:
            hint = self.auto_sign_in if isinstance(self.auto_sign_in, str) else asked.get("login_hint", "")
            if user := self.directory.users.get(hint.lower()):
                return user
        if asked.get("prompt") == "none":
            return self._back(asked, {"error": "interaction_required"})
        if asked.get("action") == "continue" and asked.get("proof") in self._proofs:
            return self._proofs.pop(asked["proof"])
        if asked.get("action") == "signin":
            user = self.directory.users.get(asked.get("login", "").lower())
            if user and user.password == asked.get("password"):
                return user
            return forms.sign_in(asked, "Wrong password. Try again.")
        return forms.sign_in(asked)

    @staticmethod
    def _admit(user: User, client: Client) -> None:
        if user.suspended:
            raise Refusal("account_disabled", "Your account has been suspended by the administrator.", 403)
        if client.client_id in user.domain.blocked_clients:
            raise Refusal("admin_policy_enforced", "Access to your account data is restricted by policies.")

    @staticmethod
    def _back(asked: dict[str, str], answer: dict[str, str]) -> Reply:
        state = {"state": asked["state"]} if asked.get("state") else {}
        return Reply(302, None, {"Location": f"{asked['redirect_uri']}?{urlencode({**state, **answer})}"})

    # Tokens

    def _token(self, request: Request) -> Reply:
        form = request.form
        try:
            match form.get("grant_type"):
                case "authorization_code":
                    return self._redeem(form, self._client(request, form))
                case "refresh_token":
                    return self._refresh(form, self._client(request, form))
                case kind if kind == JWT_BEARER:
                    return self._for_service(form.get("assertion", ""))
        except Refusal as refusal:
            return refusal.reply()
        return Refusal("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}").reply()

    def _client(self, request: Request, form: dict[str, str]) -> Client:
        given = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, _, word = base64.b64decode(encoded).decode().partition(":")
            given = unquote_plus(name), unquote_plus(word)
        client = self.directory.clients.get(given[0])
        if client is None:
            raise Refusal("invalid_client", "The OAuth client was not found.", 401)
        if client.client_secret != given[1]:
            raise Refusal("invalid_client", "The provided client secret is invalid.", 401)
        return client

    def _redeem(self, form: dict[str, str], client: Client) -> Reply:
        code = self.grants.redeem(form.get("code", ""), client)
        if code.query["redirect_uri"] != form.get("redirect_uri"):
            raise Refusal("redirect_uri_mismatch", "Bad Request")
        challenge, verifier = code.query.get("code_challenge"), form.get("code_verifier", "")
        if challenge and not verifier:
            raise Refusal("invalid_grant", "Missing code verifier.")
        if challenge and challenge not in {verifier, _s256(verifier)}:
            raise Refusal("invalid_grant", "Invalid code verifier.")
        refresh = None
        extra = {}
        if code.query["offline"] and not self.faults.no_refresh_token:
            extra["refresh_token"], refresh = self.grants.new_refresh(code.user, client, code.scopes)
        body = self._issued(code.user, client, code.scopes, refresh, code.query.get("nonce"))
        return Reply(body=body | extra)

    def _refresh(self, form: dict[str, str], client: Client) -> Reply:
        refresh = self.grants.refresh(form.get("refresh_token", ""), client)
        return Reply(body=self._issued(refresh.user, client, refresh.scopes, refresh))

    def _issued(
        self,
        user: User,
        client: Client,
        scopes: frozenset[str],
        refresh: Refresh | None,
        nonce: str | None = None,
    ) -> dict[str, Any]:
        until = self.now() + self.grants.token_seconds
        access = Access(user, client.client_id, client.project, scopes, until)
        body: dict[str, Any] = {
            "access_token": self.grants.new_access(access, refresh),
            "expires_in": self.grants.token_seconds - 1,
            "scope": " ".join(sorted(scopes)),
            "token_type": "Bearer",
        }
        if "openid" in scopes:
            claims = {
                "aud": client.client_id,
                "azp": client.client_id,
                "sub": user.sub,
                "hd": user.domain.name,
            }
            person = {"email": user.address, "email_verified": True}
            if f"{SCOPE}userinfo.email" in scopes:
                claims |= person
            body["id_token"] = self.identity(claims | ({"nonce": nonce} if nonce else {}))
        return body

    def identity(self, claims: dict[str, Any], seconds: int = 3600) -> str:
        """Return a signed token that says who somebody is; `claims` may replace the usual ones."""
        now = int(time.time())
        return self.keys.sign({"iss": self.issuer, "iat": now, "exp": now + seconds, **claims})

    # Service accounts

    def _for_service(self, assertion: str) -> Reply:
        try:
            issuer = str(jwt.decode(assertion, options={"verify_signature": False}).get("iss"))
            account = self.directory.service_accounts.get(issuer)
            if account is None or account.disabled:
                raise Refusal("invalid_grant", "Invalid grant: account not found")
            if jwt.get_unverified_header(assertion).get("kid") not in {None, account.key_id}:
                raise Refusal("invalid_grant", "Invalid JWT Signature.")
            claims = jwt.decode(
                assertion,
                account.key.public_key(),
                algorithms=["RS256"],
                audience=[f"{self.url}/token", "https://oauth2.googleapis.com/token"],
                leeway=300,
            )
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as error:
            raise Refusal("invalid_grant", STALE) from error
        except jwt.InvalidAudienceError as error:
            raise Refusal("invalid_grant", "Invalid JWT: Failed audience check.") from error
        except jwt.PyJWTError as error:
            raise Refusal("invalid_grant", "Invalid JWT Signature.") from error
        if claims["exp"] - claims["iat"] > 3660:
            raise Refusal("invalid_grant", STALE)
        wanted = frozenset(full(scope) for scope in str(claims.get("scope", "")).split())
        if not wanted:
            raise Refusal("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        user = self._delegated(account.client_id, str(claims["sub"]), wanted) if claims.get("sub") else None
        until = self.now() + self.grants.token_seconds
        token = self.grants.new_access(
            Access(user, account.client_id, account.project, wanted, until, account)
        )
        expires = self.grants.token_seconds - 1
        return Reply(body={"access_token": token, "expires_in": expires, "token_type": "Bearer"})

    def _delegated(self, client_id: str, subject: str, wanted: frozenset[str]) -> User:
        """Return the user a service account may speak for. Raises Refusal."""
        user = self.directory.users.get(subject.lower())
        if user is None or user.suspended:
            raise Refusal("invalid_grant", "Invalid email or User ID")
        allowed = user.domain.delegations.get(client_id, set())
        if self.faults.late_delegation > 0:
            self.faults.late_delegation -= 1
            allowed = set()
        if not wanted <= allowed:
            raise Refusal("unauthorized_client", UNAUTHORIZED, 401)
        return user

    # The rest

    def _revoke(self, request: Request) -> Reply:
        token = request.form.get("token") or request.query.get("token", "")
        if not self.grants.revoke(token):
            return Refusal("invalid_token", "Token expired or revoked").reply()
        return Reply(body={})

    def _tokeninfo(self, request: Request) -> Reply:
        asked = {**request.query, **request.form}
        access = self.grants.access(asked.get("access_token", ""))
        if access is None:
            return Refusal("invalid_token", "Invalid Value").reply()
        body = {"azp": access.client_id, "aud": access.client_id, "scope": " ".join(sorted(access.scopes))}
        body["expires_in"] = str(int(access.expires_at - self.now()))
        if access.user:
            body |= {"sub": access.user.sub, "email": access.user.address, "email_verified": "true"}
        return Reply(body=body)

    def _userinfo(self, request: Request) -> Reply:
        access = self.grants.access(request.bearer)
        if access is None or access.user is None or not access.scopes & SIGN_IN:
            challenge = {
                "WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error=invalid_token'
            }
            return Problem(401, "authError", "Invalid Credentials", headers=challenge).reply()
        user = access.user
        body = {"sub": user.sub, "email": user.address, "email_verified": True, "hd": user.domain.name}
        return Reply(body=body | {"name": user.name})


def _s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
