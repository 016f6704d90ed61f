"""How a record becomes a table entity and comes back: keys, and JSON cut into properties. Pure.

Limits: https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
"""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.storage.base import Due, Record, Stored

Entity = dict[str, Any]

CHUNK = 32_000
"""UTF-16 code units in a property; the service takes 32 Ki (64 KiB)."""
MOST_CHUNKS = 14
"""14 x 32,000 units is 875 KiB; an entity may have 1 MiB with its keys. Azurite does not check it."""

_ORG = re.compile(r"[A-Za-z0-9._~-]{1,100}")
_KEY = re.compile(r"[A-Za-z0-9._~!-]{1,500}")
_BOUND = re.compile(r"[A-Za-z0-9._~!-]{0,500}")
_MINUTE = "%Y%m%dT%H%M"
_SURROGATE, _HIGH = 0xFC, 0xD8
"""Mask and value of the upper byte of a pair's first half (RFC 2781 §2.1)."""


def encode(org_id: str, record: Record) -> Entity:
    """Return the entity of a record. Raises ValueError for a bad key or more than 448,000 code units."""
    units = msgspec.json.encode(record).decode().encode("utf-16-le")
    chunks, start = [], 0
    while start < len(units):
        end = min(start + 2 * CHUNK, len(units))
        if end < len(units) and units[end - 1] & _SURROGATE == _HIGH:
            end -= 2
        chunks.append(units[start:end].decode("utf-16-le"))
        start = end
    if len(chunks) > MOST_CHUNKS:
        raise ValueError(
            f"A {record.kind} record is too large for a table: its long parts belong into a blob."
        )
    return {**address(org_id, record), **{f"d{number}": chunk for number, chunk in enumerate(chunks)}}


def decode[R: Record](entity: Any, type_: type[R]) -> Stored[R]:
    """Return the record of an entity. Fields it does not know (of a newer version) are left out."""
    text = "".join(entity[f"d{number}"] for number in range(MOST_CHUNKS) if f"d{number}" in entity)
    return Stored(msgspec.json.decode(text, type=type_), entity.metadata["etag"])


def address(org_id: str, record: Record) -> Entity:
    """Return the keys of a record's entity."""
    return {"PartitionKey": partition(org_id), "RowKey": row(record.kind, record.key)}


def partition(org_id: str) -> str:
    """Return the PartitionKey of an organisation. Raises ValueError."""
    if not _ORG.fullmatch(org_id):
        raise ValueError("An organisation's id has 1 to 100 characters of A-Z a-z 0-9 . _ ~ -")
    return org_id


def row(kind: str, key: str) -> str:
    """Return the RowKey of a record. Raises ValueError."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"A {kind} key has 1 to 500 characters of A-Z a-z 0-9 . _ ~ ! -")
    return f"{kind}!{key}"


def possible(key: str) -> bool:
    """Whether a record could have this key."""
    return _KEY.fullmatch(key) is not None


def bound(kind: str, part: str) -> str:
    """Return where the RowKeys that begin with `part` begin. Raises ValueError."""
    if not _BOUND.fullmatch(part):
        raise ValueError(f"A bound of a {kind} range has at most 500 characters of A-Z a-z 0-9 . _ ~ ! -")
    return f"{kind}!{part}"


def beyond(bound: str) -> str:
    """Return the first key after all that begin with `bound`: its last character, one up."""
    return bound[:-1] + chr(ord(bound[-1]) + 1)


def minute(at: datetime) -> str:
    """Return the PartitionKey of a time in the schedule."""
    return at.astimezone(UTC).strftime(_MINUTE)


def place(due: Due) -> Entity:
    """Return the keys of a schedule entry. Raises ValueError."""
    parts = (due.kind, due.org_id, due.id, due.token)
    if not all(_ORG.fullmatch(part) for part in parts):
        raise ValueError("A schedule's ids have 1 to 100 characters of A-Z a-z 0-9 . _ ~ -")
    return {"PartitionKey": minute(due.at), "RowKey": "!".join(parts)}


def due(entity: Any) -> Due:
    """Return the schedule entry of an entity."""
    kind, org_id, id_, token = entity["RowKey"].split("!")
    at = datetime.strptime(entity["PartitionKey"], _MINUTE).replace(tzinfo=UTC)
    return Due(at, kind, org_id, id_, entity["every"], token)
