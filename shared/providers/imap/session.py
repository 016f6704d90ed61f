"""One signed-in TLS connection to an IMAP server, and what goes over it."""

import base64
import imaplib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from itertools import batched
from typing import Any

import msgspec
from imapclient import IMAPClient, SocketTimeout
from imapclient.datetime_util import format_criteria_date
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError
from imapclient.imapclient import _literal

from shared import logs, mime
from shared.errors import ConsentRequired, NotFound, Rejected, Temporary, Withheld, ZalionError
from shared.model import Envelope
from shared.providers import network, sasl, sockets, wording
from shared.providers.base import Bearer, Connection, Credential
from shared.providers.imap import names, refusals
from shared.providers.reopening import shut

PORT = 993
BATCH = 200
MANY = 10
MOST_LOST = 3 * MANY
"""So many sessions a batch may cost: halving a few mails down, of which each ends one, takes fewer."""

MOST_MUTE = 2
"""At so many mails of a batch the server may go silent: each costs the whole time-out."""

_ITEMS = ["RFC822.SIZE", "INTERNALDATE", "FLAGS", "BODY.PEEK[HEADER]"]
_HEADER = b"BODY[HEADER]"
logging.getLogger("imapclient").setLevel(logging.INFO)  # at DEBUG it logs what is searched for


class _Wire(imaplib.IMAP4):
    """The library below the library, over the guarded way out."""

    def __init__(self, server: network.Server, timeouts: network.Timeouts) -> None:
        self._server, self._timeouts = server, timeouts
        super().__init__(server.name, server.port, timeouts.connect)

    def _create_socket(self, _timeout: float) -> Any:
        return self._server.open(self._timeouts)

    def _get_line(self) -> bytes:
        """A goodbye is the last word; where the library waits for leave to go on, it would read on."""
        if self.state != "LOGOUT":
            self._check_bye()
        line: bytes = super()._get_line()  # type: ignore[misc]
        return line


class _Client(IMAPClient):
    """IMAPClient over the guarded way out, with aware times.

    Args:
        server: where to.
        timeouts: how long to wait.
        spelling: how the server spells folders' names, where that is known.
    """

    def __init__(
        self, server: network.Server, timeouts: network.Timeouts, spelling: Mapping[str, bytes]
    ) -> None:
        self._server, self._timeouts, self._spelling = server, timeouts, spelling
        both: Any = SocketTimeout(timeouts.connect, timeouts.read)
        super().__init__(server.name, server.port, ssl=server.security == "tls", timeout=both)
        self._imap.debug = 0  # it would format every line for a log that nobody keeps
        self.normalise_times = False

    def _create_IMAP4(self) -> imaplib.IMAP4:  # noqa: N802 - the library's hook
        return _Wire(self._server, self._timeouts)

    def _proc_folder_list(self, folder_data: Any) -> list[names.Line]:
        """The library's own gives up on all folders where it cannot decode one of them."""
        return [*names.listed(folder_data)]

    def _normalise_folder(self, folder_name: str) -> bytes:
        """Name a folder in a command."""
        name = self._spelling.get(folder_name) or names.encoded(folder_name)
        return names.quoted(name)


class Session:
    """Opened by the first command, again after a lost connection, until `close`.

    Args:
        connection: where to, and who we are.
        timeouts: how long to wait.

    Attributes:
        silences: how often no answer came in time.
        unasked: which of the mails of the last batch were not asked for, or only with others and in vain.
    """

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        self.settings = connection.settings
        self._connection, self._timeouts = connection, timeouts
        self._client: _Client | None = None
        self._examined: tuple[str, int] | None = None
        self._spelling: dict[str, bytes] = {}
        self._lost = self.silences = 0
        self._mute: set[int] = set()
        self.unasked: set[int] = set()

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
        self._client = self._client or self._open()
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
        """Open a folder read-only and return its UIDVALIDITY. Raises Rejected where there is none."""
        if again or self._examined is None or self._examined[0] != folder:
            self._examined = None
            told = self.ask_of(folder, lambda client: client.select_folder(folder, readonly=True))
            self._examined = (folder, told.get(b"UIDVALIDITY", 0))
        return self._examined[1]

    def leave(self) -> None:
        """Close the open folder: STATUS may say old things about it (RFC 3501 §6.3.10), and Dovecot does.

        Nothing is expunged, because it was opened by EXAMINE (§6.4.2).
        """
        if self._examined:
            self._examined = None
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

    def headers(self, folder: str, uids: Sequence[int], *, sent: bool) -> Iterator[Envelope]:
        """Yield the envelopes of messages in a folder; see `described`.

        Raises Withheld after the last where the server gives some of them not, although they are there.
        """
        withheld = 0
        for batch in batched(uids, BATCH, strict=False):
            found = self.described(folder, batch, sent=sent)
            withheld += len(self.kept_back(batch, found))
            yield from filter(None, found.values())
        if withheld:
            raise Withheld((), withheld)

    def kept_back(self, uids: Iterable[int], found: Iterable[int]) -> set[int]:
        """Which of the messages that were asked for in the open folder were not found, and are there."""
        missing = {*uids} - {*found}
        there = self.find(f"UID {','.join(map(str, sorted(missing)))}") if missing else ()
        return missing.intersection(there)

    def described(
        self, folder: str, uids: Sequence[int], *, sent: bool, oldest: datetime | None = None
    ) -> dict[int, Envelope | None]:
        """Return the envelopes of a batch of messages in a folder; a UID without data is asked for twice.

        None stands for a mail that is not to be seen: it came before `oldest`, or is still being written.
        What is missing then was deleted meanwhile, is refused for the moment, or is a broken item that
        Exchange never gives out (https://github.com/jstedfast/MailKit/issues/1615): it is noted in the log.
        Raises Rejected or Temporary where the server refuses many and gives none, and Silent where it says
        nothing to any: that is no matter of single mails. Shut where a mail ended the session, and the server
        does not let us in again.
        """
        self._lost, self._mute, self.unasked = 0, set(), {*uids}
        place = folder, self.examine(folder)
        found = self._answered(place, uids)
        self._open_again(place)
        if len(uids) >= MANY and all(found.get(uid) == {} for uid in uids):
            self.items(uids[-1:], _ITEMS[-1:])  # raises why, unless it is well again, or gives what came last
        missing = [uid for uid in uids if not found.get(uid, {}).get(_HEADER)]
        again = [uid for uid in missing if uid not in self._mute]
        found |= self._answered(place, again) if again else {}
        if self._mute and not any(found.values()):
            raise refusals.Silent(network.SILENT)
        self._open_again(place)
        for uid in missing:
            if not found.get(uid, {}).get(_HEADER):
                logs.log("envelope.missing", level=logging.WARNING, provider="imap", uid=uid)
        return {
            uid: mime.envelope(
                header,
                ref=make_ref(*place, uid),
                folder=folder,
                is_sent=sent,
                size=octets(items),
                received_at=arrival(items),
            )
            if (sent or not _is_draft(items)) and _is_recent(items, oldest)
            else None
            for uid in uids
            if (header := (items := found.get(uid, {})).get(_HEADER))
        }

    def _answered(self, place: tuple[str, int], uids: Sequence[int]) -> dict[int, dict[bytes, Any]]:
        """See `_given`; where no answer comes in time they are asked for one by one.

        After `MOST_MUTE` that have none the rest is not asked for: it is to be asked for by the next looks.
        """
        if len(self._mute) >= MOST_MUTE:
            return {}
        try:
            return self._given(place, uids)
        except refusals.Silent:
            if len(uids) == 1:
                self._mute.add(uids[0])
                return {}
        found: dict[int, dict[bytes, Any]] = {}
        for uid in uids:
            found |= self._answered(place, [uid])
        return found

    def _given(self, place: tuple[str, int], uids: Sequence[int]) -> dict[int, dict[bytes, Any]]:
        """Fetch headers; one mail that the server refuses, describes unreadably or dies of keeps back none.

        So a batch is halved until that mail stands alone. Its header is then asked for by itself, because
        what cannot be read is mostly what the server says about it; who is refused even so has no items. Nor
        has who ends the session, or comes after `MOST_LOST` of these: it is to be asked for again as a whole.
        """
        if self._lost >= MOST_LOST:
            return {uid: {} for uid in uids}
        self._open_again(place)
        self.unasked -= {*uids} if len(uids) == 1 else set()
        try:
            found = self.items(uids, _ITEMS)
        except (Rejected, refusals.Broke) as error:
            if len(uids) > 1:
                half = len(uids) // 2
                return self._given(place, uids[:half]) | self._given(place, uids[half:])
            if isinstance(error, refusals.HungUp):
                return {uids[0]: {}}
        else:
            self.unasked -= {*uids}
            return found
        try:
            return self.items(uids, _ITEMS[-1:])
        except (Rejected, refusals.Broke):
            return {uids[0]: {}}

    def _open_again(self, place: tuple[str, int]) -> None:
        """Open the folder once more where the session has ended. Raises Shut where we are not let in.

        It may be a mail's fault (a server that crashed keeps the mailbox locked for a while), or the server
        is down.
        """
        folder, validity = place
        try:
            found = self.examine(folder)
        except Temporary as error:
            if self._lost:
                raise shut(error) from error
            raise
        if found != validity:
            raise Temporary("The folder was numbered anew meanwhile.")

    def _drop(self) -> None:
        client, self._client, self._examined = self._client, None, None
        self._lost += 1
        if client:
            with suppress(OSError):  # closed already
                client.shutdown()

    def _open(self) -> _Client:
        credential = self._connection.credential()
        server = network.Server.of(self._connection, PORT)
        try:
            with network.translated(), ExitStack() as undo:
                client = _Client(server, self._timeouts, self._spelling)
                undo.callback(client.shutdown)
                if server.security == "starttls":
                    _start_tls(client)
                _sign_in(client, credential)
                undo.pop_all()
                return client
        except LoginError as error:
            raise refusals.at_sign_in(error, credential) from error
        except IMAPClientError as error:
            raise refusals.of_goodbye(error, credential) from error


def quoted(value: str | datetime) -> str:
    """Make a quoted string (RFC 3501 §4.3), or a date."""
    if isinstance(value, datetime):
        return format_criteria_date(value).decode()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def arrival(items: Mapping[bytes, Any]) -> datetime | None:
    """When the server took a message in, in UTC; None where its date cannot be read, or cannot be."""
    at: datetime | None = items.get(b"INTERNALDATE")
    try:
        return at.astimezone(UTC) if at else None
    except (OverflowError, ValueError):  # there is no such day in UTC, or no such zone
        return None


def _is_recent(items: Mapping[bytes, Any], oldest: datetime | None) -> bool:
    """Whether a message came at `oldest` or later; where the server does not say when, it did.

    The sender's Date says nothing about that.
    """
    at = arrival(items)
    return oldest is None or at is None or at >= oldest


def _is_draft(items: Mapping[bytes, Any]) -> bool:
    """Whether somebody is still writing this (RFC 3501 §2.3.2)."""
    told = items.get(b"FLAGS")
    flags = told if isinstance(told, tuple) else ()  # the library makes numbers of what looks like one
    return any(isinstance(flag, bytes) and flag.lower() == b"\\draft" for flag in flags)


def octets(items: Mapping[bytes, Any]) -> int:
    """How large the server says that a message is; 0 where it does not, or in nonsense."""
    told = items.get(b"RFC822.SIZE")
    return told if isinstance(told, int) else 0


def make_ref(folder: str, validity: int, uid: int) -> str:
    """Name a message in URL-safe characters; `Session.enter` reads it."""
    return base64.urlsafe_b64encode(msgspec.json.encode((folder, validity, uid))).decode().rstrip("=")


def _start_tls(client: Any) -> None:
    if not client.has_capability("STARTTLS"):
        raise network.no_starttls()
    client.starttls(network.tls_context())


def _sign_in(client: Any, credential: Credential) -> None:
    """Prove who we are, then say what we are (RFC 2971): 163.com opens no folder for who does not."""
    offered = client.capabilities()
    if isinstance(credential, Bearer):
        bearer = b"AUTH=OAUTHBEARER" in offered and b"AUTH=XOAUTH2" not in offered
        mechanism = "OAUTHBEARER" if bearer else "XOAUTH2"
        answers = iter(sasl.bearer_answers(mechanism, credential))
        client.sasl_login(mechanism, lambda _challenge: next(answers, None))
    elif b"AUTH=PLAIN" in offered:
        client.plain_login(credential.username, credential.password)
    elif (plain := credential.username + credential.password).isascii() and plain.isprintable():
        client.login(quoted(credential.username), credential.password)
    else:
        raise ConsentRequired("This server takes ASCII passwords only.", fix=refusals.FIX)
    if client.has_capability("ID"):
        client.id_({"name": "Zalion", "version": "1", "vendor": "Zalion"})
    sockets.let_in(client.socket())
