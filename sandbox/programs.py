"""Outlook and Gmail in a browser, as far as the story by hand needs them: what somebody does there herself.

`GET /` is the newest mail in the inbox, `POST /` sends one (raw, as it is), both with address and password
(Basic). Systems that speak IMAP and SMTP need none of this: any mail program does.
"""

import base64
import binascii
import ssl
from collections.abc import Mapping
from typing import Protocol, override

from sandbox.web import Reply, Request, WebServer


class MailSystem(Protocol):
    """What a simulator can do for its users."""

    def inbox(self, address: str) -> list[bytes]:
        """Return what lies in somebody's inbox, oldest first."""
        ...

    def send_as_user(self, address: str, raw: bytes) -> object:
        """Send from the user's own program, with a copy in Sent."""
        ...


class MailPrograms(WebServer):
    """The programs of everybody in `accounts`: address -> password and mail system."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self.accounts: dict[str, tuple[str, MailSystem]] = {}
        super().__init__(port, tls)

    def add(self, passwords: Mapping[str, str], system: MailSystem) -> None:
        """Give these people a program."""
        self.accounts |= {address: (password, system) for address, password in passwords.items()}

    @override
    def answer(self, request: Request) -> Reply:
        address, password = _basic(request)
        known = self.accounts.get(address)
        if known is None or known[0] != password:
            return Reply(401, None, {"WWW-Authenticate": 'Basic realm="mail program"'})
        if request.method == "POST":
            known[1].send_as_user(address, request.body)
            return Reply(202)
        newest = known[1].inbox(address)[-1:]
        return Reply(200, newest[0], {"Content-Type": "message/rfc822"}) if newest else Reply(404)


def _basic(request: Request) -> tuple[str, str]:
    scheme, _, word = request.headers.get("authorization", "").partition(" ")
    try:
        address, _, password = base64.b64decode(word).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (address, password) if scheme.lower() == "basic" else ("", "")
