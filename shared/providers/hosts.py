"""Hosts that users type: their names as TLS checks them, their addresses, and which of them may be asked."""

import ipaddress
import re
import socket
from concurrent.futures import Future
from itertools import zip_longest
from threading import Thread
from typing import Any

from shared import deadline
from shared.errors import InvalidRequest
from shared.providers.base import Field
from shared.providers.silence import unreached

LOOKED_UP = 20.0
"""Seconds for a name's addresses: of three name servers two may be dead, and the system gives each five."""

_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's host, https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b::/96",  # NAT64 and the next: an IPv4 address, perhaps a private one, in disguise
        "64:ff9b:1::/48",
        "2002::/16",  # 6to4
        "2001::/32",  # Teredo
        "::/96",  # v4-compatible
        "fec0::/10",  # site-local
    )
]
"""What `ipaddress.is_global` lets pass in some Python, measured with 3.11 and 3.13."""

Address = tuple[socket.AddressFamily, str]

_HOST = re.compile(r"(?i)[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")
HIGHEST_PORT = 65_535
REFUSED = "This host or port cannot be used."
REFUSED_FIX = "Use the public name of the mail server and one of its usual ports."
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def is_public(address: str) -> bool:
    """Whether an address may be spoken to: global unicast, and no other address in disguise."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip in network for network in _NOT_PUBLIC)


def host_name(host: str, field: str = "host") -> str:
    """Return a host as TLS checks it: lower case, A-labels. Raises InvalidRequest naming `field`."""
    name = host.strip().rstrip(".").lower()
    try:
        if ":" in name:
            return str(ipaddress.IPv6Address(name))
        name = name.encode("idna").decode("ascii")
    except ValueError:
        name = ""
    if not _HOST.fullmatch(name):
        raise InvalidRequest(REFUSED, field=field, fix=REFUSED_FIX)
    return name


def name_field(purpose: str) -> Field:
    """Make the part of a settings form that asks for a host."""
    return Field("host", purpose, required=True, place=True, check=host_name)


def port_field(purpose: str, default: int) -> Field:
    """Make the part of a settings form that asks for a port."""
    return Field("port", purpose, "integer", default=default, place=True, most=HIGHEST_PORT)


def resolve(name: str, port: int, seconds: float) -> list[Address]:
    """Return the addresses of a name, asked for so many seconds at most.

    Raises Temporary where nobody answers; InvalidRequest for a name that is not there, in the words for a
    private host, or the answer would tell which internal names exist.
    """
    try:
        found = _told(name, port, min(seconds, max(deadline.left(), 0)))
    except TimeoutError as error:
        raise unreached() from error
    except socket.gaierror as error:
        if error.errno not in _NO_SUCH_NAME:
            raise unreached() from error
        raise InvalidRequest(REFUSED, field="host", fix=REFUSED_FIX) from error
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _told(name: str, port: int, seconds: float) -> list[Any]:
    """Ask the system's resolver for addresses. Raises TimeoutError, gaierror.

    It knows no time-out of ours, and nobody can interrupt it. So a thread waits for it that may be left
    behind, of its own for each question: in a pool, those of silent domains would keep back all others.
    """
    told: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            told.set_result(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            told.set_exception(error)

    Thread(target=ask, name="resolver", daemon=True).start()
    return told.result(seconds)


def alternating(addresses: list[Address]) -> list[Address]:
    """Take the families in turn (RFC 8305 §4): a machine may have no way out to all of one."""
    families = dict.fromkeys(family for family, _ in addresses)
    rows = zip_longest(*([one for one in addresses if one[0] == family] for family in families))
    return [one for row in rows for one in row if one]
