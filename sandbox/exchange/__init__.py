"""Exchange Web Services of an Exchange Server on premises, on the wire: what mail clients need of it.

Mail it sends leaves by SMTP through the sandbox's MX, mail for its users comes in through `deliver`.
https://learn.microsoft.com/exchange/client-developer/web-service-reference/ews-operations-in-exchange
"""

import email
import email.policy
import re
import secrets
import smtplib
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import override

from sandbox.bounces import delivery_report
from sandbox.exchange import soap
from sandbox.exchange.auth import Accounts
from sandbox.exchange.mailbox import Faults, Mailbox
from sandbox.exchange.served import Served
from sandbox.exchange.shapes import Shape
from sandbox.exchange.soap import Call, EwsError
from sandbox.graph.mailbox import Item
from sandbox.mail import recipients
from sandbox.web import Reply, Request, WebServer

PATH = "/ews/exchange.asmx"
FLOOD = 200 * 2**20
SENDING = {"CreateItem", "SendItem"}


class Exchange(WebServer):
    """One Exchange.

    Args:
        mx: where mail leaves to.
        certificate: the server's; with it NTLM must be bound to the TLS connection (Extended Protection).

    Attributes:
        accounts: who may sign in.
        requests: (operation, who asks) of every request that was understood.
        mime_asked: operation -> how often it was asked for MimeContent.
        impersonators: addresses with the role ApplicationImpersonation.
        schemas: what requests and answers are held against, if they are there.
        violations: where they were not followed.
        sent: mails handed over, as they went out.
        flooded: octets of refusals that somebody took.
    """

    def __init__(
        self,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        *,
        mx: tuple[str, int],
        certificate: Path | None = None,
    ) -> None:
        self.faults = Faults()
        self.accounts = Accounts(certificate=certificate)
        self.requests: list[tuple[str, str]] = []
        self.mime_asked: Counter[str] = Counter()
        self.impersonators: set[str] = set()
        self.schemas: soap.Schemas | None = None
        self.violations: list[str] = []
        self.sent: list[bytes] = []
        self.flooded = 0
        self._mx = mx
        self._mailboxes: dict[str, Mailbox] = {}
        self._guard = threading.Lock()
        super().__init__(port, tls)
        self.port = int(self.url.rpartition(":")[2])

    @override
    def stop(self) -> None:
        self.faults.clear()
        super().stop()
        self.accounts.close()

    # The mail world's side

    def add_user(self, address: str, password: str) -> Mailbox:
        """Give somebody an account and a mailbox."""
        self.accounts.add(address, password)
        return self._mailboxes.setdefault(address.lower(), Mailbox(address.lower()))

    def mailbox(self, address: str) -> Mailbox:
        """Return somebody's mailbox. Raises KeyError."""
        return self._mailboxes[address.lower()]

    def addresses(self) -> list[str]:
        """Return everybody's address."""
        return list(self._mailboxes)

    def owner(self, id_: str) -> tuple[Mailbox, Item] | None:
        """Return a mail by its id, in whatever mailbox."""
        for mailbox in self._mailboxes.values():
            if found := mailbox.find(id_):
                return mailbox, found
        return None

    def knows(self, address: str) -> bool:
        """Whether mail to this address arrives, with or without a +detail."""
        return re.sub(r"\+[^@]*@", "@", address.lower()) in self._mailboxes

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:  # noqa: ARG002 - the post's call
        """Take a mail in, with the verdict of the filter in front of Exchange."""
        address = re.sub(r"\+[^@]*@", "@", recipient.lower())
        domain = parseaddr(str(email.message_from_bytes(raw)["From"]))[1].rpartition("@")[2].lower()
        word = "fail" if domain in self.faults.forged else "pass"
        verdict = f"Authentication-Results: edge.exchange.sandbox; dmarc={word} header.from={domain}\r\n"
        now = format_datetime(datetime.now().astimezone())
        trace = f"Received: from mail.sandbox.example by exchange.sandbox with SMTP; {now}\r\n"
        self.mailbox(address).add((verdict + trace).encode() + raw, "inbox")

    def send_as_user(self, address: str, raw: bytes) -> Item:
        """The person sends from Outlook herself: it is delivered, and a copy lies in Sent Items."""
        return self.post(self.mailbox(address), raw, "sentitems")

    def inbox(self, address: str) -> list[bytes]:
        """Return what lies in somebody's inbox, oldest first."""
        mailbox = self.mailbox(address)
        return [item.raw for item in mailbox.listed(place.id)] if (place := mailbox.place("inbox")) else []

    def post(self, mailbox: Mailbox, raw: bytes, copy: str) -> Item:
        """File a copy (in Sent Items, where none is asked for it is gone at once) and hand the mail over."""
        to = recipients(email.message_from_bytes(raw, policy=email.policy.SMTP))
        if self.faults.rewrite_message_id:
            new = f"Message-ID: <{secrets.token_hex(16)}@EX01.exchange.sandbox>".encode()
            raw = re.sub(rb"(?im)^message-id:[^\r]*(?:\r\n[ \t][^\r]*)*", new, raw, count=1)
        if self.faults.rewrite_date:
            new = f"Date: {format_datetime(datetime.now().astimezone())}".encode()
            raw = re.sub(rb"(?im)^date:[^\r]*(?:\r\n[ \t][^\r]*)*", new, raw, count=1)
        item = mailbox.add(raw, copy or "outbox", sent=True)
        head, _, body = raw.partition(b"\r\n\r\n")
        bare = re.sub(rb"(?im)^bcc:[^\r]*(?:\r\n[ \t][^\r]*)*\r\n", b"", head + b"\r\n")
        leaving = bare + b"\r\n" + body
        self.sent.append(leaving)
        with smtplib.SMTP(*self._mx, timeout=20) as smtp:
            try:
                refused = smtp.sendmail(mailbox.address, to, leaving)
            except smtplib.SMTPRecipientsRefused as error:
                refused = error.recipients
        for address in refused:
            mailbox.add(delivery_report(mailbox.address, address, leaving), "inbox")
        if not copy:
            mailbox.remove(item)
        return item

    # On the wire

    @override
    def answer(self, request: Request) -> Reply:
        faults = self.faults
        if faults.half_closed > 0:
            faults.half_closed -= 1
            self._half_close(request)
        if faults.flooding > 0:
            faults.flooding -= 1
            self._flood(request)
        if faults.redirect:
            return Reply(302, b"", {"Location": faults.redirect})
        if request.path.lower() != PATH:
            return Reply(404, b"Not here", {"Content-Type": "text/plain"})
        user = self.accounts.identify(request)
        if isinstance(user, Reply):
            return user
        reply = self._served(request, user)
        if self.schemas and reply.status in {200, 500}:
            self.violations += self.schemas.complaints(request.body) + self.schemas.complaints(reply.payload)
        if faults.trickling > 0:
            faults.trickling -= 1
            self._trickle(request, reply)
        return reply

    def _served(self, request: Request, user: str) -> Reply:
        try:
            call = soap.read(request.body)
            with self._guard:
                self.requests.append((call.operation, user))
                self.mime_asked[call.operation] += Shape.of(call.body, "ItemShape").fields >= {
                    "item:MimeContent"
                }
            return self._admitted(call, user) or Served(self, call, user).answer()
        except EwsError as error:
            return soap.fault(error)

    def _admitted(self, call: Call, user: str) -> Reply | None:
        """Play the faults that come before anything is done. Raises EwsError."""
        faults, address = self.faults, call.impersonated or user
        if address in faults.hanging:
            while address in faults.hanging:
                time.sleep(0.02)
            raise ConnectionAbortedError  # nobody waits any more
        if _counts(faults.unavailable, address):
            return Reply(503, b"Service Unavailable", {"Retry-After": "7", "Content-Type": "text/plain"})
        if _counts(faults.throttled, address):
            raise faults.busy()
        if address in faults.disabled:
            raise EwsError("ErrorAccountDisabled", "Account is disabled.")
        asked = {str(one.get("Id")) for one in soap.find_all(call.body, "m:ItemIds/*")}
        if call.operation == "GetItem" and asked & faults.breaking:
            if faults.breaking_page:
                return Reply(500, b"<html>Runtime Error</html>", {"Content-Type": "text/html"})
            raise EwsError("ErrorInternalServerError", "An internal server error occurred.")
        if call.operation in SENDING and faults.lost_before > 0:
            faults.lost_before -= 1
            raise ConnectionAbortedError
        return None

    def _half_close(self, request: Request) -> None:
        """Close our half of the connection, and listen on until the client has left, too."""
        if request.client.wire:
            with suppress(OSError):  # the client was faster
                request.client.wire.shutdown(socket.SHUT_WR)
        raise ConnectionAbortedError

    def _flood(self, request: Request) -> None:
        """Refuse the sign-in with more than anybody wants to read, until the client has had enough."""
        head = f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: {FLOOD}\r\n\r\n"
        with suppress(OSError):
            request.client.wire.sendall(head.encode())  # type: ignore[union-attr]
            for _ in range(FLOOD // 2**20):
                request.client.wire.sendall(bytes(2**20))  # type: ignore[union-attr]
                self.flooded += 2**20
        raise ConnectionAbortedError

    def _trickle(self, request: Request, reply: Reply) -> None:
        """Send the answer so slowly that each byte comes in time and the whole never does."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(reply.payload)}\r\n\r\n"
        for byte in head.encode() + reply.payload:
            if request.client.wire:
                request.client.wire.sendall(bytes([byte]))
            time.sleep(0.05)


def _counts(switch: dict[str, int], address: str) -> bool:
    if switch.get(address, 0) <= 0:
        return False
    switch[address] -= 1
    return True
