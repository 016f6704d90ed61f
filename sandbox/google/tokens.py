"""Google's token endpoint: codes, refresh tokens, and signed assertions of service accounts.

https://developers.google.com/identity/protocols/oauth2/web-server and .../oauth2/service-account
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import jwt

from sandbox.google.accounts import Accounts
from sandbox.google.directory import SCOPE, Client, User, full
from sandbox.google.grants import Access, Refresh
from sandbox.google.problems import Refusal
from sandbox.web import Reply, Request

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
UNAUTHORIZED = (
    "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any"
    " of the scopes requested."
)
STALE = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    " Check your iat and exp values in the JWT claim."
)


@dataclass
class Tokens:
    """The endpoint."""

    accounts: Accounts

    def answer(self, request: Request) -> Reply:
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
        client = self.accounts.directory.clients.get(given[0])
        if client is None:
            raise Refusal("invalid_client", "The OAuth client was not found.", 401)
        if client.client_secret != given[1]:
            raise Refusal("invalid_client", "The provided client secret is invalid.", 401)
        return client

    def _redeem(self, form: dict[str, str], client: Client) -> Reply:
        code = self.accounts.grants.redeem(form.get("code", ""), client)
        if code.query["redirect_uri"] != form.get("redirect_uri"):
            raise Refusal("redirect_uri_mismatch", "Bad Request")
        challenge, verifier = code.query.get("code_challenge"), form.get("code_verifier", "")
        if challenge and not verifier:
            raise Refusal("invalid_grant", "Missing code verifier.")
        if challenge and challenge not in {verifier, _s256(verifier)}:
            raise Refusal("invalid_grant", "Invalid code verifier.")
        refresh = None
        extra = {}
        if code.query["offline"] and not self.accounts.faults.no_refresh_token:
            extra["refresh_token"], refresh = self.accounts.grants.new_refresh(code.user, client, code.scopes)
        body = self._issued(code.user, client, code.scopes, refresh, code.query.get("nonce"))
        return Reply(body=body | extra)

    def _refresh(self, form: dict[str, str], client: Client) -> Reply:
        refresh = self.accounts.grants.refresh(form.get("refresh_token", ""), client)
        return Reply(body=self._issued(refresh.user, client, refresh.scopes, refresh))

    def _issued(
        self,
        user: User,
        client: Client,
        scopes: frozenset[str],
        refresh: Refresh | None,
        nonce: str | None = None,
    ) -> dict[str, Any]:
        until = self.accounts.now() + self.accounts.grants.token_seconds
        access = Access(user, client.client_id, client.project, scopes, until)
        body: dict[str, Any] = {
            "access_token": self.accounts.grants.new_access(access, refresh),
            "expires_in": self.accounts.grants.token_seconds - 1,
            "scope": " ".join(sorted(scopes)),
            "token_type": "Bearer",
        }
        if "openid" in scopes:
            app = client.client_id
            claims: dict[str, Any] = {"aud": app, "azp": app, "sub": user.sub, "hd": user.domain.name}
            if f"{SCOPE}userinfo.email" in scopes:
                claims |= {"email": user.address, "email_verified": True}
            body["id_token"] = self.accounts.identity(claims | ({"nonce": nonce} if nonce else {}))
        return body

    # Service accounts

    def _for_service(self, assertion: str) -> Reply:
        try:
            issuer = str(jwt.decode(assertion, options={"verify_signature": False}).get("iss"))
            account = self.accounts.directory.service_accounts.get(issuer)
            if account is None:
                raise Refusal("invalid_grant", "Invalid grant: account not found")
            if account.disabled:
                raise Refusal("invalid_grant", "Robot is disabled.")
            if jwt.get_unverified_header(assertion).get("kid") not in {None, account.key_id}:
                raise Refusal("invalid_grant", "Invalid JWT Signature.")
            claims = jwt.decode(
                assertion,
                account.key.public_key(),
                algorithms=["RS256"],
                audience=[f"{self.accounts.url}/token", "https://oauth2.googleapis.com/token"],
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
        until = self.accounts.now() + self.accounts.grants.token_seconds
        token = self.accounts.grants.new_access(
            Access(user, account.client_id, account.project, wanted, until, account)
        )
        expires = self.accounts.grants.token_seconds - 1
        return Reply(body={"access_token": token, "expires_in": expires, "token_type": "Bearer"})

    def _subject(self, address: str) -> User | None:
        users = self.accounts.directory.users
        if self.accounts.faults.alias_subjects:
            return next((one for one in users.values() if address in {one.address, *one.aliases}), None)
        return users.get(address)

    def _delegated(self, client_id: str, subject: str, wanted: frozenset[str]) -> User:
        """Return the user a service account may speak for. Raises Refusal."""
        user = self._subject(subject.lower())
        if user is None or user.suspended:
            raise Refusal("invalid_grant", "Invalid email or User ID")
        allowed = user.domain.delegations.get(client_id, set())
        if self.accounts.faults.late_delegation > 0:
            self.accounts.faults.late_delegation -= 1
            allowed = set()
        if not wanted <= allowed:
            raise Refusal("unauthorized_client", UNAUTHORIZED, 401)
        return user


def _s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
