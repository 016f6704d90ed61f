"""What the records of a mailbox's history at Gmail bring: mails that are new, or are to be read only now."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from shared.providers.google.envelopes import UNREAD_LABELS

KINDS = ["messageAdded", "labelAdded", "labelRemoved"]
"""The kinds of records that are asked for."""


def brought(record: Mapping[str, Any], seen: Collection[str]) -> Iterator[str]:
    """Yield the mails of a record that are to be read; one that is rescued may be seen, yet was not read."""
    yield from (id_ for id_ in _came(record) if id_ not in seen)
    yield from _rescued(record)


def _came(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the mails that a record brings: new ones, and those sent."""
    for added in record.get("messagesAdded", ()):
        if not UNREAD_LABELS.intersection(added["message"].get("labelIds", ())):
            yield added["message"]["id"]
    for added in record.get("labelsAdded", ()):
        if {"INBOX", "SENT"}.intersection(added.get("labelIds", ())):
            yield added["message"]["id"]


def _rescued(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the mails that a record takes out of spam or trash."""
    for removed in record.get("labelsRemoved", ()):
        if UNREAD_LABELS.intersection(removed.get("labelIds", ())):
            yield removed["message"]["id"]
