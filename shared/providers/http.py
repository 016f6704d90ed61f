"""HTTPS to a provider's API: one session, judged addresses, every failure one of the ten errors.

Tokens go to the API's own origin only: paging links come back from the far side and are followed
verbatim, so their origin is compared first.
"""

import math
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from shared.errors import Rejected, Temporary, ZalionError
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
LONGEST_PAUSE = 3600.0

_NEVER_MADE = ("NewConnectionError", "NameResolutionError", "CERTIFICATE_VERIFY_FAILED")
"""How urllib3 names a connection that never came to a request."""


class NotSent(Temporary):
    """The connection could not be made: the request certainly did not reach the far side."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def pause(self, default: float = 60.0) -> float:
        """Seconds to wait: `Retry-After` (RFC 9110 section 10.2.3), else `default`."""
        return _pause(self.headers.get("retry-after", ""), default)


Refusal = Callable[[Answer], ZalionError]


@dataclass
class Api:
    """One API and who speaks to it.

    Args:
        base: its URL, e.g. `https://graph.microsoft.com/v1.0`.
        title: what errors call it.
        bearer: gives the access token, asked for before every call; may raise ConsentRequired.
        refusal: turns an answer of 400 and above into an error.
        timeout: seconds to connect, and to wait for what comes next.
    """

    base: str
    title: str
    bearer: Callable[[], str]
    refusal: Refusal
    allowed_hosts: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: tuple[float, float] = TIMEOUT
    _session: "Session | None" = field(default=None, init=False, repr=False)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one call; `path` is relative to the base, or a link of the API's own origin.

        Raises NotSent, Temporary, or what `refusal` makes of the answer.
        """
        url = path if path.startswith("https:") else self.base + path
        if not self._is_own(url):
            raise Rejected(f"{self.title} gave a link to another host.")
        sent = {**self.headers, **(headers or {}), "Authorization": f"Bearer {self.bearer()}"}
        return self._answered(method, url, params, json, body, sent)

    def anonymous(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Call a pre-authenticated URL the API gave us, without any token."""
        return self._answered(method, url, None, None, body, headers)

    def close(self) -> None:
        """End the session; never raises."""
        session, self._session = self._session, None
        if session:
            session.close()

    def _is_own(self, url: str) -> bool:
        ours, theirs = urlsplit(self.base), urlsplit(url)
        return (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)

    def _answered(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        json: Any,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        if self._session is None:
            self._session = session(self.allowed_hosts)
        with translated(self.title):
            response = self._session.request(
                method,
                url,
                params=params,
                json=json,
                data=body,
                headers=headers,
                timeout=self.timeout,
                allow_redirects=False,
                stream=True,
            )
            answer = _read(response, self.title)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise self.refusal(answer)
        return answer


@contextmanager
def translated(title: str) -> Iterator[None]:
    """Turn what `requests` raises into NotSent (no connection was made) or Temporary."""
    import requests

    try:
        yield
    except requests.exceptions.ConnectTimeout as error:
        raise NotSent(f"{title} cannot be reached.", retry_after=60) from error
    except requests.exceptions.ConnectionError as error:  # TLS may break after the request went out, too
        made = not any(sign in repr(error) for sign in _NEVER_MADE)
        raise (Temporary if made else NotSent)(f"{title} cannot be reached.", retry_after=60) from error
    except requests.RequestException as error:
        raise Temporary(f"{title} stopped answering.", retry_after=60) from error


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
    ports: frozenset[int] = network.PORTS,
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
            options["timeout"] = options.get("timeout") or TIMEOUT
            return super().send(request, *args, **options)

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            """Leave it to the context: requests would load its roots again for every connection."""

    made = Patient()
    made.init_poolmanager(1, 1, ssl_context=_tls_context(ssl.get_default_verify_paths()))
    made.poolmanager.pool_classes_by_scheme = {"https": Pool}
    return made


def take(response: "Response", title: str) -> None:
    """Read the body of a streamed response, up to `LARGEST`. Raises Rejected beyond it."""
    response._content = _body(response, title)  # noqa: SLF001 - what its `content` would set
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001


@cache  # for each trust store: loading one takes longer than a call
def _tls_context(_trusted: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    """The machine's roots or those of SSL_CERT_FILE (a private CA), and certifi's."""
    import certifi

    context = verifying()
    context.load_verify_locations(certifi.where())
    return context


def _read(response: "Response", title: str) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, _body(response, title))


def _body(response: "Response", title: str) -> bytes:
    parts, size = [], 0
    for part in response.iter_content(CHUNK):
        size += len(part)
        if size > LARGEST:
            response.close()
            raise Rejected(f"{title} gave more than {LARGEST // 1_000_000} MB.")
        parts.append(part)
    return b"".join(parts)


def _pause(text: str, default: float) -> float:
    if text.isdecimal():
        return min(float(text), LONGEST_PAUSE)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return default
    return min(max((at - datetime.now(UTC)).total_seconds(), 1.0), LONGEST_PAUSE) if at.tzinfo else default
