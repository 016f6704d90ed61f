"""One mailbox of an Exchange server: as Graph's simulator keeps it, with ids that change when a mail is moved."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

from sandbox.exchange.soap import EwsError
from sandbox.graph import mailbox as online

MAIL, OTHER = "IPF.Note", {"calendar": "IPF.Appointment", "contacts": "IPF.Contact", "tasks": "IPF.Task"}


@dataclass
class Faults:
    """What may go wrong at this Exchange, on a switch; counted ones switch themselves off.

    Attributes:
        throttled: address -> so many of its next requests get ErrorServerBusy, with `back_off` milliseconds
            where it is not 0.
        unavailable: address -> so many of its next requests get 503, with Retry-After.
        lost_answers: so many of the next sends are carried out, and the connection then closed.
        lost_before: likewise, and nothing is done.
        hanging: addresses that are answered never, until they are taken out.
        half_closed: so many of the next requests find the server's half of the connection closed.
        trickling: so many of the next answers come in single bytes.
        redirect: where every request is sent to.
        disabled: addresses whose account is disabled.
        errors: operation -> codes that its next calls are answered with.
        bare_errors: an error of SyncFolderItems comes without SyncState.
        rewrite_message_id: Exchange puts its own Message-ID in place of ours.
        forged: domains whose mail fails the checks of the sender.
    """

    throttled: dict[str, int] = field(default_factory=dict)
    back_off: int = 1500
    unavailable: dict[str, int] = field(default_factory=dict)
    lost_answers: int = 0
    lost_before: int = 0
    hanging: set[str] = field(default_factory=set)
    half_closed: int = 0
    trickling: int = 0
    redirect: str = ""
    disabled: set[str] = field(default_factory=set)
    errors: dict[str, list[str]] = field(default_factory=dict)
    bare_errors: bool = False
    rewrite_message_id: bool = False
    forged: set[str] = field(default_factory=set)

    def clear(self) -> None:
        """Switch everything off."""
        self.__init__()  # type: ignore[misc]  # as new


class Mailbox(online.Mailbox):
    """A mailbox.

    Attributes:
        root, top: the folders above all others.
        changed: folder id -> when something in it changed last.
        views: item -> what its properties are shown from.
        left: (folder, item) -> the id that a mail had before it left the folder.
    """

    def __init__(self, address: str) -> None:
        self.changed: dict[str, datetime] = {}
        self.left: dict[tuple[str, str], str] = {}
        self.views: dict[str, Any] = {}
        self._threads: dict[str, str] = {}
        self._by_id: dict[str, online.Item] = {}
        self._epoch = secrets.token_hex(4)
        super().__init__(address)
        self.root = online.Folder(online.new_id("AAMkR"), "", "root")
        self.top = online.Folder(
            online.new_id("AAMkT"), "Top of Information Store", "msgfolderroot", self.root.id
        )
        for name in OTHER:
            self.add_folder(name.capitalize(), name)

    def place(self, key: str) -> online.Folder | None:
        """Return a folder, those above all others included, by id or distinguished name."""
        above = {self.root.id: self.root, "root": self.root, self.top.id: self.top, "msgfolderroot": self.top}
        return above.get(key) or self.folders.get(key) or self._well_known(key)

    def _well_known(self, key: str) -> online.Folder | None:
        return next((one for one in self.folders.values() if one.well_known == key), None)

    def parent(self, folder: online.Folder) -> online.Folder | None:
        """Return the folder above; None above the root."""
        if folder is self.root:
            return None
        return self.place(folder.parent) if folder.parent else self.top

    def below(self, folder: online.Folder) -> list[online.Folder]:
        """Return the folders right below."""
        every = [self.top, *self.folders.values()]
        return [one for one in every if self.parent(one) is folder]

    def add(self, *args: object, **options: object) -> online.Item:
        """See Graph's."""
        item = super().add(*args, **options)  # type: ignore[arg-type]
        item.extended = {}
        message = item.message
        self._by_id[item.moving_id] = item
        self._threads[str(message.get("Message-ID", ""))] = self.conversation_of(message)
        self._touch(item.folder)
        return item

    def conversation_of(self, message: EmailMessage) -> str:
        """Return the thread of a mail: that of what it answers, else its own."""
        own, parents = str(message.get("Message-ID", "")), str(message.get("References", "")).split()
        for id_ in (own, *str(message.get("In-Reply-To", "")).split(), *reversed(parents)):
            if id_ in self._threads:
                return self._threads[id_]
        root = (parents or [own or str(message.get("Subject", ""))])[0]
        return "AAQk" + hashlib.sha256(f"{self.address}{root}".encode()).hexdigest()[:40] + "="

    def move(self, item: online.Item, folder: str) -> None:
        """See Graph's. The item has another id afterwards."""
        before = item.folder
        self.left[before, item.id] = item.moving_id
        super().move(item, folder)
        self._by_id[item.moving_id] = item
        self._touch(before, item.folder)

    def remove(self, item: online.Item) -> None:
        """See Graph's."""
        self.left[item.folder, item.id] = item.moving_id
        super().remove(item)
        self._touch(item.folder)

    def find(self, id_: str) -> online.Item | None:
        """Return a mail by the id it has now."""
        item = self._by_id.get(id_)
        return item if item and item.moving_id == id_ and item.id in self.items and item.visible else None

    def lose_sync_states(self) -> None:
        """Know none of the sync states any more that were given out, as after a restored backup."""
        self._epoch = secrets.token_hex(4)

    def sync(self, folder: str, state: str, most: int) -> tuple[list[tuple[str, str]], str, bool]:
        """Return what changed in a folder since then: (kind, item id), the new state, whether it is all.

        Raises EwsError.
        """
        after = self._number(folder, state)
        with self.lock:
            last: dict[str, online.Change] = {}
            for change in self.changes:
                if change.folder == folder and change.number > after:
                    last[change.item] = change
            ordered = sorted(last.values(), key=lambda change: change.number)
            shown = [change for change in ordered if change.kind == "created" or state][:most]
            complete = len(shown) == len([c for c in ordered if c.kind == "created" or state])
            number = max((c.number for c in self.changes), default=0) if complete else shown[-1].number
            told = base64.b64encode(json.dumps([self._epoch, folder, number]).encode()).decode()
            return [(change.kind, change.item) for change in shown], told, complete

    def _number(self, folder: str, state: str) -> int:
        if not state:
            return 0
        try:
            epoch, of, number = json.loads(base64.b64decode(state))
        except ValueError:
            epoch, of, number = "", "", 0
        if (epoch, of) != (self._epoch, folder):
            raise EwsError("ErrorInvalidSyncStateData", "The synchronization state data is invalid or lost.")
        return int(number)

    def _touch(self, *folders: str) -> None:
        for folder in folders:
            self.changed[folder] = datetime.now(UTC)

    def changed_at(self, folder: online.Folder) -> datetime:
        """When something in it changed last (PidTagLocalCommitTimeMax)."""
        return self.changed.get(folder.id, datetime.now(UTC) - timedelta(days=365))


def class_of(folder: online.Folder) -> str:
    """Return what a folder is for."""
    return OTHER.get(folder.well_known, MAIL)
