"""Reading a mailbox at Gmail: its history since the cursor, and a sweep by time where there is none.

The cursor is the history's: every record has a number, and each page ends at one. Gmail keeps history for
about a week; then the mailbox is swept for mails with a later number than the last: nothing is skipped.
https://developers.google.com/workspace/gmail/api/guides/sync
"""

import base64
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import batched, groupby, islice
from typing import Any

from shared import mime
from shared.errors import CursorExpired, NotFound, Temporary, Unsupported
from shared.model import Envelope
from shared.providers.base import Cursor, Page, Receipt
from shared.providers.google import listing, reports
from shared.providers.google.answers import Answers
from shared.providers.google.client import ME, PAUSE, checked
from shared.providers.google.envelopes import envelope, readable
from shared.providers.google.position import LATE, OVERLAP, Position
from shared.providers.google.records import KINDS, brought

PAGE = 25
"""Mails a page: the cursor is kept after each, so that a limit of Google's costs no more than one."""

AGAIN = 10
"""Refused mails that a look asks for again: 410 units, half of what it may have spent and still look for late
answers (`spending.ANSWERS`), or those would wait as long as the mails do."""

MOST = 500
"""What one list of the history gives at most."""

RECENT = 25
"""So many of the newest Sent mails are looked through for one whose Message-ID was changed."""


class GmailMailbox(Answers):
    """Receiver and SentFolder of `base` over Gmail."""

    def check(self) -> None:
        """See `Receiver.check`."""
        self.profile()
        listing.ids(self, listing.READ, 1)

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. Everything but drafts, spam, trash and chats is read, whatever its labels."""
        position, now = Position.of(cursor), int(time.time())
        for page in self._news(position, max(int(since.timestamp()), 1), now):
            # what is refused again and again may cost as much as a look has, and must not keep back the rest
            news = page.envelopes or not page.refused
            yield replace(page, rest=self.spending.rest() if news else 0)
        yield position.page()  # nothing is left to rest for

    def _news(self, position: Position, since: int, now: int) -> Iterator[Page]:
        if not position.history:  # before the sweep, so that what comes meanwhile is in the history
            position.history, position.swept = self.profile()["historyId"], since
        elif self.delegated and self._unchanged(position):
            return
        yield from self._refused(position, since)
        if position.swept:
            position.swept = max(position.swept, since)
            yield from self._sweep(position, now + listing.AHEAD)
            position.swept, position.again, position.lost = 0, now, ""
        yield from self._history(position, since)
        if 0 < position.again < now - LATE:
            position.swept = max(position.again - OVERLAP, since)
            yield from self._sweep(position, position.again + listing.AHEAD)
            position.swept, position.again, position.seen = 0, 0, []

    def fetch(self, ref: str) -> bytes:
        """See `Receiver.fetch`: the octets as Gmail took them in."""
        found = self._given(self.api("messages").get(userId=ME, id=checked(ref), format="raw", fields="raw"))
        return _octets(found["raw"])

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`. Contents are read of parts whose headers do not tell it."""
        payload = self._payload(ref, reports.MASK)
        report = _joined(map(mime.beginning, reports.blocks(payload)))
        if not mime.reported_ids(report):
            unread = islice(reports.unread(payload), mime.MOST_PARTS)
            report = _joined([report, *(mime.beginning(self._content(ref, part)) for part in unread)])
        if not report:
            raise NotFound("This mail holds no report.")
        return report

    def find_sent(self, message_id: str) -> Receipt | None:
        """See `SentFolder.find_sent`. A copy whose Message-ID was changed still quotes ours in References.

        Raises Temporary where Gmail does not show all that may be it.
        """
        named = listing.ids(self, f"in:sent {listing.named(message_id)}", listing.COPIES)
        found, refused = self.available(named)
        if not found and not refused:
            newest, refused = self.available(listing.ids(self, "in:sent", RECENT))
            copies = [(item, envelope(item)) for item in newest]
            found = [
                item
                for item, mail in copies
                if mail.references[-1:] == (message_id,) and mail.in_reply_to != message_id
            ]
        if not found and refused:
            raise Temporary("Gmail does not show all that lies in Sent.", retry_after=PAUSE)
        if not found:
            return None
        return Receipt(found[0]["id"], envelope(found[0]).message_id, found[0].get("threadId"))

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:  # noqa: ARG002 - the wall's signature
        """See `SentFolder.keep_sent`. Gmail files what it sends; more takes a permission to write."""
        fix = "Let Google send as well, or find what was sent in the case. `limits` of the mailbox say so."
        raise Unsupported("Zalion cannot put a copy into this Gmail of what another server sent.", fix=fix)

    def _unchanged(self, position: Position) -> bool:
        """Whether nothing happened since: the call that says whose mailbox it is tells that, too."""
        left = position.refused or position.swept or position.again
        return not left and self.profile()["historyId"] == position.history

    def _history(self, position: Position, since: int) -> Iterator[Page]:
        """Yield what the history tells since the position, and move that to its end."""
        start, token, torn = position.history, None, list[Mapping[str, Any]]()
        while True:
            answer = self._records(position, start, token)
            records, token = [*torn, *answer.get("history", ())], answer.get("nextPageToken")
            # what has the last number may go on in the next list: no page ends there
            torn = [one for one in records if one["id"] == records[-1]["id"]] if token else []
            records = records[: len(records) - len(torn)]
            yield from self._told(position, records, since)
            if records:
                position.reached(records[-1]["id"])
            if token is None:
                named, now = answer["historyId"], int(time.time())
                if position.is_of_another(named, now):
                    raise self._expired(position)
                position.caught_up(named, now)
                return

    def _records(self, position: Position, start: str, token: str | None) -> Any:
        request = self.api("history").list(
            userId=ME, startHistoryId=start, historyTypes=KINDS, maxResults=MOST, pageToken=token
        )
        try:
            return self.run(request)
        except NotFound as error:
            raise self._expired(position) from error

    def _expired(self, position: Position) -> CursorExpired:
        resume = position.without_history(self.profile()["historyId"]).cursor
        return CursorExpired("Gmail no longer has the history since the last look.", resume=resume)

    def _refused(self, position: Position, since: int) -> Iterator[Page]:
        """Yield what was refused before, until some of it still is: the next looks go on with the others."""
        waiting = len(position.refused)
        for chunk in batched([*position.refused], AGAIN, strict=False):
            waiting -= len(chunk)
            mails, refused, given_up = self._envelopes(position, chunk, since)
            yield position.page(mails, refused + (waiting if refused else 0), given_up)
            if refused:
                return

    def _told(self, position: Position, records: Sequence[Mapping[str, Any]], since: int) -> Iterator[Page]:
        """Yield pages that end at a record, or among the mails of one that has more than a page.

        Several records may have one number, and all of them are here.
        """
        waiting, before = dict[str, None](), position.history
        for number, group in groupby(records, key=lambda record: str(record["id"])):
            news = (id_ for record in group for id_ in brought(record, position.seen))
            waiting |= dict.fromkeys(position.left_of(number, news))
            enough = 1 if number == records[-1]["id"] else PAGE
            while len(waiting) >= enough:
                ids = [*islice(waiting, PAGE)]
                waiting = dict.fromkeys(islice(waiting, PAGE, None))
                told = self._envelopes(position, ids, since)
                if position.again:  # they are not read again then
                    position.saw(ids)
                position.reached(*((before, number, ids[-1]) if waiting else (number,)))
                yield position.page(*told)
            before = number

    def _sweep(self, position: Position, until: int) -> Iterator[Page]:
        """Yield what came from `position.swept` on, oldest first, in windows that one list can show.

        Each ends with a page, as one without anything to tell costs something, too.
        """
        since, reach = position.swept, until - position.swept
        while position.swept < until:
            found, end = listing.window(self, position.swept, min(until, position.swept + reach))
            reach, after = 2 * (end - position.swept), position.changed_after(end)
            old = listing.unchanged(self, position.swept, end, after) if found and after else set()
            ids = [one["id"] for one in reversed(found) if one["threadId"] not in old]
            for chunk in batched(position.left(ids), PAGE, strict=False):
                told = self._envelopes(position, chunk, since, after)
                position.passed(chunk)
                yield position.page(*told)
            position.swept = end
            position.settle(len(ids))
            yield position.page()
        position.last = ""

    def _given(self, request: Any) -> Any:
        """Ask for a single mail. What is refused of one may pass as an error 500 does: Temporary, too."""
        with self.one_mail(Temporary):
            return self.run(request)

    def _payload(self, ref: str, mask: str) -> Any:
        request = self.api("messages").get(userId=ME, id=checked(ref), format="full", fields=mask)
        return self._given(request).get("payload", {})

    def _content(self, ref: str, part: reports.Part) -> bytes:
        """Return the fields in a part; with one that is no attachment its neighbours' contents come along.

        `fields` picks no part by its place or kind; what came along is dropped here.
        """
        if part.attachment:
            attachments = self.api("messages").attachments()
            found = self._given(attachments.get(userId=ME, messageId=ref, id=part.attachment, fields="data"))
            return _octets(found.get("data", ""))
        return _octets(part.content(self._payload(ref, part.mask)))

    def _envelopes(
        self, position: Position, ids: Sequence[str], since: int, after: int = 0
    ) -> tuple[list[Envelope], int, int]:
        """Return envelopes, how many are refused, which the position has, and how many are given up.

        Left out is what came before `since`, and what nothing has happened to after that record.
        """
        found, refused = self.available(ids)
        given_up = position.put_off(ids, refused)
        wanted = (item for item in found if readable(item) and int(item["historyId"]) > after)
        mails = [envelope(item) for item in wanted if int(item["internalDate"]) >= since * 1000]
        return mails, len(refused) - given_up, given_up


def _octets(data: str) -> bytes:
    return base64.urlsafe_b64decode(data + "==")


def _joined(blocks: Iterable[bytes]) -> bytes:
    return b"\r\n\r\n".join(stripped for block in blocks if (stripped := block.strip(b"\r\n")))
