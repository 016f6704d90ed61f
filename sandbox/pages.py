"""Plain pages of sign-in services: they need no script, and everything typed is escaped."""

from collections.abc import Mapping
from html import escape

from sandbox.web import Reply

_HTML = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}


def page(title: str, body: str, status: int = 200) -> Reply:
    """Return a page; `body` is HTML."""
    head = f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title></head>"
    return Reply(status, f"{head}<body><h1>{escape(title)}</h1>{body}</body></html>".encode(), _HTML)


def hidden(fields: Mapping[str, str], *without: str) -> str:
    """Return fields that travel along with a form."""
    return "".join(
        f"<input type='hidden' name='{escape(name)}' value='{escape(value)}'>"
        for name, value in fields.items()
        if name not in without
    )
