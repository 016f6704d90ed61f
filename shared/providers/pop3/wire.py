"""One line to a POP3 server: TLS, sign-in, and answers that have an end."""

import poplib
import re
from contextlib import ExitStack, suppress
from typing import Any

from shared.errors import ConsentRequired
from shared.providers import network, sasl, sockets, wording
from shared.providers.base import Bearer, Credential, Password
from shared.providers.pop3.refusals import broken, no_pop3, refusal, words_of
from shared.providers.reopening import Delayed

LARGEST = 160_000_000
"""Octets of a whole mail that are read."""

SHORT = 8_000_000
"""Octets of any other answer: 50,000 names of 70 characters take half of it."""

LINE = 32
"""Octets that a line counts at least: an answer of empty ones takes many times its size in memory."""

poplib._MAXLINE = SHORT  # type: ignore[attr-defined]  # noqa: SLF001 - 2,048 breaks on many mails (3.11-3.13)

_FIX = "Check name and password and sign in again; some providers ask for an app password."
_DELAY, _LONGEST_DELAY = 60, 3600
"""Seconds until the next sign-in, where a server does not say how many, and at most."""

_ELSE = ("220", "* ")
"""How servers for SMTP and IMAP greet."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Wire(poplib.POP3):
    """poplib over the guarded way out, which reads no endless answer."""

    def __init__(self, server: network.Server, timeouts: network.Timeouts, largest: int) -> None:
        self._server, self._timeouts, self._largest, self._left = server, timeouts, largest, largest
        self.file = self.sock = None  # type: ignore[assignment]  # so that it can be closed half made
        try:
            super().__init__(server.name, server.port, timeouts.connect)
        except BaseException:
            self.close()
            raise
        self.sock.settimeout(timeouts.read)

    def close(self) -> None:
        """Leave; never raises."""
        with suppress(OSError):  # whoever shut it down first
            super().close()

    def _create_socket(self, _timeout: float) -> Any:  # the library's hook
        return self._server.open(self._timeouts)

    def _putline(self, line: bytes) -> None:
        self._left = self._largest if line.startswith(b"RETR ") else min(SHORT, self._largest)
        super()._putline(line)  # type: ignore[misc]

    def _getline(self) -> tuple[bytes, int]:
        line, octets = super()._getline()  # type: ignore[misc]
        self._left -= max(octets, LINE)
        if self._left < 0:
            raise poplib.error_proto("-ERR answer too large")
        return line, octets

    def capa(self) -> dict[str, list[str]]:
        """Return what the server says it can, upper-case name -> arguments (RFC 2449); {} if it does not say.

        The library's own trips over an empty line or a letter that is not ASCII.
        """
        try:
            lines = self._longcmd("CAPA")[1]  # type: ignore[attr-defined]
        except poplib.error_proto as error:
            if broken(words_of(error)):
                raise
            return {}
        words = [line.decode("latin-1").upper().split() for line in lines]
        return {name: rest for name, *rest in filter(None, words)}


def opened(server: network.Server, timeouts: network.Timeouts, largest: int, credential: Credential) -> Wire:
    """Connect, encrypt and sign in."""
    with ExitStack() as stack, network.translated():
        try:
            client = Wire(server, timeouts, largest)
            stack.callback(client.close)
            if server.security == "starttls":
                _start_tls(client)
        except poplib.error_proto as error:
            words = words_of(error)
            if words.startswith(_ELSE):
                raise no_pop3() from error
            raise refusal(words) or wording.later(words) from error
        _sign_in(client, credential)
        stack.pop_all()
    return client


def _start_tls(client: Wire) -> None:
    if "STLS" not in client.capa():
        raise network.no_starttls()
    client.stls(network.tls_context())


def _sign_in(client: Any, credential: Credential) -> None:
    """USER and PASS (RFC 1939 §7), or AUTH XOAUTH2 (RFC 5034)."""
    try:
        if isinstance(credential, Bearer):
            _show(client, credential)
        else:
            _say(client, credential)
    except poplib.error_proto as error:
        words = words_of(error, credential)
        ended = broken(words)
        if "[LOGIN-DELAY]" in words.upper():
            said = f"The mail server lets us in again later: {words}"
            raise Delayed(said, retry_after=_delay(client)) from error
        if not ended and "[AUTH]" not in words.upper() and wording.not_now(words):
            raise wording.later(words) from error
        raise ended or ConsentRequired(f"The mail server refused the sign-in: {words}", fix=_FIX) from error
    sockets.let_in(client.sock)


def _delay(client: Wire) -> int:
    """For how many seconds after a sign-in a server takes no other (RFC 2449 §6.5)."""
    sockets.done_with(client.sock)
    told = ""
    with suppress(OSError, poplib.error_proto):  # who says no more has not told
        told = "".join(client.capa().get("LOGIN-DELAY", [])[:1])
    return min(int(told[:9]), _LONGEST_DELAY) if told.isdecimal() and told.isascii() else _DELAY


def _say(client: Any, credential: Password) -> None:
    if _CONTROL.search(credential.username + credential.password):
        raise ConsentRequired("POP3 cannot carry this name or password: it has control characters.", fix=_FIX)
    client.user(credential.username)
    client.pass_(credential.password)


def _show(client: Any, credential: Bearer) -> None:
    """Show a token in an answer of its own: with the command it is longer than RFC 5034 §4 allows.

    Microsoft takes it that way only:
    https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
    """
    first, last = map(sasl.encoded, sasl.bearer_answers("XOAUTH2", credential))
    said = client._shortcmd("AUTH XOAUTH2")  # noqa: SLF001 - the library has no AUTH
    for answer in (first, last):  # the last one lets the server say its "no"
        if not said.startswith(b"+OK"):
            said = client._shortcmd(answer)  # noqa: SLF001
