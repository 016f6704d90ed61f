"""Sockets that end: no server keeps a worker for ever by saying one byte a minute.

A time-out bounds the silence between two bytes only. These give nothing more once their time is up,
however lively they are, and what is wrapped into TLS ends when the wrapped one would have.
"""

import math
import socket
import ssl
import time
from typing import Any, cast


class _Ending:
    until = math.inf

    def end_in(self, seconds: float) -> None:
        """Give nothing more after so many seconds."""
        self.until = time.monotonic() + seconds

    def recv_into(self, *args: Any, **options: Any) -> int:
        """Read, as the mail clients of the standard library do. Raises TimeoutError when it is over, too."""
        if time.monotonic() > self.until:
            raise TimeoutError("The session took too long.")
        return cast("int", super().recv_into(*args, **options))  # type: ignore[misc]


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
        wrapped = super().wrap_socket(sock, *args, **options)
        if isinstance(wrapped, _Ending) and isinstance(sock, _Ending):
            wrapped.until = sock.until
        return wrapped
