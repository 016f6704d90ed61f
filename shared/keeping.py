"""How a mail becomes bytes and records: bodies, participants, and what no mail may outgrow."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from shared.app import App
from shared.conversations import NEWEST_REFERENCES
from shared.model import Address, Message, Participant
from shared.storage.base import Save, Write

INLINE_CHARACTERS = 30_000
"""A longer body lies in a blob of its own: a record holds 1 MiB, a page of the timeline many records."""

MOST_RECIPIENTS, MOST_PARTS, LONGEST_NAME = 150, 200, 120
"""What a record keeps of a mail, so that no mail can be too large for it."""

MOST_PARTICIPANTS = 80
"""A transaction takes 100 records; who is beyond this in one mail still has our signed id to answer with."""


def store(app: App, org_id: str, message: Message, raw: bytes) -> Message:
    """Put the bytes where the message says, and return the message as it fits into a record.

    A record holds less than 1 MiB and a timeline many records: a long body lies in a blob of its own,
    and of what strangers may pile up (recipients, references, parts) the record keeps the first ones.
    The bytes keep everything.
    """
    app.blobs.put(org_id, message.raw, raw)
    body = None
    if len(message.text or "") + len(message.html or "") > INLINE_CHARACTERS:
        body = body_of(message)
        app.blobs.put(org_id, body, msgspec.json.encode([message.text, message.html]))
    return replace(
        message,
        text=None if body else message.text,
        html=None if body else message.html,
        body=body,
        to=first(message.to),
        cc=first(message.cc),
        bcc=first(message.bcc),
        references=(*message.references[:1], *message.references[1:][-NEWEST_REFERENCES:]),
        attachments=message.attachments[:MOST_PARTS],
    )


def body_of(message: Message) -> str:
    """Name the blob that holds a message's body where it is too long for the record."""
    return message.raw.replace("raw/", "body/", 1)


def first(people: Sequence[Address]) -> tuple[Address, ...]:
    """Return as many people, with names as long, as a record keeps."""
    return tuple(replace(person, name=person.name[:LONGEST_NAME]) for person in people[:MOST_RECIPIENTS])


def participants(conversation_id: str, addresses: Sequence[str]) -> list[Write]:
    """Make the writes that remember who takes part."""
    unique = dict.fromkeys(addresses)
    return [Save(Participant(conversation_id, address)) for address in list(unique)[:MOST_PARTICIPANTS]]
