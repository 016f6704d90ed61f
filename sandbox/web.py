"""What the simulators that speak HTTP share: a small threaded server that counts its calls and can fail."""

import json
import socket
import ssl
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, override
from urllib.parse import parse_qsl, urlsplit

from sandbox.ports import HOST

SELDOM = 20.0
"""Seconds between two looks of a server's thread at whether it is to end."""

PATIENCE = 5.0
"""Seconds that `stop` waits for that thread, which never keeps a process from ending."""


@dataclass
class Client:
    """One client's connection, for what belongs to it and not to a request: who NTLM has proven it is."""

    wire: socket.socket | None = None
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are lower case.

    Attributes:
        query: the last value of each name that is not empty.
        pairs: the whole query.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    pairs: tuple[tuple[str, str], ...] = ()
    client: Client = field(default_factory=Client)

    @property
    def json(self) -> Any:
        """The body as JSON, an empty object where there is none."""
        return json.loads(self.body or b"{}")

    @property
    def form(self) -> dict[str, str]:
        """The body as application/x-www-form-urlencoded."""
        return dict(parse_qsl(self.body.decode()))

    @property
    def bearer(self) -> str:
        """The bearer token, or an empty string."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; `body` is JSON unless it is bytes. Each of `challenges` is a WWW-Authenticate."""

    status: int = HTTPStatus.OK
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    challenges: tuple[str, ...] = ()

    @property
    def payload(self) -> bytes:
        """What goes over the wire."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body or b""
        return json.dumps(self.body).encode()


class WebServer:
    """A server on 127.0.0.1 whose subclass says in `answer` what it answers.

    Attributes:
        url: where it is, without a trailing slash.
        calls: how often each (method, path) was asked for, faults included.
        hang: seconds every answer is held back.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.hang = 0.0
        self._faults: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer((HOST, port), handler)
        self._server.daemon_threads = True
        if tls:
            # The handshake happens in the handler's thread, so that a silent client holds up nobody else.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme, name = ("https", "localhost") if tls else ("http", HOST)
        self.url = f"{scheme}://{name}:{self._server.server_port}"
        # It seldom wakes up by itself, `stop` wakes it: a test run has hundreds that wait until its end.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(SELDOM,), daemon=True)
        self._thread.start()

    def answer(self, request: Request) -> Reply:
        """Answer one request; called from several threads."""
        raise NotImplementedError

    def fail_next(
        self, times: int, status: int, *, headers: dict[str, str] | None = None, body: Any = None
    ) -> None:
        """Answer the next `times` requests with this instead (429 and 503 in front of everything else)."""
        self._faults.extend([Reply(status, body, headers or {})] * times)

    def heal(self) -> None:
        """Forget all planned faults."""
        self._faults.clear()
        self.hang = 0.0

    def stop(self) -> None:
        """Stop listening, and close what clients keep open."""
        ending = threading.Thread(target=self._server.shutdown, daemon=True)
        ending.start()
        until = time.monotonic() + PATIENCE
        while self._thread.is_alive() and time.monotonic() < until:
            with suppress(OSError):  # it does not listen any more
                socket.create_connection((HOST, self._server.server_port), timeout=0.5).close()
            self._thread.join(0.05)
        self._server.server_close()
        for connection in list(self._connections):
            with suppress(OSError):  # closed by the client in the meantime
                connection.shutdown(socket.SHUT_RDWR)

    def serve(self, request: Request) -> Reply:
        """Count the request, then answer it or play the planned fault."""
        with self._lock:
            self.calls[request.method, request.path] += 1
            fault = self._faults.popleft() if self._faults else None
        time.sleep(self.hang)
        return fault or self.answer(request)


class _Handler(BaseHTTPRequestHandler):
    owner: WebServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # buffered, and no Nagle: otherwise every answer waits 40 ms for a delayed ACK
    disable_nagle_algorithm = True
    timeout = 60

    @override
    def handle(self) -> None:
        self._client = Client(self.connection)
        self.owner._connections.add(self.connection)  # noqa: SLF001 (its own server)
        try:
            super().handle()
        except (ssl.SSLError, ConnectionError, TimeoutError):
            self.close_connection = True  # the client went away, or does not trust our CA: its own business
        finally:
            self.owner._connections.discard(self.connection)  # noqa: SLF001

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: requests carry tokens."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        pairs = tuple(parse_qsl(url.query, keep_blank_values=True))
        query = dict(parse_qsl(url.query))
        request = Request(self.command, url.path, query, headers, body, pairs, self._client)
        reply = self.owner.serve(request)
        payload = reply.payload
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        for challenge in reply.challenges:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 (http.server's names)
