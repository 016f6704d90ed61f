"""Which parts of a report tell what it is about, by a mail's BODYSTRUCTURE (RFC 3501 §6.4.5, §7.4.2)."""

import base64
import binascii
import quopri
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shared import mime

_GLOBAL = "message/global"
"""A mail with other than ASCII in its headers (RFC 6532), which servers take for a part of no structure."""

_REPORTS = {
    "message/delivery-status",
    "message/disposition-notification",
    "message/global-delivery-status",
    "message/global-disposition-notification",
    "message/global-headers",
    "text/rfc822-headers",
}


def _of_base64(data: bytes) -> bytes:
    """Decode base64; empty where it is broken, as a part that says nothing."""
    try:
        return base64.decodebytes(data)
    except binascii.Error:
        return b""


_DECODERS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"base64": _of_base64,
    b"quoted-printable": quopri.decodestring,
}


def sections(part: Any, number: str = "") -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Yield the sections that tell what a report is about."""
    match part:
        case [list(children), *_]:
            for index, child in enumerate(children, 1):
                yield from sections(child, f"{number}.{index}".lstrip("."))
        case [bytes(kind), bytes(subkind), _, _, _, bytes(encoding), *_]:
            content_type = f"{kind.decode('latin-1')}/{subkind.decode('latin-1')}".lower()
            decode = _DECODERS.get(encoding.lower(), bytes)
            if content_type == "message/rfc822":
                yield f"{number or '1'}.HEADER", bytes
            elif content_type == _GLOBAL:
                yield number or "1", lambda part: mime.head(decode(part))
            elif content_type in _REPORTS:
                yield number or "1", decode


def text_decoder(part: Any) -> Callable[[bytes], bytes] | None:
    """Return how the text is read of a mail that is nothing but that; no daemon writes it in base64."""
    match part:
        case [bytes(kind), bytes(subkind), _, _, _, bytes(encoding), *_]:
            plain = (kind.lower(), subkind.lower()) == (b"text", b"plain") and encoding.lower() != b"base64"
            return _DECODERS.get(encoding.lower(), bytes) if plain else None
    return None
