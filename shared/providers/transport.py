"""HTTPS by `requests`: judged addresses, verified certificates, and every failure one of the ten errors."""

import math
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from shared.errors import OutcomeUnknown, RateLimited, Rejected, Temporary
from shared.providers import network
from shared.providers.sockets import let_in, verifying

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session
    from requests.adapters import HTTPAdapter

TIMEOUT = (5.0, 30.0)
"""Seconds to connect, and between two reads."""

LARGEST = 160 * 1024 * 1024
"""Octets of an answer: the largest message Exchange Online can be set to take is 150 MB."""

CHUNK = 64 * 1024
PORTS = frozenset({443})

_NEVER_MADE = ("NewConnectionError", "NameResolutionError", "CERTIFICATE_VERIFY_FAILED")
"""How urllib3 names a connection that never came to a request."""


class NotSent(Temporary):
    """The connection could not be made: the request certainly did not reach the far side."""

    @classmethod
    def of(cls, error: Temporary) -> "NotSent":
        """Say the same of what kept a request from being made."""
        same = cls(error.detail, retry_after=error.retry_after, field=error.field, fix=error.fix)
        same.reason, same.facts = error.reason, error.facts
        return same


class TooMuch(Rejected):
    """The answer is larger than we read."""


@contextmanager
def translated(title: str, fix: str | None = None) -> Iterator[None]:
    """Turn what `requests` raises into NotSent (no connection was made) or Temporary, with this fix."""
    import requests

    try:
        yield
    except requests.exceptions.ConnectTimeout as error:
        raise NotSent(f"{title} cannot be reached.", retry_after=60, fix=fix) from error
    except requests.exceptions.ConnectionError as error:  # TLS may break after the request went out, too
        made = not any(sign in repr(error) for sign in _NEVER_MADE)
        raise (Temporary if made else NotSent)(
            f"{title} cannot be reached.", retry_after=60, fix=fix
        ) from error
    except requests.RequestException as error:
        raise Temporary(f"{title} stopped answering.", retry_after=60, fix=fix) from error


@contextmanager
def handing_over(title: str, begun: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Around the request that makes a mail leave: OutcomeUnknown where it broke, for the mail may have left.

    Args:
        begun: whether that could be by then.
    """
    try:
        yield
    except (NotSent, RateLimited):
        raise  # it certainly was not taken
    except Temporary as error:
        if not begun():
            raise
        raise OutcomeUnknown(f"The connection to {title} broke after the hand-over began.") from error


def session(allowed_hosts: frozenset[str], over: "HTTPAdapter | None" = None) -> "Session":
    """Make a session that connects to judged addresses only and takes no word from the environment.

    Args:
        allowed_hosts: see `adapter`.
        over: an adapter to go through, instead of a new one.
    """
    import requests

    made = requests.Session()
    made.trust_env = False  # no proxy or .netrc of the machine has a say in where a secret goes
    made.mount("https://", over or adapter(allowed_hosts))
    made.mount("http://", over or adapter(frozenset()))  # never used: every URL is https
    return made


def adapter(
    allowed_hosts: frozenset[str],
    *,
    ports: frozenset[int] = PORTS,
    connect: float = TIMEOUT[0],
    until: float = math.inf,
) -> "HTTPAdapter":
    """Return an adapter that connects by `network`; TLS still checks the name.

    Args:
        allowed_hosts, ports: see `network.connect`.
        connect: seconds to wait for a connection.
        until: seconds that a connection may last.
    """
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPSConnection
    from urllib3.connectionpool import HTTPSConnectionPool
    from urllib3.exceptions import NewConnectionError

    class Connection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            try:
                sock = network.connect(self.host, self.port, connect, allowed_hosts, ports)
            except Temporary as error:  # so that whoever handles it knows that nothing was sent
                raise NewConnectionError(self, error.detail) from error
            sock.end_in(until)
            return sock

        def connect(self) -> None:
            super().connect()
            let_in(self.sock)

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    class Patient(HTTPAdapter):
        """Never waits for ever, whoever forgot to say how long (MSAL does)."""

        def send(self, request: "PreparedRequest", *args: Any, **options: Any) -> "Response":
            timeout = options.get("timeout") or TIMEOUT
            reads = timeout[1] if isinstance(timeout, tuple) else timeout
            options["timeout"] = (reads, reads)  # urllib3 sends with the first; `connect` has its own
            return super().send(request, *args, **options)

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            """Leave it to the context: requests would load its roots again for every connection."""

    made = Patient()
    made.init_poolmanager(1, 1, ssl_context=_tls_context(ssl.get_default_verify_paths()))
    made.poolmanager.pool_classes_by_scheme = {"https": Pool}
    return made


def take(response: "Response", title: str, largest: int = LARGEST) -> None:
    """Have a streamed response hold its body. Raises TooMuch beyond `largest`."""
    response._content = body(response, title, largest)  # noqa: SLF001 - what its `content` would set
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001


@cache  # for each trust store: loading one takes longer than a call
def _tls_context(_trusted: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    """The machine's roots or those of SSL_CERT_FILE (a private CA), and certifi's."""
    import certifi

    context = verifying()
    context.load_verify_locations(certifi.where())
    return context


def body(response: "Response", title: str, largest: int = LARGEST) -> bytes:
    """Read and return the body of a streamed response. Raises TooMuch beyond `largest`."""
    parts, size = [], 0
    for part in response.iter_content(CHUNK):
        size += len(part)
        if size > largest:
            response.close()
            raise TooMuch(f"{title} gave more than {largest // 1_000_000} MB.")
        parts.append(part)
    return b"".join(parts)
