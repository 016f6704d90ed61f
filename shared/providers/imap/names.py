"""What folders are called: on the wire, where servers do as they like, and in our words."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from imapclient import imap_utf7

from shared import logs

Line = tuple[tuple[bytes, ...], bytes | None, bytes]
"""One line of LIST: attributes, delimiter, the name in the server's own bytes."""

_LINE = re.compile(rb'\(([^()]*)\) +(?:NIL|"\\?(.)"|"") +(.+)', re.IGNORECASE | re.DOTALL)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_SHIFTED = re.compile(rb"(?:[^&]|&[A-Za-z0-9+,]*-)*")
"""What can be modified UTF-7 at all: every ampersand begins a shift that also ends (RFC 3501 §5.1.3)."""


def listed(answer: Iterable[bytes | tuple[bytes, bytes] | None]) -> Iterator[Line]:
    """Read what LIST answered, as imaplib gives it; a line that cannot be understood hides no other one."""
    for told in answer:
        if not told or (isinstance(told, bytes) and told.startswith((b")", b" "))):
            continue  # what imaplib gives after a literal, or for no folder at all
        line = _line(*told) if isinstance(told, tuple) else _line(told)
        if line:
            yield line
        else:
            logs.log("folder.unread", level=logging.WARNING, provider="imap")


def decoded(wire: bytes) -> str:
    """Say what a folder is called: not every server knows modified UTF-7, and old ones not even UTF-8."""
    for decode in (_of_utf7, bytes.decode):
        with suppress(UnicodeError):
            return decode(wire)
    return wire.decode("latin-1")


def encoded(name: str) -> bytes:
    """Name a folder as the standard has it; see `spelt`."""
    return imap_utf7.encode(name)


def quoted(wire: bytes) -> bytes:
    """Make a quoted string of the server's own bytes (RFC 3501 §4.3), 8-bit ones included."""
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", wire) + b'"'


def spelt(wires: Iterable[bytes]) -> dict[str, bytes]:
    """Map names to the server's own spelling; of two that look alike, the standard's."""
    found: dict[str, bytes] = {}
    for wire in wires:
        name = decoded(wire)
        if name not in found or wire == encoded(name):
            found[name] = wire
    return found


def _line(told: bytes, literal: bytes | None = None) -> Line | None:
    found = _LINE.fullmatch(told)
    if not found:
        return None
    name = _name(found[3]) if literal is None else literal
    if not name or {*b"\0\r\n"} & {*name}:  # it would end our command, and begin one of the server's
        return None
    return tuple(found[1].split()), found[2], name


def _name(token: bytes) -> bytes:
    """Read a quoted name, or an atom: NIL, too, is a name here, and some servers quote no blanks."""
    if not token.startswith(b'"'):
        return token
    quoted = _QUOTED.match(token)
    return re.sub(rb"\\(.)", rb"\1", quoted[1]) if quoted else b""


def _of_utf7(wire: bytes) -> str:
    if not (wire.isascii() and _SHIFTED.fullmatch(wire)):
        raise UnicodeError
    name = imap_utf7.decode(wire)
    name.encode()  # half a character beyond the BMP is none
    return name
