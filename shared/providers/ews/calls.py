"""The operations of EWS that we use, one request each, with answers as plain values."""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import batched

from exchangelib import Account
from exchangelib.attachments import AttachmentId
from exchangelib.fields import FieldPath
from exchangelib.items import Message
from exchangelib.properties import DistinguishedFolderId, ItemId, Mailbox
from exchangelib.util import TNS

from shared import logs
from shared.errors import NotFound, Rejected, Temporary, ZalionError
from shared.providers import network
from shared.providers.base import Connection
from shared.providers.ews import finding, refusals, services, wire
from shared.providers.ews.finding import MOST_FOUND, Found, Place, found_in
from shared.providers.ews.services import ENVELOPE, FOLDER, FOUND, surely
from shared.providers.ews.xml import Element, Where, decoded, extended, finished, id_of, moment, text
from shared.providers.transport import LARGEST, TooMuch

BATCH = 100
"""Mails a GetItem: with headers, a megabyte or so."""

JUDGED = 10
"""So many of the newest mails of Inbox and of Sent tell whether Exchange gives any mail at all."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder; `role` is its distinguished name. `changed_at` is None where the server does not tell."""

    id: str
    parent: str
    name: str
    kind: str
    role: str = ""
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What came into a folder; `state` is true after it, `complete` says that there is no more."""

    created: tuple[Found, ...]
    state: str
    complete: bool


class Session:
    """One mailbox at Exchange, opened by the first call, until `close`."""

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        self.settings, self.address = connection.settings, connection.address
        self._connection, self._timeouts = connection, timeouts
        self._account: Account | None = None

    def close(self) -> None:
        """End the session; never raises."""
        account, self._account = self._account, None
        if account:
            account.protocol.close()

    def known(self, name: str) -> DistinguishedFolderId:
        """Name a folder that every mailbox has, of this mailbox whoever signs in."""
        return DistinguishedFolderId(id=name, mailbox=Mailbox(email_address=self.address))

    def folder_ids(self, names: Sequence[str]) -> dict[str, str]:
        """Return ids by distinguished names; a mailbox may lack a folder, but never the first of these."""
        with self._speaking() as account:
            found = services.GetFolder(account=account).ask(
                [self.known(name) for name in names], None, "IdOnly"
            )
            if isinstance(found[0], Exception):
                raise found[0]
        there = zip(names, found, strict=True)
        return {name: id_of(one, "FolderId") for name, one in there if not isinstance(one, Exception)}

    def tree(self) -> list[Folder]:
        """Return all folders below the top, whatever they hold."""
        options = {"additional_fields": FOLDER, "restriction": None, "shape": "IdOnly", "depth": "Deep"}
        paging = {"page_size": MOST_FOUND, "offset": 0}
        with self._speaking() as account:
            service = services.FindFolder(account=account)
            return [
                _folder(one)
                for one in surely(service.all([self.known("msgfolderroot")], **options, **paging))
            ]

    def changes(self, folder: Place, state: str | None, most: int) -> Changes:
        """Return what came into a folder after `state`. Raises CursorExpired."""
        with self._speaking() as account:
            service = services.SyncFolderItems(account=account)
            found = list(surely(service.ask(folder, "IdOnly", FOUND, state, None, most, None)))
        created = tuple(found_in(one[0]) for one in found if one.tag == f"{{{TNS}}}Create")
        return Changes(created, service.sync_state or "", service.includes_last_item_in_range)

    def find_in(self, folders: Sequence[Place], where: Where | None = None) -> tuple[list[Found], set[str]]:
        """Return the mails of these folders that match, and the ids of those that may not be searched now."""
        return finding.find(self._speaking, folders, where)

    def find(
        self, folders: Sequence[Place], where: Where | None = None, *, words: str = "", most: int = 0
    ) -> list[Found]:
        """Return the mails of these folders that match: all, or the `most` newest of each."""
        found, _ = finding.find(self._speaking, folders, where, words=words, most=most)
        return found

    def available(
        self, ids: Sequence[str], known: Collection[str] = ()
    ) -> tuple[list[Element], dict[str, ZalionError]]:
        """Return what envelopes are made of, in this order, and what is said of mails that are not given.

        Who is gone is left out; "not given" is what Exchange refuses although it gives others. Raises what
        is no single mail's fault; `known` are mails of which it is known that they are not given.
        """
        found: list[Element] = []
        refused: dict[str, ZalionError] = {}
        for batch in batched(ids, BATCH, strict=False):
            try:
                given, missing = self._told(batch, ENVELOPE)
            except (refusals.Broke, Rejected) as broken:
                if not self._gives_others({*batch, *known}) and not any(map(self._gives, _halves(batch))):
                    raise
                given, missing = self._told_apart(batch, broken)
            if len(missing) == len(batch) and not self._gives_others({*batch, *known}):
                raise Temporary("The Exchange server shows no mail at the moment.", retry_after=60)
            for error in missing.values():
                logs.log("mail.refused", level=logging.WARNING, provider="ews", code=error.code)
            found += given
            refused |= missing
        return found, refused

    def mime(self, id_: str) -> bytes:
        """Return the whole mail. Raises NotFound, Rejected for what is none."""
        return decoded(text(self._one(id_, "mime_content", LARGEST), "MimeContent"))

    def attached(self, id_: str) -> list[Element]:
        """Return the mail's attachments without their content. Raises NotFound."""
        return list(self._one(id_, "attachments").iterfind(f"{{{TNS}}}Attachments/*"))

    def attachments(self, ids: Sequence[str]) -> list[Element]:
        """Return attachments with their content."""
        asked, fields = [AttachmentId(id=id_) for id_ in ids], services.paths(Message, "message_id")
        with self._speaking(LARGEST) as account:
            found = services.GetAttachment(account=account).ask(asked, False, "Text", None, fields)
            return list(surely(found))

    def create(self, raw: bytes) -> None:
        """Send a mail, and have a copy put into Sent Items. Raises Rejected for who may not."""
        with _writing(), self._speaking() as account:
            item, folder = Message(account=account, mime_content=raw), self.known("sentitems")
            service = services.CreateItem(account=account)
            list(surely(service.ask([item], folder, "SendAndSaveCopy", "SendToNone")))

    def file(self, raw: bytes, folder: Place) -> str:
        """Put a mail into a folder, as read; returns its id. Raises Rejected for who may not."""
        with _writing(), self._speaking() as account:
            [made] = surely(services.CreateItem(account=account).save(finished(raw), folder))
            return id_of(made, "ItemId")

    def _one(self, id_: str, field: str, largest: int = wire.SHORT) -> Element:
        asked = [id_] if id_.isascii() and id_ else []
        found, refused = self._told(asked, services.paths(Message, field), largest) if asked else ([], {})
        for error in refused.values():
            raise error
        if not found:
            raise NotFound("This mail is no longer where it was.")
        return found[0]

    def _told(
        self, ids: Sequence[str], fields: Sequence[FieldPath], largest: int = wire.SHORT
    ) -> tuple[list[Element], dict[str, ZalionError]]:
        """Ask for mails: those that are there, and what is said of those that are not given."""
        with self._speaking(largest) as account:
            told = services.GetItem(account=account).ask([ItemId(id=id_) for id_ in ids], fields, "IdOnly")
            if len(told) != len(ids):  # one word about all of them
                told = list(surely(told))
                raise Temporary("The Exchange server's answer cannot be read.", retry_after=300)
        errors = {id_: one for id_, one in zip(ids, told, strict=True) if isinstance(one, Exception)}
        refused = {id_: refusals.of_mail(error) for id_, error in errors.items()}
        found = [one for one in told if not isinstance(one, Exception)]
        return found, {id_: refusal for id_, refusal in refused.items() if refusal}

    def _told_apart(
        self, ids: Sequence[str], error: ZalionError
    ) -> tuple[list[Element], dict[str, ZalionError]]:
        """Ask for halves of the mails that got `error` together, until it is clear at which it is."""
        if len(ids) == 1:
            return [], {ids[0]: error}
        found: list[Element] = []
        refused: dict[str, ZalionError] = {}
        for half in _halves(ids):
            try:
                given, missing = self._told(half, ENVELOPE)
            except (refusals.Broke, Rejected) as again:
                given, missing = self._told_apart(half, again)
            found += given
            refused |= missing
        return found, refused

    def _gives_others(self, but: Collection[str]) -> bool:
        """Whether Exchange gives any of the newest mails but these; it may break at one of those, too."""
        newest = self.find([self.known("inbox"), self.known("sentitems")], most=JUDGED)
        others = [one.id for one in newest if one.id not in but]
        return any(map(self._gives, (others, *_halves(others))))

    def _gives(self, ids: Sequence[str]) -> bool:
        """Whether Exchange gives any of these mails; more of them than we read is given, too."""
        try:
            return bool(ids and self._told(ids, ENVELOPE)[0])
        except TooMuch:
            return True
        except (refusals.Broke, Rejected):
            return False

    @contextmanager
    def _speaking(self, largest: int = wire.SHORT) -> Iterator[Account]:
        """One call with an answer of so many octets at most, its failures in our words."""
        with refusals.translated():
            if self._account is None:
                self._account = wire.account(self._connection, self._timeouts)
            self._account.protocol.limit(largest)
            yield self._account


@contextmanager
def _writing() -> Iterator[None]:
    """Say that the account may only read: who may not open the mailbox at all is told so when it is read."""
    try:
        yield
    except refusals.NoAccess as error:
        raise Rejected(
            "The account may not put mail into this mailbox's Sent Items.",
            fix="Ask IT for the right to write there, or sign in as the mailbox's user.",
        ) from error


def _halves(ids: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    middle = len(ids) // 2
    return ids[:middle], ids[middle:]


def _folder(element: Element) -> Folder:
    return Folder(
        id_of(element, "FolderId"),
        id_of(element, "ParentFolderId"),
        text(element, "DisplayName"),
        text(element, "FolderClass"),
        text(element, "DistinguishedFolderId"),
        moment(extended(element)),
    )
