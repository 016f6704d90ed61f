"""Reading a mailbox at Graph: a sweep over the whole mailbox by time, and delta for stragglers.

The sweep finds mail wherever rules put it, and after any pause. Delta of Sent and Inbox adds what shows
up late under an old time. Alone it would not do: it knows one folder, and with a filter 5,000 mails.
https://learn.microsoft.com/graph/delta-query-messages
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from shared import mime
from shared.errors import CursorExpired, NotFound, Rejected, Unsupported
from shared.model import Envelope
from shared.providers import positions
from shared.providers.base import Cursor, Page, Receipt, Unmetered
from shared.providers.http import Answer
from shared.providers.microsoft.graph import (
    FIELDS,
    IN_REPLY_TO,
    PAGE,
    Session,
    literal,
    moment,
    segment,
    when,
)

ROLES = {
    "inbox": "inbox",
    "sentitems": "sent",
    "drafts": "drafts",
    "deleteditems": "trash",
    "junkemail": "junk",
    "outbox": "outbox",
    "archive": "archive",
}
"""Graph's well-known names, and what we call their roles."""

UNREAD_ROLES = {"drafts", "trash", "junk", "outbox"}
"""Unfinished, deleted or unwanted mail."""

OVERLAP = timedelta(minutes=10)
"""How far a sweep goes back behind the last: mail shows up a little after its receivedDateTime.

Our clock need not be Exchange's either.
"""

MOST_SEEN, TAIL = 2000, 24
"""The end of an id tells mails of one mailbox apart."""

_REPORTS = {"message/delivery-status", "message/disposition-notification", "text/rfc822-headers"}

RECENT = 50
"""So many of the newest Sent mails are looked through for one whose Message-ID was changed."""


@dataclass
class Position(positions.Position):
    """What a cursor says.

    Attributes:
        folders: id -> role of the well-known folders, learnt once.
        links: folder id -> where delta of it goes on.
        swept: from when on the mailbox is still to be swept.
        seen: the mails of the last minutes that were dealt with: end of the id -> when they were received.
    """

    folders: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    swept: datetime | None = None
    seen: dict[str, int] = field(default_factory=dict)

    def news(self, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the mails that were not dealt with yet, and count them as such."""
        skipped = {id_ for id_, role in self.folders.items() if role in UNREAD_ROLES}
        new = [item for item in items if _readable(item, skipped) and item["id"][-TAIL:] not in self.seen]
        self.seen |= {item["id"][-TAIL:]: int(_received(item).timestamp()) for item in new}
        self.seen = dict([*self.seen.items()][-MOST_SEEN:])
        return new

    def forget_before(self, at: datetime) -> None:
        """Forget the mails that no sweep will list again."""
        self.seen = {tail: received for tail, received in self.seen.items() if received >= at.timestamp()}


class GraphMailbox(Session, Unmetered):
    """Receiver and SentFolder of `base` over Graph."""

    def check(self) -> None:
        """See `Receiver.check`."""
        self.get("/mailFolders/inbox", select="id")
        self.get("/messages", select="id", top="1")

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. Everything but drafts, Junk and Trash is read, whatever its folder."""
        position, started = Position.of(cursor), datetime.now(UTC)
        if not position.links:
            position.folders, position.swept = self._roles(), since
            watched = {id_: role for id_, role in position.folders.items() if role in {"sent", "inbox"}}
            position.links = {folder: self._beginning(folder, since) for folder in watched}
        yield from self._sweep(position, since)
        position.swept = started
        for folder in position.links:
            yield from self._stragglers(position, folder)
        position.forget_before(started - OVERLAP)
        yield position.page()

    def fetch(self, ref: str) -> bytes:
        """See `Receiver.fetch`."""
        return self._call(f"/messages/{segment(ref)}/$value").body

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`. The returned mail is an attached item: its id alone is read."""
        expand = "microsoft.graph.itemAttachment/item($select=internetMessageId)"
        path = f"/messages/{segment(ref)}/attachments"
        answer = self.get(path, select="id,name,contentType,size", expand=expand)
        lines, left = list[bytes](), mime.MOST_PARTS
        for attachment in answer["value"]:
            item = attachment.get("item") or {}
            if item.get("internetMessageId"):
                lines.append(f"Message-ID: {item['internetMessageId']}".encode())
            elif left and attachment.get("contentType", "").lower() in _REPORTS:
                content = self._call(f"{path}/{segment(attachment['id'])}/$value").body
                lines, left = [*lines, mime.beginning(content).strip(b"\r\n")], left - 1
        if not lines:
            raise NotFound("This mail holds no report.")
        return b"\r\n\r\n".join(lines)

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`: the mails themselves, their threads, and what names them as its parent."""
        folders = self._roles()
        skipped = {folder for folder, role in folders.items() if role in UNREAD_ROLES}
        seen: set[str] = set()
        for message_id in message_ids:
            for items in self._about(message_id):
                new = [item for item in items if item["id"] not in seen and _readable(item, skipped)]
                seen |= {item["id"] for item in new}
                for envelope in self.envelopes(new, folders):
                    if message_id in (envelope.message_id, *envelope.references):
                        yield envelope

    def find_sent(self, message_id: str) -> Receipt | None:
        """See `SentFolder.find_sent`. A copy under another Message-ID still quotes ours in References."""
        folders = self._roles()
        path = "/mailFolders/sentitems/messages"
        found = self.get(path, filter=f"internetMessageId eq {literal(message_id)}", select=FIELDS)["value"]
        if not found:
            newest = self.get(path, select=FIELDS, orderby="sentDateTime desc", top=str(RECENT))["value"]
            copies = self.envelopes(newest, folders)
            quoting = [copy for copy in copies if copy.references[-1:] == (message_id,)]
            own = [copy for copy in quoting if copy.in_reply_to != message_id]
            return Receipt(own[0].ref, own[0].message_id, own[0].thread) if own else None
        return Receipt(found[0]["id"], message_id, found[0].get("conversationId"))

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:  # noqa: ARG002 - the wall's signature
        """See `SentFolder.keep_sent`. Graph makes drafts of MIME, and what is a draft stays one.

        https://learn.microsoft.com/graph/api/user-post-messages
        """
        raise Unsupported(
            "Microsoft 365 takes no copy of a mail that another server sent.",
            fix="Send with Microsoft 365, too, or have the sending server file the copy.",
        )

    def _call(self, path: str) -> Answer:
        return self.api.call("GET", self.path + path)

    def _roles(self) -> dict[str, str]:
        """Return folder id -> role; a mailbox without an archive is none the worse."""
        found = self.batch([f"/mailFolders/{name}?$select=id" for name in ROLES])
        return {
            folder["id"]: role
            for folder, role in zip(found, ROLES.values(), strict=True)
            if folder is not None
        }

    def _sweep(self, position: Position, since: datetime) -> Iterator[Page]:
        """Yield what the mailbox took in, oldest first, in whatever folder.

        Each page is asked for by time: Graph's own links count mails, so that one deleted meanwhile would
        hide another. They are followed within one second only, where time tells no mail from the next.
        """
        at = max(since, (position.swept or since) - OVERLAP)
        page = self._taken_in(at)
        while True:
            items = page["value"]
            new = position.news(items)
            last = max(_received(items[-1]), at) if items else at
            position.swept = max(last, position.swept or last)
            yield position.page(self.envelopes(new, position.folders))
            if "@odata.nextLink" not in page:
                return
            page = self._taken_in(last) if last > at else self.asked("GET", page["@odata.nextLink"])
            at = last

    def _taken_in(self, at: datetime) -> Any:
        return self.get(
            "/messages",
            filter=f"receivedDateTime ge {moment(at)}",
            orderby="receivedDateTime",
            select=FIELDS,
            top=str(PAGE),
        )

    def _stragglers(self, position: Position, folder: str) -> Iterator[Page]:
        """Yield what delta knows and the sweep did not see. Raises CursorExpired."""
        page = self._followed(position.links[folder])
        while True:
            new = position.news([item for item in page["value"] if "@removed" not in item])
            position.links[folder] = page.get("@odata.deltaLink") or page["@odata.nextLink"]
            yield position.page(self.envelopes(new, position.folders))
            if "@odata.deltaLink" in page:
                return
            page = self.asked("GET", page["@odata.nextLink"])

    def _followed(self, link: str) -> Any:
        """Return what a kept link leads to. Where it leads nowhere the mailbox was made anew, or restored."""
        try:
            return self.asked("GET", link)
        except (NotFound, Rejected) as error:
            raise CursorExpired("Microsoft no longer knows a folder of this mailbox.") from error

    def _beginning(self, folder: str, since: datetime) -> str:
        """Return where delta of a folder begins.

        With all since then: what is older than the filter says is not told when it is moved there.
        """
        asked = f"$select={FIELDS}&$filter=receivedDateTime%20ge%20{moment(since)}&$top={PAGE}"
        return f"{self.path}/mailFolders/{segment(folder)}/messages/delta?changeType=created&{asked}"

    def _about(self, message_id: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the mail with this Message-ID, what answers it, and the rest of their threads."""
        wanted = literal(message_id)
        there = self.get("/messages", filter=f"internetMessageId eq {wanted}", select=FIELDS)["value"]
        yield there
        parent = (
            f"singleValueExtendedProperties/Any(ep: ep/id eq {literal(IN_REPLY_TO)} and ep/value eq {wanted})"
        )
        yield from self.all("/messages", filter=parent, select=FIELDS, top=str(PAGE))
        for thread in {item["conversationId"] for item in there}:
            query = f"conversationId eq {literal(thread)}"
            yield from self.all("/messages", filter=query, select=FIELDS, top=str(PAGE))


def _received(item: Mapping[str, Any]) -> datetime:
    return when(item.get("receivedDateTime")) or datetime.now(UTC)


def _readable(item: Mapping[str, Any], skipped: Collection[str]) -> bool:
    return not item.get("isDraft") and item["parentFolderId"] not in skipped
