"""One Gmail mailbox: messages with labels, threads, drafts, and the history that history.list reads.

Raw bytes are the truth of every message. Folders do not exist: a label says where a message lies.
"""

import email
import itertools
import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from functools import cached_property

from sandbox.google.headers import base_subject, filename, ids
from sandbox.google.parts import text_of, walk
from sandbox.mail import head

SYSTEM = ("INBOX", "SENT", "DRAFT", "TRASH", "SPAM", "UNREAD", "STARRED", "IMPORTANT", "CHAT")
CATEGORIES = tuple(f"CATEGORY_{name}" for name in ("PERSONAL", "SOCIAL", "PROMOTIONS", "UPDATES", "FORUMS"))
ROLES = {
    "inbox": "INBOX",
    "sent": "SENT",
    "drafts": "DRAFT",
    "draft": "DRAFT",
    "trash": "TRASH",
    "junk": "SPAM",
    "spam": "SPAM",
    "archive": "",
}


@dataclass
class Item:
    """A message. `history_id` is that of its last change, `arrived` its place in time."""

    id: str
    thread: str
    raw: bytes
    labels: set[str]
    received_at: datetime
    arrived: int
    history_id: int = 0

    @property
    def message(self) -> Message:
        """The mail, parsed by the policy that hardly ever raises."""
        return email.message_from_bytes(self.raw)

    @cached_property
    def head(self) -> Message:
        """Its headers alone: bodies may be large."""
        return head(self.raw)

    @cached_property
    def text(self) -> str:
        """Its words on one line."""
        return text_of(self.message)

    @cached_property
    def filenames(self) -> list[str]:
        """What its attachments are called."""
        return [name for _, part in walk(self.message, "") if (name := filename(part))]

    @property
    def message_id(self) -> str:
        """Its Message-ID, or an empty string."""
        return str(self.head.get("Message-ID", "")).strip()


@dataclass(frozen=True)
class Change:
    """One entry of history. `labels` are those added or removed, and all of an added message."""

    id: int
    kind: str
    item: str
    thread: str
    labels: tuple[str, ...]
    all_labels: tuple[str, ...]


@dataclass
class Watch:
    """A watch of one Cloud project."""

    topic: str
    label_ids: frozenset[str]
    exclude: bool
    until: float


@dataclass
class Mailbox:
    """A mailbox.

    Attributes:
        bodies_read: how often the content of a message was given out, by id.
        oldest_history: history before this id is gone: history.list answers 404.
        threads: thread -> its last change, a label's or a mail's that was deleted among them.
        watches: project -> its watch.
        tell: called after every change with the labels it is about.
    """

    address: str
    items: dict[str, Item] = field(default_factory=dict)
    drafts: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=lambda: {name: name for name in (*SYSTEM, *CATEGORIES)})
    changes: list[Change] = field(default_factory=list)
    threads: dict[str, int] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)
    bodies_read: Counter[str] = field(default_factory=Counter)
    history_id: int = 0
    oldest_history: int = 0
    tell: Callable[[Iterable[str]], None] = lambda _labels: None

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self._steps = random.Random(self.address)
        self._arrivals = itertools.count(1)
        self._ids = itertools.count(1)
        self._joined = False
        self.history_id = self.oldest_history = 1_000_000 + self._steps.randrange(1_000_000)

    # What tests and the simulator do

    def add(
        self,
        raw: bytes,
        folder: str = "inbox",
        *,
        at: datetime | None = None,
        sent: bool = False,
        thread: str = "",
        quiet: bool = True,
    ) -> Item:
        """Put a mail in, under a role, a label or a new label of the user's; `quiet`: with no push.

        It joins the thread that is named, none where that is "new", else the one its headers name.
        """
        label = self.label_id("sent" if sent else folder)
        labels = {label} - {""}
        if label not in {"SENT", "DRAFT"}:
            labels.add("UNREAD")
        with self.lock:
            id_ = self._new_id()
            moment = at or datetime.now(UTC)
            joined = id_ if thread == "new" else thread or self.thread_of(raw) or id_
            item = Item(id_, joined, raw, labels, moment, next(self._arrivals))
            self.items[id_] = item
            self._log("messageAdded", item, labels)
        if not quiet:
            self.tell(labels)
        return item

    def label(self, item: Item, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Add and remove labels (by id, role or name), as a person or a filter does."""
        adding = {self.label_id(one) for one in add} - item.labels
        removing = {self.label_id(one) for one in remove} & item.labels
        with self.lock:
            item.labels |= adding
            if adding:
                self._log("labelAdded", item, adding)
            item.labels -= removing
            if removing:
                self._log("labelRemoved", item, removing)
        if adding | removing:
            self.tell(adding | removing)

    def move(self, item: Item, folder: str) -> None:
        """Move a message as Gmail's "Move to" does: the label on, the inbox off."""
        target = self.label_id(folder)
        places = {one for one in item.labels if one in {"INBOX", "SPAM", "TRASH"}} - {target}
        self.label(item, add={target} - {""}, remove=places)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let all changes that are made meanwhile have one history id, as Gmail's bulk actions do."""
        with self.lock:
            self.history_id += 1
            self._joined = True
            try:
                yield
            finally:
                self._joined = False

    def remove(self, item: Item) -> None:
        """Delete for good."""
        with self.lock:
            del self.items[item.id]
            self.drafts = {draft: id_ for draft, id_ in self.drafts.items() if id_ != item.id}
            self._log("messageDeleted", item, ())
        self.tell(item.labels)

    def listed(self, label: str | None = None) -> list[Item]:
        """Return the messages with a label (id, role or name), or all; oldest first."""
        with self.lock:
            wanted = self.label_id(label) if label else None
            found = [one for one in self.items.values() if wanted is None or wanted in one.labels]
        return sorted(found, key=lambda one: one.arrived)

    def find(self, id_: str) -> Item | None:
        """Return a message by its id."""
        return self.items.get(id_)

    def forget_history(self) -> None:
        """Let everything up to now be too old for history.list."""
        with self.lock:
            self.history_id += 1 + self._steps.randrange(40)
            self.changes.clear()
            self.oldest_history = self.history_id

    # Labels

    def label_id(self, name: str) -> str:
        """Return a label's id by id, role or name; a label that is not there is made."""
        if name in self.labels or name == "":
            return name
        if name.lower() in ROLES:
            return ROLES[name.lower()]
        found = next((id_ for id_, shown in self.labels.items() if shown.lower() == name.lower()), None)
        return found or self.add_label(name)

    def add_label(self, name: str) -> str:
        """Make a label of the user's own."""
        with self.lock:
            id_ = f"Label_{len(self.labels) - len(SYSTEM) - len(CATEGORIES) + 1}"
            self.labels[id_] = name
            return id_

    # Threads

    def thread_of(self, raw: bytes) -> str:
        """Return the thread that an arriving mail joins: it refers to a mail there, and has its subject."""
        message = head(raw)
        mentioned = {one for name in ("In-Reply-To", "References") for one in ids(message.get(name))}
        for item in reversed(self.items.values()):
            if item.message_id in mentioned and base_subject(item.head) == base_subject(message):
                return item.thread
        return ""

    def in_thread(self, thread: str) -> list[Item]:
        """Return a thread's messages, oldest first."""
        return [item for item in self.listed() if item.thread == thread]

    def _log(self, kind: str, item: Item, labels: Iterable[str]) -> None:
        if not self._joined:
            self.history_id += 1 + self._steps.randrange(40)
        item.history_id = self.threads[item.thread] = self.history_id
        shown = tuple(sorted(labels))
        self.changes.append(
            Change(self.history_id, kind, item.id, item.thread, shown, tuple(sorted(item.labels)))
        )

    def _new_id(self) -> str:
        """Who comes later has a larger id, as ids of Gmail begin with the time."""
        return f"19{next(self._ids):06x}{secrets.token_hex(4)}"
