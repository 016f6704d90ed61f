"""Which part listens on which port of 127.0.0.1."""

import os
import socket

HOST = "127.0.0.1"
API = 7071
NAMES = (
    "api",
    "issuer",
    "tokeninfo",
    "vault",
    "blob",
    "queue",
    "table",
    "imap",
    "imaps",
    "pop3",
    "pop3s",
    "lmtp",
    "smtp",
    "smtps",
    "mx",
    "entra",
    "graph",
    "front",
    "google",
    "programs",
    "exchange",
)
_FIRST, _LAST = 20_000, 32_000
_BLOCK = 20
_reserved: dict[int, socket.socket] = {}


class Ports:
    """Ports by name. With a base they are fixed (the API on the base, the others after it), else free ones.

    A name that was asked for once keeps its port, so that a part can be stopped and started again.
    """

    def __init__(self, base: int | None = None) -> None:
        self._ports: dict[str, int] = {}
        self._base = base

    def __getitem__(self, name: str) -> int:
        if name not in self._ports:
            self._ports[name] = self._fixed(name) if self._base else free()
        return self._ports[name]

    def _fixed(self, name: str) -> int:
        # Parts that are not in the list (more simulators) follow behind it, in the order they are asked for.
        offset = NAMES.index(name) if name in NAMES else len({*NAMES, *self._ports})
        return (self._base or API) + offset


def free() -> int:
    """Return a port nobody listens on, reserved for this process as long as it lives.

    The reservation is the UDP port of the same number, which no other process can bind: looking alone would
    let two test runs choose the same port before either listens. It lies below the ephemeral range, where an
    outgoing connection could take it.
    """
    start = os.getpid() * _BLOCK
    for offset in range(_LAST - _FIRST):
        port = _FIRST + (start + offset) % (_LAST - _FIRST)
        if port not in _reserved and _reserve(port):
            return port
    raise OSError(f"No free port between {_FIRST} and {_LAST} on {HOST}.")


def row() -> int:
    """Return the first of enough free ports in a row for a sandbox of its own."""
    ports = [free()]
    while len(ports) < len(NAMES):
        port = free()
        ports = [*ports, port] if port == ports[-1] + 1 else [port]
    return ports[0]


def _reserve(port: int) -> bool:
    reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        reservation.bind((HOST, port))
    except OSError:
        reservation.close()
        return False
    # Kept even where somebody listens on it already, so that nobody looks at it again.
    _reserved[port] = reservation
    return available(port)


def available(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
