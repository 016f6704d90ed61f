"""What the post office says at each SMTP command, and what it writes on the mail."""

import asyncio
import base64
import re
import secrets
import smtplib
from collections.abc import Callable
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.utils import formatdate, make_msgid, parseaddr
from typing import Protocol, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from sandbox.ports import HOST
from sandbox.smtp_faults import Faults, Stage

NAME = "mail.sandbox.example"
"""The server's name, and the authserv-id of its Authentication-Results."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """An accepted mail: its envelope, its bytes as they came, and who was signed in ("" at the MX)."""

    envelope_from: str
    envelope_to: tuple[str, ...]
    raw: bytes
    user: str


class Office(Protocol):
    """What the clerk needs of the post office."""

    faults: Faults
    transactions: list[Transaction]

    def is_local(self, address: str) -> bool: ...

    def signed(self, sender: str, raw: bytes) -> bytes: ...

    def knows(self, address: str) -> bool: ...

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None: ...

    def authenticate(self, user: str, word: str, mechanism: str) -> bool: ...


class Clerk:
    """What the post office says at each command; aiosmtpd calls `handle_<COMMAND>` and `auth_<MECHANISM>`."""

    def __init__(self, office: Office, *, submission: bool) -> None:
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
        if self._submission and not session.authenticated:
            return "530 5.7.0 Authentication required"
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
        stamped, new_id = self.office.signed(sender, raw), None
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
