"""One mailbox of Exchange Online: folders, items, threads, and a log of changes for delta.

Raw bytes are the truth of every item; what Graph shows as JSON is read from them.
"""

import base64
import email
import itertools
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import lru_cache
from typing import Literal

from sandbox.graph import conversations
from sandbox.mail import AS_READ

ROOT = "msgfolderroot"
WELL_KNOWN = {
    "inbox": "Inbox",
    "sentitems": "Sent Items",
    "drafts": "Drafts",
    "deleteditems": "Deleted Items",
    "junkemail": "Junk Email",
    "outbox": "Outbox",
    "archive": "Archive",
}


@dataclass
class Folder:
    """A folder; `id` never changes."""

    id: str
    name: str
    well_known: str = ""
    parent: str = ""


@dataclass
class Item:
    """A message. `id` is the immutable one, `moving_id` changes with every move."""

    id: str
    folder: str
    raw: bytes
    received_at: datetime
    arrived: int
    draft: bool = False
    sent_by_us: bool = False
    moving_id: str = field(default_factory=lambda: new_id("AQMk"))
    conversation: str = ""
    extended: dict[str, str] = field(default_factory=dict)
    internet_headers: bool = True
    visible: bool = True
    read: bool = False
    categories: list[str] = field(default_factory=list)
    importance: str = "normal"
    flag: str = "notFlagged"

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed; not to be changed."""
        return parsed(self.raw)


@lru_cache(512)
def parsed(raw: bytes) -> EmailMessage:
    """Parse a mail; once, as it takes long."""
    return email.message_from_bytes(raw, policy=AS_READ)


@dataclass(frozen=True)
class Change:
    """One entry of the log: what happened to an item in a folder, and its ids then."""

    number: int
    folder: str
    item: str
    kind: Literal["created", "updated", "deleted", "changed"]
    moving_id: str


class Mailbox:
    """A mailbox.

    Attributes:
        bodies_read: how often the content of an item was given out, by immutable id.
        enabled: whether Graph serves it (MailboxNotEnabledForRESTAPI).
        access: address -> what it may do here beside its owner: `full_access`, `send_as`, `send_on_behalf`.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.enabled = True
        self.bodies_read: Counter[str] = Counter()
        self.access: dict[str, set[str]] = {}
        self.folders: dict[str, Folder] = {}
        self.items: dict[str, Item] = {}
        self.changes: list[Change] = []
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._threads: dict[str, str] = {}
        self.root = Folder(new_id("AAMkF"), "Top of Information Store", ROOT)
        self.folders[self.root.id] = self.root
        for key, name in WELL_KNOWN.items():
            self.add_folder(name, key)

    def grant_access(self, address: str, *rights: str) -> None:
        """Let somebody else in."""
        self.access.setdefault(address.lower(), set()).update(rights)

    def add_folder(self, name: str, well_known: str = "", parent: str = "") -> Folder:
        """Add a folder, at the top unless `parent` (an id) says where."""
        folder = Folder(new_id("AAMkF"), name, well_known, parent or self.root.id)
        self.folders[folder.id] = folder
        return folder

    def folder(self, key: str) -> Folder | None:
        """Return a folder by id, well-known name or display name."""
        return self.folders.get(key) or next(
            (f for f in self.folders.values() if key.lower() in {f.well_known, f.name.lower()}), None
        )

    def add(
        self,
        raw: bytes,
        folder: str = "inbox",
        *,
        at: datetime | None = None,
        draft: bool = False,
        sent: bool = False,
        visible: bool = True,
    ) -> Item:
        """Put a mail into a folder, made if it is not there. Sent mail shows no internetMessageHeaders."""
        with self.lock:
            place = self.folder(folder) or self.add_folder(folder)
            number = next(self._numbers)
            item = Item(
                new_id("AAkALg"),
                place.id,
                raw,
                at or datetime.now(UTC),
                number,
                draft,
                sent,
                internet_headers=not (sent or draft),
                visible=visible,
                read=sent or draft,
            )
            message = item.message
            item.conversation = self._conversation_of(message)
            item.extended = {
                "string 0x1042": str(message.get("In-Reply-To", "")),
                "string 0x1039": " ".join(str(message.get("References", "")).split()),
            }
            self.items[item.id] = item
            if visible:
                self._log(item, "created")
            return item

    def show(self, item: Item) -> None:
        """Let an item appear that was late."""
        with self.lock:
            item.visible, item.arrived = True, next(self._numbers)
            self._log(item, "created")

    def changed(self, item: Item) -> None:
        """Note that something of an item is another."""
        with self.lock:
            self._log(item, "updated")

    def find(self, id_: str) -> Item | None:
        """Return an item by either of its ids."""
        found = self.items.get(id_) or next((i for i in self.items.values() if i.moving_id == id_), None)
        return found if found and found.visible else None

    def move(self, item: Item, folder: str) -> None:
        """Move an item; its immutable id stays."""
        with self.lock:
            place = self.folder(folder) or self.add_folder(folder)
            self._log(item, "changed")
            item.folder, item.moving_id = place.id, new_id("AQMk")
            self._log(item, "created")

    def replace(self, draft: Item, copy: Item) -> None:
        """Let a draft become its sent copy: the immutable id outlives the sending."""
        with self.lock:
            self._log(draft, "changed")
            del self.items[draft.id], self.items[copy.id]
            self.changes = [c for c in self.changes if c.item != copy.id]
            copy.id, copy.conversation = draft.id, draft.conversation
            self.items[copy.id] = copy
            if copy.visible:
                self.show(copy)

    def remove(self, item: Item) -> None:
        """Delete for good."""
        with self.lock:
            self._log(item, "deleted")
            del self.items[item.id]

    def listed(self, folder: str | None = None) -> list[Item]:
        """Return the visible items of a folder, or all."""
        with self.lock:
            return [i for i in self.items.values() if i.visible and folder in {None, i.folder}]

    def _log(self, item: Item, kind: Literal["created", "updated", "deleted", "changed"]) -> None:
        self.changes.append(Change(next(self._numbers), item.folder, item.id, kind, item.moving_id))

    def _conversation_of(self, message: EmailMessage) -> str:
        """Return the thread: that of Thread-Index, else of a mail that is referred to, else one made up."""
        own, named = str(message.get("Message-ID", "")), conversations.named(message)
        parent = next((self._threads[id_] for id_ in reversed(named) if id_ in self._threads), None)
        guid = conversations.guid_of(str(message.get("Thread-Index", "")))
        if guid or not parent:
            parent = conversations.id_of(self.address, guid or conversations.made_up(message))
        return self._threads.setdefault(own, parent) if own else parent


def new_id(prefix: str) -> str:
    """Make an id such as Exchange's: case-sensitive, with = at its end."""
    return prefix + base64.urlsafe_b64encode(secrets.token_bytes(36)).decode() + "A="
