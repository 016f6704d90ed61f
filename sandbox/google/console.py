"""One page of the Admin console: domain-wide delegation, as the link to it with values in it opens it.

https://support.google.com/a/answer/162106
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from sandbox.google.accounts import Accounts
from sandbox.google.directory import GMAIL_SCOPES, SIGN_IN, full
from sandbox.pages import page
from sandbox.web import Reply, Request

PATH = "/ac/owl/domainwidedelegation"


@dataclass
class Console:
    """The page; an administrator signs in and authorises in one step."""

    accounts: Accounts

    def answer(self, request: Request) -> Reply | None:
        """Answer, or None for other paths."""
        if request.path != PATH:
            return None
        asked = {**request.query, **(request.form if request.method == "POST" else {})}
        if request.method != "POST":
            return self._form(asked)
        user = self.accounts.directory.users.get(asked.get("login", "").lower())
        if user is None or user.password != asked.get("password") or not user.admin:
            return self._form(asked, "Sign in as an administrator of the domain.")
        client_id = asked.get("clientIdToAdd", "").strip()
        scopes = {full(one.strip()) for one in asked.get("clientScopeToAdd", "").split(",") if one.strip()}
        known = {account.client_id for account in self.accounts.directory.service_accounts.values()}
        if client_id not in known or not scopes or scopes - GMAIL_SCOPES - SIGN_IN:
            return self._form(asked, "Client ID or scopes are not valid.")
        self.accounts.directory.delegate(user.domain.name, client_id, *scopes)
        return page("API clients", f"<p>{escape(client_id)} may act for {escape(user.domain.name)}.</p>")

    @staticmethod
    def _form(asked: Mapping[str, str], words: str = "") -> Reply:
        fields = (
            ("login", "Administrator", "text"),
            ("password", "Password", "password"),
            ("clientIdToAdd", "Client ID", "text"),
            ("clientScopeToAdd", "OAuth scopes (comma-delimited)", "text"),
        )
        inputs = "".join(
            f"<p><label>{title} <input name='{name}' type='{kind}'"
            f" value='{escape(asked.get(name, '') if kind == 'text' else '')}'></label></p>"
            for name, title, kind in fields
        )
        button = "<p><button>Authorize</button></p>"
        return page(
            "Domain-wide delegation",
            f"<p role='alert'>{escape(words)}</p><form method='post'>{inputs}{button}</form>",
        )
