"""IMAP4rev1 (RFC 3501): reading, searching and the Sent folder; read-only but for the copy in Sent.

A message is known by folder, UIDVALIDITY and UID (§2.3.1.1). New is what has a UID that the cursor
does not reach yet; UIDNEXT tells for one STATUS a folder whether there is any.
"""

from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared.errors import NotFound, Rejected, Temporary, Unsupported
from shared.providers import network
from shared.providers.base import Cursor, Field, Page, Provider
from shared.providers.imap.batches import Batches, bearable, cut
from shared.providers.imap.bounces import Bounces
from shared.providers.imap.finding import NOT_LOOKED_INTO
from shared.providers.imap.folders import INBOX
from shared.providers.imap.items import octets
from shared.providers.imap.position import Full, Mark, Position
from shared.providers.imap.searching import ImapSearcher
from shared.providers.imap.session import PORT

CHUNK = 4 * 1024 * 1024

LARGEST = 160_000_000
"""Octets: no server that we know of takes larger ones (Exchange Online: 150 MB)."""

_DAY = timedelta(days=1)
_NOT_MOVED_TO = NOT_LOOKED_INTO | {"all", "flagged"}
"""Views show again what lies in another folder."""


class ImapMailbox(Batches, Bounces):
    """Receiver and SentFolder of `base` over IMAP; `largest` is what it fetches at most, in octets."""

    largest = LARGEST

    def check(self) -> None:
        """See `Receiver.check`."""
        there = self._marks(Position(at=datetime.now(UTC)))
        chosen = [(f"folders[{place}]", name) for place, name in enumerate(self.chosen())]
        for field, name in [("sentFolder", self.configured_sent()), *chosen]:
            if name and name not in there:
                raise network.no_folder(name, field)

    def pages(self, cursor: Cursor | None, since: datetime) -> Iterator[Page]:
        """See `Receiver.pages`. A folder that the cursor does not know is read from `since` on."""
        position = Position.of(cursor, at=since)
        started, since = datetime.now(UTC), since.replace(microsecond=0)  # INTERNALDATE has whole seconds
        marks = self._marks(position)
        if missing := tuple(name for name in self.asked_for() if name not in marks):
            yield replace(position.page(), missing=missing)
        first = not position.shut or position.crowded
        if first:
            yield from self.owed(position, since - _DAY)
        full = yield from self._all_new(position, marks, since)
        if position.elsewhere:
            full = (yield from self._elsewhere(position, marks, max(since, position.at) - _DAY)) or full
        if not full:
            position.at, position.elsewhere = started, False
            yield position.page()
        if not first:
            yield from self.owed(position, since - _DAY)
        if full:
            raise full

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

    def _mark(self, folder: str) -> Mark | None:
        """Ask for a folder's numbers; None where there is no such folder."""
        condstore = self.ask(lambda client: client.has_capability("CONDSTORE"))
        items = ["UIDVALIDITY", "UIDNEXT", *(["HIGHESTMODSEQ"] if condstore else [])]
        try:
            told = self.ask_of(folder, lambda client: client.folder_status(folder, items))
        except Rejected:
            return None
        if b"UIDVALIDITY" not in told or b"UIDNEXT" not in told:
            raise Unsupported("This server gives its mail no lasting numbers (RFC 3501 §2.3.1.1).")
        return Mark(told[b"UIDVALIDITY"], told[b"UIDNEXT"], told.get(b"HIGHESTMODSEQ") or 0)

    def _marks(self, position: Position) -> dict[str, Mark]:
        """Ask for the numbers of all that is read, one STATUS a folder; what somebody named may be gone.

        Then what came into it since the last look lies elsewhere: most are renamed rather than deleted.
        A mailbox that has no Sent folder is asked for one each time. Raises CursorExpired where the
        numbers did not go on from the cursor's.
        """
        self.leave()
        configured = self.configured_sent()
        if configured or position.configured or not position.sent:  # or named by settings that are no more
            position.sent, position.configured = self.sent(), bool(configured)
        marks = {name: self._mark(name) for name in self.watched(position.sent)}
        if position.sent and marks[position.sent] is None:  # renamed or deleted
            position.sent = self.sent()
            marks = {name: marks.get(name) or self._mark(name) for name in self.watched(position.sent)}
        there = {name: mark for name, mark in marks.items() if mark}
        if INBOX not in there:
            raise Temporary("The server does not open the Inbox.")
        position.elsewhere |= any(name in position.folders and name not in there for name in self.asked_for())
        position.folders = {name: old for name, old in position.folders.items() if name in there}
        if not all(there[name].follows(old) for name, old in position.folders.items()):
            raise position.anew()
        return there

    def _all_new(
        self, position: Position, marks: Mapping[str, Mark], since: datetime
    ) -> Generator[Page, None, Full | None]:
        """Yield what is new in each folder. One of which too much is kept back keeps back no other.

        Returns the error for it, which is to be raised in the end, or raises it where nobody is let in again.
        """
        full: Full | None = None
        for folder, mark in marks.items():
            old = position.folders.get(folder)
            try:
                if old is None or old.next < mark.next:
                    yield from self._new(position, folder, mark, since)
                else:
                    position.folders[folder] = mark
            except Full as error:
                full = bearable(error)
        return full

    def _new(self, position: Position, folder: str, mark: Mark, since: datetime) -> Iterator[Page]:
        """Yield what the cursor does not reach yet in a folder, moving it batch by batch.

        What arrives from now on has UIDs beyond `mark` and waits for the next look. A UID that is
        gone already was moved or deleted, and must be looked for elsewhere. Raises Full, and then the cursor
        stays at what is kept back.
        """
        old = position.folders.get(folder)
        first = old.next if old else 1
        mark = self._opened_at(folder, mark, known=old is not None)
        if self.examine(folder) != mark.validity:
            raise position.anew()
        # `n:*` always names the newest message, even one below n (RFC 3501 §6.4.8)
        found = self.find(f"UID {first}:*") if old else self._since(since)
        uids = [uid for uid in found if first <= uid < mark.next]
        # UIDs prove that it is new; the day is for clocks that go wrong, and keeps old mail moved here out
        oldest = since - _DAY if old else since
        position.elsewhere |= old is not None and len(uids) < mark.next - first
        for batch in cut(position, uids):
            before = {**position.folders}
            position.folders[folder] = Mark(mark.validity, batch[-1] + 1, mark.modseq)
            try:
                yield from self.read_first(position, folder, batch, oldest, sent=folder == position.sent)
            except Full:
                position.folders = before
                yield position.page((), len(batch))
                raise
        position.folders[folder] = mark

    def _opened_at(self, folder: str, mark: Mark, *, known: bool) -> Mark:
        """Open a folder once more; return its numbers.

        Of one that the cursor does not know they may be others than STATUS told: before Courier first opens
        a folder it tells another UIDVALIDITY each second.
        """
        if self.examine(folder, again=True) == mark.validity or known:
            return mark
        self.leave()
        return self._mark(folder) or mark

    def _elsewhere(
        self, position: Position, read: Collection[str], since: datetime
    ) -> Generator[Page, None, Full | None]:
        """Yield what came since then to folders that are not read: mail moved before we saw it is there.

        Returns or raises the error for too much that is kept back, as `_all_new` does.
        """
        full: Full | None = None
        folders = [folder for folder in self.looked_into() if folder.name not in read]
        position.forget({*position.owed} - {folder.name for folder in folders})
        for folder in folders:
            if folder.role in _NOT_MOVED_TO or not self.exists(folder.name):
                continue
            uids = position.unknown(folder.name, self.examine(folder.name), self._since(since))
            for batch in cut(position, uids):
                try:
                    yield from self.read_first(
                        position, folder.name, batch, since, sent=folder.role == "sent"
                    )
                except Full as error:
                    yield position.page((), len(batch))
                    full = bearable(error)
                    break
        return full

    def _since(self, since: datetime) -> list[int]:
        """Search the open folder; the server's dates are those of its own zone, so a day earlier."""
        return self.matching([("SINCE", since - _DAY)])


PROVIDER = Provider(
    name="imap",
    title="IMAP mailbox",
    form=(
        *network.server_form("IMAP", PORT),
        Field("sentFolder", "Name of the Sent folder, where it is not found by itself"),
    ),
    receiver=ImapMailbox,
    sent_folder=ImapMailbox,
    keeps_copies=True,
    searcher=ImapSearcher,
)
