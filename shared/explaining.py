"""What can come of a consent or a sign-in, in human words, for pages and for problems in JSON. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.explanations import TEXTS

LANGUAGES = ("en", "de")
UNEXPECTED = "unexpected"

_RANGE = re.compile(
    r"\s*([A-Za-z*]{1,8})(?:-[A-Za-z0-9-]*)?\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?\s*"
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Plain text: what happened, why, and the next step."""

    key: str
    title: str
    detail: str
    fix: str


def explain(key: str, language: str = "en", **facts: str) -> Explanation:
    """Return the explanation of a key, or of something unexpected; unused facts are ignored."""
    known = key if key in TEXTS else UNEXPECTED
    title, detail, fix = (
        _filled(text, facts) for text in TEXTS[known][language if language in LANGUAGES else "en"]
    )
    return Explanation(known, title, detail, fix)


def language_of(accept_language: str | None) -> str:
    """Choose a language by `Accept-Language` (RFC 9110 section 12.5.4); English for what cannot be read."""
    best, weight = "en", 0.0
    for part in (accept_language or "").split(",")[:20]:
        found = _RANGE.fullmatch(part)
        if found and found[1].lower() in LANGUAGES and float(found[2] or 1) > weight:
            best, weight = found[1].lower(), float(found[2] or 1)
    return best


def _filled(text: str, facts: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: facts.get(match[1], ""), text)
