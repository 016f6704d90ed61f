"""Which conversation does this mail belong to? Pure: envelope and knowledge go in, a decision comes out.

Signals, from strong to weak: a Message-ID of ours (signed), a Message-ID we know, the provider's
thread hint. Subject alone never files anything. Then the gate: who says so, and did the receiving
system find the sender forged? The reference is RFC 5322 §3.6.4 (References) and RFC 8601
(Authentication-Results).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from shared import mime
from shared.identity import SignedId
from shared.model import Alias, Conversation, Envelope, Evidence, MailKind

NEWEST_REFERENCES = 50
"""Of longer References only the nearest are looked up, and as many ids of a report.

One of our own costs nothing to recognise anywhere.
"""

NEAREST, CERTAIN = 3, 0.95
"""References this near are as good as In-Reply-To; farther ones are a little less certain."""

NEVER_EARLIER, NEVER_LATER = timedelta(minutes=-10), timedelta(hours=26)
"""Clocks differ by minutes; a promise is given up after a day (`promises.GIVE_UP`)."""

Outcome = Literal["ignore", "known", "file", "review"]


class Lookup(Protocol):
    """What the organisation knows; asked by `decide`, and no farther than it needs to be."""

    def signed(self, message_id: str) -> SignedId | None:
        """Return what our own signed id says; no I/O."""
        ...

    def alias(self, message_id: str) -> Alias | None:
        """Return whose message this Message-ID is."""
        ...

    def conversation(self, conversation_id: str) -> Conversation | None:
        """Return the conversation, or None where it was erased."""
        ...

    def hinted(self, thread: str) -> str | None:
        """Return the conversation seen with this thread hint in this mailbox."""
        ...

    def knows(self, conversation_id: str, address: str) -> bool:
        """Whether this address wrote, or was written to, in the conversation."""
        ...

    def had(self, alias: Alias) -> bool:
        """Whether the mailbox that is looked into has sent this message, or has it."""
        ...


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


@dataclass(frozen=True, slots=True)
class _Match:
    rule: str
    matched: str
    confidence: float
    conversation: Conversation
    secret: bool = False
    alias: Alias | None = None
    elsewhere: bool = False


IGNORE = Decision("ignore")

RETURNED = "returned-references"
"""The rule of a report about a mail that we do not have (yet), but that answers one of ours."""

BY_ID = {"report", "in-reply-to", "references"}
"""The rules by which a mail names its conversation itself."""

TAKEN = "Message-ID already used by another mail"

STRANGER = "Somebody unknown to this conversation answers it without having received a mail of it from us."
ELSEWHERE = "It answers a mail of the conversation that this mailbox does not have, and proves nothing else."
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
    print_ = mime.fingerprint(envelope)
    known_as = lookup.alias(envelope.message_id or mime.synthetic_id(envelope))
    other = known_as is not None and known_as.fingerprint != print_
    same = lookup.alias(mime.synthetic_id(envelope)) if other else known_as
    if same:
        return Decision("known", Evidence("same-message", same.message_id), copy_of=same)
    rewritten = _rewritten_copy(envelope, lookup, print_)
    if rewritten:
        return Decision("known", Evidence("own-id-in-references", rewritten.message_id), copy_of=rewritten)
    trusted = known_as is None
    return on_its_own(
        envelope,
        lookup,
        own=own,
        authserv_id=authserv_id,
        reported=reported,
        returned=returned,
        trusted_id=trusted,
    )


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
    match = _by_reference(envelope, lookup, reported)
    if match is None or match.elsewhere:  # what does not count hides no thread, either
        match = _by_hint(envelope, lookup) or match
    match = _by_returned(match, lookup, returned)
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
    came_in = "received" in envelope.headers or own in {person.address for person in envelope.recipients}
    return replace(envelope, is_sent=not came_in)


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


def _by_reference(envelope: Envelope, lookup: Lookup, reported: Sequence[str]) -> _Match | None:
    """Nearest reference that counts: that leads to a conversation, by a secret or to a mail the mailbox had.

    A signed id anywhere in that conversation is a secret. One that does not count is told where none does.
    Where a signed id tells a conversation, those that are neither signed nor near are not asked after.
    """
    places = list(_references(envelope, lookup, reported))
    secrets = [lookup.signed(message_id) for message_id, *_ in places]
    told = any(lookup.conversation(id_) for id_ in {secret.conversation_id for secret in secrets if secret})
    elsewhere: _Match | None = None
    for (message_id, rule, confidence), signed in zip(places, secrets, strict=True):
        if told and signed is None and confidence < CERTAIN:
            continue
        match = _match(message_id, rule, confidence, signed, lookup)
        if match is None:
            continue
        if any(_leads_to(match.conversation, secret) for secret in secrets):
            return replace(match, secret=True)
        if match.alias and lookup.had(match.alias):
            return match
        elsewhere = elsewhere or replace(match, elsewhere=True)
    return elsewhere


def _by_returned(match: _Match | None, lookup: Lookup, returned: Sequence[str]) -> _Match | None:
    """A report proves by our signed id in the References of what it returns that it had that mail.

    It says nothing about the mail with that id; without any other match it only tells the conversation.
    """
    for message_id in reversed(returned):
        signed = lookup.signed(message_id)
        if signed is None:
            continue
        if match is None:
            match = _match(message_id, RETURNED, 0.9, signed, lookup)
        elif _leads_to(match.conversation, signed):
            return replace(match, secret=True)
    return match


def _leads_to(conversation: Conversation, signed: SignedId | None) -> bool:
    return signed is not None and signed.conversation_id == conversation.id


def _match(
    message_id: str, rule: str, confidence: float, signed: SignedId | None, lookup: Lookup
) -> _Match | None:
    alias = None if signed else lookup.alias(message_id)
    conversation_id = signed.conversation_id if signed else alias.conversation_id if alias else None
    conversation = lookup.conversation(conversation_id) if conversation_id else None
    if conversation is None:
        return None
    certainty = confidence + (0.02 if signed else 0)
    return _Match(rule, message_id, certainty, conversation, secret=bool(signed), alias=alias)


def _references(
    envelope: Envelope, lookup: Lookup, reported: Sequence[str]
) -> Iterator[tuple[str, str, float]]:
    for place, message_id in enumerate(reported):
        if place < NEWEST_REFERENCES or lookup.signed(message_id):
            yield message_id, "report", CERTAIN
    # names the parent, wherever it stands among them (§3.6.4)
    answered = filter(None, [envelope.in_reply_to])
    for place, message_id in enumerate(dict.fromkeys([*answered, *reversed(envelope.references)])):
        if place >= NEWEST_REFERENCES and lookup.signed(message_id) is None:
            continue
        rule = "in-reply-to" if message_id == envelope.in_reply_to else "references"
        yield message_id, rule, CERTAIN if place < NEAREST else 0.9


def _by_hint(envelope: Envelope, lookup: Lookup) -> _Match | None:
    """The provider's thread in this mailbox, backed by subject or a known participant: never alone."""
    conversation_id = lookup.hinted(envelope.thread) if envelope.thread else None
    conversation = lookup.conversation(conversation_id) if conversation_id else None
    if conversation is None or envelope.thread is None:
        return None
    same_subject = mime.base_subject(envelope.subject) == conversation.base_subject
    known = envelope.sender and lookup.knows(conversation.id, envelope.sender.address)
    if not (same_subject or known):
        return None
    return _Match("thread", envelope.thread, 0.9 if same_subject else 0.6, conversation)


def _doubt(envelope: Envelope, lookup: Lookup, match: _Match, own: str, authserv_id: str | None) -> str:
    """The gate: why its owner is to decide; "" where somebody known, or a secret of ours, speaks for it.

    An id that is no secret must be of a mail that the mailbox has: else anybody in the organisation could
    name a private mail in a case of his own, and what answers it would be filed there (decision 022).
    """
    if not envelope.is_sent and mime.authentication(envelope, authserv_id) == "fail":
        return "The receiving mail system could not verify the sender; the address may be forged."
    if match.secret:
        return ""
    if match.elsewhere:
        return ELSEWHERE
    if _is_known(envelope, lookup, match.conversation, own):
        return ""
    return STRANGER if mime.classify(envelope) in {"mail", "auto_reply"} else UNPROVEN


def _is_known(envelope: Envelope, lookup: Lookup, conversation: Conversation, own: str) -> bool:
    """Whether its sender takes part: the mailbox's own user, or an address of the conversation."""
    if envelope.is_sent and mime.is_from(envelope, own):
        return True
    return envelope.sender is not None and lookup.knows(conversation.id, envelope.sender.address)


def _decided(envelope: Envelope, lookup: Lookup, match: _Match, reason: str, *, trusted_id: bool) -> Decision:
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
