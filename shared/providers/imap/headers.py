"""Headers of many mails at once: those that a server keeps back, or dies of, keep back no other."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import batched
from typing import Any

from shared import logs, mime
from shared.errors import Rejected, Temporary, Withheld
from shared.model import Envelope
from shared.providers import network
from shared.providers.base import Connection
from shared.providers.imap import refusals
from shared.providers.imap.items import arrival, is_draft, is_recent, make_ref, octets
from shared.providers.imap.session import Session
from shared.providers.reopening import shut

BATCH = 200
MANY = 10
MOST_LOST = 3 * MANY
"""So many sessions a batch may cost: halving a few mails down, of which each ends one, takes fewer."""

MOST_MUTE = 2
"""At so many mails of a batch the server may go silent: each costs the whole time-out."""

_ITEMS = ["RFC822.SIZE", "INTERNALDATE", "FLAGS", "BODY.PEEK[HEADER]"]
_HEADER = b"BODY[HEADER]"


class Headers(Session):
    """Reads headers in batches.

    Attributes:
        unasked: which of the mails of the last batch were not asked for, or only with others and in vain.
    """

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        super().__init__(connection, timeouts)
        self._mute: set[int] = set()
        self.unasked: set[int] = set()

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
            if (sent or not is_draft(items)) and is_recent(items, oldest)
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
