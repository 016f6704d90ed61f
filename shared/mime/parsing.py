"""A whole mail, read for people: texts, attachments, and what had to be repaired. Pure.

`parse` never raises on anything a stranger mailed; the raw bytes stay the truth.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from urllib.parse import unquote

from shared.mime import addresses, envelopes
from shared.mime.charsets import clean, decode
from shared.mime.files import default_name, safe_name
from shared.mime.html import LARGEST, text_of
from shared.mime.quotes import snippet, unflow
from shared.mime.structure import Part, parts
from shared.model import Address, Attachment

_CID = re.compile(r"""\bcid:([^\s"'<>)]{1,500})""", re.IGNORECASE)
_ENCRYPTED = "encrypted: open it in a mail program that has the key"
_SIGNED = "signed; the signature was not checked"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a mail says.

    Attributes:
        sender: the single From address, else None.
        references: as in `Envelope`.
        text: the plain text, or the HTML's words where there is no text part; None for neither.
        html: as received, not sanitised, `cid:` links kept; None where there is none.
        snippet: at most 200 characters of the reply, without what it quotes.
        notes: what had to be repaired or could not be shown.
    """

    sender: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    subject: str
    sent_at: datetime | None
    message_id: str | None
    references: tuple[str, ...]
    in_reply_to: str | None
    text: str | None
    html: str | None
    snippet: str
    attachments: tuple[Attachment, ...]
    notes: tuple[str, ...]


@dataclass
class _Body:
    """One stretch of the mail's text, in the forms it came in."""

    text: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)


def parse(raw: bytes) -> Parsed:
    """Read a whole mail."""
    notes: list[str] = []
    headers, _ = envelopes.split(raw)
    text, html, files = _contents(raw, notes)
    header = envelopes.envelope(raw, ref="")
    notes += _header_notes(headers, header.sender)
    return Parsed(
        sender=header.sender,
        to=addresses.read(headers.get("to", ())),
        cc=addresses.read(headers.get("cc", ())),
        bcc=addresses.read(headers.get("bcc", ())),
        reply_to=addresses.read(headers.get("reply-to", ())),
        subject=header.subject,
        sent_at=header.sent_at,
        message_id=header.message_id,
        references=header.references,
        in_reply_to=header.in_reply_to,
        text=text,
        html=html,
        snippet=snippet(text or ""),
        attachments=files,
        notes=tuple(dict.fromkeys(notes)),
    )


def files(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the decoded content of each attachment, in order."""
    for place, part in enumerate(part for part in parts(raw, []) if not _is_body(part)):
        content, _ = part.content()
        yield _attachment(part, place, len(content)).name, content


def attachment(raw: bytes, index: int) -> tuple[Attachment, bytes] | None:
    """Return one attachment and its decoded content; `index` as in `parse`. None where there is none."""
    for place, part in enumerate(part for part in parts(raw, []) if not _is_body(part)):
        if place == index:
            content, _ = part.content()
            return _attachment(part, place, len(content)), content
    return None


def _contents(raw: bytes, notes: list[str]) -> tuple[str | None, str | None, tuple[Attachment, ...]]:
    bodies: dict[int, _Body] = {}
    files: list[Attachment] = []
    for place, part in enumerate(parts(raw, notes)):
        content, damage = part.content()
        notes += [damage] if damage else []
        if not _is_body(part):
            files.append(_attachment(part, len(files), len(content)))
            notes += _container_notes(part, files[-1].name)
            continue
        body = bodies.setdefault(part.group or -place - 1, _Body())
        (body.html if part.content_type == "text/html" else body.text).append(_text(part, content, notes))
    text, html = _joined(list(bodies.values()), notes)
    return text, html, _inlined(files, html)


def _is_body(part: Part) -> bool:
    """Whether a leaf is read as text: inline text without a file name, or the whole message."""
    if part.content_type not in {"text/plain", "text/html"} or part.disposition == "attachment":
        return False
    return part.root or not (part.param("filename", "content-disposition") or part.param("name"))


def _text(part: Part, content: bytes, notes: list[str]) -> str:
    text, note = decode(content, part.param("charset") or None)
    notes += [note] if note else []
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if part.content_type == "text/plain" and part.param("format").lower() == "flowed":
        return unflow(text, delete_space=part.param("delsp").lower() == "yes")
    return text


def _joined(bodies: list[_Body], notes: list[str]) -> tuple[str | None, str | None]:
    """Join the stretches, each in the wanted form or made of the other one, so that no form misses any."""
    if not bodies:
        return None, None
    html = None
    if any(body.html for body in bodies):
        html = "\n".join("\n".join(body.html) or _as_html("\n".join(body.text)) for body in bodies)
    text = "\n".join("\n".join(body.text) or text_of("\n".join(body.html)) for body in bodies)
    if html is not None and len(html) > LARGEST:
        html = None
        notes.append("the HTML is too large to be shown")
    if len(text) > LARGEST:
        text = text[:LARGEST]
        notes.append("the text is too long to be shown whole")
    return text, html


def _as_html(text: str) -> str:
    return f"<pre>{escape(text)}</pre>" if text.strip() else ""


def _attachment(part: Part, index: int, size: int) -> Attachment:
    said = safe_name(part.param("filename", "content-disposition") or part.param("name"))
    if not said and part.content_type == "message/rfc822":
        inner, _ = envelopes.split(part.content()[0])
        said = safe_name(f"{envelopes.subject(inner).replace('/', '-') or 'message'}.eml")
    content_id = clean(envelopes.first(part.headers, "content-id")).strip("<> ")
    name = said or default_name(part.content_type, index)
    return Attachment(index, name, part.content_type, size, content_id=content_id[:500] or None)


def _inlined(files: list[Attachment], html: str | None) -> tuple[Attachment, ...]:
    """Mark what the HTML shows; an inline part that nothing refers to is an ordinary attachment."""
    shown = {unquote(cid).lower() for cid in _CID.findall(html or "")}
    return tuple(_marked(file) if (file.content_id or "").lower() in shown else file for file in files)


def _marked(file: Attachment) -> Attachment:
    return Attachment(
        file.index, file.name, file.content_type, file.size, inline=True, content_id=file.content_id
    )


def _container_notes(part: Part, name: str) -> Iterator[str]:
    """Say what stands behind containers that we keep closed."""
    kind = part.content_type
    if kind == "application/ms-tnef" or name.lower() == "winmail.dat":
        yield "attachments may be inside winmail.dat (Outlook's TNEF)"
    elif kind in {"application/pkcs7-mime", "application/x-pkcs7-mime"}:
        yield _SIGNED if part.param("smime-type").lower() == "signed-data" else _ENCRYPTED
    elif kind == "application/pgp-encrypted":
        yield _ENCRYPTED
    elif kind.endswith(("pkcs7-signature", "pgp-signature")):
        yield _SIGNED


def _header_notes(headers: envelopes.Headers, sender: Address | None) -> Iterator[str]:
    if not headers:
        yield "no headers"
    elif sender is None:
        yield "not exactly one sender"
    elif "@" in sender.name and sender.address not in sender.name.lower():
        yield "the sender's name shows another address"
    if len(headers.get("message-id", ())) > 1:
        yield "more than one Message-ID: the first counts"
    if headers and envelopes.date(envelopes.first(headers, "date")) is None:
        yield "no readable date"
