"""Header blocks: split, read, made into an envelope. Pure; a stranger's headers never raise."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared.mime import addresses
from shared.mime.charsets import clean, decode_words, header_text
from shared.model import Address, Envelope

Headers = Mapping[str, tuple[str, ...]]
"""Lower-case name -> unfolded values in order; octets are decoded, encoded words are not."""

LARGEST_BLOCK = 256 * 1024
LARGEST_TAIL = 64 * 1024
LARGEST_HEADER = 64 * 1024
LARGEST_STRUCTURAL = 4 * 1024
"""The stdlib's parameter parser takes quadratic time, so Content-* headers are cut earlier."""

LONGEST_LINE = 998
"""RFC 5322 section 2.1.1; also the most we keep of a subject or a Message-ID."""

MOST_REFERENCES = 1000
MOST_ANSWERED = 20
"""So many ids of In-Reply-To are near: there is room for references among the nearest that are looked up."""

FEW = 5
"""So many lines in a row that are no headers may stand between two."""

_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
_LINE = re.compile(rb"([^\r\n]*)(?:\r*\n|\r|\Z)")
_CONTENT = re.compile(rb"(?:MIME-Version|Content-[!-9;-~]+)[ \t]*:", re.IGNORECASE)
_AUTHOR = re.compile(rb"(?<![^\r\n])From[ \t]*:[^\r\n]*", re.IGNORECASE)
_GOES_ON = re.compile(_FIELD.pattern + rb"(?!//)")  # a URL is text
_NEXT = re.compile(rb"[\r\n](?=[!-9;-~]{1,200}[ \t]*:)")
_BLANK = re.compile(rb"\n\r*\n|\r\r")
_ID = re.compile(r"<([^<>]+)>")
_NEAREST_LAST = {"references", "in-reply-to"}


def split(raw: bytes) -> tuple[Headers, int]:
    """Split a message or part into its headers and where its body starts.

    Lines that are no headers are skipped if headers go on after a few of them; otherwise the body starts
    there (the blank line is missing). Of very many headers the first and last are read; see `_lines`.
    """
    found: dict[str, list[str]] = {}
    lines, body = _lines(raw)
    name, value = "", bytearray()
    for place, (start, line) in enumerate(lines):
        if line[:1] in (b" ", b"\t") and name:
            value += line
            continue
        field = _FIELD.match(line)
        if field:
            _keep(found, name, value)
            name, value = field[1].decode("ascii").lower(), bytearray(line[field.end() :])
        elif not (place == 0 and line.startswith(b"From ")) and not _goes_on(lines, place):
            body = start
            break
    _keep(found, name, value)
    return {key: tuple(values) for key, values in found.items()}, body


def _lines(raw: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Return the lines before the first empty one, and where the text after it starts.

    Of more than 256 kB these are the first, and those of the last 64 kB: relays put what they add above
    what the writer said. Every From is among them: a mail has one author, or none.
    """
    lines: list[tuple[int, bytes]] = []
    place = 0
    while place < min(len(raw), LARGEST_BLOCK) and (match := _LINE.match(raw, place)):
        if not match[1]:
            return lines, match.end()
        lines.append((place, match[1]))
        place = match.end()
    blank = _BLANK.search(raw, max(place - 2, 0))
    end = blank.start() if blank else len(raw)
    tail = max(place, end - LARGEST_TAIL)
    last = next((start for start, line in reversed(lines) if line[:1] not in (b" ", b"\t")), 0)
    lines += (
        [(found.start(), found[0]) for found in _AUTHOR.finditer(raw, last, tail)] if place < tail else []
    )
    lines += _headers_from(raw, tail, end)
    return lines, blank.end() if blank else len(raw)


def _headers_from(raw: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines from the first header on that begins there or later."""
    begins = _NEXT.search(raw, max(start - 1, 0), end)
    place = begins.end() if begins else end
    while place < end and (match := _LINE.match(raw, place, end)):
        yield place, match[1]
        place = match.end()


def _goes_on(lines: Sequence[tuple[int, bytes]], place: int) -> bool:
    """Whether this stray line stands between headers, alone or among a few."""
    return place > 0 and any(_GOES_ON.match(line) for _, line in lines[place + 1 : place + 1 + FEW])


def _keep(found: dict[str, list[str]], name: str, value: bytearray) -> None:
    if name:
        limit = LARGEST_STRUCTURAL if name.startswith("content-") else LARGEST_HEADER
        gap, limit = (
            ("", limit) if name != "from" else (" ", len(value))
        )  # what is left out could be an author
        kept = value[-limit:] if name in _NEAREST_LAST else value[:limit]
        found.setdefault(name, []).append(header_text(bytes(kept)).replace("\x00", gap).strip())


def first(headers: Headers, name: str) -> str:
    """Return the first value of a header, or ""."""
    return next((value for value in headers.get(name, ()) if value), "")


def subject(headers: Headers) -> str:
    """Return the decoded subject, one line."""
    return clean(decode_words(first(headers, "subject")))[:LONGEST_LINE]


def message_ids(*values: str) -> tuple[str, ...]:
    """Extract Message-IDs: folded inside, encoded (RFC 2047) or without angle brackets, as they come."""
    found: list[str] = []
    for value in values:
        text = decode_words(value)
        inner = ["".join(match.split()) for match in _ID.findall(text)]
        bare = [] if inner else [word.strip("<>,;") for word in text.split() if "@" in word.strip("<>@")]
        found += [f"<{clean(one)}>" for one in inner or bare if one and len(one) <= LONGEST_LINE]
    return tuple(dict.fromkeys(found))


def thread_ids(headers: Headers) -> tuple[tuple[str, ...], str | None]:
    """Return what a mail refers to, the nearest last, and the first id of In-Reply-To.

    That one is at the end where References lack it. A mail may answer several (RFC 5322 §3.6.4), and the
    others are nearer than all but the last two: there a mail of ours has its own id, whatever it answers.
    """
    answered = message_ids(*headers.get("in-reply-to", ()))[:MOST_REFERENCES]
    references = message_ids(*headers.get("references", ()))[-MOST_REFERENCES:]
    known = {*references}
    references += tuple(one for one in answered[:1] if one not in known)
    others = [one for one in reversed(answered[1:]) if one not in known]
    far, near = others[:-MOST_ANSWERED], others[-MOST_ANSWERED:]
    return (*far, *references[:-2], *near, *references[-2:]), answered[0] if answered else None


def date(text: str) -> datetime | None:
    """Read a date in UTC; None for what is unreadable or before 1970."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = read(clean(text)[:100])
            # "-0000" means a time in UTC without a zone (RFC 5322 section 3.3)
            found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
            continue  # the stdlib's parser has raised each of these on somebody's Date
        return found if found.year >= 1970 else None  # noqa: PLR2004 - the epoch
    return None


def arrival(block: bytes) -> datetime | None:
    """Return when the receiving server took a mail in: the topmost Received (RFC 5321 section 4.4)."""
    received = split(block)[0].get("received", ())
    return date(received[0].rpartition(";")[2]) if received else None


def envelope(
    header_bytes: bytes,
    *,
    ref: str,
    folder: str = "",
    is_sent: bool = False,
    size: int = 0,
    received_at: datetime | None = None,
    thread: str | None = None,
    threaded: bool = False,
) -> Envelope:
    """Make an envelope of a header block or a whole message (only the header block is looked at).

    Args:
        header_bytes: as received; never raises, whatever is in it.
        ref: the provider's own id, passed on like the other keywords.
        received_at: when the provider took it in (aware); the Date header stands in.
    """
    headers, _ = split(header_bytes)
    references, in_reply_to = thread_ids(headers)
    sent_at = date(first(headers, "date"))
    return Envelope(
        ref=ref,
        message_id=next(iter(message_ids(first(headers, "message-id"))), None),
        references=references,
        in_reply_to=in_reply_to,
        sender=addresses.author(headers.get("from", ())),
        recipients=addresses.read((*headers.get("to", ()), *headers.get("cc", ()))),
        subject=subject(headers),
        sent_at=sent_at,
        received_at=received_at or sent_at,
        thread=thread,
        threaded=threaded,
        folder=folder,
        is_sent=is_sent,
        size=size,
        headers=headers,
    )


def is_from(envelope: Envelope, address: str) -> bool:
    """Whether a mail says that this address wrote it, or submitted it for somebody (RFC 5322 §3.6.2)."""
    submitter = addresses.read(envelope.headers.get("sender", ()))[:1]
    return address in {person.address for person in (envelope.sender, *submitter) if person}


def written_to(raw: bytes) -> dict[str, tuple[Address, ...]]:
    """Return whom a mail that a user of ours wrote is for: `to`, `cc` and `bcc`.

    Raises InvalidRequest naming the one in which something is no address.
    """
    headers, _ = split(raw)
    return {side: addresses.written(headers.get(side, ()), side) for side in ("to", "cc", "bcc")}


def written_by(raw: bytes) -> tuple[Address, ...]:
    """Return whom a mail that a user of ours wrote names as its author.

    Raises InvalidRequest where something there is no address.
    """
    return addresses.written(split(raw)[0].get("from", ()), "from")


def content(raw: bytes) -> bytes:
    """Return a mail without its headers but for those that say what its body is (RFC 2045 section 3)."""
    (lines, _), (_, body) = _lines(raw), split(raw)
    kept, keep = [], False
    for start, line in lines:
        if start >= body:
            break  # the blank line is missing
        if line[:1] not in (b" ", b"\t"):
            keep = _CONTENT.match(line) is not None
        kept += [line] if keep else []
    return b"\r\n".join([*kept, b"", raw[body:]])


def with_bcc(raw: bytes, envelope_to: Sequence[str]) -> bytes:
    """Name the hidden recipients in the mail, for systems that take recipients from there only."""
    shown = {person.address for person in envelope(raw, ref="").recipients}
    hidden = [address for address in envelope_to if address.lower() not in shown]
    return b"Bcc: " + ",\r\n ".join(hidden).encode() + b"\r\n" + raw if hidden else raw
