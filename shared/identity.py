"""Message-IDs that prove they are ours: conversation, message and an HMAC in the local part. Pure.

Who quotes one has seen a mail of that conversation: a secret bound to the organisation, so that it
means nothing in another one. Hex and digits only, so that a relay that changes case does no harm.
"""

import re
from dataclasses import dataclass

from shared import sealing

_OURS = re.compile(r"<z\.([0-9a-f]{16})\.([0-9]{13}-[0-9a-f]{12})\.([0-9a-f]{16})@[^<>@\s]+>")

BEGINNING = "<z."
"""Every one begins so, and hardly anything else does."""


@dataclass(frozen=True, slots=True)
class SignedId:
    """What a Message-ID of ours says."""

    conversation_id: str
    email_id: str


def mint(key: bytes, org_id: str, signed: SignedId, domain: str) -> str:
    """Make the Message-ID of a message we send; `domain` is the sender's (RFC 5322 §3.6.4)."""
    mac = sealing.sign(key, org_id, signed.conversation_id, signed.email_id)
    return f"<z.{signed.conversation_id}.{signed.email_id}.{mac}@{domain}>"


def is_like_ours(message_id: str) -> bool:
    """Whether a Message-ID has the form of ours; only `read` proves that it is."""
    return _OURS.fullmatch(message_id.lower()) is not None


def read(key: bytes, org_id: str, message_id: str) -> SignedId | None:
    """Return what a Message-ID says if it is ours and of this organisation, else None."""
    found = _OURS.fullmatch(message_id.lower())
    if not found:
        return None
    conversation_id, email_id, mac = found.groups()
    if not sealing.verify(key, mac, org_id, conversation_id, email_id):
        return None
    return SignedId(conversation_id, email_id)
