"""Servers that answer as a test says: for what no real server does on command."""

import re
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Self

HANG = "<hang>"
CLOSE = "<close>"


class Scripted:
    """Accepts connections one after the other on 127.0.0.1.

    Args:
        tls: the TLS to begin with; None for a plain start.
        greeting: the first line.

    Attributes:
        said: every line that clients said.
        fingerprints: nothing of a line is kept but its text.
    """

    def __init__(self, tls: ssl.SSLContext | None, greeting: str) -> None:
        self.said: list[str] = []
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
        if answer == HANG:
            self._ended.wait(5)
        if answer in {HANG, CLOSE}:
            return False
        if answer:
            connection.sendall(answer.replace("\n", "\r\n").encode() + b"\r\n")
        return True


class ScriptedImap(Scripted):
    """An IMAP server with one mail in INBOX (UID 7), whose answers can be replaced.

    Args:
        replies: pattern of a command -> answer; `{tag}` stands for the command's tag.
    """

    HEADER = "Message-ID: <7@odd.example>\nSubject: Odd\n\n"

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        replies: Mapping[str, str] | None = None,
        *,
        capabilities: str = "IMAP4rev1 AUTH=PLAIN",
        greeting: str = "* OK odd",
    ) -> None:
        octets = len(self.HEADER.replace("\n", "\r\n"))
        self._replies = {
            **(replies or {}),
            "CAPABILITY": f"* CAPABILITY {capabilities}\n{{tag}} OK",
            "AUTHENTICATE": "+",
            "answer": "{tag} OK in",
            "LIST": '* LIST () "/" INBOX\n{tag} OK',
            "STATUS": '* STATUS "INBOX" (UIDVALIDITY 1 UIDNEXT 8)\n{tag} OK',
            "EXAMINE": "* 1 EXISTS\n* OK [UIDVALIDITY 1] valid\n{tag} OK [READ-ONLY]",
            "UID SEARCH": "* SEARCH 7\n{tag} OK",
            "UID FETCH": '* 1 FETCH (UID 7 RFC822.SIZE 50 INTERNALDATE "24-Nov-2026 01:00:00 +0000" '
            f"BODY[HEADER] {{{{{octets}}}}}\n{self.HEADER})\n{{tag}} OK",
            "LOGOUT": "* BYE\n{tag} OK",
            "": "{tag} OK",
        }
        self._tag = ""
        super().__init__(tls, greeting)

    def answer(self, line: str) -> str:
        tag, _, command = line.partition(" ")
        if command:
            self._tag = tag
        else:
            command = "answer"
        reply = next(r for pattern, r in self._replies.items() if re.match(pattern, command, re.IGNORECASE))
        return reply.replace("{tag}", self._tag).replace("{{", "{").replace("}}", "}")


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
