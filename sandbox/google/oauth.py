"""Google's sign-in: which path is answered by whom, revocation, and who somebody is.

https://developers.google.com/identity/protocols/oauth2/web-server
"""

from dataclasses import dataclass
from typing import Any

from sandbox.google.accounts import Accounts
from sandbox.google.authorizing import Authorizing
from sandbox.google.directory import SIGN_IN
from sandbox.google.problems import Problem, Refusal
from sandbox.google.tokens import Tokens
from sandbox.web import Reply, Request


@dataclass
class SignIn:
    """The endpoints of accounts.google.com and oauth2.googleapis.com."""

    accounts: Accounts

    def __post_init__(self) -> None:
        self._authorizing, self._tokens = Authorizing(self.accounts), Tokens(self.accounts)

    def answer(self, request: Request) -> Reply | None:
        """Answer, or None for paths that are somebody else's."""
        routes = {
            "/.well-known/openid-configuration": lambda _: Reply(body=self._configuration()),
            "/oauth2/v3/certs": lambda _: self._public(self.accounts.keys.jwks()),
            "/oauth2/v1/certs": lambda _: self._public(self.accounts.keys.certificates()),
            "/o/oauth2/v2/auth": self._authorizing.answer,
            "/o/oauth2/auth": self._authorizing.answer,
            "/token": self._tokens.answer,
            "/revoke": self._revoke,
            "/tokeninfo": self._tokeninfo,
            "/v1/userinfo": self._userinfo,
            "/oauth2/v3/userinfo": self._userinfo,
        }
        route = routes.get(request.path)
        return route(request) if route else None

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.accounts.issuer,
            "authorization_endpoint": f"{self.accounts.url}/o/oauth2/v2/auth",
            "token_endpoint": f"{self.accounts.url}/token",
            "userinfo_endpoint": f"{self.accounts.url}/v1/userinfo",
            "revocation_endpoint": f"{self.accounts.url}/revoke",
            "jwks_uri": f"{self.accounts.url}/oauth2/v3/certs",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["plain", "S256"],
        }

    @staticmethod
    def _public(body: Any) -> Reply:
        return Reply(200, body, {"Cache-Control": "public, max-age=19845, must-revalidate, no-transform"})

    def _revoke(self, request: Request) -> Reply:
        token = request.form.get("token") or request.query.get("token", "")
        if not self.accounts.grants.revoke(token):
            return Refusal("invalid_token", "Token expired or revoked").reply()
        return Reply(body={})

    def _tokeninfo(self, request: Request) -> Reply:
        asked = {**request.query, **request.form}
        access = self.accounts.grants.access(asked.get("access_token", ""))
        if access is None:
            return Refusal("invalid_token", "Invalid Value").reply()
        body = {"azp": access.client_id, "aud": access.client_id, "scope": " ".join(sorted(access.scopes))}
        body["expires_in"] = str(int(access.expires_at - self.accounts.now()))
        if access.user:
            body |= {"sub": access.user.sub, "email": access.user.address, "email_verified": "true"}
        return Reply(body=body)

    def _userinfo(self, request: Request) -> Reply:
        access = self.accounts.grants.access(request.bearer)
        if access is None or access.user is None or not access.scopes & SIGN_IN:
            challenge = {
                "WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error=invalid_token'
            }
            return Problem(401, "authError", "Invalid Credentials", headers=challenge).reply()
        user = access.user
        body = {"sub": user.sub, "email": user.address, "email_verified": True, "hd": user.domain.name}
        return Reply(body=body | {"name": user.name})
