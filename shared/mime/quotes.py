"""Plain text as it was meant: unflowed (RFC 3676), and the reply without what it quotes. Pure, display only.

No library knows the German forms (measured in 2026-11), so this is a compact rule set of our own: cut
at the first line that certainly starts a quote. Whatever it gets wrong is one click away.
"""

import re
from collections.abc import Sequence

_MOST_CHARACTERS = 50_000
_MOST_LINES = 2000
_LEAST = 2
"""Fewer characters before a cut are no reply: the quote stands on top and the answer below."""

_DASHED = re.compile(
    r"\s*-{2,}\s*(original message|original appointment|forwarded message|ursprüngliche nachricht"
    r"|originalnachricht|ursprünglicher termin|weitergeleitete nachricht|message d'origine|mensaje original"
    r"|messaggio originale|oorspronkelijk bericht)\b.*",
    re.IGNORECASE,
)
# "On <date>, <name> wrote:" in the languages that put it in this order; wrapped over up to three lines
_ATTRIBUTION = re.compile(
    r"\s*(on\b.{6,300}\bwrote"
    r"|am\b.{6,300}\bschrieb\b.{0,200}"
    r"|.{1,200}<[^<>\s]{3,200}>\s*schrieb\b.{0,80}"
    r"|.{1,200}<[^<>\s]{3,200}>\s*wrote"
    r"|le\b.{6,300}\ba écrit"
    r"|el\b.{6,300}\bescribió"
    r"|il\b.{6,300}\bha scritto"
    r"|op\b.{6,300}\bschreef\b.{0,200})\s?:\s*",
    re.IGNORECASE,
)
_ATTRIBUTION_WORD = re.compile(
    r"\b(wrote|schrieb|a écrit|escribió|ha scritto|schreef)\b|^\s*(on|am|le|el|il|op)\b", re.IGNORECASE
)
_RULER = re.compile(r"\s*_{10,}\s*")
# Outlook's block: From/Von, then at least two of the others right below
_FROM = re.compile(r"\s*\*?(from|von|de|da|van)\*?\s?:\*?\s*\S", re.IGNORECASE)
_HEADER = re.compile(
    r"\s*\*?(sent|date|to|cc|subject|gesendet|datum|an|betreff|envoyé|à|objet|enviado|para|asunto"
    r"|inviato|a|oggetto|verzonden|aan|onderwerp)\*?\s?:\*?\s",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"-- ?$|\s*(sent from my \w+.{0,40}|sent from outlook.{0,40}|get outlook for .{0,20}"
    r"|von meinem .{1,40} gesendet|gesendet von (outlook|mail|meinem).{0,60}"
    r"|diese nachricht wurde von .{1,60} gesendet|envoyé de mon .{1,40})$",
    re.IGNORECASE,
)


def unflow(text: str, *, delete_space: bool) -> str:
    """Join the lines of format=flowed text; `delete_space` is delsp=yes (RFC 3676 section 4)."""
    paragraphs: list[list[str]] = []
    open_depth = -1
    for line in text.splitlines():
        bare = line.lstrip(">")
        depth = len(line) - len(bare)
        bare = bare.removeprefix(" ")
        flowed = bare.endswith(" ") and bare != "-- "
        kept = bare[:-1] if flowed and delete_space else bare
        if open_depth == depth and bare != "-- ":
            paragraphs[-1].append(kept)
        else:
            paragraphs.append([">" * depth + " " * (depth > 0), kept])
        open_depth = depth if flowed else -1
    return "\n".join("".join(paragraph) for paragraph in paragraphs)


def plain(text: str) -> str:
    """Return the reply without quoted mail and signature; the whole text where nothing else is left."""
    lines = text[:_MOST_CHARACTERS].splitlines()[:_MOST_LINES]
    end = next((place for place in range(len(lines)) if _starts_quote(lines, place)), len(lines))
    reply = _unquoted(lines[:end])
    if len(reply) < _LEAST:  # the answer stands below or between the quoted lines
        reply = _unquoted([line for place, line in enumerate(lines) if not _attribution(lines, place)])
    return reply if len(reply) >= _LEAST else "\n".join(lines).strip()


def snippet(text: str, length: int = 200) -> str:
    """Return the beginning of the reply as one line."""
    return " ".join(plain(text).split())[:length].strip()


def _unquoted(lines: Sequence[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if _SIGNATURE.match(line) and any(kept):
            break
        if not line.lstrip().startswith(">"):
            kept.append(line.rstrip())
    return "\n".join(kept).strip()


def _starts_quote(lines: Sequence[str], place: int) -> bool:
    line = lines[place]
    if _DASHED.fullmatch(line[:200]) or _attribution(lines, place) or _introduces(lines, place):
        return True
    if _RULER.fullmatch(line):  # Outlook draws one above its block
        place += 1
    if place == len(lines) or not _FROM.match(lines[place]):
        return False
    below = [_HEADER.match(other) for other in lines[place + 1 : place + 7]]
    return sum(match is not None for match in below) >= 2  # noqa: PLR2004 - two more fields make it a block


def _introduces(lines: Sequence[str], place: int) -> bool:
    """Whether a line with a digit (a date) and a colon at its end is above quoted lines: any language."""
    line = lines[place].rstrip()
    if not line.endswith(":") or not any(map(str.isdigit, line[:300])):
        return False
    below = next((other for other in lines[place + 1 : place + 3] if other.strip()), "")
    return below.lstrip().startswith(">")


def _attribution(lines: Sequence[str], place: int) -> bool:
    """Whether a quote is introduced here, in one line or wrapped over up to three."""
    if not _ATTRIBUTION_WORD.search(lines[place][:300]) and "<" not in lines[place]:
        return False
    joined = ""
    for line in lines[place : place + 3]:
        if not line.strip():
            return False
        joined = f"{joined} {line.strip().removeprefix('>').strip()}"[:600]
        if _ATTRIBUTION.fullmatch(joined):
            return True
    return False
