"""What leads from a mail to a conversation: ids that it names, signed or known, and its thread. Pure.

The order is that of RFC 5322 §3.6.4; what counts, and what is only told, decision 022 says.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

from shared import mime
from shared.identity import SignedId
from shared.model import Alias, Conversation, Envelope

NEWEST_REFERENCES = 50
"""Of longer References only the nearest are looked up. One of our own costs nothing to recognise anywhere."""

MOST_REPORTED = 4
"""So many ids of a report, which is about one mail, are looked up: the first of `mime.reported_ids`."""

NEAREST, CERTAIN = 3, 0.95
"""References this near are as good as In-Reply-To; farther ones are a little less certain."""

REPORTED = "report"
"""The rule of a report about a mail that we have."""

RETURNED = "returned-references"
"""The rule of a report about a mail that we do not have (yet), but that answers one of ours."""

BY_ID = {REPORTED, "in-reply-to", "references"}
"""The rules by which a mail names its conversation itself."""


class Lookup(Protocol):
    """What the organisation knows; asked by `decide`, and no farther than it needs to be."""

    def signed(self, message_id: str) -> SignedId | None:
        """Return what our own signed id says; no I/O."""
        ...

    def alias(self, message_id: str) -> Alias | None:
        """Return whose message this Message-ID is."""
        ...

    def descendants(self, message_id: str) -> Mapping[str, Alias]:
        """Return whose messages have this id, or name it as one that they descend from, by Message-ID."""
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

    def knows_any(self, conversation_id: str, addresses: Collection[str]) -> bool:
        """Whether one of them did."""
        ...

    def own(self, alias: Alias) -> Alias | None:
        """Return whose message it is that the mailbox which is looked into sent, or has, by this id.

        That is another one where it has another text in the message's place; None where it has neither.
        """
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """A conversation, and what leads there.

    Attributes:
        rule, matched, confidence: see `Evidence`.
        secret: whether a secret of ours leads there.
        alias: whose id it is, where it is no secret.
        elsewhere: whether that mail is one that this mailbox never had, so that it counts for nothing.
        unsure: whether nothing but the subject leads there.
    """

    rule: str
    matched: str
    confidence: float
    conversation: Conversation
    secret: bool = False
    alias: Alias | None = None
    elsewhere: bool = False
    unsure: bool = False


def by_reference(envelope: Envelope, lookup: Lookup, reported: Sequence[str]) -> Match | None:
    """Nearest reference that counts: that leads to a conversation, by a secret or to a mail the mailbox had.

    A signed id anywhere in that conversation is a secret. One that does not count is told where none does.
    """
    places = list(_references(envelope, lookup, reported))
    secrets = [lookup.signed(message_id) for message_id, *_ in places]
    whose = _whose(envelope, lookup)
    elsewhere: Match | None = None
    for (message_id, rule, confidence), signed in zip(places, secrets, strict=True):
        alias = lookup.alias if rule == REPORTED else whose
        match = _match(message_id, rule, confidence, signed or alias(message_id), lookup)
        if match is None:
            continue
        if any(_leads_to(match.conversation, secret) for secret in secrets):
            return replace(match, secret=True)
        own = lookup.own(match.alias) if match.alias else None
        place = lookup.conversation(own.conversation_id) if own else None
        if place:
            return replace(match, alias=own, conversation=place)
        elsewhere = elsewhere or replace(match, elsewhere=True)
    return elsewhere


def by_returned(match: Match | None, lookup: Lookup, returned: Sequence[str]) -> Match | None:
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


def _whose(envelope: Envelope, lookup: Lookup) -> Callable[[str], Alias | None]:
    """Return what tells whose an id is that a mail names: its parent's is asked after alone, others at once.

    An answer's References are its parent's and its parent's id (RFC 5322 §3.6.4), perhaps without some of
    them: what is known of them is the oldest, or descends from it (decision 031). A read for each would cost
    an answer deep in a thread, of a case or not, dozens. Who answers several mails lists what is no such
    line: so a few are asked after one by one, and of many the nearest, where the oldest leads to none.
    """
    named = [one for one in mime.ancestors(envelope) if one != envelope.message_id][:NEWEST_REFERENCES]
    oldest = next((one for one in envelope.references if one in named), "")

    @cache
    def thread() -> Mapping[str, Alias]:
        return {one: alias for one, alias in lookup.descendants(oldest).items() if one in named}

    def whose(message_id: str) -> Alias | None:
        if message_id in named[:1] or len(named) <= NEAREST:
            return lookup.alias(message_id)
        if found := thread():
            return found.get(message_id)
        return lookup.alias(message_id) if message_id in named[:NEAREST] else None

    return whose


def _match(
    message_id: str, rule: str, confidence: float, led: SignedId | Alias | None, lookup: Lookup
) -> Match | None:
    conversation = lookup.conversation(led.conversation_id) if led else None
    if conversation is None:
        return None
    alias = led if isinstance(led, Alias) else None
    certainty = confidence if alias else confidence + 0.02
    return Match(rule, message_id, certainty, conversation, secret=alias is None, alias=alias)


def _references(
    envelope: Envelope, lookup: Lookup, reported: Sequence[str]
) -> Iterator[tuple[str, str, float]]:
    for place, message_id in enumerate(reported):
        if place < MOST_REPORTED or lookup.signed(message_id):
            yield message_id, REPORTED, CERTAIN
    for place, message_id in enumerate(mime.ancestors(envelope)):
        if place >= NEWEST_REFERENCES and lookup.signed(message_id) is None:
            continue
        rule = "in-reply-to" if message_id == envelope.in_reply_to else "references"
        yield message_id, rule, CERTAIN if place < NEAREST else 0.9


def by_hint(envelope: Envelope, lookup: Lookup, own: str) -> Match | None:
    """The provider's thread in this mailbox, for a mail that says that it is an answer (decision 029).

    It is backed by the subject or by somebody who takes part. A subject that made the thread, or that
    alone says that this is an answer, is no second piece of evidence: then the owner decides about what
    somebody wrote who takes part.
    """
    named = envelope.threaded or mime.names_parent(envelope)
    if not envelope.thread or not (named or mime.is_answer(envelope.subject)):
        return None
    conversation_id = lookup.hinted(envelope.thread)
    conversation = lookup.conversation(conversation_id) if conversation_id else None
    if conversation is None:
        return None
    same_subject = mime.base_subject(envelope.subject) == conversation.base_subject
    unsure = not named or mime.is_topics(envelope.thread, envelope.subject)
    ours = envelope.is_sent or mime.is_from(envelope, own)
    backed = same_subject and not unsure and (envelope.threaded or not ours)
    if not (backed or _with_participant(envelope, lookup, conversation, own, ours=ours)):
        return None
    return Match("thread", envelope.thread, 0.9 if same_subject else 0.6, conversation, unsure=unsure)


def _with_participant(
    envelope: Envelope, lookup: Lookup, conversation: Conversation, own: str, *, ours: bool
) -> bool:
    """Whether somebody who takes part wrote it; or gets it, where the mailbox's own user did."""
    author = {envelope.sender.address} if envelope.sender else set()
    others = {one.address for one in envelope.recipients} - author - {own}
    return lookup.knows_any(conversation.id, others if ours else author)
