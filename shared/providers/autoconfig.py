"""What a domain says about its mail servers in Thunderbird's format, fetched and read with distrust.

https://www.bucksch.org/1/projects/thunderbird/autoconfiguration/ (config file format 1.1). The host is the
domain's to choose, so it is judged by `network`; the answer is small, comes at once, or does not count.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidRequest, Rejected
from shared.providers import network, transport

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST = 64 * 1024
"""Octets; real ones have two or three thousand."""

CONNECT = 3.0
TITLE = "The domain's autoconfiguration"
_SECURITY = {"SSL": "tls", "STARTTLS": "starttls"}
"""`plain` is left out: no password goes over the wire in the open."""

_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Place:
    """A server of a mail protocol. `username` is empty where it is the address."""

    protocol: str
    host: str
    port: int
    security: str
    username: str = ""


def fetch(url: str, allowed_hosts: frozenset[str], seconds: float = 8.0) -> bytes | None:
    """Fetch a domain's file over HTTPS; None where there is none. Redirects are not followed.

    Raises InvalidRequest for a host that may not be spoken to, Temporary for one that does not answer in
    time, Rejected for an answer that is too large.
    """
    over = transport.adapter(allowed_hosts, ports=transport.PORTS, connect=CONNECT, until=seconds)
    session = transport.session(allowed_hosts, over)
    try:
        with transport.translated(TITLE):
            response = session.get(url, timeout=(CONNECT, seconds), allow_redirects=False, stream=True)
            if response.status_code != HTTPStatus.OK:
                return None
            return _short(response)
    finally:
        session.close()


def read(text: bytes, address: str) -> list[Place]:
    """Return the servers of a file that speak TLS, in its order. Raises Rejected for what is no such file."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # the last: its encoding
        raise Rejected(f"{TITLE} cannot be read.") from error
    kinds = {"incomingServer": ("imap", "pop3"), "outgoingServer": ("smtp",)}
    local, _, domain = address.rpartition("@")
    words = {"%EMAILADDRESS%": address, "%EMAILLOCALPART%": local, "%EMAILDOMAIN%": domain}
    found = (
        _place(element, words)
        for tag, protocols in kinds.items()
        for element in root.iterfind(f"emailProvider/{tag}")
        if element.get("type") in protocols
    )
    return [place for place in found if place]


def _place(element: "Element", words: Mapping[str, str]) -> Place | None:
    host, port, username = (_said(element, name, words) for name in ("hostname", "port", "username"))
    security = _SECURITY.get(_said(element, "socketType", {}).upper())
    if not security or not _PORT.fullmatch(port) or not 0 < int(port) < 2**16:
        return None
    try:
        name = network.Server(host, int(port), "tls").name
    except InvalidRequest:
        return None  # a name that cannot be: other servers of the file may be usable
    same = username.lower() in {"", words["%EMAILADDRESS%"]}
    return Place(str(element.get("type")), name, int(port), security, "" if same else username)


def _said(element: "Element", name: str, words: Mapping[str, str]) -> str:
    text = (element.findtext(name) or "").strip()
    for word, value in words.items():
        text = text.replace(word, value)
    return text if text.isprintable() else ""


def _short(response: Any) -> bytes:
    text = b"".join(_pieces(response))
    if len(text) > LARGEST:
        raise Rejected(f"{TITLE} is larger than {LARGEST // 1024} KB.")
    return text


def _pieces(response: Any) -> Iterator[bytes]:
    """Yield what comes, and no more than one piece too much."""
    size = 0
    for piece in response.iter_content(LARGEST):
        yield piece
        size += len(piece)
        if size > LARGEST:
            response.close()
            return
