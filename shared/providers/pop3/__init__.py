"""POP3 (RFC 1939): reading an inbox, headers first (TOP), and never deleting anything.

A mail is known by its UIDL. There is one folder, and no Sent: mail that the user sends from another
program cannot be seen.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import batched

from shared import mime
from shared.errors import NotFound
from shared.model import Envelope
from shared.providers import network
from shared.providers.base import Connection, Cursor, Page, Provider
from shared.providers.pop3.position import Position
from shared.providers.pop3.session import PORT, Session

PAGE = 100
OLD_ENOUGH = 50
"""A first look goes back from the newest until so many mails in a row are older than it has to go."""

LOOKED_THROUGH = 200
"""The newest mails that `look` reads the headers of: POP3 cannot search."""

REPORT_LINES = 2000
"""Lines of a delivery report that are read, to learn which mail it is about."""

_DAY = timedelta(days=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Pop3Receiver:
    """Receiver of `base`."""

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        self._session = Session(connection, timeouts)

    def check(self) -> None:
        """See `Receiver.check`. Raises Unsupported for a server that lacks UIDL or TOP, or deletes."""
        uidls = self._session.uidls()
        self._session.stays()
        for uidl in uidls[-1:]:
            self._envelope(uidl)  # not every server says what it can

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. Without a cursor the newest are read first, but given out oldest first.

        With one, the cursor moves after the last page: which mails it stands for has no order.
        """
        old = Position.read(cursor) if cursor else None
        self._session.close()  # only the next session shows what came
        uidls = self._session.uidls()
        now = Position.of(uidls)
        if old is None:
            yield Page(tuple(self._since(uidls, since)), now.cursor)
            return
        changed = old.changed(uidls)
        for batch in batched(changed, PAGE, strict=False):
            found = (envelope for uidl in batch if (envelope := self._envelope(uidl)))
            recent = [one for one in found if one.received_at is None or one.received_at >= since - _DAY]
            last = batch[-1] == changed[-1]
            yield Page(tuple(sorted(recent, key=_received)), (now if last else old).cursor)
        if not changed:
            yield Page((), now.cursor)

    def fetch(self, ref: str) -> bytes:
        """See `Receiver.fetch`. The mail stays on the server."""
        return self._session.whole(ref)

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`. POP3 shows no parts, so the report's first lines are read."""
        found = mime.returned_headers(self._session.top(ref, REPORT_LINES))
        if not found:
            raise NotFound("This mail holds no report.")
        return found

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`: among the newest mails, because POP3 has neither search nor folders."""
        wanted = {*message_ids}
        if not wanted:
            return
        self._session.close()
        for uidl in self._newest_first(self._session.uidls())[:LOOKED_THROUGH]:
            envelope = self._envelope(uidl)
            if envelope and not wanted.isdisjoint((envelope.message_id, *envelope.references)):
                yield envelope

    def close(self) -> None:
        """See `Receiver.close`."""
        self._session.close()

    def _since(self, uidls: Sequence[str], since: datetime) -> list[Envelope]:
        found: list[Envelope] = []
        older = 0
        for uidl in self._newest_first(uidls):
            envelope = self._envelope(uidl)
            if envelope and _received(envelope) >= since.replace(microsecond=0):
                found.append(envelope)
                older = 0
            else:
                older += 1
            if older >= OLD_ENOUGH:
                break
        return found[::-1]

    def _newest_first(self, uidls: Sequence[str]) -> Sequence[str]:
        """Most servers list the oldest first and some the newest (RFC 1939 says nothing): the ends tell."""
        ends = [self._envelope(uidl) for uidl in (uidls[0], uidls[-1])] if len(uidls) > 1 else []
        first, *last = (_received(end) if end else _NEVER for end in ends or [None])
        return uidls if last and first > last[0] else uidls[::-1]

    def _envelope(self, uidl: str) -> Envelope | None:
        """Read a mail's headers; None for one that another session deleted."""
        try:
            block = self._session.top(uidl, 0)
        except NotFound:
            return None
        return mime.envelope(block, ref=uidl, folder="INBOX", received_at=mime.arrival(block))


def _received(envelope: Envelope) -> datetime:
    return envelope.received_at or _NEVER


PROVIDER = Provider(
    name="pop3",
    title="POP3 mailbox",
    form=network.server_form("POP3", PORT),
    receiver=Pop3Receiver,
    reads_whole=True,
)
