"""IMAP4rev1 (RFC 3501): reading, searching and the Sent folder; read-only but for the copy in Sent.

A message is known by folder, UIDVALIDITY and UID (§2.3.1.1). New is what has a UID that the cursor
does not reach yet; UIDNEXT tells for one STATUS a folder whether there is any.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import batched

from shared.errors import InvalidRequest, NotFound, Rejected, Temporary, Unsupported, Withheld
from shared.model import Envelope
from shared.providers import network
from shared.providers.base import Cursor, Field, Folder, Page, Provider, Receipt
from shared.providers.imap import reports
from shared.providers.imap.folders import INBOX, Mailbox
from shared.providers.imap.position import Mark, Position
from shared.providers.imap.searching import ImapSearcher
from shared.providers.imap.session import BATCH, MANY, PORT, make_ref, octets, quoted

CHUNK = 4 * 1024 * 1024

LARGEST = 160_000_000
"""Octets: no server that we know of takes larger ones (Exchange Online: 150 MB)."""

IDS_PER_SEARCH = 5
"""Fifteen criteria stay below the 8,000 octets that a command may have (RFC 7162 §4)."""

_DAY = timedelta(days=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_MOVED_TO = {"trash", "junk", "drafts", "all", "flagged"}
"""Deleted, unwanted or unfinished mail; and views that show again what lies in another folder."""

_THREADING = ("Message-ID", "In-Reply-To", "References")
_APPENDED = re.compile(rb"\[APPENDUID (\d+) (\d+)\]")


class ImapMailbox(Mailbox):
    """Receiver and SentFolder of `base` over IMAP; `largest` is what it fetches at most, in octets."""

    largest = LARGEST

    def check(self) -> None:
        """See `Receiver.check`."""
        there = self._marks(Position(at=datetime.now(UTC)))
        asked = [("sentFolder", self.configured_sent()), *(("folders", name) for name in self.chosen())]
        for field, name in asked:
            if name and name not in there:
                raise InvalidRequest(f"There is no folder {network.clean(name)!r}.", field=field)

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. A folder that the cursor does not know is read from `since` on."""
        position = Position.of(cursor, since)
        started, since = datetime.now(UTC), since.replace(microsecond=0)  # INTERNALDATE has whole seconds
        marks = self._marks(position)
        yield from self._owed(position, since - _DAY)
        for folder, mark in marks.items():
            old = position.folders.get(folder)
            if old is None or old.next < mark.next:
                yield from self._new(position, folder, mark, since)
            position.folders[folder] = mark
        if position.elsewhere:
            yield from self._elsewhere(position, max(since, position.at) - _DAY)
        position.at, position.elsewhere = started, False
        yield position.page()

    def fetch(self, ref: str) -> bytes:
        """See `Receiver.fetch`. No answer is larger than 4 MiB, and no mail larger than `largest` is read.

        Raises Rejected for one: a worker that dies for want of memory could not even say of which mail.
        """
        _, uid = self.enter(ref)
        raw = bytearray()
        while len(raw) % CHUNK == 0:
            answer = self.items([uid], ["RFC822.SIZE", f"BODY.PEEK[]<{len(raw)}.{CHUNK}>"])
            if uid not in answer:
                raise NotFound("This mail was deleted.")
            if max(octets(answer[uid]), len(raw) + CHUNK) > self.largest:
                raise Rejected(f"This mail is larger than {self.largest // 1_000_000} MB.")
            part = answer[uid].get(f"BODY[]<{len(raw)}>".encode())
            if not part:
                break
            raw += part
        if not raw:
            raise NotFound("The server gives no data for this mail.")
        return bytes(raw)

    def returned_headers(self, ref: str) -> bytes:
        """See `Receiver.returned_headers`. The structure tells where they are; nothing else is asked for."""
        _, uid = self.enter(ref)
        try:
            structure = self.items([uid], ["BODYSTRUCTURE"]).get(uid, {}).get(b"BODYSTRUCTURE")
        except Rejected as error:
            raise NotFound("The server cannot tell the structure of this mail.") from error
        sections = dict(reports.sections(structure))
        asked = [f"BODY.PEEK[{section}]" for section in sections]
        answer = self.items([uid], asked).get(uid) if asked else None
        if answer is None:
            raise NotFound("This mail holds no report.")
        parts = [(answer.get(f"BODY[{section}]".encode()), decode) for section, decode in sections.items()]
        return b"\r\n\r\n".join(decode(part).strip(b"\r\n") for part, decode in parts if part)

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`. What is not printable ASCII is no Message-ID (RFC 5322 §3.6.4)."""
        wanted = [id_ for id_ in message_ids if id_.isascii() and id_.isprintable()]
        withheld, mails = set[str](), 0
        for folder in self.folders() if wanted else ():
            for ids in batched(wanted, IDS_PER_SEARCH, strict=False):
                try:
                    yield from self._naming(folder, ids)
                except Withheld as error:
                    withheld, mails = withheld | {*ids}, mails + error.mails
        if mails:
            raise Withheld(withheld, mails)

    def find_sent(self, message_id: str) -> Receipt | None:
        """See `SentFolder.find_sent`. Raises Temporary where the server does not show all that may be it."""
        sent = self.sent()
        try:
            if not sent or not self.opens(sent):
                return None
            uids = self.matching([("HEADER Message-ID", message_id)])
            # SEARCH finds parts of headers too, so equality is for us to see
            copies = (copy for copy in self.headers(sent, uids, sent=True) if copy.message_id == message_id)
            return next((Receipt(copy.ref, message_id, copy.thread) for copy in copies), None)
        except Rejected as error:
            raise Temporary("The server does not show what lies in Sent.") from error

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:
        """See `SentFolder.keep_sent`. Raises Unsupported where the mailbox has no Sent folder."""
        sent = self.sent()
        if not sent:
            raise Unsupported("This mailbox has no Sent folder.", fix="Name one in the setting sentFolder.")
        answer = self.ask(lambda client: client.append(sent, raw, (rb"\Seen",), sent_at))
        told = _APPENDED.search(answer)  # UIDPLUS, RFC 4315 §3
        return make_ref(sent, int(told[1]), int(told[2])) if told else None

    def _mark(self, folder: str) -> Mark | None:
        """Ask for a folder's numbers; None where there is no such folder."""
        condstore = self.ask(lambda client: client.has_capability("CONDSTORE"))
        items = ["UIDVALIDITY", "UIDNEXT", *(["HIGHESTMODSEQ"] if condstore else [])]
        try:
            told = self.ask(lambda client: client.folder_status(folder, items))
        except Rejected:
            return None
        if b"UIDVALIDITY" not in told or b"UIDNEXT" not in told:
            raise Unsupported("This server gives its mail no lasting numbers (RFC 3501 §2.3.1.1).")
        return Mark(told[b"UIDVALIDITY"], told[b"UIDNEXT"], told.get(b"HIGHESTMODSEQ") or 0)

    def _marks(self, position: Position) -> dict[str, Mark]:
        """Ask for the numbers of all that is read, one STATUS a folder; a chosen folder may be gone.

        A mailbox that has no Sent folder is asked for one each time. Raises CursorExpired where the
        numbers did not go on from the cursor's.
        """
        self.leave()
        position.sent = self.configured_sent() or position.sent or self.sent()
        marks = {name: self._mark(name) for name in self.watched(position.sent)}
        if position.sent and marks[position.sent] is None:  # renamed or deleted
            position.sent = self.sent()
            marks = {name: marks.get(name) or self._mark(name) for name in self.watched(position.sent)}
        there = {name: mark for name, mark in marks.items() if mark}
        if INBOX not in there:
            raise Temporary("The server does not open the Inbox.")
        position.folders = {name: old for name, old in position.folders.items() if name in there}
        if not all(there[name].follows(old) for name, old in position.folders.items()):
            raise position.anew()
        return there

    def _new(self, position: Position, folder: str, mark: Mark, since: datetime) -> Iterator[Page]:
        """Yield what the cursor does not reach yet in a folder, moving it batch by batch.

        What arrives from now on has UIDs beyond `mark` and waits for the next look. A UID that is
        gone already was moved or deleted, and must be looked for elsewhere.
        """
        old = position.folders.get(folder)
        first = old.next if old else 1
        if self.examine(folder, again=True) != mark.validity:
            raise position.anew()
        # `n:*` always names the newest message, even one below n (RFC 3501 §6.4.8)
        found = self.find(f"UID {first}:*") if old else self._since(since)
        uids = [uid for uid in found if first <= uid < mark.next]
        # UIDs prove that it is new; the day is for clocks that go wrong, and keeps old mail moved here out
        oldest = since - _DAY if old else since
        position.elsewhere |= old is not None and len(uids) < mark.next - first
        for batch in batched(uids, BATCH, strict=False):
            position.folders[folder] = Mark(mark.validity, batch[-1] + 1, mark.modseq)
            yield self._read(position, folder, batch, oldest, sent=folder == position.sent)

    def _read(
        self, position: Position, folder: str, uids: Sequence[int], oldest: datetime, *, sent: bool
    ) -> Page:
        """Read headers, and make a page of the mails that are not older.

        What is kept back and still there is owed, what is gone must be looked for elsewhere.
        """
        found = self.described(folder, uids, sent=sent)
        there = self.kept_back(uids, found)
        position.elsewhere |= len(found) + len(there) < len(uids)
        given_up = position.owe(folder, self.examine(folder), uids, there)
        recent = (envelope for envelope in found.values() if _arrival(envelope) >= oldest)
        return position.page(recent, len(there) - given_up, given_up)

    def _owed(self, position: Position, oldest: datetime) -> Iterator[Page]:
        """Ask once more for what was kept back; what stops us there keeps back nothing that is new."""
        for folder, kept in [*position.owed.items()]:
            left = sorted(kept.owed)
            try:
                if left and not (self.opens(folder) and self.examine(folder) == kept.validity):
                    position.elsewhere = True
                    del position.owed[folder]
                    continue
                # fewer than `MANY`: that the server gives none of these is known, and says nothing of others
                for batch in batched([*left], MANY - 1, strict=False):
                    yield self._read(position, folder, batch, oldest, sent=folder == position.sent)
                    del left[: len(batch)]
            except (Rejected, Temporary):
                given_up = position.owe(folder, kept.validity, left, left)
                yield position.page((), len(left) - given_up, given_up)

    def _elsewhere(self, position: Position, since: datetime) -> Iterator[Page]:
        """Yield what came since then to folders that are not read: mail moved before we saw it is there."""
        folders = [folder for folder in self.folders() if folder.name not in position.folders]
        position.forget({*position.owed} - {folder.name for folder in folders})
        for folder in folders:
            if folder.role in _NOT_MOVED_TO or not self.exists(folder.name):
                continue
            uids = position.unknown(folder.name, self.examine(folder.name), self._since(since))
            for batch in batched(uids, BATCH, strict=False):
                yield self._read(position, folder.name, batch, since, sent=folder.role == "sent")

    def _since(self, since: datetime) -> list[int]:
        """Search the open folder; the server's dates are those of its own zone, so a day earlier."""
        return self.matching([("SINCE", since - _DAY)])

    def _naming(self, folder: Folder, ids: Sequence[str]) -> Iterator[Envelope]:
        """Yield the mails in a folder that are, or refer to, one of the ids; see `headers`."""
        if folder.role in {"junk", "trash"} or not self.exists(folder.name):
            return
        for envelope in self.headers(folder.name, self._about(ids), sent=folder.role == "sent"):
            if not {*ids}.isdisjoint((envelope.message_id, *envelope.references)):
                yield envelope

    def _about(self, ids: Sequence[str]) -> list[int]:
        """Search the open folder for mails that are, or refer to, one of the ids."""
        criteria = [f"HEADER {name} {quoted(id_)}" for id_ in ids for name in _THREADING]
        try:
            return self.find(reduce(lambda left, right: f"OR {left} {right}", criteria))
        except Rejected:  # Exchange answers BAD to HEADER within OR
            return sorted({uid for criterion in criteria for uid in self.find(criterion)})


def _arrival(envelope: Envelope) -> datetime:
    return envelope.received_at or _NEVER


PROVIDER = Provider(
    name="imap",
    title="IMAP mailbox",
    form=(
        *network.server_form("IMAP", PORT),
        Field("sentFolder", "Name of the Sent folder, where it is not found by itself"),
    ),
    receiver=ImapMailbox,
    sent_folder=ImapMailbox,
    searcher=ImapSearcher,
)
