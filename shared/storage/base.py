"""The ports to storage. `org_id` is the first argument of every read, so none can cross organisations.

All records of an organisation live in one partition of one table: a change of several records is
one entity group transaction (at most 100 records, 4 MiB), and a range read stays in the partition.
https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from shared.errors import Raced

PAGE = 1000
"""Records that are read at once: as many as Table Storage gives in one answer."""


class Record(Protocol):
    """Anything that can be kept: a frozen dataclass with a kind, and a key unique in organisation and kind.

    `key` consists of `[A-Za-z0-9._~!-]` and has at most 500 characters; hash what is longer or foreign.
    """

    kind: ClassVar[str]

    @property
    def key(self) -> str:
        """The key within organisation and kind; list order is its order."""
        ...


@dataclass(frozen=True, slots=True)
class Stored[R: Record]:
    """A record as it was read. `etag` proves, on the next write, that nobody changed it since."""

    value: R
    etag: str


@dataclass(frozen=True, slots=True)
class Add:
    """Insert if absent; the whole commit fails with Raced if the key is taken."""

    record: Record


@dataclass(frozen=True, slots=True)
class Save:
    """Insert or overwrite."""

    record: Record


@dataclass(frozen=True, slots=True)
class Move[R: Record]:
    """Replace `stored` by `record` (same kind and key) if nobody changed it since; else Raced."""

    stored: Stored[R]
    record: R


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete if there; absence is no error. With an `etag`, only if nobody changed it since; else Raced."""

    record: Record
    etag: str | None = None


Write = Add | Save | Move[Record] | Remove


class Records(Protocol):
    """Tables. Every method raises Temporary when the store cannot be reached."""

    def get[R: Record](self, org_id: str, type_: type[R], key: str, *, field: str | None = None) -> Stored[R]:
        """Return the record; raises NotFound, naming the `field` that the key came from, if any."""
        ...

    def find[R: Record](self, org_id: str, type_: type[R], key: str) -> Stored[R] | None:
        """Return the record, or None."""
        ...

    def range[R: Record](
        self,
        org_id: str,
        type_: type[R],
        *,
        prefix: str = "",
        after: str = "",
        until: str = "",
        limit: int = PAGE,
    ) -> list[Stored[R]]:
        """Return at most `limit` records whose key starts with `prefix`, in key order; fewer are all.

        `after` (exclusive) and `until` (exclusive) are whole keys and narrow the range.
        """
        ...

    def commit(self, org_id: str, *writes: Write) -> list[str]:
        """Carry out all writes or none; returns the new etags in order ("" for a Remove).

        Raises Raced when an Add or Move lost.
        """
        ...

    def ping(self) -> None:
        """Prove that the store answers; for health."""
        ...


def every[R: Record](
    records: Records, org_id: str, type_: type[R], *, prefix: str = "", after: str = ""
) -> Iterator[Stored[R]]:
    """Yield all records whose key starts with `prefix` (`after` one), in key order, read page by page."""
    full = True
    while full:
        page = records.range(org_id, type_, prefix=prefix, after=after)
        yield from page
        full = len(page) == PAGE
        after = page[-1].value.key if full else ""


def written[R: Record](records: Records, org_id: str, new: R, old: Stored[R] | None = None) -> Stored[R]:
    """Add a record, or write it instead of `old`; returns it as it is stored.

    A write whose answer was lost is refused when it is repeated: what lies there then is what was to be
    written. Raises Raced where it is not.
    """
    try:
        [etag] = records.commit(org_id, Move(old, new) if old else Add(new))
    except Raced:
        found = records.find(org_id, type(new), new.key)
        if found is None or found.value != new:
            raise
        return found
    return Stored(new, etag)


class Blobs(Protocol):
    """Bytes by name: raw mail and bodies too large for a record."""

    def put(self, org_id: str, name: str, data: bytes) -> None:
        """Store, overwriting."""
        ...

    def get(self, org_id: str, name: str) -> bytes:
        """Return the bytes; raises NotFound."""
        ...

    def remove(self, org_id: str, name: str) -> None:
        """Delete; absence is no error."""
        ...

    def names(self, org_id: str, prefix: str) -> Iterator[str]:
        """Yield the names that start with `prefix`, in their order."""
        ...

    def ping(self) -> None:
        """Prove that the store answers; for health."""
        ...


class Queues(Protocol):
    """Nudges. At least once, in any order; a message is a hint to look, never a fact."""

    def put(self, queue: str, text: str, *, delay: float = 0) -> None:
        """Enqueue one message of at most 48 KiB, visible after `delay` seconds (at most 7 days)."""
        ...

    def length(self, queue: str) -> int:
        """Approximate number of messages; 0 for a queue that does not exist yet. For health."""
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """Something that wants attention at a time; across organisations, so it holds ids only.

    Attributes:
        at: when, aware UTC; kept to the minute.
        kind: `poll`, `push`, `grant` (a sign-in to keep alive), `resume` (a mailbox that stopped), `outbox`,
            `watch` (the same, for ever), `flow` (begun in a browser) or `expiry` (of an app registration's
            secret).
        org_id: whose.
        id: mailbox for `poll`, `push`, `grant` and `resume`, `-` for `outbox` and `watch`, flow for `flow`,
            provider for `expiry`.
        every: seconds until the next time, 0 for once.
        token: the schedule it belongs to; a mailbox with another token has another schedule by now.
    """

    at: datetime
    kind: str
    org_id: str
    id: str
    every: int = 0
    token: str = "-"  # noqa: S105 - the name of a schedule, no secret


class Schedule(Protocol):
    """The time-bucketed index that timers walk: cost grows with what is due, not with what exists."""

    def put(self, due: Due) -> None:
        """Note it; noting the same (minute, kind, org_id, id, token) twice is one entry."""
        ...

    def until(self, now: datetime) -> Iterator[Due]:
        """Yield all that is due at or before `now`, oldest minute first."""
        ...

    def remove(self, due: Due) -> None:
        """Delete; absence is no error."""
        ...


class Vault(Protocol):
    """Secrets. Names are `[0-9a-zA-Z-]{1,127}` and hold no customer data (they appear in logs)."""

    def set(self, name: str, value: str) -> str:
        """Store a new version and return the version's id."""
        ...

    def get(self, name: str, version: str | None = None) -> str:
        """Return the secret (the newest version unless named); raises NotFound."""
        ...

    def destroy(self, name: str) -> None:
        """Delete, and purge where the vault allows it; absence is no error."""
        ...

    def ping(self) -> None:
        """Prove that the vault answers and lets us in; for health."""
        ...
