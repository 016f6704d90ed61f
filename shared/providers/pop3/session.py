"""One signed-in TLS connection to a POP3 server, and the one place where its words become our errors."""

import poplib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from shared.errors import (
    ConsentRequired,
    NotFound,
    Rejected,
    Temporary,
    Unsupported,
    ZalionError,
)
from shared.providers import network, sasl, sockets, wording
from shared.providers.base import Bearer, Connection, Credential, Password
from shared.providers.reopening import Delayed, Shut, shut

PORT = 995
LARGEST = 160_000_000
"""Octets of a whole mail that are read."""

SHORT = 8_000_000
"""Octets of any other answer: 50,000 names of 70 characters take half of it."""

LINE = 32
"""Octets that a line counts at least: an answer of empty ones takes many times its size in memory."""

MOST_LOST = 30
"""So many sessions may end at mails of one look; then it is the server's fault."""

MOST_SILENT = 2
"""At so many mails of one look the server may go silent: each costs the whole time-out."""

poplib._MAXLINE = SHORT  # type: ignore[attr-defined]  # noqa: SLF001 - 2,048 breaks on many mails (3.11-3.13)

_FIX = "Check name and password and sign in again; some providers ask for an app password."
_USE_IMAP = "Use IMAP with this server."
_LACKS = {
    "UIDL": "This server cannot tell mails apart (it lacks UIDL).",
    "TOP": "This server cannot show a mail's headers alone (it lacks TOP).",
}
_DELAY, _LONGEST_DELAY = 60, 3600
"""Seconds until the next sign-in, where a server does not say how many, and at most."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# response codes first (RFC 2449 §8, RFC 3206), words where there is none
_NOT_NOW = re.compile(
    r"(?i)\[(in-use|login-delay|sys/temp)\]|(maildrop|mailbox).*lock|already lock|\bin use\b|busy|try again"
    r"|temporar|unavailable"
)
_GONE = re.compile(
    r"(?i)no such|delet|expung|not exist|(message|mail).*not found|no message|out of range|invalid message"
)
_COMMAND = re.compile(r"(?i)command|not implemented|unsupported")
_MESSAGE = re.compile(r"(?i)\bmessage\b")
# of a mail's headers, [SYS/TEMP] and "try again" are said of that mail: a disk may have lost it alone
_IN_USE = re.compile(
    r"(?i)\[(in-use|login-delay)\]|(maildrop|mailbox).*lock|already lock|\bin use\b|busy"
    r"|\brate\b|throttl|too (many|fast|frequent)"
)
_LOST, _TOO_LARGE = {"", "EOF"}, {"line too long", "answer too large"}


class Refused(Temporary):
    """The server does not show this mail's headers, or not in a way that can be read, and shows others."""


class Muted(Temporary):
    """The server goes silent at more mails than one look has the time for."""


class _Silent(Temporary):
    """No answer came in time: the server is not well, or the mail asked for keeps it busy for ever."""


class _HungUp(Temporary):
    """The session ended instead of an answer, as it does where the mail asked for makes the server crash."""


class _Wire(poplib.POP3):
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
            if _broken(_words(error)):
                raise
            return {}
        words = [line.decode("latin-1").upper().split() for line in lines]
        return {name: rest for name, *rest in filter(None, words)}


class Session:
    """Opened by the first question, again after a lost connection, until `close`.

    A maildrop changes between sessions only (RFC 1939 §8), and so do a mail's number and the server's order.
    """

    def __init__(self, connection: Connection, timeouts: network.Timeouts, largest: int = LARGEST) -> None:
        self._connection, self._timeouts, self._largest = connection, timeouts, largest
        self._server = network.Server.of(connection, PORT)
        self._client: _Wire | None = None
        self._numbers: dict[str, int] = {}
        self._lost = 0
        self._mute: set[str] = set()

    def uidls(self) -> list[str]:
        """Return the UIDLs of all mails in the server's order. Raises Unsupported where it has none.

        Raises Shut where a mail ended the session, and the server does not let us in again.
        """
        if not self._client or not self._numbers:
            try:
                self._list()
            except Temporary as error:
                if self._lost:
                    raise shut(error) from error
                raise
        return list(self._numbers)

    def _list(self) -> None:
        listed = self._ask(lambda client: [*map(_numbered, client.uidl()[1])], needs="UIDL")
        self._numbers = dict(listed)
        if len(self._numbers) < len(listed):
            self._numbers = self._ask(lambda client: _apart(listed, dict(map(_sized, client.list()[1]))))

    def top(self, uidl: str, lines: int) -> bytes:
        """Return a mail's header block and so many lines of its body; who hangs up is asked once more.

        Raises NotFound, Refused, Unsupported; Rejected where lines of its body are too large. Shut, before
        it was asked for, and Muted are not to be held against it.
        """
        if uidl in self._mute:
            raise Refused(network.SILENT)
        try:
            return self._top(uidl, lines)
        except _HungUp as error:  # by chance, or because of this mail
            self._open_again(error)
        try:
            return self._top(uidl, lines)
        except _HungUp as error:
            self._open_again(error)
            raise Refused(error.detail) from error

    def _top(self, uidl: str, lines: int) -> bytes:
        number = self._number(uidl)
        try:
            told = self._ask(lambda client: client.top(number, lines)[1], needs="TOP")
        except Rejected as error:
            if lines:
                raise
            raise Refused(error.detail) from error
        except _Silent as error:
            if len(self._mute) >= MOST_SILENT:
                raise Muted(error.detail) from error
            self._mute.add(uidl)
            self._open_again(error)
            raise Refused(error.detail) from error
        return b"\r\n".join(told) + b"\r\n"

    def _open_again(self, error: ZalionError) -> None:
        """Sign in once more. Raises Refused where we are not let in: this mail is then the last asked for.

        It may be its fault (a server that crashed keeps the maildrop locked for a while), or the server is
        down: so it is asked for again by the next looks, and another one before it.
        """
        self._lost += 1
        if self._lost > MOST_LOST:
            raise Temporary(error.detail) from error
        try:
            self.uidls()
        except Shut as not_let_in:
            raise Refused(error.detail) from not_let_in

    def shows(self, uidls: Sequence[str]) -> None:
        """Make sure that one of these mails, just listed, can be shown. Raises Unsupported, Temporary.

        One at which the session ended, where nobody is let in again so soon, says nothing of the others.
        """
        said: Refused | None = None
        for uidl in uidls:
            try:
                self.top(uidl, 0)
            except NotFound as error:  # who just listed it does not know the command
                raise Unsupported(_LACKS["TOP"], fix=_USE_IMAP) from error
            except Refused as error:
                said = error
            except Shut:
                if said:
                    return
                raise
            else:
                return
        if said and not self._ask(lambda client: client.capa()):  # it cannot say that it lacks TOP
            raise Unsupported(_LACKS["TOP"], fix=_USE_IMAP) from said
        if said:
            raise Temporary(said.detail) from said

    def whole(self, uidl: str) -> bytes:
        """Return a whole mail. Raises NotFound, Rejected for one that is too large, Unsupported."""
        number = self._number(uidl)
        self.stays()
        return b"\r\n".join(self._ask(lambda client: client.retr(number)[1])) + b"\r\n"

    def stays(self) -> None:
        """Raise Unsupported where the server says that it lacks TOP, or that it deletes what was read."""
        offered = self._ask(lambda client: client.capa())
        if offered and "TOP" not in offered:
            raise Unsupported(_LACKS["TOP"], fix=_USE_IMAP)
        if offered.get("EXPIRE", [])[:1] == ["0"]:  # RFC 2449 §6.7
            raise Unsupported("This server deletes every mail that was read.", fix=_USE_IMAP)

    def close(self) -> None:
        """End the session; never raises."""
        if self._client:
            with suppress(OSError, poplib.error_proto):  # who cannot say goodbye any more just leaves
                self._client.quit()
        self._drop()
        self._lost, self._mute = 0, set()

    def _number(self, uidl: str) -> int:
        self.uidls()
        if uidl not in self._numbers:
            raise NotFound("This mail was deleted.")
        return self._numbers[uidl]

    def _ask[T](self, command: Callable[[_Wire], T], *, needs: str = "") -> T:
        """Give one command; `needs` is what a server that refuses it may lack."""
        self._client = self._client or self._open()
        try:
            with network.translated():
                return command(self._client)
        except poplib.error_proto as error:
            refusal = _refusal(_words(error), of_mail=needs == "TOP")
            if refusal:
                self._drop()
                raise refusal from error
            raise self._unwilling(_words(error), needs) from error
        except (ValueError, LookupError) as error:  # the library's parser tripped
            self._drop()
            raise Temporary("The server's answer is not POP3.") from error
        except ZalionError as error:
            self._drop()
            if needs == "TOP" and isinstance(error.__cause__, ConnectionError):
                raise _HungUp(error.detail) from error
            if needs == "TOP" and isinstance(error.__cause__, TimeoutError):
                raise _Silent(error.detail) from error
            raise

    def _unwilling(self, words: str, needs: str) -> ZalionError:
        """Say why a command was refused: the mail is gone, the server lacks it, or it may do it later."""
        of_command = _COMMAND.search(words) and not _MESSAGE.search(words)
        if needs != "UIDL" and _GONE.search(words) and not of_command:
            return NotFound("The server does not have this mail any more.")
        can = self._ask(lambda client: client.capa()) if needs else {}
        if needs == "TOP" and (needs in can or not (can or of_command)):
            return Refused(f"The mail server refused to show a mail: {words}")
        if needs and needs not in can:
            return Unsupported(_LACKS[needs], fix=_USE_IMAP)
        return Temporary(f"The mail server refused: {words}")

    def _drop(self) -> None:
        client, self._client, self._numbers = self._client, None, {}
        if client:
            client.close()

    def _open(self) -> _Wire:
        credential = self._connection.credential()
        with ExitStack() as stack, network.translated():
            try:
                client = _Wire(self._server, self._timeouts, self._largest)
                stack.callback(client.close)
                if self._server.security == "starttls":
                    _start_tls(client)
            except poplib.error_proto as error:
                words = _words(error)
                raise _refusal(words) or wording.later(words) from error
            _sign_in(client, credential)
            stack.pop_all()
        return client


def _start_tls(client: _Wire) -> None:
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
        words = _words(error, credential)
        broken = _broken(words)
        if "[LOGIN-DELAY]" in words.upper():
            said = f"The mail server lets us in again later: {words}"
            raise Delayed(said, retry_after=_delay(client)) from error
        if not broken and "[AUTH]" not in words.upper() and wording.not_now(words):
            raise wording.later(words) from error
        raise broken or ConsentRequired(f"The mail server refused the sign-in: {words}", fix=_FIX) from error
    sockets.let_in(client.sock)


def _delay(client: _Wire) -> int:
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


def _refusal(words: str, *, of_mail: bool = False) -> ZalionError | None:
    """Make the error for words after which the session is of no use."""
    if of_mail and words in _LOST:
        return _HungUp(network.SILENT)
    whole = _IN_USE if of_mail else _NOT_NOW
    return _broken(words) or (wording.later(words) if whole.search(words) else None)


def _broken(words: str) -> ZalionError | None:
    """Make the error for what the library says where the server's answer did not end well."""
    if words in _LOST:
        return Temporary(network.SILENT)
    if words in _TOO_LARGE:
        return Rejected("The server's answer is too large to be read.", fix=_USE_IMAP)
    return None


def _words(error: poplib.error_proto, credential: Credential | None = None) -> str:
    """Find the server's words, without what it repeats of a credential that it was shown."""
    said = error.args[0] if error.args else b""
    text = said if isinstance(said, (bytes, str)) else str(said)
    return wording.clean(text, credential).removeprefix("-ERR").strip()


def _apart(listed: Sequence[tuple[str, int]], sizes: Mapping[int, str]) -> dict[str, int]:
    """Tell mails with one UIDL apart by size, and those of one size by their place; return name -> number.

    Only copies of a mail may share one (RFC 1939 §7), and not all servers keep to that. No UIDL has a space.
    """
    shared, times, numbers = Counter(uidl for uidl, _ in listed), Counter[str](), dict[str, int]()
    for uidl, number in listed:
        name = f"{uidl} {sizes.get(number, '')}" if shared[uidl] > 1 else uidl
        times[name] += 1
        numbers[name if times[name] == 1 else f"{name} {times[name]}"] = number
    return numbers


def _numbered(line: bytes) -> tuple[str, int]:
    """Read a line of UIDL's answer. Raises ValueError; a mail without a name must not be passed over."""
    number, uidl = line.decode("latin-1").split()
    return uidl, int(number)


def _sized(line: bytes) -> tuple[int, str]:
    """Read a line of LIST's answer. Raises ValueError."""
    number, size = line.decode("latin-1").split()[:2]
    return int(number), size
