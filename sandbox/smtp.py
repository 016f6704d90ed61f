"""The sandbox's post office: submission for the mail server's users, and MX for every domain.

A 250 after DATA means that the mail lies in every recipient's mailbox, so nobody has to wait for it.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, override

import dkim
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from sandbox.background import Background
from sandbox.bounces import delivery_report, is_bouncing
from sandbox.clerk import NAME, Clerk, Transaction
from sandbox.ports import HOST, Ports
from sandbox.smtp_faults import Faults

SIZE = 35 * 1024 * 1024

logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns about attributes that it sets itself


class Destination(Protocol):
    """A mail system that takes mail for a domain; Dovecot, or the simulator of a provider."""

    def knows(self, address: str) -> bool:
        """Whether it has such a mailbox."""
        ...

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:
        """Put the mail into the recipient's mailbox; return once it is there."""
        ...


class PostOffice:
    """Three listeners on one loop: smtp (STARTTLS), smtps (TLS) and mx (no sign-in, only to our domains).

    Args:
        tls: the server's TLS context.
        passwords: address -> password of those who may submit; read at every sign-in.
        address_of: whose an OAuth access token is; without it XOAUTH2 refuses everybody.

    Attributes:
        faults: what goes wrong, on a switch.
        transactions: every accepted mail, oldest first.
        replies: how many were given, greetings included: for each of them somebody waited.
        signing: domain -> selector, private key (PEM) and the domain that signs, which may be another.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        passwords: Mapping[str, str],
        ports: Ports | None = None,
        *,
        address_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.ports = ports or Ports()
        self.faults = Faults()
        self.transactions: list[Transaction] = []
        self.replies = 0
        self.signing: dict[str, tuple[str, bytes, str]] = {}
        self._routes: dict[str, Destination] = {}
        self._tls, self._passwords, self._address_of = tls, passwords, address_of
        self._background: Background | None = None
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Transport] = set()

    def route(self, domain: str, destination: Destination) -> None:
        """Hand mail for the domain to this mail system."""
        self._routes[domain.lower()] = destination

    def start(self) -> None:
        """Listen; after a `stop`, again on the same ports."""
        self._background = Background()
        self._servers = self._background.run(self._listen())

    def stop(self) -> None:
        """Stop listening and drop every connection; the record and the faults stay."""
        background, self._background = self._background, None
        if background:
            background.run(self._close())
            background.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def knows(self, address: str) -> bool:
        """Whether mail to the address is accepted."""
        destination = self._destination(address)
        return destination is not None and (is_bouncing(address) or destination.knows(address))

    def is_local(self, address: str) -> bool:
        """Whether the address lies in a domain of the sandbox."""
        return self._destination(address) is not None

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:
        """Deliver to one known recipient; a bouncing one reports back to the envelope's sender."""
        if is_bouncing(recipient):
            if envelope_from and self.knows(envelope_from):
                self.deliver("", envelope_from, delivery_report(envelope_from, recipient, raw))
            return
        destination = self._destination(recipient)
        if destination is None:
            raise LookupError(f"No mail system of the sandbox takes mail for {recipient}.")
        destination.deliver(envelope_from, recipient, raw)

    def signed(self, sender: str, raw: bytes) -> bytes:
        """Sign a mail by DKIM where the sender's domain has a key here."""
        domain = sender.rpartition("@")[2].lower()
        if domain not in self.signing:
            return raw
        selector, key, signer = self.signing[domain]
        header: bytes = dkim.sign(raw, selector.encode(), signer.encode(), key)
        return header + raw

    def authenticate(self, user: str, word: str, mechanism: str) -> bool:
        """Check a password, or for XOAUTH2 a token."""
        if mechanism == "XOAUTH2":
            return self._address_of(word) == user.lower()
        return self._passwords.get(user.lower()) == word

    def _destination(self, address: str) -> Destination | None:
        return self._routes.get(address.lower().rpartition("@")[2])

    async def _listen(self) -> list[asyncio.Server]:
        loop = asyncio.get_running_loop()
        common = {"hostname": NAME, "data_size_limit": SIZE, "loop": loop, "ident": "Zalion sandbox"}
        submission = {**common, "authenticator": self._authenticator}
        doors: dict[str, tuple[dict[str, Any], ssl.SSLContext | None]] = {
            "smtp": ({**submission, "tls_context": self._tls}, None),
            "smtps": ({**submission, "auth_require_tls": False}, self._tls),
            "mx": ({**common, "tls_context": self._tls}, None),
        }
        servers = []
        for name, (options, tls) in doors.items():
            factory = self._factory(Clerk(self, submission=name != "mx"), options)
            servers.append(await loop.create_server(factory, HOST, self.ports[name], ssl=tls))
        return servers

    def _factory(self, clerk: Clerk, options: dict[str, Any]) -> Callable[[], SMTP]:
        return lambda: _Server(clerk, self._open, **options)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for transport in list(self._open):
            transport.abort()

    def _authenticator(
        self, _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        user, word = data.login.decode(errors="replace"), data.password.decode(errors="replace")
        # Not "handled": so the refusal is the usual 535.
        known = self.authenticate(user, word, mechanism)
        return AuthResult(success=known, handled=False, auth_data=user.lower())


class _Server(SMTP):
    """One connection. Remembers its transport, so that `stop` can drop it."""

    def __init__(self, clerk: Clerk, open_: set[asyncio.Transport], **options: Any) -> None:
        super().__init__(clerk, **options)
        self._open = open_

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._open.add(transport)
        if self.event_handler.office.faults.refusing:
            transport.abort()

    @override
    async def push(self, status: Any) -> None:
        self.event_handler.office.replies += status[3:4] not in {"-", b"-"}  # else another line follows
        await super().push(status)

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._open -= {self.transport, self._original_transport}
        super().connection_lost(error)
