"""One signed-in TLS connection to an IMAP server, and what goes over it."""

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, IMAPClientReadOnlyError
from imapclient.imapclient import _literal

from shared.errors import NotFound, Rejected, ZalionError
from shared.providers import network, wording
from shared.providers.base import Connection
from shared.providers.imap import names, refusals
from shared.providers.imap.items import quoted
from shared.providers.imap.wire import Client, opened

PORT = 993


class Session:
    """Opened by the first command, again after a lost connection, until `close`.

    Args:
        connection: where to, and who we are.
        timeouts: how long to wait.

    Attributes:
        silences: how often no answer came in time.
    """

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        self.settings = connection.settings
        self._connection, self._timeouts = connection, timeouts
        self._client: Client | None = None
        self._examined: tuple[str, int] | None = None
        self._spelling: dict[str, bytes] = {}
        self._lost = self.silences = 0

    def close(self) -> None:
        """End the session; never raises."""
        if self._client:
            with suppress(OSError, IMAPClientError):  # who cannot say goodbye any more just leaves
                self._client.logout()  # type: ignore[no-untyped-call]
        self._drop()

    def ask[T](self, command: Callable[[Any], T]) -> T:
        """Give the client one command.

        Raises Rejected for NO and BAD, ConsentRequired, Temporary (Broke, HungUp, Silent) or RateLimited
        where the server's words or a lost connection mean that, InvalidRequest where it cannot be used.
        """
        self._client = self._client or self._opened()
        try:
            with network.translated():
                return command(self._client)
        except IMAPClientError as error:
            if isinstance(error, IMAPClientAbortError):
                self._drop()
            raise refusals.of_command(error) from error
        except (ValueError, TypeError, LookupError, RecursionError, AttributeError) as error:
            if isinstance(error, AttributeError) and not wording.is_of_library(error):
                raise
            # the library's parser tripped
            raise Rejected("The server's answer cannot be read.") from error
        except ZalionError as error:
            self._drop()
            if isinstance(error.__cause__, ConnectionError):
                raise refusals.HungUp(error.detail) from error
            if isinstance(error.__cause__, TimeoutError):
                self.silences += 1
                raise refusals.Silent(error.detail) from error
            raise

    def listed(self) -> list[tuple[tuple[bytes, ...], bytes | None, str]]:
        """List the folders: attributes, delimiter and name of each; how it is spelt is remembered."""
        lines: list[names.Line] = self.ask(lambda client: client.list_folders())
        self._spelling.update(names.spelt(wire for _, _, wire in lines))
        spelling = {wire: name for name, wire in self._spelling.items()}
        return [(told, delimiter, spelling[wire]) for told, delimiter, wire in lines if wire in spelling]

    def ask_of[T](self, folder: str, command: Callable[[Any], T]) -> T:
        """Give the client a command about a folder; see `ask`.

        One that is refused is repeated where the server turns out to spell the name in another way.
        """
        try:
            return self.ask(command)
        except Rejected:
            if self._spelling or (folder.isascii() and "&" not in folder):
                raise
            self.listed()
            if self._spelling.get(folder, names.encoded(folder)) == names.encoded(folder):
                raise
        return self.ask(command)

    def examine(self, folder: str, *, again: bool = False) -> int:
        """Open a folder and return its UIDVALIDITY: read-only, wherever that lets UIDs last.

        Raises Rejected where there is none.
        """
        if again or self._examined is None or self._examined[0] != folder:
            self._examined = None
            opened = _selected if self._is_courier() else _examined
            told = self.ask_of(folder, lambda client: opened(client, folder))
            self._examined = (folder, told.get(b"UIDVALIDITY", 0))
        return self._examined[1]

    def leave(self) -> None:
        """Close the open folder: STATUS may say old things about it (RFC 3501 §6.3.10), and Dovecot does.

        Nothing is expunged, because it was opened by EXAMINE (§6.4.2), if need be just for that.
        """
        if not self._examined:
            return
        folder, self._examined = self._examined[0], None
        if self._is_courier():
            try:
                self.ask_of(folder, lambda client: _examined(client, folder))
            except Rejected:  # it is gone, and what is refused leaves no folder open (§6.3.1)
                return
        self.ask(lambda client: client.close_folder())

    def exists(self, folder: str) -> bool:
        """Open a folder if it is there."""
        try:
            self.examine(folder)
        except Rejected:
            return False
        return True

    def enter(self, ref: str) -> tuple[str, int]:
        """Open the folder that a ref names; return its name and the UID. Raises NotFound."""
        try:
            told = base64.urlsafe_b64decode(ref.encode() + b"==")
            folder, validity, uid = msgspec.json.decode(told, type=tuple[str, int, int])
        except (ValueError, msgspec.DecodeError) as error:
            raise NotFound("There is no such mail.") from error
        if not 0 < uid < 2**32 or not self.exists(folder) or self.examine(folder) != validity:
            raise NotFound("This mail is no longer where it was.")
        return folder, uid

    def find(self, criteria: str) -> list[int]:
        """Search the open folder; criteria as they stand on the wire, ASCII."""
        return sorted(self.ask(lambda client: client.search(criteria)))

    def matching(self, terms: Sequence[tuple[str, str | datetime]]) -> list[int]:
        """Search the open folder for all of `terms`: a criterion, and its date or what somebody typed."""
        typed = [value for _, value in terms if isinstance(value, str)]
        if all(value.isascii() for value in typed):
            return self.find(" ".join(f"{key} {quoted(value)}" for key, value in terms) or "ALL")
        words: list[Any] = []
        for key, value in terms:
            words += [*key.split(), _literal(value.encode()) if isinstance(value, str) else value]
        # CHARSET only here: some servers refuse it
        return sorted(self.ask(lambda client: client.search(words, "UTF-8")))

    def items(self, uids: Sequence[int], items: Sequence[str]) -> dict[int, dict[bytes, Any]]:
        """Fetch items of messages in the open folder; who is gone is missing in the answer."""
        found: dict[int, dict[bytes, Any]] = self.ask(lambda client: client.fetch(uids, items))
        return found

    def _is_courier(self) -> bool:
        """Whether this is Courier, by what no other announces: after EXAMINE it forgets the UIDs it told.

        See decision note 030.
        """
        return self.ask(lambda client: bool(client.has_capability("ACL2=UNION")))

    def _opened(self) -> Client:
        server = network.Server.of(self._connection, PORT)
        return opened(server, self._timeouts, self._spelling, self._connection.credential())

    def _drop(self) -> None:
        client, self._client, self._examined = self._client, None, None
        self._lost += 1
        if client:
            with suppress(OSError):  # closed already
                client.shutdown()


def _examined(client: Client, folder: str) -> Mapping[bytes, Any]:
    told: Mapping[bytes, Any] = client.select_folder(folder, readonly=True)  # type: ignore[no-untyped-call]
    return told


def _selected(client: Client, folder: str) -> Mapping[bytes, Any]:
    """Open a folder for writing; read-only where we may do no more, for which the library raises."""
    try:
        told: Mapping[bytes, Any] = client.select_folder(folder)  # type: ignore[no-untyped-call]
    except IMAPClientReadOnlyError:
        return _examined(client, folder)
    return told
