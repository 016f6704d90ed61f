"""Google's authorize page: who it is, what the app may do, and back to the app with a code.

https://developers.google.com/identity/protocols/oauth2/web-server
"""

import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from sandbox.google import forms
from sandbox.google.accounts import Accounts
from sandbox.google.directory import GMAIL_SCOPES, SIGN_IN, Client, User, full
from sandbox.google.problems import Refusal
from sandbox.web import Reply, Request


@dataclass
class Authorizing:
    """The page. `_proofs` remembers who signed in while the consent is on the screen."""

    accounts: Accounts
    _proofs: dict[str, User] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply:
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
        granted = self.accounts.grants.consents.get((user.sub, client.project), set())
        if self.accounts.auto_sign_in:
            chosen = wanted - {full(scope) for scope in self.accounts.faults.partial_consent}
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
        held = self.accounts.grants.consents.setdefault((user.sub, client.project), set())
        first = not held
        merged = chosen | held if asked.get("include_granted_scopes") == "true" else chosen
        held |= chosen
        offline = asked.get("access_type") == "offline" and (first or "consent" in asked.get("prompt", ""))
        code = self.accounts.grants.new_code(
            {**asked, "offline": "1" if offline else ""}, user, frozenset(merged)
        )
        shown = {"code": code, "scope": " ".join(sorted(merged)), "authuser": "0", "prompt": "consent"}
        return self._back(asked, {**shown, "hd": user.domain.name})

    def _checked(self, asked: dict[str, str]) -> tuple[Client, frozenset[str]]:
        client = self.accounts.directory.clients.get(asked.get("client_id", ""))
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
        if self.accounts.auto_sign_in:
            hint = (
                self.accounts.auto_sign_in
                if isinstance(self.accounts.auto_sign_in, str)
                else asked.get("login_hint", "")
            )
            if user := self.accounts.directory.users.get(hint.lower()):
                return user
        if asked.get("prompt") == "none":
            return self._back(asked, {"error": "interaction_required"})
        if asked.get("action") == "continue" and asked.get("proof") in self._proofs:
            return self._proofs.pop(asked["proof"])
        if asked.get("action") == "signin":
            user = self.accounts.directory.users.get(asked.get("login", "").lower())
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
