"""The guarded way out to hosts that users type, and what the plain mail protocols share on the wire.

Whoever may type a host can make this server speak to it (server-side request forgery, CWE-918). So
the name is resolved here, every address is judged, and the connection goes to a judged address
itself: a second look-up could answer differently (DNS rebinding). TLS still proves the *name*.
"""

import socket
import ssl
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple, cast

from shared import deadline
from shared.errors import InvalidRequest, Temporary, ZalionError
from shared.providers import hosts, silence, wording
from shared.providers.base import Connection, Field
from shared.providers.sockets import LONGEST, Socket, verifying

PORTS = frozenset({110, 143, 465, 587, 993, 995})
"""Where mail is spoken. Not 443: who waits there for a greeting would count every API as silent."""

MOST_PLACES = 4
"""So many addresses of a host are tried: whoever names ten thousand would keep a worker for ever."""

SILENT = silence.SILENT
_TLS_TOO_OLD = {
    "NO_PROTOCOLS_AVAILABLE",
    "RECORD_LAYER_FAILURE",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "WRONG_VERSION_NUMBER",
}


class Timeouts(NamedTuple):
    """Seconds without a word, by which `sockets` bounds whole answers, too; and of everything: `session`.

    `final` is for the answer to a whole message (RFC 5321 §4.5.3.2.6), `look_up` for a name's addresses.
    """

    connect: float = 10
    read: float = 60
    final: float = 300
    session: float = LONGEST
    look_up: float = hosts.LOOKED_UP


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
        return hosts.host_name(self.host)

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
        hosts.name_field(f"Name of the {protocol} server"),
        hosts.port_field(f"Its port, usually {default_port}", default_port),
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
    look_up: float = hosts.LOOKED_UP,
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
    name = hosts.host_name(host)
    allowed = name in allowed_hosts
    if not 0 < port <= hosts.HIGHEST_PORT or (not allowed and port not in allowed_ports):
        raise InvalidRequest(hosts.REFUSED, field="port", fix=hosts.REFUSED_FIX)
    place = name, port, security
    silence.SILENCES.ask(place)
    try:
        addresses = hosts.resolve(name, port, look_up)
    except Temporary:
        if deadline.left() > 0:  # else it was cut short
            silence.SILENCES.silent(place)
        raise
    if not allowed and not all(hosts.is_public(address) for _, address in addresses):
        raise InvalidRequest(hosts.REFUSED, field="host", fix=hosts.REFUSED_FIX)
    until = time.monotonic() + min(timeout, deadline.left())
    left = hosts.alternating(addresses)[:MOST_PLACES] if deadline.left() > 0 else []
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
    raise silence.unreached()


def _connected(family: socket.AddressFamily, address: tuple[str, int], timeout: float) -> Socket:
    with ExitStack() as undo:
        sock = undo.enter_context(Socket(family, socket.SOCK_STREAM))
        sock.settimeout(timeout)
        sock.connect(address)
        undo.pop_all()
        return sock


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
            f"The server's certificate is not trusted: {wording.clean(error.verify_message)}.",
            field="host",
            fix="Use the name that the certificate was issued for, or have a valid certificate installed.",
        ) from error
    except ssl.SSLError as error:
        if error.reason not in _TLS_TOO_OLD:
            raise silence.unreached() from error
        raise InvalidRequest(
            "The server does not speak TLS 1.2 or newer on this port.",
            field="security",
            fix="Try the other security setting with its port, or have TLS 1.2 enabled on the server.",
        ) from error
    except OSError as error:
        raise silence.unreached() from error


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
        f"There is no folder {wording.clean(name)!r} that can be read.",
        field=field,
        fix="Name it as GET /mailboxes/{id}/folders does.",
    )
