"""Sockets that end: no server keeps a worker for ever by saying one byte a minute.

A time-out bounds the silence between two bytes only. Here it bounds, `PATIENCE` times, also a whole answer
or a whole mail that is handed over, which may take longer only as it gets on. And a connection gives and
takes nothing more once its time is up, or that of the job or request at hand (`deadline`), however lively it
is. What is wrapped into TLS ends when the wrapped one would have.
"""

import math
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from shared import deadline
from shared.providers.silence import SILENCES, Place

PIECE = 16 * 1024
"""A TLS record's size. Who takes one in time is slow, but not silent."""

SLOWEST = 1000
"""Octets a second: who is slower than an old modem does not get on."""

PATIENCE = 3
"""Times the time-out: Dovecot says every ten seconds that it still searches, and may do so for a while."""

LONGEST = 540.0
"""Seconds of anything: the Functions host would end the worker (host.json: 10 minutes)."""


@dataclass(slots=True)
class Turn:
    """One side's turn: all that it says before the other one says something.

    Attributes:
        sends: whether it is ours.
        patience: seconds that it may take, beyond what its octets take.
        ends: when it is over at the latest, `until`: as it stands, by the monotonic clock.
    """

    sends: bool
    patience: float
    ends: float = field(default_factory=lambda: time.monotonic() + LONGEST)
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.until = min(time.monotonic() + self.patience, self.ends)

    def got_on(self, octets: int) -> None:
        """It may take longer by what these take; a fast beginning is no reason to wait for ever after it."""
        latest = min(time.monotonic() + self.patience, self.ends)
        self.until = min(self.until + octets / SLOWEST, latest)


class _Ending:
    until = math.inf
    place: Place | None = None
    """Where it leads to, until the far side has let us in."""

    _turn: Turn | None = None

    def end_in(self, seconds: float) -> None:
        """Give and take nothing more after so many seconds."""
        self.until = time.monotonic() + seconds

    def recv_into(self, *args: Any, **options: Any) -> int:
        """Read, as the mail clients of the standard library do. Raises TimeoutError when it is over, too."""
        with self._listening(), self._hurrying(sends=False) as turn:
            octets = cast("int", super().recv_into(*args, **options))  # type: ignore[misc]
            turn.got_on(octets)
        return octets

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write piece by piece: over TLS a time-out is for all of one call, and a large mail takes longer."""
        with memoryview(data) as view, view.cast("B") as octets:
            for start in range(0, len(octets), PIECE):
                piece = octets[start : start + PIECE]
                with self._hurrying(sends=True) as turn:
                    super().sendall(piece, flags)  # type: ignore[misc]
                    turn.got_on(len(piece))

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Have it noted where the far side does not let us in, and does not say why."""
        try:
            yield
        except TimeoutError:
            if self.place and deadline.left() > 0:  # else it was cut short
                SILENCES.silent(self.place)
            raise

    @contextmanager
    def _hurrying(self, *, sends: bool) -> Iterator[Turn]:
        """Wait no longer than is left of the turn, or of all. Raises TimeoutError where nothing is."""
        waits: float | None = self.gettimeout()  # type: ignore[attr-defined]
        if self._turn is None or self._turn.sends is not sends:
            self._turn = Turn(sends, math.inf if waits is None else PATIENCE * waits)
        left = min(min(self.until, self._turn.until) - time.monotonic(), deadline.left())
        if left <= 0:
            raise TimeoutError("It took too long.")
        if waits is not None and waits <= left:
            yield self._turn
            return
        self.settimeout(left)  # type: ignore[attr-defined]
        try:
            yield self._turn
        finally:
            self.settimeout(waits)  # type: ignore[attr-defined]


class Socket(_Ending, socket.socket):
    """A plain socket that ends."""


class _TlsSocket(_Ending, ssl.SSLSocket):
    pass


def let_in(sock: socket.socket | None) -> None:
    """Note that the far side has let us in: what we ask for from now on may take long, that is no silence."""
    if isinstance(sock, _Ending) and sock.place:
        SILENCES.heard(sock.place)
        sock.place = None


def done_with(sock: socket.socket | None) -> None:
    """Note that all that matters was heard: what follows tells nothing of the far side."""
    if isinstance(sock, _Ending):
        sock.place = None


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
