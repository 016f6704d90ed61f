"""What a server says of a message, and how commands name messages, words and days. Pure."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from imapclient.datetime_util import format_criteria_date


def quoted(value: str | datetime) -> str:
    """Make a quoted string (RFC 3501 §4.3), or a date."""
    if isinstance(value, datetime):
        return format_criteria_date(value).decode()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def arrival(items: Mapping[bytes, Any]) -> datetime | None:
    """When the server took a message in, in UTC; None where its date cannot be read, or cannot be."""
    at: datetime | None = items.get(b"INTERNALDATE")
    try:
        return at.astimezone(UTC) if at else None
    except (OverflowError, ValueError):  # there is no such day in UTC, or no such zone
        return None


def is_recent(items: Mapping[bytes, Any], oldest: datetime | None) -> bool:
    """Whether a message came at `oldest` or later; where the server does not say when, it did.

    The sender's Date says nothing about that.
    """
    at = arrival(items)
    return oldest is None or at is None or at >= oldest


def is_draft(items: Mapping[bytes, Any]) -> bool:
    """Whether somebody is still writing this (RFC 3501 §2.3.2)."""
    told = items.get(b"FLAGS")
    flags = told if isinstance(told, tuple) else ()  # the library makes numbers of what looks like one
    return any(isinstance(flag, bytes) and flag.lower() == b"\\draft" for flag in flags)


def octets(items: Mapping[bytes, Any]) -> int:
    """How large the server says that a message is; 0 where it does not, or in nonsense."""
    told = items.get(b"RFC822.SIZE")
    return told if isinstance(told, int) else 0


def make_ref(folder: str, validity: int, uid: int) -> str:
    """Name a message in URL-safe characters; `Session.enter` reads it."""
    return base64.urlsafe_b64encode(msgspec.json.encode((folder, validity, uid))).decode().rstrip("=")
