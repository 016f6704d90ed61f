"""What a mail is called with us: names and ids that all its copies share. Pure."""

import hashlib
from datetime import UTC, datetime, timedelta

from shared import mime
from shared.model import Alias, Envelope, Review, digest

TAIL = 12
"""So much of a mail's name ends the ids of messages and reviews."""

LAST_SECOND = 9_999_999_999
"""Since 1970, of ten digits: what claims to be from later sorts last."""


def name_of(envelope: Envelope, variant: str = "") -> str:
    """Name a mail by what it is: one name for all its copies, another for others under its Message-ID."""
    known_as = variant or envelope.message_id or mime.synthetic_id(envelope)
    return digest(known_as, mime.fingerprint(envelope))


def stored_as(name: str, raw: bytes) -> str:
    """Name a mail's bytes: copies of one mail may differ, and none may be written over another."""
    return digest(name, hashlib.sha256(raw).hexdigest())


def variant_id(envelope: Envelope, *says: str) -> str:
    """Stand in for the Message-ID of a mail whose own is another's; without brackets no mail can claim it."""
    return f"variant.{digest(name_of(envelope), *says)}"


def is_held_as(envelope: Envelope, review: Review) -> bool:
    """Whether this is the mail that was held, and not another one under its Message-ID."""
    return review.id.endswith(f"-{name_of(envelope)[:TAIL]}")


def is_known_as(alias: Alias, review: Review) -> bool:
    """Whether the mail that is known under this Message-ID is the one that was held."""
    return review.id.endswith(f"-{digest(alias.message_id, alias.fingerprint)[:TAIL]}")


def review_id(envelope: Envelope) -> str:
    """Make the id of a held mail: the same for the same mail, so that a second look adds nothing."""
    seen_at = envelope.sent_at or datetime(1970, 1, 1, tzinfo=UTC)
    seconds = max(0, min(int(seen_at.timestamp()), LAST_SECOND))
    return f"{seconds:010d}000-{name_of(envelope)[:TAIL]}"


def email_id(name: str, received_at: datetime, now: datetime) -> str:
    """Make the id of a filed mail: where the timeline sorts it, and a part of its name.

    IMAP tells whole seconds: then the end of it, so that an answer that comes within the second stands
    behind what it answers; but never after now.
    """
    whole = received_at.microsecond == 0
    end = received_at + timedelta(milliseconds=999) if whole else received_at
    return f"{int(min(end, now).timestamp() * 1000):013d}-{name[:TAIL]}"


def moment(envelope: Envelope, now: datetime) -> datetime:
    """When we count a mail as received: the provider's word, never the future."""
    return min(envelope.received_at or envelope.sent_at or now, now)
