"""The parts of a message as slices of its bytes, within limits. Pure; nothing here raises.

Not the stdlib's parser: it recurses (a message nested a thousand deep ends it), knows no limits,
and gives an attached message back only re-serialised, which breaks its signatures. What a header
says is still read by the stdlib.
"""

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import decode_params, unquote
from functools import cached_property

from shared.mime.charsets import base64, clean, decode, decode_words
from shared.mime.envelopes import Headers, first, split

MOST_PARTS = 1000
DEEPEST = 50

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}")
_SNIFFED = re.compile(rb"(?:\A|\n)--(\S[^\r\n]{0,199})\r*\n(?=content-)", re.IGNORECASE)
# Not Message.get_param: it takes quadratic time (13 ms for 4 kB of semicolons, 2026-11-24).
_PARAMETER = re.compile(r';\s*([^\s=;"]{1,60})\s*=\s*("(?:[^"\\]|\\.)*"|"?[^;]*)', re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One part: its headers, its body as received, and where it stands.

    Attributes:
        group: the outermost multipart/alternative around it, 0 if none.
        root: whether it is the message itself.
    """

    headers: Headers
    body: bytes
    group: int = 0
    root: bool = False

    @property
    def content_type(self) -> str:
        """`type/subtype` in lower case; text/plain where there is none (RFC 2045 section 5.2)."""
        said = first(self.headers, "content-type").partition(";")[0].strip().lower()
        if said in {"", "text"}:
            return "text/plain"
        return said if _TYPE.fullmatch(said) else "application/octet-stream"

    @property
    def disposition(self) -> str:
        """`inline`, `attachment`, another token or ""."""
        return first(self.headers, "content-disposition").partition(";")[0].strip().lower()

    def param(self, name: str, header: str = "content-type") -> str:
        """Return a header's parameter, RFC 2231 continuations and encoded words decoded, or ""."""
        return (self._type_parameters if header == "content-type" else self._disposition_parameters).get(
            name, ""
        )

    @cached_property
    def _type_parameters(self) -> Mapping[str, str]:
        return _parameters(first(self.headers, "content-type"))

    @cached_property
    def _disposition_parameters(self) -> Mapping[str, str]:
        return _parameters(first(self.headers, "content-disposition"))

    def content(self) -> tuple[bytes, str | None]:
        """Undo the transfer encoding; a note says when it was damaged."""
        encoding = first(self.headers, "content-transfer-encoding").lower().strip(" \t;\"'")
        if encoding == "base64":
            content, whole = base64(self.body)
            return content, None if whole else "damaged base64"
        if encoding == "quoted-printable":
            return binascii.a2b_qp(self.body), None
        if encoding in {"x-uuencode", "uuencode", "x-uue", "uue"}:
            return _uudecoded(self.body), None
        return self.body, None


def parts(raw: bytes, notes: list[str]) -> Iterator[Part]:
    """Yield the leaves of a message in order; what is beyond the limits is left out and noted.

    An attached message (message/rfc822) is a leaf: its headers must not leak into the outer mail.
    """
    count = 0
    stack = [(_part(raw, root=True), 0)]
    while stack:
        part, depth = stack.pop()
        count += 1
        if count > MOST_PARTS:
            notes.append(f"more than {MOST_PARTS} parts: the rest is left out")
            return
        if not part.content_type.startswith("multipart/"):
            yield part
            continue
        if depth >= DEEPEST:
            notes.append(f"nested deeper than {DEEPEST}: left out")
            continue
        group = part.group or (count if part.content_type == "multipart/alternative" else 0)
        slices = _split(part, notes)
        if slices is None:  # no boundary anywhere: show what there is
            yield Part({}, part.body, part.group, root=part.root)
            continue
        digest = part.content_type == "multipart/digest"
        children = [_part(piece, group, digest=digest) for piece in slices[: MOST_PARTS + 1]]
        stack += [(child, depth + 1) for child in reversed(children)]


def _part(raw: bytes, group: int = 0, *, root: bool = False, digest: bool = False) -> Part:
    headers, body = split(raw)
    if digest and "content-type" not in headers:  # RFC 2046 section 5.1.5
        headers = {**headers, "content-type": ("message/rfc822",)}
    return Part(headers, raw[body:], group, root)


def _split(part: Part, notes: list[str]) -> list[bytes] | None:
    """Cut a multipart body at its boundary, or at what looks like one if the declared one is not there."""
    boundary = part.param("boundary").encode("utf-8", "replace").rstrip()
    if boundary and (found := _cut(part.body, boundary)):
        pieces, closed = found
        if not closed:
            notes.append("the closing boundary is missing")
        return pieces
    sniffed = _SNIFFED.search(part.body)
    if sniffed and (found := _cut(part.body, sniffed[1].rstrip())):
        notes.append("the declared boundary does not occur: another one was used")
        return found[0]
    notes.append("no boundary found: shown as one text")
    return None


def _cut(body: bytes, boundary: bytes) -> tuple[list[bytes], bool] | None:
    """Return what stands between the delimiter lines, and whether the last one closes (RFC 2046 §5.1.1)."""
    pieces: list[bytes] = []
    delimiter = b"--" + boundary
    start, place = -1, body.find(delimiter)
    while place >= 0:
        end = place + len(delimiter)
        line_end = _line_end(body, end)
        rest = body[end:line_end].strip()
        if (place == 0 or body[place - 1] in b"\r\n") and rest in (b"", b"--"):
            if start >= 0:
                pieces.append(_chomp(body[start:place]))
            if rest or len(pieces) > MOST_PARTS:
                return pieces, True
            start = min(line_end + (2 if body[line_end : line_end + 2] == b"\r\n" else 1), len(body))
        place = body.find(delimiter, end)
    return ([*pieces, body[start:]], False) if start >= 0 else None


def _line_end(body: bytes, place: int) -> int:
    ends = (body.find(b"\n", place, place + 200), body.find(b"\r", place, place + 200))
    return min((end for end in ends if end >= 0), default=min(len(body), place + 200))


def _chomp(piece: bytes) -> bytes:
    """The line break before a delimiter belongs to it (RFC 2046 section 5.1.1)."""
    return piece[:-2] if piece.endswith(b"\r\n") else piece[:-1] if piece[-1:] in (b"\r", b"\n") else piece


def _parameters(value: str) -> Mapping[str, str]:
    """Read `; name=value` pairs; the first of a name counts."""
    pairs = [(name.lower(), _unopened(said.strip())) for name, said in _PARAMETER.findall(value)]
    try:
        decoded = decode_params([("", ""), *pairs])[1:]
    except TypeError:  # `name*` beside `name*1` (CPython 3.13.0): take each for itself
        decoded = [(name.partition("*")[0], said) for name, said in pairs]
    return {name: _parameter(said) for name, said in reversed(decoded)}


def _unopened(value: str) -> str:
    """Drop a quotation mark that is never closed."""
    return value[1:] if value.startswith('"') and (value[-1] != '"' or len(value) == 1) else value


def _parameter(value: str | tuple[str | None, str | None, str]) -> str:
    if isinstance(value, str):
        return clean(decode_words(unquote(value)))
    charset, _, text = value
    try:
        data = unquote(text).encode("latin-1")  # octets, as the stdlib shows them
    except UnicodeEncodeError:
        return clean(unquote(text))
    return clean(decode_words(decode(data, charset)[0]))


def _uudecoded(body: bytes) -> bytes:
    message = Message()
    message["content-transfer-encoding"] = "x-uuencode"
    message.set_payload(body.decode("ascii", "surrogateescape"))
    content = message.get_payload(decode=True)  # gives the text back where it is no uuencode
    return content if isinstance(content, bytes) else body
