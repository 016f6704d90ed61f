"""Google's pages: sign in, tick what the app may do, and errors that the app never sees."""

from collections.abc import Mapping
from html import escape

from sandbox.google.directory import SIGN_IN
from sandbox.google.problems import Refusal
from sandbox.pages import hidden, page
from sandbox.web import Reply

TYPED = ("password", "action", "login", "granted")


def sign_in(query: Mapping[str, str], words: str = "") -> Reply:
    """Ask for address and password; what was asked for travels along."""
    login = escape(query.get("login_hint", ""))
    return page(
        "Sign in with Google",
        f"<p role='alert'>{escape(words)}</p><form method='post'>{hidden(query, *TYPED)}"
        f"<p><label>Email <input name='login' value='{login}'></label></p>"
        "<p><label>Password <input name='password' type='password'></label></p>"
        "<p><button name='action' value='signin'>Next</button></p></form>",
    )


def consent(query: Mapping[str, str], app: str, scopes: frozenset[str], login: str, proof: str) -> Reply:
    """Ask what the app may do: one box for each scope beside those of the sign-in itself."""
    boxes = "".join(
        f"<li><label><input type='checkbox' name='granted' value='{escape(scope)}'>"
        f" {escape(scope)}</label></li>"
        for scope in sorted(scopes - SIGN_IN)
    )
    kept = {"login": login, "proof": proof}
    return page(
        f"{app} wants access to your Google Account",
        f"<p>{escape(login)}</p><form method='post'>{hidden(query, 'proof', *TYPED)}{hidden(kept)}"
        f"<p>Select what {escape(app)} can access</p><ul>{boxes}</ul>"
        "<p><button name='action' value='cancel'>Cancel</button> "
        "<button name='action' value='continue'>Continue</button></p></form>",
    )


def failure(refusal: Refusal) -> Reply:
    """Show what is not sent back to the app."""
    words = f"Error {refusal.status}: {refusal.error}"
    return page(
        "Access blocked", f"<p role='alert'>{escape(words)}</p><p>{escape(refusal.words)}</p>", refusal.status
    )
