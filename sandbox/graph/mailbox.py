"""One mailbox of Exchange Online: folders, items, threads, and a log of changes for delta.

Raw bytes are the truth of every item; what Graph shows as JSON is read from them.
"""

import base64
import email
import email.policy
import hashlib
import itertools
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import cache

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
    extended: dict[str, str] = field(default_factory=dict)
    internet_headers: bool = True
    visible: bool = True
    _parsed: tuple[bytes, EmailMessage] | None = field(default=None, repr=False)

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed; kept until `raw` is another."""
        if self._parsed is None or self._parsed[0] is not self.raw:
            self._parsed = self.raw, email.message_from_bytes(self.raw, policy=email.policy.default)
        return self._parsed[1]


@dataclass(frozen=True)
class Change:
    """One entry of the log: an item came into, was changed in, or left a folder."""

    number: int
    folder: str
    item: str
    kind: str


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
        self._known: tuple[tuple[int, str], dict[str, bytes]] = ((0, ""), {})
        for key, name in WELL_KNOWN.items():
            self.add_folder(name, key)

    def grant_access(self, address: str, *rights: str) -> None:
        """Let somebody else in."""
        self.access.setdefault(address.lower(), set()).update(rights)

    def add_folder(self, name: str, well_known: str = "", parent: str = "") -> Folder:
        """Add a folder."""
        folder = Folder(new_id("AAMkF"), name, well_known, parent)
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
            )
            message = item.message
            item.extended = {
                "string 0x1042": str(message.get("In-Reply-To", "")),
                "string 0x1039": " ".join(str(message.get("References", "")).split()),
            }
            self.items[item.id] = item
            if visible:
                self.changes.append(Change(number, place.id, item.id, "created"))
            return item

    def show(self, item: Item) -> None:
        """Let an item appear that was late."""
        with self.lock:
            item.visible, item.arrived = True, next(self._numbers)
            self.changes.append(Change(item.arrived, item.folder, item.id, "created"))

    def find(self, id_: str) -> Item | None:
        """Return an item by either of its ids."""
        found = self.items.get(id_) or next((i for i in self.items.values() if i.moving_id == id_), None)
        return found if found and found.visible else None

    def move(self, item: Item, folder: str) -> None:
        """Move an item; its immutable id stays."""
        with self.lock:
            place = self.folder(folder) or self.add_folder(folder)
            self.changes.append(Change(next(self._numbers), item.folder, item.id, "removed"))
            item.folder, item.moving_id = place.id, new_id("AQMk")
            self.changes.append(Change(next(self._numbers), place.id, item.id, "created"))

    def replace(self, draft: Item, copy: Item) -> None:
        """Let a draft become its sent copy: the immutable id outlives the sending."""
        with self.lock:
            del self.items[draft.id], self.items[copy.id]
            self.changes = [c for c in self.changes if c.item != copy.id]
            copy.id = draft.id
            self.items[copy.id] = copy
            if copy.visible:
                self.show(copy)

    def remove(self, item: Item) -> None:
        """Delete for good."""
        with self.lock:
            self.changes.append(Change(next(self._numbers), item.folder, item.id, "removed"))
            del self.items[item.id]

    def listed(self, folder: str | None = None) -> list[Item]:
        """Return the visible items of a folder, or all."""
        with self.lock:
            return [i for i in self.items.values() if i.visible and folder in {None, i.folder}]

    def _by_message_id(self) -> dict[str, bytes]:
        """Return Message-ID -> bytes; made anew when the mailbox holds other items."""
        if self._known[0] != (state := (len(self.items), next(reversed(self.items), ""))):
            self._known = state, {_threading(item.raw)[0]: item.raw for item in list(self.items.values())}
        return self._known[1]

    def conversation_of(self, raw: bytes) -> str:
        """Return the thread: that of a mail it refers to, else one made of id or subject."""
        known = self._by_message_id()
        own, mentioned, _ = _threading(raw)
        seen: set[str] = set()
        while parent := next((i for i in mentioned if i in known and i != own and i not in seen), None):
            seen.add(parent)
            own, mentioned, _ = _threading(known[parent])
        root = mentioned[-1] if mentioned else own or _threading(raw)[2]
        return "AAQk" + hashlib.sha256(f"{self.address}{root}".encode()).hexdigest()[:40] + "="


@cache
def _threading(raw: bytes) -> tuple[str, list[str], str]:
    """Return a mail's Message-ID, the ones it mentions, the parent first, and its subject."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    names = ("Message-ID", "In-Reply-To", "References", "Subject")
    own, parent, references, subject = (str(message.get(name, "")) for name in names)
    return own, [*parent.split(), *references.split()], subject


def new_id(prefix: str) -> str:
    """Make an id such as Exchange's: case-sensitive, with = at its end."""
    return prefix + base64.urlsafe_b64encode(secrets.token_bytes(36)).decode() + "A="
