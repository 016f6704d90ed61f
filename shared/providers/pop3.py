"""POP3 (RFC 1939): reading an inbox, headers first (TOP), and never deleting anything.

A mail is known by its UIDL. The cursor does not list them: it keeps a sum for each of 256 groups, so it
stays under 3 KB with any number of mails. New mails are those without which a group has its old sum;
where none explain it (mail was deleted, too), that one group is looked at again.
"""

import base64
import hashlib
import poplib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any

from shared import mime
from shared.errors import ConsentRequired, CursorExpired, NotFound, Temporary, Unsupported, ZalionError
from shared.model import Envelope
from shared.providers import network
from shared.providers.base import Bearer, Connection, Credential, Cursor, Page, Provider

PORT = 995
GROUPS = 256
PAGE = 100
OLD_ENOUGH = 50
"""A first look goes back from the newest until so many mails in a row are older than it has to go."""

LOOKED_THROUGH = 200
"""Mails from the end that `look` reads the headers of: POP3 cannot search."""

REPORT_LINES = 2000
"""Lines of a delivery report that are read, to learn which mail it is about."""

poplib._MAXLINE = 1_000_000  # type: ignore[attr-defined]  # noqa: SLF001 - 2,048 breaks on many mails (3.11-3.13)

_DAY = timedelta(days=1)
_FIX = "Check name and password and sign in again; some providers ask for an app password."
_NOT_NOW = re.compile(
    r"(?i)\[(in-use|login-delay|sys/temp)\]|lock|in use|busy|try again|temporar|unavailable"
)
_NO_UIDL = "This server cannot tell mails apart (UIDL) or show their headers alone (TOP)."
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class _Wire(poplib.POP3):
    """poplib over the guarded way out."""

    def __init__(self, server: network.Server, timeouts: network.Timeouts) -> None:
        self._server = server
        super().__init__(server.name, server.port, timeouts.connect)
        self.sock.settimeout(timeouts.read)

    def _create_socket(self, timeout: float) -> Any:
        return self._server.open(timeout)


class Pop3Receiver:
    """Receiver of `base`. One session until `close`: a maildrop changes between sessions only."""

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        self._connection, self._timeouts = connection, timeouts
        self._server = network.Server.of(connection, PORT)
        self._client: _Wire | None = None
        self._numbers: dict[str, int] = {}

    def check(self) -> None:
        """See `Receiver.check`. Raises Unsupported where UIDL or TOP is missing."""
        self._uidls()
        offered = self._ask(lambda client: client.capa(), missing={})
        if offered and "TOP" not in offered:
            raise Unsupported(_NO_UIDL, fix="Use IMAP with this server.")

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. Without a cursor the newest are read first, but given out oldest first."""
        self.close()  # a maildrop shows what came to it in the next session only (RFC 1939 section 8)
        uidls = self._uidls()
        old = _sums_of(cursor) if cursor else None
        if old is None:
            yield Page(tuple(self._since(uidls, since)), _cursor(_sums(uidls)))
            return
        now, changed = _sums(uidls), _changed(uidls, old)
        for batch in batched(changed, PAGE, strict=False):
            found = [envelope for uidl in batch if (envelope := self._envelope(uidl))]
            last = batch[-1] == changed[-1]
            recent = tuple(one for one in found if (one.received_at or _NEVER) >= since - _DAY)
            yield Page(recent, _cursor(now if last else old))
        if not changed:
            yield Page((), _cursor(now))

    def fetch(self, ref: str) -> bytes:
        """See `Receiver.fetch`. The mail stays on the server."""
        number = self._number(ref)
        return b"\r\n".join(self._ask(lambda client: client.retr(number))[1]) + b"\r\n"

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`. POP3 shows no parts, so the report's first lines are read."""
        number = self._number(ref)
        lines = self._ask(lambda client: client.top(number, REPORT_LINES))[1]
        found = mime.returned_headers(b"\r\n".join(lines))
        if not found:
            raise NotFound("This mail holds no report.")
        return found

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`: among the newest mails, because POP3 has neither search nor folders."""
        self.close()
        wanted = {*message_ids}
        for uidl in self._uidls()[-LOOKED_THROUGH:]:
            envelope = self._envelope(uidl)
            if envelope and not wanted.isdisjoint((envelope.message_id, *envelope.references)):
                yield envelope

    def close(self) -> None:
        """See `Receiver.close`."""
        client, self._client = self._client, None
        if client:
            with suppress(OSError, poplib.error_proto):  # who cannot say goodbye any more just leaves
                client.quit()
            client.close()

    def _since(self, uidls: Sequence[str], since: datetime) -> list[Envelope]:
        found: list[Envelope] = []
        older = 0
        for uidl in reversed(uidls):
            envelope = self._envelope(uidl)
            if envelope and (envelope.received_at or _NEVER) >= since.replace(microsecond=0):
                found.append(envelope)
                older = 0
            else:
                older += 1
            if older >= OLD_ENOUGH:
                break
        return found[::-1]

    def _envelope(self, uidl: str) -> Envelope | None:
        """Read a mail's headers; None for one that another session deleted."""
        try:
            number = self._number(uidl)
            block = b"\r\n".join(self._ask(lambda client: client.top(number, 0))[1]) + b"\r\n\r\n"
        except NotFound:
            return None
        return mime.envelope(block, ref=uidl, folder="INBOX", received_at=mime.arrival(block))

    def _uidls(self) -> list[str]:
        """Return the UIDLs in the server's order. Raises Unsupported where there are none."""
        try:
            lines = self._ask(lambda client: client.uidl())[1]
        except NotFound as error:
            raise Unsupported(_NO_UIDL, fix="Use IMAP with this server.") from error
        pairs = [line.decode("ascii", "replace").split(maxsplit=1) for line in lines]
        self._numbers = {uidl: int(number) for number, uidl in pairs}
        return list(self._numbers)

    def _number(self, uidl: str) -> int:
        if not self._numbers:
            self._uidls()
        if uidl not in self._numbers:
            raise NotFound("This mail was deleted.")
        return self._numbers[uidl]

    def _ask(self, command: Callable[[_Wire], Any], *, missing: Any = None) -> Any:
        """Give one command; what the server refuses is not there (or `missing`), unless it says more."""
        client = self._client or self._open()
        try:
            with network.translated():
                return command(client)
        except poplib.error_proto as error:
            words = _words(error)
            if words in {"", "EOF", "line too long"}:
                self._drop()
                raise Temporary(network.SILENT) from error
            if _NOT_NOW.search(words):
                raise network.later(words) from error
            if missing is not None:
                return missing
            raise NotFound("The server does not give this mail.") from error
        except ZalionError:
            self._drop()
            raise

    def _drop(self) -> None:
        client, self._client, self._numbers = self._client, None, {}
        if client:
            client.close()

    def _open(self) -> _Wire:
        credential = self._connection.credential()
        with network.translated():
            try:
                client = _Wire(self._server, self._timeouts)
                _start(client, self._server)
            except poplib.error_proto as error:
                raise network.later(_words(error)) from error
            try:
                _sign_in(client, credential)
            except poplib.error_proto as error:
                client.close()
                words = _words(error)
                if _NOT_NOW.search(words) and "[AUTH]" not in words:
                    raise network.later(words) from error
                raise ConsentRequired(f"The mail server refused the sign-in: {words}", fix=_FIX) from error
        self._client = client
        return client


def _start(client: _Wire, server: network.Server) -> None:
    if server.security != "starttls":
        return
    if "STLS" not in client.capa():
        raise network.no_starttls()
    client.stls(network.tls_context())


def _sign_in(client: Any, credential: Credential) -> None:
    """USER and PASS (RFC 1939 section 7), or XOAUTH2 by AUTH (RFC 5034)."""
    if isinstance(credential, Bearer):
        first, last = network.bearer_answers("XOAUTH2", credential)
        said = client._shortcmd("AUTH XOAUTH2 " + base64.b64encode(first).decode())  # noqa: SLF001 - no public one
        if not said.startswith(b"+OK"):
            client._shortcmd(last.decode())  # noqa: SLF001 - lets the server say its "no", which is raised
        return
    client.user(credential.username)
    client.pass_(credential.password)


def _words(error: poplib.error_proto) -> str:
    said = error.args[0] if error.args else b""
    return network.clean(said if isinstance(said, (bytes, str)) else str(said)).removeprefix("-ERR").strip()


def _hashed(uidl: str) -> tuple[int, int]:
    """Return a UIDL's group, and what it adds to the group's sum."""
    hashed = hashlib.sha256(uidl.encode()).digest()
    return hashed[0], int.from_bytes(hashed[1:9])


def _sums(uidls: Sequence[str]) -> list[int]:
    """Add up a hash of every UIDL in its group: equal sums are equal sets, but for one in 2^64."""
    sums = [0] * GROUPS
    for group, value in map(_hashed, uidls):
        sums[group] = (sums[group] + value) % 2**64
    return sums


def _changed(uidls: Sequence[str], old: Sequence[int]) -> list[str]:
    """Return the mails to look at, in the server's order: the newest of each group that explain its sum."""
    sums, members = _sums(uidls), dict[int, list[str]]()
    for uidl in uidls:
        members.setdefault(_hashed(uidl)[0], []).append(uidl)
    wanted: set[str] = set()
    for group, names in members.items():
        rest, new = sums[group], 0
        while rest != old[group] and new < len(names):
            new += 1
            rest = (rest - _hashed(names[-new])[1]) % 2**64
        # a sum that nothing explains belongs to a group that lost mail: all of it is looked at
        wanted.update(names[len(names) - new :])
    return [uidl for uidl in uidls if uidl in wanted]


def _cursor(sums: Sequence[int]) -> Cursor:
    return Cursor(base64.b64encode(b"".join(one.to_bytes(8) for one in sums)).decode())


def _sums_of(cursor: Cursor) -> list[int]:
    try:
        data = base64.b64decode(cursor, validate=True)
    except ValueError as error:
        raise CursorExpired("The cursor is of another kind.") from error
    if len(data) != 8 * GROUPS:
        raise CursorExpired("The cursor is of another kind.")
    return [int.from_bytes(data[place : place + 8]) for place in range(0, len(data), 8)]


PROVIDER = Provider(
    name="pop3",
    title="POP3 mailbox",
    form=network.server_form("POP3", PORT),
    receiver=Pop3Receiver,
)
