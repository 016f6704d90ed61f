"""One signed-in session with a POP3 server: its mails by name, one command at a time."""

import poplib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from shared.errors import NotFound, Rejected, Temporary, Unsupported, ZalionError
from shared.providers import network
from shared.providers.base import Connection
from shared.providers.pop3.refusals import (
    COMMAND,
    GONE,
    LACKS,
    MESSAGE,
    USE_IMAP,
    Ended,
    HungUp,
    Muted,
    Refused,
    Silent,
    no_pop3,
    refusal,
    words_of,
)
from shared.providers.pop3.wire import LARGEST, Wire, opened
from shared.providers.reopening import Shut, shut

PORT = 995
MOST_LOST = 30
"""So many sessions may end at mails of one look; then it is the server's fault."""

MOST_SILENT = 2
"""At so many mails of one look the server may go silent: each costs the whole time-out."""


class Session:
    """Opened by the first question, again after a lost connection, until `close`.

    A maildrop changes between sessions only (RFC 1939 §8), and so do a mail's number and the server's order.
    """

    def __init__(self, connection: Connection, timeouts: network.Timeouts, largest: int = LARGEST) -> None:
        self._connection, self._timeouts, self._largest = connection, timeouts, largest
        self._server = network.Server.of(connection, PORT)
        self._client: Wire | None = None
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
        except HungUp as error:  # by chance, or because of this mail
            self._open_again(error)
        try:
            return self._top(uidl, lines)
        except HungUp as error:
            self._open_again(error)
            raise Refused(error.detail) from error

    def _top(self, uidl: str, lines: int) -> bytes:
        number = self._number(uidl)
        try:
            told = self._ask(lambda client: client.top(number, lines)[1], needs="TOP")
        except Rejected as error:
            if lines:
                raise
            raise Ended(error.detail) from error
        except Silent as error:
            if len(self._mute) >= MOST_SILENT:
                raise Muted(error.detail) from error
            self._mute.add(uidl)
            self._open_again(error)
            raise Refused(error.detail) from error
        return b"\r\n".join(told) + b"\r\n"

    def _open_again(self, error: ZalionError) -> None:
        """Sign in once more. Raises Ended where we are not let in: this mail is then the last asked for.

        It may be its fault (a server that crashed keeps the maildrop locked for a while), or the server is
        down: so it is asked for again by the next looks, and another one before it.
        """
        self._lost += 1
        if self._lost > MOST_LOST:
            raise Temporary(error.detail) from error
        try:
            self.uidls()
        except Shut as not_let_in:
            raise Ended(error.detail) from not_let_in

    def shows(self, uidls: Sequence[str]) -> None:
        """Make sure that one of these mails, just listed, can be shown. Raises Unsupported, Temporary.

        One at which the session ended, where nobody is let in again so soon, says nothing of the others.
        """
        said: Refused | None = None
        for uidl in uidls:
            try:
                self.top(uidl, 0)
            except NotFound as error:  # who just listed it does not know the command
                raise Unsupported(LACKS["TOP"], fix=USE_IMAP) from error
            except Refused as error:
                said = error
            except Shut:
                if said:
                    return
                raise
            else:
                return
        if said and not self._ask(lambda client: client.capa()):  # it cannot say that it lacks TOP
            raise Unsupported(LACKS["TOP"], fix=USE_IMAP) from said
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
            raise Unsupported(LACKS["TOP"], fix=USE_IMAP)
        if offered.get("EXPIRE", [])[:1] == ["0"]:  # RFC 2449 §6.7
            raise Unsupported("This server deletes every mail that was read.", fix=USE_IMAP)

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

    def _ask[T](self, command: Callable[[Wire], T], *, needs: str = "") -> T:
        """Give one command; `needs` is what a server that refuses it may lack."""
        self._client = self._client or self._opened()
        try:
            with network.translated():
                return command(self._client)
        except poplib.error_proto as error:
            ended = refusal(words_of(error), of_mail=needs == "TOP")
            if ended:
                self._drop()
                raise ended from error
            raise self._unwilling(words_of(error), needs) from error
        except (ValueError, LookupError) as error:  # the library's parser tripped
            self._drop()
            raise no_pop3() from error
        except ZalionError as error:
            self._drop()
            if needs == "TOP" and isinstance(error.__cause__, ConnectionError):
                raise HungUp(error.detail) from error
            if needs == "TOP" and isinstance(error.__cause__, TimeoutError):
                raise Silent(error.detail) from error
            raise

    def _unwilling(self, words: str, needs: str) -> ZalionError:
        """Say why a command was refused: the mail is gone, the server lacks it, or it may do it later."""
        of_command = COMMAND.search(words) and not MESSAGE.search(words)
        if needs != "UIDL" and GONE.search(words) and not of_command:
            return NotFound("The server does not have this mail any more.")
        can = self._ask(lambda client: client.capa()) if needs else {}
        if needs == "TOP" and (needs in can or not (can or of_command)):
            return Refused(f"The mail server refused to show a mail: {words}")
        if needs and needs not in can:
            return Unsupported(LACKS[needs], fix=USE_IMAP)
        return Temporary(f"The mail server refused: {words}")

    def _opened(self) -> Wire:
        return opened(self._server, self._timeouts, self._largest, self._connection.credential())

    def _drop(self) -> None:
        client, self._client, self._numbers = self._client, None, {}
        if client:
            client.close()


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
