"""How Exchange makes a conversation's id: of Thread-Index, of what a mail answers, else of its topic."""

import base64
import hashlib
import re
from email.message import EmailMessage


def named(message: EmailMessage) -> list[str]:
    """Return the ids of other mails that a mail names, nearest last."""
    ids = [*str(message.get("References", "")).split(), *str(message.get("In-Reply-To", "")).split()]
    return [id_ for id_ in ids if id_ != str(message.get("Message-ID", ""))]


def id_of(address: str, guid: bytes) -> str:
    """Write a conversation's id: what it is one of, the mailbox, and the GUID last."""
    store = hashlib.sha256(address.encode()).hexdigest()[:36].encode()
    return base64.urlsafe_b64encode(b"\x00\x04\x24\x00" + store + b"\x00\x10\x00" + guid).decode()


def made_up(message: EmailMessage) -> bytes:
    """Return the GUID where neither Thread-Index nor a known mail has one.

    Of mail that names no other it is made of the topic, so that unrelated mails share it (docs#869).
    """
    others = named(message)
    if others:
        return hashlib.sha256(others[0].encode()).digest()[:16]
    return topics_guid(str(message.get("Subject", "")))


def guid_of(index: str) -> bytes:
    """Return the GUID in a Thread-Index; empty where it is none (MS-OXOMSG 2.2.1.3)."""
    try:
        octets = base64.b64decode(index)
    except ValueError:
        octets = b""
    return octets[6:22] if octets[:1] == b"\x01" else b""


def topics_guid(subject: str) -> bytes:
    """Return what stands for the GUID where there is none: the MD5 of the topic (MS-OXOMSG 2.2.1.2)."""
    topic = re.sub(r"^(?:[^\W\d_]{1,3}: )+", "", subject)[:255]
    capitals = "".join(one if one == "ß" else one.upper() for one in topic)
    return hashlib.md5(capitals.encode("utf-16-le"), usedforsecurity=False).digest()
