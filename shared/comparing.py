"""Whether a copy of a mail says what is kept of it: headers alone do not tell (decision 024). Pure."""

import hashlib
from dataclasses import dataclass, replace

from shared import mime, naming
from shared.conversations import Decision
from shared.matching import BY_ID
from shared.model import Delivery, Envelope, Message, digest

ANOTHER = "another text under the same Message-ID"
"""Noted with both mails: nothing tells which one is as it was sent."""

LESS = "a copy in another mailbox has less text"
"""Noted with the mail: what it says besides may be a footer, or may have been added."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a mail says: its words, one blank between them, and its files by name and content."""

    text: str
    html: str
    files: tuple[str, ...]


def said(raw: bytes) -> Said:
    """Read what a mail says, whatever its lines, encodings and order of files."""
    parsed = mime.parse(raw)
    files = (digest(name, hashlib.sha256(content).hexdigest()) for name, content in mime.files(raw))
    return Said(_words(parsed.text or ""), _words(mime.text_of(parsed.html or "")), tuple(sorted(files)))


def is_within(copy: Said, kept: Said) -> bool:
    """Whether all that a copy says is kept: word for word, but for a footer or banner that it lacks."""
    return copy.text in kept.text and copy.html in kept.html and copy.files == kept.files


def _words(text: str) -> str:
    return f" {' '.join(text.split())} "


def as_variant(decision: Decision, envelope: Envelope, copy: Said, note: str) -> Decision:
    """Make the decision about a copy that is a mail of its own: known by where it belongs and what it says.

    By what it says alone, the copy of a third mailbox would count as that of a second one in another case.
    """
    evidence = replace(decision.evidence, notes=(*decision.evidence.notes, note))
    place = decision.conversation.id if decision.conversation else ""
    name = naming.variant_id(envelope, place, copy.text, copy.html, *copy.files)
    return replace(decision, trusted_id=False, evidence=evidence, variant=name)


def fact_of(message: Message, mailbox_id: str) -> Delivery | None:
    """Return the delivery fact that a message has of a mailbox."""
    return next((fact for fact in message.deliveries if fact.mailbox_id == mailbox_id), None)


def proof_of(message: Message, mailbox_id: str) -> Delivery | None:
    """Return it where it proves something: that the mailbox has the message, or another text in its place."""
    fact = fact_of(message, mailbox_id)
    return fact if fact and not fact.unproven else None


def held_by(message: Message) -> list[str]:
    """Name the mailboxes that have this message: not another text in its place, nor only its headers."""
    return [fact.mailbox_id for fact in message.deliveries if not fact.variant and not fact.unproven]


def with_fact(message: Message, fact: Delivery) -> Message:
    """Return a message with a delivery fact in the place of what was known of that mailbox."""
    others = (other for other in message.deliveries if other.mailbox_id != fact.mailbox_id)
    return replace(message, deliveries=(*others, fact))


def belongs_apart(message: Message, decision: Decision) -> bool:
    """Whether a copy itself names another conversation than the one that the message is in.

    Whatever brought that there, by what it names or by a colleague's hand, decides nothing for the copy.
    """
    place = decision.conversation.id if decision.conversation else message.conversation_id
    return decision.evidence.rule in BY_ID and place != message.conversation_id


def is_unread(message: Message, mailbox_id: str) -> bool:
    """Whether what a mailbox has under a message's headers is to be judged; ours are known by an id."""
    return message.origin == "mailbox" and proof_of(message, mailbox_id) is None


def noted(message: Message, note: str) -> Message:
    """Return a message with a note in its evidence, once."""
    notes = message.evidence.notes
    evidence = replace(message.evidence, notes=notes if note in notes else (*notes, note))
    return replace(message, evidence=evidence)
