"""Entra's pages, as plain as can be: sign in, accept or decline, and errors. Everything typed is escaped."""

from collections.abc import Mapping
from html import escape

from sandbox.entra.directory import Application, Refusal
from sandbox.pages import hidden, page
from sandbox.web import Reply


def sign_in(query: Mapping[str, str], words: str = "") -> Reply:
    """Ask for name and password; what was asked for travels along."""
    login = escape(query.get("login_hint", ""))
    return page(
        "Sign in",
        f"<p role='alert'>{escape(words)}</p><form method='post'>{_hidden(query)}"
        f"<p><label>Account <input name='login' value='{login}'></label></p>"
        "<p><label>Password <input name='password' type='password'></label></p>"
        "<p><button name='action' value='signin'>Sign in</button></p></form>",
    )


def consent(
    query: Mapping[str, str], application: Application, scopes: frozenset[str], session: str
) -> Reply:
    """Ask whether the app may; `session` proves who signed in."""
    items = "".join(f"<li>{escape(scope)}</li>" for scope in sorted(scopes))
    return page(
        "Permissions requested",
        f"<p>{escape(application.name)} would like to:</p><ul>{items}</ul><form method='post'>"
        f"{_hidden({**query, 'session': session})}"
        "<p><button name='action' value='accept'>Accept</button> "
        "<button name='action' value='decline'>Cancel</button></p></form>",
    )


def post_back(redirect_uri: str, answer: Mapping[str, str]) -> Reply:
    """Send the browser back with a form (response_mode=form_post)."""
    button = "<button>Go on</button></form>"
    return page("Go on", f"<form method='post' action='{escape(redirect_uri)}'>{hidden(answer)}{button}")


def failure(refusal: Refusal) -> Reply:
    """Show what is not sent back to the app."""
    return page("Sorry", f"<p role='alert'>{escape(str(refusal))}</p>", 400)


def _hidden(query: Mapping[str, str]) -> str:
    return hidden(query, "login", "password", "action")
