"""How a mail becomes bytes and records: bodies, participants, and what no mail may outgrow."""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from shared import mime, naming
from shared.app import App
from shared.conversations import Decision
from shared.matching import NEWEST_REFERENCES
from shared.model import (
    MOST_INDEXED,
    MOST_PARTICIPANTS,
    Address,
    Alias,
    Conversation,
    Delivery,
    Envelope,
    Letter,
    Message,
    Participant,
    ThreadHint,
)
from shared.storage.base import Add, Save, Write

SMALL = 256 * 1024
"""Octets up to which a mail's bytes lie in a record beside its message: one transaction, no blob."""

INLINE_CHARACTERS = 30_000
"""Of JSON. A longer body lies beside its message: a record holds 1 MiB, a page of the timeline many."""

LARGEST_RECORD = 250_000
"""Octets of JSON; a record takes 448,000 characters, and a message grows by its deliveries."""

BLOB = "raw/"
"""How the names of blobs begin; a name without it is a record's key."""

BESIDE = ".body"
"""How the key of a body's record ends, after the name of its bytes."""

MOST_RECIPIENTS, MOST_PARTS, MOST_NOTES, LONGEST_NAME = 150, 200, 20, 120
"""What a record keeps of a mail; less where it is too large for a record all the same."""

SHORTENED = "too many recipients, references or attachments to list: the original has them all"


def received(
    envelope: Envelope,
    decision: Decision,
    conversation: Conversation,
    parsed: mime.Parsed,
    mailbox_id: str,
    now: datetime,
) -> Message:
    """Make the message of a mail that was found in a mailbox, named by its identity. Pure."""
    name, received_at = naming.name_of(envelope, decision.variant), naming.moment(envelope, now)
    evidence = decision.evidence
    return Message(
        id=naming.email_id(name, received_at, now),
        case_id=conversation.case_id,
        conversation_id=conversation.id,
        mail_kind=decision.kind,
        direction="out" if envelope.is_sent else "in",
        origin="mailbox",
        state="sent" if envelope.is_sent else "received",
        sender=parsed.sender or envelope.sender,
        to=parsed.to,
        cc=parsed.cc,
        subject=parsed.subject,
        received_at=received_at,
        raw=name,
        evidence=replace(evidence, notes=evidence.notes + parsed.notes),
        sent_at=parsed.sent_at,
        message_id=envelope.message_id,
        references=envelope.references,
        snippet=parsed.snippet,
        text=parsed.text,
        html=parsed.html,
        attachments=parsed.attachments,
        deliveries=(Delivery(mailbox_id, envelope.ref, envelope.folder),),
        mailbox_id=mailbox_id if envelope.is_sent else None,
        new_participant=decision.new_participant,
    )


@dataclass(frozen=True, slots=True)
class Packed:
    """A message as it fits a record, the writes of its transaction, and bytes to put before it as a blob."""

    message: Message
    writes: Sequence[Write]
    blob: bytes | None

    def put(self, app: App, org_id: str) -> None:
        """Put the blob, if there is one. Its name is of what it is, or one attempt's: safe to repeat."""
        if self.blob is not None:
            app.blobs.put(org_id, self.message.raw, self.blob)


def pack(message: Message, raw: bytes) -> Packed:
    """Lay out a message and its bytes, named `message.raw`, for the store. Pure.

    Small bytes are a write of the message's own transaction; large ones are a blob. A record holds less
    than 1 MiB and a timeline many records: a long body lies beside its message, compressed, or is read from
    the bytes where that is too much; and of what strangers may pile up (recipients, references, parts) the
    record keeps the first ones. The bytes keep everything. A transaction takes 4 MiB: two small ones in
    base64 and a message are less than one.
    """
    name, letters, small = message.raw, list[Write](), len(raw) <= SMALL
    if small:
        letters.append(Save(Letter(name, raw)))
    else:
        message = replace(message, raw=BLOB + name)
    texts = msgspec.json.encode([message.text, message.html])
    if len(texts.decode()) > INLINE_CHARACTERS:
        squeezed, body = zlib.compress(texts), message.raw
        if len(squeezed) <= SMALL:
            body = name + BESIDE
            letters.append(Save(Letter(body, squeezed)))
        message = replace(message, text=None, html=None, body=body)
    kept = _fitting(message)
    return Packed(kept, [Add(kept), *letters], None if small else raw)


def _fitting(message: Message) -> Message:
    """Keep the first ones of what strangers may pile up, and fewer until the record has room for them."""
    share, kept = 1, _shortened(message, 1)
    while len(msgspec.json.encode(kept)) > LARGEST_RECORD and share <= MOST_PARTS:
        share *= 2
        kept = _shortened(message, share)
    lists = ("to", "cc", "bcc", "attachments")
    if all(len(getattr(kept, name)) == len(getattr(message, name)) for name in lists):
        return kept
    return replace(kept, evidence=replace(kept.evidence, notes=(*kept.evidence.notes, SHORTENED)))


def _shortened(message: Message, share: int) -> Message:
    oldest, nearest = message.references[:1], message.references[1:]
    return replace(
        message,
        to=first(message.to, share),
        cc=first(message.cc, share),
        bcc=first(message.bcc, share),
        references=oldest + nearest[max(len(nearest) - NEWEST_REFERENCES // share, 0) :],
        attachments=message.attachments[: MOST_PARTS // share],
        evidence=replace(message.evidence, notes=message.evidence.notes[:MOST_NOTES]),
    )


def bytes_of(app: App, org_id: str, message: Message) -> bytes:
    """Return the mail's bytes. Raises NotFound where they were erased."""
    if message.raw.startswith(BLOB):
        return app.blobs.get(org_id, message.raw)
    return app.records.get(org_id, Letter, message.raw).value.data


def texts_of(app: App, org_id: str, message: Message) -> tuple[str | None, str | None]:
    """Return text and HTML as the mail has them. Raises NotFound where they were erased."""
    if message.body is None:
        return message.text, message.html
    if message.body == message.raw:
        parsed = mime.parse(bytes_of(app, org_id, message))
        return parsed.text, parsed.html
    squeezed = app.records.get(org_id, Letter, message.body).value.data
    return msgspec.json.decode(zlib.decompress(squeezed), type=tuple[str | None, str | None])


def first(people: Sequence[Address], share: int = 1) -> tuple[Address, ...]:
    """Return as many people, with names as long, as a record keeps; or only one of `share` as many."""
    kept = people[: MOST_RECIPIENTS // share]
    return tuple(replace(person, name=person.name[:LONGEST_NAME]) for person in kept)


def participants(conversation_id: str, addresses: Sequence[str]) -> list[Write]:
    """Make the writes that remember who takes part."""
    unique = dict.fromkeys(addresses)
    return [Save(Participant(conversation_id, address)) for address in list(unique)[:MOST_PARTICIPANTS]]


def known_by(alias: Alias, envelope: Envelope, room: int = NEWEST_REFERENCES) -> list[Write]:
    """Make the writes by which a Message-ID is known: by itself, and among what descends from others.

    Args:
        room: how many of its ancestors there is room for, at least one: the oldest, then the nearest.
    """
    ancestors = [name for name in mime.ancestors(envelope) if name != alias.message_id]
    kept = dict.fromkeys([*ancestors[-1:], *ancestors[: min(room, NEWEST_REFERENCES) - 1]])
    return [Add(alias), *(Save(replace(alias, ancestor=name)) for name in kept)]


def indexed(
    envelope: Envelope,
    message: Message,
    decision: Decision,
    mailbox_id: str,
    known: Collection[tuple[str, str]],
) -> list[Write]:
    """Make the writes by which what belongs to a filed mail is recognised.

    Args:
        known: (conversation, address) of who takes part already.
    """
    trusted = envelope.message_id if decision.trusted_id else None
    name, place = trusted or decision.variant or mime.synthetic_id(envelope), message.conversation_id
    alias = Alias(name, place, message.id, mime.fingerprint(envelope))
    writes = list[Write]()
    if envelope.thread:
        writes.append(Save(ThreadHint(mailbox_id, envelope.thread, place)))
    if decision.kind == "mail":
        people = [envelope.sender, *message.to, *message.cc]
        addresses = [person.address for person in people if person]
        writes += participants(place, [one for one in addresses if (place, one) not in known])
    named = known_by(alias, envelope, MOST_INDEXED - len(writes)) if trusted else [Add(alias)]
    return [*named, *writes]
