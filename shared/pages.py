"""The page a browser ends on after a consent or a sign-in: plain HTML, without scripts. Pure."""

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Literal

from shared.explaining import Explanation

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--ground:#eef1f5;--faint:#566072;--good:#0b6b3a;--bad:#a3271f;--act:#1d4fb8}
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf2;--paper:#1d232c;--ground:#12161c;--faint:#a7b1c0;--good:#6fd39b;--bad:#ff9b92;--act:#9dbcff}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:flex;align-items:center;justify-content:center;padding:1.5rem;background:var(--ground);color:var(--ink);font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:34rem;background:var(--paper);border-radius:.75rem;padding:2rem;border-top:.35rem solid var(--mark)}
.good{--mark:var(--good)}.bad{--mark:var(--bad)}.waiting{--mark:var(--act)}
h1{margin:0 0 1rem;font-size:1.5rem;line-height:1.25;overflow-wrap:anywhere;hyphens:auto}
p{margin:0 0 1rem;overflow-wrap:anywhere}
.next{font-weight:600}
a{color:var(--act)}
.button{display:inline-block;padding:.6rem 1.1rem;border:.125rem solid var(--act);border-radius:.5rem;background:none;color:var(--act);font:inherit;font-weight:600;text-decoration:none;cursor:pointer}
button.button{margin:0 .75rem .75rem 0}
:focus-visible{outline:.2rem solid var(--act);outline-offset:.2rem}
footer{margin-top:1.5rem;color:var(--faint);font-size:.875rem}
code{font-size:.9em}
"""

_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "back": "Back to Zalion",
        "again": "Try again now",
        "yes": "Yes, connect",
        "no": "No",
        "id": "Correlation ID for support:",
    },
    "de": {
        "back": "Zurück zu Zalion",
        "again": "Jetzt noch einmal versuchen",
        "yes": "Ja, verbinden",
        "no": "Nein",
        "id": "Korrelations-ID für den Support:",
    },
}

CSP = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Nothing but the page's own style, known by its hash."""

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def page(
    explanation: Explanation,
    *,
    language: str,
    mood: Literal["good", "waiting", "bad"],
    correlation_id: str,
    return_url: str | None = None,
    retry_url: str | None = None,
    retry_after: int | None = None,
    ask: str = "",
) -> str:
    """Render a whole HTML document.

    Args:
        return_url: where the button back leads; the caller has checked it against the allowed ones.
        retry_url: where a further attempt leads; with `retry_after` (seconds) the browser goes by itself.
        ask: the state to come back with, beside the `answer` to the page's question, by POST to `answer`.
    """
    words = _WORDS[language]
    refresh = (
        f'<meta http-equiv="refresh" content="{retry_after};url={escape(retry_url)}">'
        if retry_url and retry_after
        else ""
    )
    again = f'<p><a class="button" href="{escape(retry_url)}">{words["again"]}</a></p>' if retry_url else ""
    question = (
        f'<form method="post" action="answer"><input type="hidden" name="state" value="{escape(ask)}">'
        f'<button class="button" name="answer" value="yes">{words["yes"]}</button>'
        f'<button class="button" name="answer" value="no">{words["no"]}</button></form>'
        if ask
        else ""
    )
    back = f'<p><a class="button" href="{escape(return_url)}">{words["back"]}</a></p>' if return_url else ""
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="robots" content="noindex">\n{refresh}<title>{escape(explanation.title)} - Zalion</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<main class="{mood}" role="{"alert" if mood == "bad" else "status"}">\n'
        f"<h1>{escape(explanation.title)}</h1>\n<p>{escape(explanation.detail)}</p>\n"
        f'<p class="next">{escape(explanation.fix)}</p>\n{question}{again}{back}'
        f"<footer>{words['id']} <code>{escape(correlation_id)}</code></footer>\n</main>\n</body>\n</html>\n"
    )
