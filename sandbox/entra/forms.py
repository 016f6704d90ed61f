"""Entra's pages, as plain as can be: sign in, accept or decline, and errors. Everything typed is escaped."""

from collections.abc import Mapping
from html import escape

from sandbox.entra.directory import Application, Refusal
from sandbox.web import Reply

_HTML = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}


def sign_in(query: Mapping[str, str], words: str = "") -> Reply:
    """Ask for name and password; what was asked for travels along."""
    login = escape(query.get("login_hint", ""))
    return _page(
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
    return _page(
        "Permissions requested",
        f"<p>{escape(application.name)} would like to:</p><ul>{items}</ul><form method='post'>"
        f"{_hidden({**query, 'session': session})}"
        "<p><button name='action' value='accept'>Accept</button> "
        "<button name='action' value='decline'>Cancel</button></p></form>",
    )


def post_back(redirect_uri: str, answer: Mapping[str, str]) -> Reply:
    """Send the browser back with a form (response_mode=form_post)."""
    return _page(
        "Go on",
        f"<form method='post' action='{escape(redirect_uri)}'>{_hidden(answer)}<button>Go on</button></form>",
    )


def failure(refusal: Refusal) -> Reply:
    """Show what is not sent back to the app."""
    return Reply(400, _document("Sorry", f"<p role='alert'>{escape(str(refusal))}</p>"), _HTML)


def _hidden(values: Mapping[str, str]) -> str:
    return "".join(
        f"<input type='hidden' name='{escape(name)}' value='{escape(value)}'>"
        for name, value in values.items()
        if name not in {"login", "password", "action"}
    )


def _page(title: str, body: str) -> Reply:
    return Reply(200, _document(title, body), _HTML)


def _document(title: str, body: str) -> bytes:
    head = f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title></head>"
    return f"{head}<body><h1>{escape(title)}</h1>{body}</body></html>".encode()
