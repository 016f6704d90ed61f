"""Servers that answer as a test says: for what no real server does on command."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

HANG = "<hang>"
"""Says nothing more until the client has left."""

CLOSE = "<close>"
HALF = "<half>"
"""Says no more and reads no more, but does not let go: half-closed."""

DRIP = "<drip>"
"""One byte, and another before anybody loses patience, for ever."""

ENDLESS = "<endless>"
"""The line after it, over and over, as far as a test can wait for the end."""


Reply = str | list[str] | Callable[[str], str]


class Scripted:
    """Accepts connections one after the other on 127.0.0.1.

    Args:
        tls: the TLS to begin with; None for a plain start.
        greeting: the first line.

    Attributes:
        said: every line that clients said.
        told: so many octets of an endless answer they heard, or were on their way.
    """

    def __init__(self, tls: ssl.SSLContext | None, greeting: str) -> None:
        self.said: list[str] = []
        self.told = 0
        self._tls, self._greeting = tls, greeting
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, line: str) -> str:
        raise NotImplementedError

    def close(self) -> None:
        self._ended.set()
        with socket.socket() as knock:
            knock.connect_ex(("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            connection, _ = self._socket.accept()
            connection.settimeout(5)
            try:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                self._talk(connection)
            except OSError:
                pass  # the client left, or refused our TLS: that is what the tests are about
            finally:
                connection.close()

    def _talk(self, connection: Any) -> None:
        if not self._tell(connection, self._greeting):
            return
        with connection.makefile("rb") as lines:
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                self.said.append(text)
                if not self._tell(connection, self.answer(text)):
                    return

    def _tell(self, connection: Any, answer: str) -> bool:
        if answer == HALF:
            connection.shutdown(socket.SHUT_WR)
        if answer == HALF:
            self._ended.wait(20)
        while answer == HANG and not self._ended.is_set() and _stays(connection):
            pass
        while answer == DRIP and not self._ended.wait(0.05):
            connection.sendall(b"+")
        if answer.startswith(ENDLESS):
            many = (answer.removeprefix(ENDLESS) + "\r\n").encode() * 1000
            for _ in range(64_000_000 // len(many)):
                connection.sendall(many)
                self.told += len(many)
            return False
        if answer in {HANG, HALF, CLOSE, DRIP}:
            return False
        if answer:
            connection.sendall(answer.replace("\n", "\r\n").encode() + b"\r\n")
        return True


def _stays(connection: Any) -> bool:
    """Whether the client is still there, after a moment."""
    connection.settimeout(0.05)
    try:
        return bool(connection.recv(4096))
    except TimeoutError:
        return True


class ScriptedImap(Scripted):
    """An IMAP server with one mail in INBOX (UID 7), whose answers can be replaced.

    Args:
        replies: pattern of a command -> answer, or what makes it of the command; `%t` in it is the
            command's tag; a list's last answer is repeated. `answer` is what comes after a continuation.
    """

    HEADER = "Message-ID: <7@odd.example>\nSubject: Odd\n\n"
    OPENED = "* 1 EXISTS\n* OK [UIDVALIDITY 1] valid\n%t OK [READ-ONLY] done"

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        replies: Mapping[str, Reply] | None = None,
        *,
        capabilities: str = "IMAP4rev1 AUTH=PLAIN",
        greeting: str = "* OK odd",
    ) -> None:
        self._replies: dict[str, Reply] = {
            **(replies or {}),
            "CAPABILITY": f"* CAPABILITY {capabilities}\n%t OK done",
            "AUTHENTICATE": "+ ",
            "answer": "%t OK done",
            "LIST": '* LIST () "/" INBOX\n%t OK done',
            "STATUS": '* STATUS "INBOX" (UIDVALIDITY 1 UIDNEXT 8)\n%t OK done',
            "EXAMINE": self.OPENED,
            "UID SEARCH": "* SEARCH 7\n%t OK done",
            "UID FETCH": self.fetched(
                'RFC822.SIZE 50 INTERNALDATE "24-Nov-2026 01:00:00 +0000"', self.HEADER
            ),
            "LOGOUT": "* BYE\n%t OK done",
            "": "%t OK done",
            **(replies or {}),  # first for their order, last for their answers
        }
        self._tag = ""
        super().__init__(tls, greeting)

    @staticmethod
    def fetched(items: str, header: str) -> str:
        octets = len(header.replace("\n", "\r\n"))
        return f"* 1 FETCH (UID 7 {items} BODY[HEADER] {{{octets}}}\n{header})\n%t OK done"

    def answer(self, line: str) -> str:
        command = re.fullmatch(r"([A-Z]{4}\d+) (.*)", line)
        if command:
            self._tag = command[1]
        text = command[2] if command else "answer"
        reply = next(r for pattern, r in self._replies.items() if re.match(pattern, text, re.IGNORECASE))
        if callable(reply):
            reply = reply(text)
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        return reply.replace("%t", self._tag)


class ScriptedPop3(Scripted):
    """Answers commands by their first word, or by the whole line; the rest as a server with one mail would."""

    def __init__(self, tls, replies=(), greeting="+OK ready"):
        self.replies = {
            "CAPA": "+OK\nUSER\nUIDL\nTOP\n.",
            "UIDL": "+OK\n1 one\n.",
            "LIST": "+OK\n1 100\n2 100\n.",
            "TOP": "+OK\nSubject: Hello\n\n.",
            "RETR": "+OK\nSubject: Hello\n\nText\n.",
            "AUTH": "+ ",
            **dict(replies),
        }
        super().__init__(tls, greeting)

    def answer(self, line):
        return self.replies.get(line) or self.replies.get(line.split(" ")[0].upper(), "+OK")

    def asked(self, command):
        return [line for line in self.said if line.startswith(command)]


class ScriptedSmtp(Scripted):
    """An SMTP server that takes everything, whose answers can be replaced.

    Attributes:
        mail: the lines of the last content.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        replies: Mapping[str, str] | None = None,
        *,
        offers: str = "AUTH PLAIN LOGIN XOAUTH2",
        greeting: str = "220 odd",
    ) -> None:
        lines = ["odd", *offers.split("\n")]
        ehlo = "\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
        self._replies = {
            **(replies or {}),
            "EHLO": ehlo,
            "AUTH": "235 in",
            "DATA": "354 go on",
            "dot": "250 2.0.0 taken",
            "QUIT": "221 bye",
            "": "250 fine",
            **(replies or {}),
        }
        self.mail: list[str] = []
        self._in_data = False
        super().__init__(tls, greeting)

    def answer(self, line: str) -> str:
        if self._in_data:
            self.mail.append(line)
            if line != ".":
                return ""
            self._in_data = False
            line = "dot"
        reply = next(r for pattern, r in self._replies.items() if re.match(pattern, line, re.IGNORECASE))
        self._in_data = line == "DATA" and reply.startswith("354")
        if self._in_data:
            self.mail = []
        return reply
