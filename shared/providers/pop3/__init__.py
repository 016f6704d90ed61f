"""POP3 (RFC 1939): reading an inbox, headers first (TOP), and never deleting anything.

A mail is known by its UIDL. There is one folder, and no Sent: mail that the user sends from another
program cannot be seen.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from shared import logs, mime
from shared.errors import NotFound, Temporary, Withheld, ZalionError
from shared.model import Envelope
from shared.providers import network
from shared.providers.base import Connection, Cursor, Page, Provider, Unmetered
from shared.providers.pop3.position import Position
from shared.providers.pop3.refusals import Muted, Refused
from shared.providers.pop3.session import PORT, Session
from shared.providers.reopening import Shut

PAGE = 100
OLD_ENOUGH = 50
"""A first look begins where so many mails in a row are older than it has to go back."""

LOOKED_THROUGH = 200
"""The newest mails that `look` reads the headers of: POP3 cannot search."""

REPORT_LINES = 2000
"""Lines of a delivery report that are read at most, to learn which mail it is about."""

STEP = 25
"""So many lines more are read of it each time, later a quarter more."""

JUDGED = 3
"""So many other mails tell whether the server shows any at all."""

MOST_LATE = Position.most_refused // 2
"""So many refused mails are asked for after the new ones; more go first, or there is no room for new ones."""

_DAY = timedelta(days=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class _Mail(NamedTuple):
    """A mail by its headers; `came` is when the server took it in, None where that is not written down."""

    envelope: Envelope
    came: datetime | None


class _Read(NamedTuple):
    """What became of mails that were asked for; `left` is the first that was not, `why` ended the look."""

    asked: Sequence[str]
    found: Sequence[_Mail]
    refused: Mapping[str, ZalionError]
    left: str
    why: ZalionError | None


class Pop3Receiver(Unmetered):
    """Receiver of `base`."""

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        self._session = Session(connection, timeouts)
        self._refused: dict[str, ZalionError] = {}
        self._position = Position([])

    def check(self) -> None:
        """See `Receiver.check`. Raises Unsupported for a server that lacks UIDL or TOP, or deletes."""
        uidls = self._session.uidls()
        self._session.stays()
        self._session.shows(uidls[-JUDGED:])  # not every server says what it can

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. Without a cursor all that is older than `since` counts as seen.

        A mail is as old as its topmost Received says. What has none is shown: its Date is its sender's.
        Oldest first within a page; from page to page as the list, or the groups of the cursor, tell. Last is
        what was refused: it may end the session, and some servers let nobody in again so soon. Raises Shut
        or Muted after the last page where they leave the rest to the next look.
        """
        self._position = position = Position.read(cursor) if cursor else Position([])
        self._session.close()  # only the next session shows what came
        self._refused, begun = {}, position.begun
        try:
            for page in self._all(position, since):
                begun = True
                yield page
        except (Shut, Muted):
            if not begun and self._refused:  # or the next look would end at the same mails
                given_up = position.put_off([*self._refused], self._refused)
                yield Page((), position.cursor, len(self._refused) - given_up, given_up)
            raise

    def fetch(self, ref: str) -> bytes:
        """See `Receiver.fetch`. The mail stays on the server."""
        return self._session.whole(ref)

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`.

        POP3 shows no parts, only first lines (TOP, RFC 1939 §7). So more and more of them are read until the
        headers of the returned mail are there: of its text, at most the last step's lines come along.
        """
        block, before, lines = self._session.top(ref, 0), b"", 0
        kind = mime.envelope(block, ref=ref).headers.get("content-type", ("",))[0].strip().lower()
        more = kind.startswith("multipart/")
        while more and block != before and lines < REPORT_LINES:
            lines += max(STEP, lines // 4)
            before, block = block, self._session.top(ref, lines)
            more = not mime.has_returned_headers(block)
        found = mime.returned_headers(block)
        if not found:
            raise NotFound("This mail holds no report.")
        return found

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`: among the newest mails, because POP3 has neither search nor folders.

        In the session that is open, where one is: some servers let nobody in again so soon (LOGIN-DELAY). So
        what `pages` knows to end a session is not asked for, but counted as refused.
        """
        wanted, refused = {*message_ids}, 0
        if not wanted:
            return
        for uidl in self._newest_first(self._session.uidls())[:LOOKED_THROUGH]:
            try:
                mail = None if self._position.ended_at(uidl) else self._mail(uidl)
            except Refused:
                mail = None
            refused += mail is None
            if mail and not wanted.isdisjoint((mail.envelope.message_id, *mail.envelope.references)):
                yield mail.envelope
        if refused:
            raise Withheld(wanted, refused)

    def close(self) -> None:
        """See `Receiver.close`."""
        self._session.close()

    def _all(self, position: Position, since: datetime) -> Iterator[Page]:
        """Yield the pages of a look."""
        uidls, oldest = self._session.uidls(), since - _DAY
        if not position.begun:
            oldest = since.replace(microsecond=0)
            position, uidls = self._first(position, uidls, oldest)
        reached, again, idle = position, position.again(uidls), True
        spared = position.spared(again)
        late = [uidl for uidl in again if uidl not in spared]
        if len(late) > MOST_LATE:
            yield from self._again(position, late, oldest)
        for after, read in self._steps(position, uidls, again):
            yield from self._page(reached, after, read, oldest)
            reached, idle = after, False
        if 0 < len(late) <= MOST_LATE:
            yield from self._again(reached, late, oldest)
        end = Position.of(uidls, position).cursor
        if idle or spared or reached.cursor != end:  # nothing came, or groups have no mail any more
            yield Page((), end, len(spared))

    def _first(self, position: Position, uidls: Sequence[str], since: datetime) -> tuple[Position, list[str]]:
        """Find where a first look begins: the position there, and the UIDLs from the oldest on.

        What ended such a look before is not asked for to find out: it is read last.
        """
        put_off = [uidl for uidl in uidls if position.knows(uidl)]
        newest_first = self._newest_first([uidl for uidl in uidls if not position.knows(uidl)])
        begin = self._begin(newest_first, since)
        return Position.of(newest_first[begin:], position), [*newest_first[::-1], *put_off]

    def _steps(
        self, position: Position, uidls: Sequence[str], again: Sequence[str]
    ) -> Iterator[tuple[Position, _Read]]:
        """Yield what is read batch by batch, and the position that is true after it."""
        done = 0
        for batch, after in position.steps(uidls, PAGE):
            read = self._read([uidl for uidl in batch if uidl not in again], after)
            if read.left:
                _, after = next(position.steps(uidls, done + batch.index(read.left)))  # noqa: PLW2901
            yield after, read
            done += len(batch)

    def _again(self, position: Position, again: Sequence[str], oldest: datetime) -> Iterator[Page]:
        """Ask once more for what was refused; another mail tells first whether the server is well."""
        read = self._read(again, position, is_well=self._shows_another(again, position))
        yield from self._page(position, position, read, oldest)

    def _page(self, before: Position, after: Position, read: _Read, oldest: datetime) -> Iterator[Page]:
        """Yield a page of the mails that may be new; what is refused is put off. Raises what ended it.

        Put off first of all, where the session has ended: nobody may be let in to fetch the others, and then
        the next look is not to end at the same mail.
        """
        given_up = after.put_off([*read.refused], read.refused)
        pending = len(read.refused) - given_up
        if read.why and read.refused and read.found:
            yield Page((), before.cursor, pending, given_up)
            pending = given_up = 0
        after.put_off([uidl for uidl in read.asked if uidl not in read.refused], {})
        recent = (one.envelope for one in read.found if one.came is None or one.came >= oldest)
        yield Page(tuple(sorted(recent, key=_received)), after.cursor, pending, given_up)
        if read.why:
            raise read.why

    def _read(self, uidls: Sequence[str], position: Position, *, is_well: bool = False) -> _Read:
        """Read headers, and what is said of mails that the server refuses while it shows others.

        Raises Temporary where it shows none: that is no single mail's fault, and keeps nothing back.
        """
        found: list[_Mail] = []
        refused: dict[str, ZalionError] = {}
        asked, left = uidls, ""
        why: ZalionError | None = None
        for place, uidl in enumerate(uidls):
            try:
                found.append(self._mail(uidl))
            except Refused as refusal:
                refused[uidl] = refusal
            except (Shut, Muted) as stop:
                if not place:
                    raise
                asked, left, why = uidls[:place], uidl, stop
                break
        if asked and len(refused) == len(asked) and not is_well:
            why = self._judge(refused, position) or why
        for error in refused.values():
            logs.log("mail.refused", level=logging.WARNING, provider="pop3", code=error.code)
        return _Read(asked, found, refused, left, why)

    def _judge(self, refused: Mapping[str, ZalionError], position: Position) -> Shut | None:
        """Raise Temporary unless the server shows one of the others; return what keeps us from asking them.

        Who may not ask them now is told so by the next look: it asks another one before these. But no look
        counts for those that were put off before.
        """
        try:
            is_well = self._shows_another(refused, position)
        except Shut as not_let_in:
            if any(map(position.knows, refused)):
                raise
            return not_let_in
        if not is_well:
            said = next(iter(refused.values()))
            raise Temporary(said.detail) from said
        return None

    def _shows_another(self, uidls: Collection[str], position: Position) -> bool:
        """Whether the server shows one of a few other mails that it is not known to refuse."""
        others = (uidl for uidl in reversed(self._session.uidls()) if uidl not in uidls)
        shown = (uidl for uidl in others if not (position.knows(uidl) or position.ended_at(uidl)))
        judged = islice(shown, JUDGED)
        return any(self._arrival(uidl) is not None for uidl in judged)

    def _begin(self, newest_first: Sequence[str], since: datetime) -> int:
        """Count the newest mails that may be new enough: after them `OLD_ENOUGH` in a row are older.

        By doubling and halving: one by one, a year's mail would take longer than a look. Those at its head
        that do not say when they came are among them: none behind them shows that they are old.
        """
        newest = newest_first[:OLD_ENOUGH]
        low = high = next((place for place, uidl in enumerate(newest) if self._came(uidl)), len(newest))
        while (newer := self._newer(newest_first, high, since)) is not None:
            low = newer + 1
            high = 2 * low
        while high - low > PAGE:
            middle = (low + high) // 2
            newer = self._newer(newest_first, middle, since)
            low, high = (low, middle) if newer is None else (newer + 1, high)
        return high

    def _newer(self, newest_first: Sequence[str], start: int, since: datetime) -> int | None:
        """Find the first mail from there on that is new enough; None where so many in a row are older."""
        for place, uidl in enumerate(newest_first[start : start + OLD_ENOUGH], start):
            at = self._arrival(uidl)
            if at is None or at >= since:
                return place
        return None

    def _arrival(self, uidl: str) -> datetime | None:
        """When a mail came, else its Date, else `_NEVER`; None for one that is refused: it may be new."""
        try:
            return _received(self._mail(uidl).envelope)
        except Refused:
            return None

    def _came(self, uidl: str) -> datetime | None:
        """When a mail came by the server's own word; None where there is none, whatever its Date claims."""
        try:
            return self._mail(uidl).came
        except Refused:
            return None

    def _newest_first(self, uidls: Sequence[str]) -> Sequence[str]:
        """Most servers list the oldest first and some the newest (RFC 1939 says nothing): the ends tell."""
        asked = [uidl for uidl in uidls if not self._position.ended_at(uidl)]
        return uidls if asked and self._begun(asked) > self._begun(asked[::-1]) else uidls[::-1]

    def _begun(self, uidls: Sequence[str]) -> datetime:
        """When the first of them came: one of a few says it, or else all that there is is its Date."""
        told = filter(None, map(self._came, uidls[:JUDGED]))
        return next(told, None) or self._arrival(uidls[0]) or _NEVER

    def _mail(self, uidl: str) -> _Mail:
        """Read a mail's headers. Raises Refused, and notes it.

        Also for one that is said to be gone, as it was just listed: some servers say so while they rebuild
        an index. What is really gone the next session does not list, and then it is forgotten.
        """
        try:
            block = self._session.top(uidl, 0)
        except (NotFound, Refused) as error:
            refusal = self._refused[uidl] = error if isinstance(error, Refused) else Refused(error.detail)
            raise refusal from error
        came = mime.arrival(block)
        return _Mail(mime.envelope(block, ref=uidl, folder="INBOX", received_at=came), came)


def _received(envelope: Envelope) -> datetime:
    return envelope.received_at or _NEVER


PROVIDER = Provider(
    name="pop3",
    title="POP3 mailbox",
    form=network.server_form("POP3", PORT),
    receiver=Pop3Receiver,
    reads_whole=True,
)
