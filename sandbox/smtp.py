"""The sandbox's post office: submission for the mail server's users, and MX for every domain.

A 250 after DATA means that the mail lies in every recipient's mailbox, so nobody has to wait for it.
"""

import asyncio
import base64
import logging
import re
import secrets
import smtplib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.utils import formatdate, make_msgid, parseaddr
from typing import Any, Protocol, Self, cast, override

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from sandbox.background import Background
from sandbox.bounces import delivery_report, is_bouncing
from sandbox.ports import HOST, Ports
from sandbox.smtp_faults import Faults, Stage

SIZE = 35 * 1024 * 1024
NAME = "mail.sandbox.example"

logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns about attributes that it sets itself


class Destination(Protocol):
    """A mail system that takes mail for a domain; Dovecot, or the simulator of a provider."""

    def knows(self, address: str) -> bool:
        """Whether it has such a mailbox."""
        ...

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:
        """Put the mail into the recipient's mailbox; return once it is there."""
        ...


@dataclass(frozen=True, slots=True)
class Transaction:
    """An accepted mail: its envelope, its bytes as they came, and who was signed in ("" at the MX)."""

    envelope_from: str
    envelope_to: tuple[str, ...]
    raw: bytes
    user: str


class PostOffice:
    """Three listeners on one loop: smtp (STARTTLS), smtps (TLS) and mx (no sign-in, only to our domains).

    Args:
        tls: the server's TLS context.
        passwords: address -> password of those who may submit; read at every sign-in.
        address_of: whose an OAuth access token is; without it XOAUTH2 refuses everybody.

    Attributes:
        faults: what goes wrong, on a switch.
        transactions: every accepted mail, oldest first.
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
        submission = {**common, "auth_required": True, "authenticator": self._authenticator}
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

    def _factory(self, clerk: "Clerk", options: dict[str, Any]) -> Callable[[], SMTP]:
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

    def __init__(self, clerk: "Clerk", open_: set[asyncio.Transport], **options: Any) -> None:
        super().__init__(clerk, **options)
        self._open = open_

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._open.add(transport)
        if self.event_handler.office.faults.refusing:
            transport.abort()

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._open -= {self.transport, self._original_transport}
        super().connection_lost(error)


class Clerk:
    """What the post office says at each command; aiosmtpd calls `handle_<COMMAND>` and `auth_<MECHANISM>`."""

    def __init__(self, office: PostOffice, *, submission: bool) -> None:
        self.office = office
        self._submission = submission

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802 (aiosmtpd's name)
        """https://developers.google.com/workspace/gmail/imap/xoauth2-protocol."""
        if len(args) == 1:
            said = await server.challenge_auth("")
        else:
            said = base64.b64decode(args[1])
        found = re.fullmatch(
            rb"user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01",
            bytes(cast("bytes", said) or b""),
            re.IGNORECASE,
        )
        user, token = (found[1].decode(), found[2].decode()) if found else ("", "")
        if self.office.authenticate(user, token, "XOAUTH2"):
            return AuthResult(success=True, auth_data=user.lower())
        await server.challenge_auth('{"status":"400","schemes":"Bearer"}')  # the client acknowledges it
        return AuthResult(success=False, handled=False)

    async def handle_MAIL(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a sender that belongs to who signed in."""
        planned = await self._planned("MAIL")
        if planned:
            return planned
        if self._submission and address and account(address) != session.auth_data:
            return f"553 5.7.1 <{address}>: Sender address rejected: not owned by user {session.auth_data}"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient that exists in the sandbox."""
        faults = self.office.faults
        planned = await self._planned("RCPT") or faults.refused.get(address.lower())
        if planned:
            return planned
        if not self.office.is_local(address):
            return f"550 5.7.1 <{address}>: Relay access denied: the sandbox delivers to its own domains only"
        if not self.office.knows(address):
            return f"550 5.1.1 <{address}>: Recipient address rejected: User unknown"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 (aiosmtpd's name)
        """Deliver, then answer."""
        planned = await self._planned("DATA")
        if planned:
            return planned
        drop = self.office.faults.next_drop()
        reply = "" if drop is False else await asyncio.to_thread(self._accept, session, envelope)
        if drop is not None:
            cast("asyncio.Transport", server.transport).abort()
            await asyncio.Event().wait()  # the lost connection cancels us here
        return reply

    def _accept(self, session: Session, envelope: Envelope) -> str:
        """Deliver to every recipient, in order."""
        raw, reply = cast("bytes", envelope.content), "250 2.0.0 OK queued"
        user, sender = str(session.auth_data) if self._submission else "", envelope.mail_from or ""
        stamped, new_id = raw, None
        if self.office.faults.rewriting:
            stamped, new_id = rewritten(raw)
        if self.office.faults.rewriting == "announced":
            reply = f"250 2.0.0 OK {new_id} queued"
        local = self.office.is_local
        for recipient in envelope.rcpt_tos:
            trace = trace_headers(session, recipient, raw, user, is_local=local)
            try:
                self.office.deliver(sender, recipient, trace + stamped)
            except (OSError, smtplib.SMTPException):
                return f"451 4.3.0 <{recipient}>: its mail system does not answer"
        done = Transaction(sender, tuple(envelope.rcpt_tos), raw, user)
        self.office.transactions.append(done)
        return reply

    async def _planned(self, stage: Stage) -> str | None:
        while self.office.faults.hanging == stage:  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(0.02)
        return self.office.faults.next_reply(stage)


def account(address: str) -> str:
    """Return the address without its +detail, in lower case."""
    return re.sub(r"\+[^@]*@", "@", address.lower())


def rewritten(raw: bytes) -> tuple[bytes, str]:
    """Return the mail under a Message-ID of the relay's own, and that id."""
    new_id = make_msgid(domain="relay.sandbox.example")
    head, separator, body = raw.partition(b"\r\n\r\n")
    head = re.sub(rb"(?im)^Message-ID:.*(\r\n[ \t].*)*\r?\n?", b"", head).rstrip(b"\r\n")
    return head + f"\r\nMessage-ID: {new_id}".encode() + separator + body, new_id


def trace_headers(
    session: Session, recipient: str, raw: bytes, user: str, *, is_local: Callable[[str], bool]
) -> bytes:
    """Return what a server puts in front: Received (RFC 5321 §4.4) and Authentication-Results (RFC 8601).

    Who signed in may use its domain; somebody at the MX who claims one of ours is a forger.
    """
    sender = parseaddr(str(BytesHeaderParser().parsebytes(raw).get("From", "")))[1].lower()
    domain = sender.rpartition("@")[2] or "unknown"
    if user:
        verdict = "pass" if domain == user.rpartition("@")[2] else "fail"
        results = f"auth=pass smtp.auth={user}; dmarc={verdict} header.from={domain}"
    else:
        results = f"dmarc={'fail' if is_local(sender) else 'none'} header.from={domain}"
    protocol = "ESMTPSA" if user else "ESMTP"
    return (
        f"Authentication-Results: {NAME}; {results}\r\n"
        f"Received: from {session.host_name} ([{HOST}])\r\n"
        f"\tby {NAME} with {protocol} id {secrets.token_hex(6)}\r\n"
        f"\tfor <{recipient}>; {formatdate(localtime=True)}\r\n"
    ).encode()
