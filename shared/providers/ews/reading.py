"""Reading a mailbox at Exchange: SyncFolderItems of Sent, Inbox and the chosen folders, a look at the others.

What rules and people move out of the Inbox before we see it is found by time: FindFolder tells which other
folders changed, and FindItem searches those: for all that is new, or, where folders were chosen, for what
quotes a Message-ID of ours.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import batched

from shared import mime
from shared.errors import NotFound, RateLimited, Temporary, Withheld
from shared.model import Envelope
from shared.providers import network
from shared.providers.base import Cursor, Page, Receipt, Unmetered
from shared.providers.ews.calls import BATCH
from shared.providers.ews.envelopes import envelope, is_draft
from shared.providers.ews.finding import Found
from shared.providers.ews.folders import Layout
from shared.providers.ews.position import Position, hashed
from shared.providers.ews.refusals import NoAccess
from shared.providers.ews.sweeping import Sweeping
from shared.providers.ews.xml import (
    IN_REPLY_TO,
    MESSAGE_ID,
    REFERENCES,
    Element,
    Where,
    decoded,
    either,
    equal,
    holding,
    id_of,
    text,
)

MOST_CHANGES = 512
"""EWS's own limit."""

OVERLAP = timedelta(minutes=10)
"""How far we go back behind a look: clocks differ, and mail shows up a little late."""

SENT = "sentitems"
RECENT = 50
"""So many of the newest Sent mails are looked through for one whose Message-ID was changed."""

_REPORTS = {"message/delivery-status", "message/disposition-notification", "text/rfc822-headers"}
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class EwsMailbox(Sweeping, Unmetered):
    """Receiver and SentFolder of `base` over EWS."""

    _shut_lately: Collection[str] = ()
    """Folders, hashed, that `pages` may not search and that may open again."""

    def check(self) -> None:
        """See `Receiver.check`."""
        self.folder_ids(["inbox", "sentitems"])
        for name in self.layout().missing if self.chosen() else ():
            raise network.no_folder(name, f"folders[{self.chosen().index(name)}]")

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. A folder that the cursor does not know is read from `since` on.

        That a chosen one may not be opened shows when its turn comes, and then it is named.
        """
        position, started, since = Position.of(cursor), datetime.now(UTC), since.replace(microsecond=0)
        layout = self.layout()
        position.begin(started, since)
        position.follow(layout, since)
        if layout.missing:
            yield replace(position.page(), missing=layout.missing)
        yield from self._again(position, layout)
        with position.kept():
            for name in layout.watched:
                try:
                    yield from self._changes(position, layout, name, since)
                except NoAccess:
                    if name not in layout.chosen:
                        raise
                    position.shut_out([layout.chosen[name]], _behind(position, started, since))
                    yield replace(position.page(), missing=(name,))
        yield from self._sweep(position, layout, started, since)
        yield position.page()

    def fetch(self, ref: str) -> bytes:
        """See `Receiver.fetch`."""
        return self.mime(ref)

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`. The returned mail is an attached item, of which the id is taken.

        EWS cannot leave out an attached item's text (GetAttachment, AttachmentShape; the id comes after it),
        so that comes along and is dropped here, but only where no other part names the mail.
        https://learn.microsoft.com/exchange/client-developer/web-service-reference/attachmentshape
        """
        attached = self.attached(ref)
        lines = self._named_by([one for one in attached if text(one, "ContentType").lower() in _REPORTS])
        if not mime.reported_ids(b"\r\n\r\n".join(lines)):
            lines += self._named_by([one for one in attached if one.tag.endswith("}ItemAttachment")])
        if not lines:
            raise NotFound("This mail holds no report.")
        return b"\r\n\r\n".join(lines)

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`. A folder that is shut for long is passed over."""
        wanted = [id_ for id_ in message_ids if id_.isprintable()]
        if not wanted:
            return
        conditions = [
            condition
            for id_ in wanted
            for condition in (equal(MESSAGE_ID, id_), equal(IN_REPLY_TO, id_), holding(REFERENCES, id_))
        ]
        layout = self.layout()
        found, shut = self.find_in(layout.everything, Where(either(conditions)))
        items, refused = self.available([each.id for each in found])
        for one in _shown(items, layout):
            if not {*wanted}.isdisjoint((one.message_id, *one.references)):
                yield one
        if kept := len(refused) + len({*map(hashed, shut)}.intersection(self._shut_lately)):
            raise Withheld(wanted, kept)

    def find_sent(self, message_id: str) -> Receipt | None:
        """See `SentFolder.find_sent`. A copy under another Message-ID still quotes ours in References.

        Raises Temporary where Exchange does not show all that may be it.
        """
        sent = [self.known(SENT)]
        found = self.find(sent, Where(equal(MESSAGE_ID, message_id)), most=1)
        ids = [one.id for one in found or self.find(sent, most=RECENT)]
        items, refused = self.available(ids)
        for copy in (envelope(item, sent=True) for item in items):
            quotes = copy.references[-1:] == (message_id,) and copy.in_reply_to != message_id
            if copy.message_id == message_id or quotes:
                return Receipt(copy.ref, copy.message_id, copy.thread)
        if refused:
            raise Temporary("Exchange does not show all that lies in Sent.", retry_after=60)
        return None

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:  # noqa: ARG002 - Exchange reads Date
        """See `SentFolder.keep_sent`: for mail that left through another server."""
        return self.file(raw, self.known(SENT)) or None

    def _again(self, position: Position, layout: Layout) -> Iterator[Page]:
        """Yield what was refused before and is given now; what is gone may lie where a sweep finds it."""
        if not (again := {id_: position.places.get(id_, "") for id_ in position.refused}):
            return
        first = min(position.refused.values())
        try:
            found, *missing = self._envelopes(position, again, layout)
        except RateLimited:
            raise
        except Temporary:  # perhaps there is no other mail to judge by; what is new is judged by itself
            yield position.page((), len(again))
            return
        if len(found) + sum(missing) < len(again):
            position.look_for(first)
        yield position.page(found, *missing)

    def _named_by(self, attached: Sequence[Element]) -> list[bytes]:
        """Return fields, or the Message-ID, out of attachments, of which a few are read."""
        lines, ids = list[bytes](), [id_of(each, "AttachmentId") for each in attached[: mime.MOST_PARTS]]
        for one in self.attachments(ids) if ids else ():
            content, id_ = text(one, "Content"), text(one, "Message/InternetMessageId")
            lines += (
                [mime.beginning(decoded(content)).strip(b"\r\n")]
                if content
                else [f"Message-ID: {id_}".encode()]
                if id_
                else []
            )
        return lines

    def _changes(self, position: Position, layout: Layout, name: str, since: datetime) -> Iterator[Page]:
        """Yield what came into a folder, oldest first within each step of the server's."""
        while not position.by_time(name):
            changes = self.changes(layout.watched[name], position.states.get(name), MOST_CHANGES)
            new = sorted((one for one in changes.created if _at(one) >= since), key=_at)
            batches = list(batched(new, BATCH, strict=False))
            if not new:
                position.reached(name, changes, since)
            for batch in batches:
                if batch is batches[-1]:  # before that the old state is the true one
                    position.reached(name, changes, since)
                yield position.page(*self._envelopes(position, _asked(batch), layout, name))
            if changes.complete:
                return
            if not new:  # much that is old lies in the way: how far we have come is worth a page
                yield position.page()

    def _sweep(
        self, position: Position, layout: Layout, started: datetime, since: datetime
    ) -> Iterator[Page]:
        """Yield what came since the look before the last to folders that are not followed, oldest first.

        The position moves with each page: a look that ends between two has lost nothing.
        """
        after, before = _behind(position, started, since), position.left_over()
        came, opened = self.came(position, layout, after)
        self._shut_lately = position.shut_lately() - opened
        found = sorted(came, key=_at)
        new = [one for one in found if hashed(one.id) not in position.seen]
        for batch in batched(new, BATCH, strict=False):
            asked = _asked(batch)
            told = self._envelopes(position, asked, layout)
            position.passed(min(started, _at(batch[-1])), asked, opened)
            yield position.page(*told)
        position.settle(started, [*before, *(hashed(one.id) for one in found)], opened)

    def _envelopes(
        self, position: Position, asked: Mapping[str, str], layout: Layout, folder: str = ""
    ) -> tuple[list[Envelope], int, int]:
        """Return envelopes, how many are refused, which the position has, and how many are given up.

        `asked` are mails, with the folders they are ours to read in; see `Position.places`.
        """
        items, refused = self.available([*asked], position.refused)
        given_up = position.put_off([*asked], refused)
        position.put(asked)
        return _shown(items, layout, folder), len(refused) - given_up, given_up


def _shown(items: Sequence[Element], layout: Layout, folder: str = "") -> list[Envelope]:
    """Make envelopes of mails in this folder, or wherever each lies."""
    found = ((folder or layout.names.get(id_of(item, "ParentFolderId"), ""), item) for item in items)
    return [envelope(item, folder=name, sent=name == SENT) for name, item in found if not is_draft(item)]


def _behind(position: Position, started: datetime, since: datetime) -> datetime:
    """Return from when on a look goes through the other folders."""
    return max(since, (position.sweep_from or started) - OVERLAP)


def _asked(found: Iterable[Found]) -> dict[str, str]:
    return {one.id: hashed(one.folder) if one.folder else "" for one in found}


def _at(one: Found) -> datetime:
    return one.received_at or _NEVER
