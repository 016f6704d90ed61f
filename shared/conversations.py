"""Which conversation does this mail belong to? Pure: envelope and knowledge go in, a decision comes out.

Signals, from strong to weak: a Message-ID of ours (signed), a Message-ID we know, the provider's
thread hint, for what says that it is an answer. Subject alone never files anything. Then the gate: who
says so, and did the receiving system find the sender forged? The reference is RFC 5322 §3.6.4 (References)
and RFC 8601 (Authentication-Results).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from shared import mime
from shared.identity import SignedId
from shared.matching import Lookup, Match, by_hint, by_reference, by_returned
from shared.model import Alias, Conversation, Envelope, Evidence, MailKind

NEVER_EARLIER, NEVER_LATER = timedelta(minutes=-10), timedelta(hours=26)
"""Clocks differ by minutes; a promise is given up after a day (`promises.GIVE_UP`)."""

Outcome = Literal["ignore", "known", "file", "review"]


NO_EVIDENCE = Evidence("none", confidence=0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a mail, and why.

    Attributes:
        copy_of: for `known`, the message this is another copy of.
        trusted_id: False when the Message-ID already belongs to other content.
        variant: what a mail is known by that only looks like one that is filed (`comparing`).
        reason: for `review`, one sentence for the mailbox's owner.
    """

    outcome: Outcome
    evidence: Evidence = NO_EVIDENCE
    conversation: Conversation | None = None
    copy_of: Alias | None = None
    kind: MailKind = "mail"
    new_participant: bool = False
    trusted_id: bool = True
    variant: str = ""
    reason: str = ""


IGNORE = Decision("ignore")

TAKEN = "Message-ID already used by another mail"

FORGED = "The receiving mail system could not verify the sender; the address may be forged."
STRANGER = "Somebody unknown to this conversation answers it without having received a mail of it from us."
ELSEWHERE = "It answers a mail of the conversation that this mailbox does not have, and proves nothing else."
SUBJECT_ONLY = "Only its subject says that it belongs to the conversation; its headers name no mail of it."
UNCLEAR = "Its From line names nobody, or can be read in more than one way."
UNPROVEN = "This report names a mail of the conversation, but nothing in it proves that it had that mail."


def decide(
    envelope: Envelope,
    lookup: Lookup,
    *,
    own: str = "",
    authserv_id: str | None = None,
    reported: Sequence[str] = (),
    returned: Sequence[str] = (),
) -> Decision:
    """Decide about one mail.

    Args:
        envelope: its headers and hints.
        lookup: what we know; asked lazily, nearest reference first.
        own: the mailbox's own address.
        authserv_id: the mailbox's believed writer of Authentication-Results.
        reported: for a bounce or receipt, the Message-IDs it is about.
        returned: for those, the References of the mail that they return.
    """
    identity = identify(envelope, lookup)
    if identity.copy_of:
        evidence = Evidence(identity.rule, identity.copy_of.message_id)
        return Decision("known", evidence, copy_of=identity.copy_of)
    return on_its_own(
        envelope,
        lookup,
        own=own,
        authserv_id=authserv_id,
        reported=reported,
        returned=returned,
        trusted_id=not identity.taken,
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """Which message a mail is a copy of, by which rule; `taken` where its Message-ID is another mail's."""

    copy_of: Alias | None
    rule: str = ""
    taken: bool = False


def identify(envelope: Envelope, lookup: Lookup) -> Identity:
    """Recognise a copy of a message that we have: by Message-ID and fingerprint, or as ours, rewritten."""
    print_ = mime.fingerprint(envelope)
    known_as = lookup.alias(envelope.message_id or mime.synthetic_id(envelope))
    other = known_as is not None and known_as.fingerprint != print_
    same = lookup.alias(mime.synthetic_id(envelope)) if other else known_as
    if same:
        return Identity(same, "same-message")
    rewritten = _rewritten_copy(envelope, lookup, print_)
    return Identity(rewritten, "own-id-in-references" if rewritten else "", taken=other)


def on_its_own(
    envelope: Envelope,
    lookup: Lookup,
    *,
    own: str = "",
    authserv_id: str | None = None,
    reported: Sequence[str] = (),
    returned: Sequence[str] = (),
    trusted_id: bool = True,
) -> Decision:
    """Decide about one mail as if no copy of it were known; arguments as for `decide`."""
    match = by_reference(envelope, lookup, reported)
    if match is None or match.elsewhere:  # what does not count hides no thread, either
        match = by_hint(envelope, lookup, own) or match
    match = by_returned(match, lookup, returned)
    if match is None:
        return IGNORE
    reason = _doubt(envelope, lookup, match, own, authserv_id)
    return _decided(envelope, lookup, match, reason, trusted_id=trusted_id)


def as_proven(envelope: Envelope, own: str) -> Envelope:
    """Believe that a mail in Sent was sent by its mailbox (address `own`) only where it says so itself.

    Anybody may drag what came in to Sent. Another sender is an alias where nothing shows that the mail
    came in: every server that takes one in says so (Received, RFC 5321 §4.4), and it was for `own`.
    """
    if not envelope.is_sent or mime.is_from(envelope, own):
        return envelope
    return replace(envelope, is_sent=not _came_in(envelope, own))


def as_linked(envelope: Envelope, own: str, authserv_id: str | None) -> Envelope:
    """Believe that a mail which its owner links was sent by the mailbox also where it lies elsewhere by now.

    People sort their own mail into folders. A forged one was taken in by a server, as above.
    """
    by_owner = envelope.sender is not None and envelope.sender.address == own
    if not by_owner or _came_in(envelope, own) or mime.authentication(envelope, authserv_id) == "fail":
        return envelope
    return replace(envelope, is_sent=True)


def _came_in(envelope: Envelope, own: str) -> bool:
    return "received" in envelope.headers or own in {person.address for person in envelope.recipients}


def _rewritten_copy(envelope: Envelope, lookup: Lookup, print_: str) -> Alias | None:
    """Recognise our message after a relay replaced its Message-ID: it still quotes its own id last.

    The same sender, subject and second as promised is a copy. Exchange also puts the time of submission
    into Date, by its own clock, so another second is one too, unless the mail says that it answers ours.
    """
    for message_id in (*envelope.references[-1:], *envelope.references[-2:-1]):
        signed = lookup.signed(message_id)
        alias = lookup.alias(message_id) if signed else None
        if signed is None or alias is None:
            continue
        if alias.fingerprint in {print_, _print_as_promised(envelope, message_id, signed)}:
            return alias
    return None


def _print_as_promised(envelope: Envelope, message_id: str, signed: SignedId) -> str:
    """Return the fingerprint that our mail had before it was submitted; empty for what cannot be ours."""
    promised = datetime.fromtimestamp(int(signed.email_id[:13]) // 1000, UTC)
    late = envelope.sent_at - promised if envelope.sent_at else NEVER_LATER
    answers = envelope.in_reply_to == message_id or envelope.references[-1] != message_id
    if answers or not NEVER_EARLIER <= late < NEVER_LATER:
        return ""
    return mime.fingerprint(replace(envelope, sent_at=promised))


def _doubt(envelope: Envelope, lookup: Lookup, match: Match, own: str, authserv_id: str | None) -> str:
    """The gate: why its owner is to decide; "" where somebody known, or a secret of ours, speaks for it.

    An id that is no secret must be of a mail that the mailbox has: else anybody in the organisation could
    name a private mail in a case of his own, and what answers it would be filed there (decision 022).
    """
    if not envelope.is_sent and mime.authentication(envelope, authserv_id) == "fail":
        return FORGED if envelope.sender else UNCLEAR
    if match.secret:
        return ""
    if match.elsewhere:
        return ELSEWHERE
    if match.unsure:
        return SUBJECT_ONLY
    if _is_known(envelope, lookup, match.conversation, own):
        return ""
    return STRANGER if mime.classify(envelope) in {"mail", "auto_reply"} else UNPROVEN


def _is_known(envelope: Envelope, lookup: Lookup, conversation: Conversation, own: str) -> bool:
    """Whether its sender takes part: the mailbox's own user, or an address of the conversation."""
    if envelope.is_sent and mime.is_from(envelope, own):
        return True
    return envelope.sender is not None and lookup.knows(conversation.id, envelope.sender.address)


def _decided(envelope: Envelope, lookup: Lookup, match: Match, reason: str, *, trusted_id: bool) -> Decision:
    kind = mime.classify(envelope)
    came_in = kind == "mail" and not envelope.is_sent
    return Decision(
        "review" if reason else "file",
        Evidence(
            match.rule,
            match.matched,
            round(match.confidence, 2),
            _notes(envelope, match.conversation, trusted_id=trusted_id),
        ),
        match.conversation,
        kind=kind,
        new_participant=came_in and not _is_known(envelope, lookup, match.conversation, ""),
        trusted_id=trusted_id,
        reason=reason,
    )


def _notes(envelope: Envelope, conversation: Conversation, *, trusted_id: bool) -> tuple[str, ...]:
    found = {
        "subject changed": mime.base_subject(envelope.subject) != conversation.base_subject,
        "forwarded": mime.is_forward(envelope.subject),
        TAKEN: not trusted_id,
    }
    return tuple(note for note, true in found.items() if true)
