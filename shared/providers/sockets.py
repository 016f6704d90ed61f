"""Sockets that end: no server keeps a worker for ever by saying one byte a minute.

A time-out bounds the silence between two bytes only. These give and take nothing more once their time
is up, however lively they are, and what is wrapped into TLS ends when the wrapped one would have.
"""

import math
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from shared.providers.silence import SILENCES, Place

PIECE = 16 * 1024
"""A TLS record's size. Who takes one in time is slow, but not silent."""


class _Ending:
    until = math.inf
    place: Place | None = None
    """Where it leads to, until the far side was heard or we have said something ourselves."""

    def end_in(self, seconds: float) -> None:
        """Give and take nothing more after so many seconds."""
        self.until = time.monotonic() + seconds

    def recv_into(self, *args: Any, **options: Any) -> int:
        """Read, as the mail clients of the standard library do. Raises TimeoutError when it is over, too."""
        self._hurry()
        with self._listening():
            octets = cast("int", super().recv_into(*args, **options))  # type: ignore[misc]
        if self.place:
            SILENCES.heard(self.place)
        self.place = None
        return octets

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write piece by piece: over TLS a time-out is for all of one call, and a large mail takes longer."""
        self.place = None  # what we ask for may take long, that is no silence of the server's
        with memoryview(data) as view, view.cast("B") as octets:
            for start in range(0, len(octets), PIECE):
                self._hurry()
                super().sendall(octets[start : start + PIECE], flags)  # type: ignore[misc]

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Have it noted where the far side does not say its first word."""
        try:
            yield
        except TimeoutError:
            if self.place:
                SILENCES.silent(self.place)
            raise

    def _hurry(self) -> None:
        """Wait no longer than is left. Raises TimeoutError where nothing is."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("The session took too long.")
        waits: float | None = self.gettimeout()  # type: ignore[attr-defined]
        if left < math.inf and (waits is None or waits > left):
            self.settimeout(left)  # type: ignore[attr-defined]


class Socket(_Ending, socket.socket):
    """A plain socket that ends."""


class _TlsSocket(_Ending, ssl.SSLSocket):
    pass


def verifying() -> "Context":
    """Make a context of TLS 1.2 or newer (RFC 8996) that verifies certificate and name by its roots."""
    made = Context(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT  # as the default context does
    made.load_default_certs()
    return made


class Context(ssl.SSLContext):
    """Wraps sockets into TLS without prolonging them."""

    sslsocket_class = _TlsSocket

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """See `ssl.SSLContext.wrap_socket`."""
        if not isinstance(sock, _Ending):
            return super().wrap_socket(sock, *args, **options)
        # to the hand-shake, which alone shows no life: it may be a balancer's, before a server that is gone
        with sock._listening():  # noqa: SLF001
            wrapped = super().wrap_socket(sock, *args, **options)
        if isinstance(wrapped, _Ending):
            wrapped.until, wrapped.place = sock.until, sock.place
        return wrapped
