"""A DNS server for the sandbox's domains, over UDP, with faults on a switch (https://pypi.org/project/dnslib/)."""

import threading
from collections import Counter
from typing import Any

from dnslib import MX, QTYPE, RCODE, RR, SRV, TXT, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from sandbox.ports import HOST

_MAKE: dict[str, Any] = {
    "TXT": lambda text: TXT([text[at : at + 255] for at in range(0, len(text), 255)] or [""]),
    "MX": lambda host: MX(host, 10),
    "SRV": lambda place: SRV(0, 1, place[1], place[0]),
    "A": A,
}


class Nameserver(BaseResolver):
    """Answers for whatever was `put`; names that begin at nothing known do not exist.

    Attributes:
        port: a free one of 127.0.0.1, UDP.
        asked: how often each (name, type) was asked for.
        failing: names answered with SERVFAIL, and everything below them.
        silent: names not answered at all, and everything below them.
    """

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self._records: dict[tuple[str, str], list[Any]] = {}
        self._ended = threading.Event()
        self._server = DNSServer(
            self,
            address=HOST,
            port=0,
            handler=_Handler,
            logger=DNSLogger("-request,-reply"),
        )
        self.port: int = self._server.server.server_address[1]
        self._server.start_thread()

    @property
    def address(self) -> str:
        """What the app's setting DNS_SERVER says."""
        return f"{HOST}:{self.port}"

    def put(self, name: str, kind: str, *values: Any) -> None:
        """Publish these values and only these: TXT text, MX a host, A an address, SRV (host, port)."""
        self._records[name.lower(), kind] = list(values)

    def heal(self) -> None:
        """Switch every fault off."""
        self.failing.clear()
        self.silent.clear()

    def resolve(self, request: DNSRecord, _handler: Any) -> DNSRecord:
        """Answer one question; called by the library, from several threads."""
        name = str(request.q.qname).rstrip(".").lower()
        kind = QTYPE[request.q.qtype]
        self.asked[name, kind] += 1
        if _within(name, self.silent):
            raise _SilentError
        reply: DNSRecord = request.reply()
        if _within(name, self.failing):
            reply.header.rcode = RCODE.SERVFAIL
        elif not any(known == name or known.endswith(f".{name}") for known, _ in self._records):
            reply.header.rcode = RCODE.NXDOMAIN
        for value in self._records.get((name, kind), []) if not reply.header.rcode else []:
            reply.add_answer(RR(name, request.q.qtype, rdata=_MAKE[kind](value), ttl=0))
        return reply

    def stop(self) -> None:
        """Stop answering."""
        self._server.stop()
        self._server.server.server_close()


class _SilentError(Exception):
    """This question gets no answer."""


class _Handler(DNSHandler):
    def handle(self) -> None:
        try:
            super().handle()  # type: ignore[no-untyped-call]
        except _SilentError:
            return


def _within(name: str, names: set[str]) -> bool:
    return any(name == one or name.endswith(f".{one}") for one in names)
