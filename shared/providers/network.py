"""The guarded way out to hosts that users type, and what the plain mail protocols share on the wire.

Whoever may type a host can make this server speak to it (server-side request forgery, CWE-918). So
the name is resolved here, every address is judged, and the connection goes to a judged address
itself: a second look-up could answer differently (DNS rebinding). TLS still proves the *name*.
"""

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from threading import Thread
from typing import Any, Literal, NamedTuple, cast

from shared import deadline
from shared.errors import InvalidRequest, RateLimited, Temporary, ZalionError
from shared.providers import sasl, silence
from shared.providers.base import Connection, Credential, Field
from shared.providers.sockets import LONGEST, Socket, verifying

PORTS = frozenset({110, 143, 465, 587, 993, 995})
"""Where mail is spoken. Not 443: who waits there for a greeting would count every API as silent."""

LOOKED_UP = 20.0
"""Seconds for a name's addresses: of three name servers two may be dead, and the system gives each five."""

MOST_PLACES = 4
"""So many addresses of a host are tried: whoever names ten thousand would keep a worker for ever."""

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

_Address = tuple[socket.AddressFamily, str]

_HOST = re.compile(r"(?i)[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")
_REFUSED = "This host or port cannot be used."
_REFUSED_FIX = "Use the public name of the mail server and one of its usual ports."
SILENT = silence.SILENT
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_TLS_TOO_OLD = {
    "NO_PROTOCOLS_AVAILABLE",
    "RECORD_LAYER_FAILURE",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "WRONG_VERSION_NUMBER",
}
_TOO_OFTEN = re.compile(r"(?i)overquota|\brate\b|throttl|too (many|much|fast|frequent)|exceeded|quota")
_TOO_OFTEN_PAUSE = 300.0
_NOT_NOW = re.compile(
    r"(?i)\[(in-?use|login-delay|sys/temp|unavailable|limit|overquota|serverbug)\]|\bin use\b|\bbusy\b"
    r"|\bunavailable\b|temporar(?!\w* (lock|block|disabl|suspend))"
    r"|too many ((?!fail|wrong|invalid|incorrect|bad)[\w-]+ ){0,3}connections"
    r"|(maildrop|mailbox) (is )?(already )?lock"
    r"|(unable to|cannot|can't|could not) lock (the )?(maildrop|mailbox)"
)
_NO = re.compile(r"(?i) *\(failure\)$")
"""Gmail ends each "no" with it, whatever the reason."""

_WRONG = re.compile(r"(?i)fail|wrong|invalid|incorrect|\bbad\b")


class Timeouts(NamedTuple):
    """Seconds without a word, by which `sockets` bounds whole answers, too; and of everything: `session`.

    `final` is for the answer to a whole message (RFC 5321 §4.5.3.2.6), `look_up` for a name's addresses.
    """

    connect: float = 10
    read: float = 60
    final: float = 300
    session: float = LONGEST
    look_up: float = LOOKED_UP


TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server as the settings name it; there is no `security` without TLS."""

    host: str
    port: int
    security: Literal["tls", "starttls"]
    allowed_hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, connection: Connection, default_port: int) -> "Server":
        """Read it from a connection's settings, which `forms` has checked."""
        settings = connection.settings
        return cls(
            host=str(settings.get("host", "")),
            port=cast("int", settings.get("port") or default_port),
            security="starttls" if settings.get("security") == "starttls" else "tls",
            allowed_hosts=connection.allowed_hosts,
        )

    @property
    def name(self) -> str:
        """The host as TLS checks it: lower case, A-labels. Raises InvalidRequest."""
        return host_name(self.host)

    def open(self, timeouts: Timeouts) -> socket.socket:
        """Connect, and shake hands where TLS comes first. Raises what `connect` and `translated` raise."""
        with translated():
            sock = connect(
                self.host,
                self.port,
                timeouts.connect,
                self.allowed_hosts,
                security=self.security,
                look_up=timeouts.look_up,
            )
            sock.end_in(timeouts.session)
            if self.security == "starttls":
                return sock
            try:
                return tls_context().wrap_socket(sock, server_hostname=self.name)
            except OSError:
                sock.close()
                raise


def server_form(protocol: str, default_port: int) -> tuple[Field, ...]:
    """Make the part of a settings form that every plain mail protocol asks for."""
    return (
        Field("host", f"Name of the {protocol} server", required=True, place=True),
        Field("port", f"Its port, usually {default_port}", "integer", default=default_port, place=True),
        Field(
            "security",
            "TLS from the first byte, or STARTTLS before anything else",
            default="tls",
            choices=("tls", "starttls"),
            place=True,
        ),
        Field("username", "Name to sign in with, where it is not the mailbox's address", place=True),
    )


def tls_context() -> ssl.SSLContext:
    """Return the one way we speak TLS: 1.2 or newer (RFC 8996), certificate and name verified.

    The mail clients of the standard library verify nothing unless they are given a context.
    """
    return _tls_context(ssl.get_default_verify_paths())


@cache  # for each trust store: loading one takes longer than a hand-shake
def _tls_context(_trusted: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    return verifying()


def connect(
    host: str,
    port: int,
    timeout: float,
    allowed_hosts: Collection[str] = (),
    allowed_ports: Collection[int] = PORTS,
    *,
    security: str = "tls",
    look_up: float = LOOKED_UP,
) -> Socket:
    """Connect to a host that a user typed.

    Args:
        host: a name or an address; it is never judged as text, because resolvers read `0x7f.1` too.
        port: one of `allowed_ports`.
        timeout: seconds for the first few addresses together, then for each read and write until changed.
        allowed_hosts: lower-case hosts that may be private and on any port.
        allowed_ports: for all other hosts.
        security: how the far side will be spoken to.
        look_up: seconds for the name's addresses.

    Raises InvalidRequest naming `host` or `port`, always in the same words, so that nobody can map
    our network with it; Temporary when nothing answers there, or has not for a while.
    """
    name = host_name(host)
    allowed = name in allowed_hosts
    if not 0 < port < 2**16 or (not allowed and port not in allowed_ports):
        raise InvalidRequest(_REFUSED, field="port", fix=_REFUSED_FIX)
    place = name, port, security
    silence.SILENCES.ask(place)
    try:
        addresses = _resolve(name, port, look_up)
    except Temporary:
        if deadline.left() > 0:  # else it was cut short
            silence.SILENCES.silent(place)
        raise
    if not allowed and not all(is_public(address) for _, address in addresses):
        raise InvalidRequest(_REFUSED, field="host", fix=_REFUSED_FIX)
    until = time.monotonic() + min(timeout, deadline.left())
    left = _alternating(addresses)[:MOST_PLACES] if deadline.left() > 0 else []
    while left:
        family, address = left.pop(0)
        # who does not answer leaves half of the time to the others
        waits = max(until - time.monotonic(), 0.001) / (2 if left else 1)
        with suppress(OSError):  # the next address may answer
            sock = _connected(family, (address, port), waits)
            sock.settimeout(max(min(timeout, deadline.left()), 0.001))  # for the hand-shake, too
            sock.place = place
            return sock
    if time.monotonic() >= until and deadline.left() > 0:
        silence.SILENCES.silent(place)
    raise Temporary(SILENT)


def _connected(family: socket.AddressFamily, address: tuple[str, int], timeout: float) -> Socket:
    with ExitStack() as undo:
        sock = undo.enter_context(Socket(family, socket.SOCK_STREAM))
        sock.settimeout(timeout)
        sock.connect(address)
        undo.pop_all()
        return sock


def is_public(address: str) -> bool:
    """Whether an address may be spoken to: global unicast, and no other address in disguise."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip in network for network in _NOT_PUBLIC)


def host_name(host: str) -> str:
    """Return a host as TLS checks it: lower case, A-labels. Raises InvalidRequest."""
    name = host.strip().rstrip(".").lower()
    try:
        if ":" in name:
            return str(ipaddress.IPv6Address(name))
        name = name.encode("idna").decode("ascii")
    except ValueError:
        name = ""
    if not _HOST.fullmatch(name):
        raise InvalidRequest(_REFUSED, field="host", fix=_REFUSED_FIX)
    return name


def _resolve(name: str, port: int, seconds: float) -> list[_Address]:
    try:
        found = _told(name, port, min(seconds, max(deadline.left(), 0)))
    except TimeoutError as error:
        raise Temporary(SILENT) from error
    except socket.gaierror as error:
        if error.errno not in _NO_SUCH_NAME:
            raise Temporary(SILENT) from error
        # the same words as for a private host, or the answer would tell which internal names exist
        raise InvalidRequest(_REFUSED, field="host", fix=_REFUSED_FIX) from error
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


def _alternating(addresses: list[_Address]) -> list[_Address]:
    """Take the families in turn (RFC 8305 §4): a machine may have no way out to all of one."""
    families = dict.fromkeys(family for family, _ in addresses)
    rows = zip_longest(*([one for one in addresses if one[0] == family] for family in families))
    return [one for row in rows for one in row if one]


@contextmanager
def translated() -> Iterator[None]:
    """Turn what sockets and TLS raise into our errors, without addresses.

    Raises InvalidRequest for a certificate that does not prove the host, or TLS older than 1.2;
    Temporary for everything that may pass.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise InvalidRequest(
            f"The server's certificate is not trusted: {clean(error.verify_message)}.",
            field="host",
            fix="Use the name that the certificate was issued for, or have a valid certificate installed.",
        ) from error
    except ssl.SSLError as error:
        if error.reason not in _TLS_TOO_OLD:
            raise Temporary(SILENT) from error
        raise InvalidRequest(
            "The server does not speak TLS 1.2 or newer on this port.",
            field="security",
            fix="Try the other security setting with its port, or have TLS 1.2 enabled on the server.",
        ) from error
    except OSError as error:
        raise Temporary(SILENT) from error


def no_starttls() -> ZalionError:
    """Make the error for a server, or somebody in between, that does not offer STARTTLS."""
    return InvalidRequest(
        "The server does not offer STARTTLS; nothing was sent to it.",
        field="security",
        fix="Use security `tls` with the port for it.",
    )


def no_folder(name: str, field: str) -> ZalionError:
    """Make the error for a folder that somebody named and that is not there."""
    return InvalidRequest(
        f"There is no folder {clean(name)!r} that can be read.",
        field=field,
        fix="Name it as GET /mailboxes/{id}/folders does.",
    )


def clean(words: str | bytes, credential: Credential | None = None) -> str:
    """Make one printable line of at most 300 characters of what a server said.

    Args:
        words: its words.
        credential: what it was shown; whoever reads the words is not to read that in them.
    """
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return (sasl.without(text, credential) if credential else sasl.one_line(text))[:300]


def is_of_library(error: BaseException) -> bool:
    """Whether it was raised inside of a library, or what it stands on, and so is no bug of ours."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and "site-packages" in trace.tb_frame.f_code.co_filename


def too_often(words: str) -> bool:
    """Whether a server's words complain about how much or how often."""
    return _TOO_OFTEN.search(words) is not None


def not_now(words: str) -> bool:
    """Whether a refused sign-in is about the server's state: a code, a lock, a number of connections.

    All else may be a wrong password, whatever it says of trying again: who does is locked out in the end.
    """
    said = _NO.sub("", words)
    return _NOT_NOW.search(said) is not None or (too_often(said) and not _WRONG.search(said))


def later(words: str) -> Temporary:
    """Make the error for a server that says "not now": RateLimited where it means "too often"."""
    said = clean(words)
    if too_often(said):
        return RateLimited(f"The mail server limits us: {said}", retry_after=_TOO_OFTEN_PAUSE)
    return Temporary(f"The mail server asks to try again later: {said}")
