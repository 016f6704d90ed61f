"""Storing a mail that was decided about, once: as one atomic commit.

The bytes are stored first (under a name made of what they are, so that a second try overwrites instead of
littering, and no other copy's bytes can take their place), then message, Message-ID, thread hint,
participants and audit record in one transaction. It also touches the conversation, so that a concurrent
move is noticed: whoever loses decides again.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from shared import audit, bouncing, mime, naming, scheduling
from shared.app import App
from shared.comparing import ANOTHER, LESS, as_variant, fact_of, is_within, noted, said, with_fact
from shared.conversations import TAKEN, Decision
from shared.errors import NotFound, Raced
from shared.keeping import bytes_of, indexed, known_by, pack, received
from shared.knowing import Knowledge
from shared.model import (
    COPY_MISSING,
    Alias,
    Conversation,
    Delivery,
    Envelope,
    Mailbox,
    Message,
    OutboxItem,
    ThreadHint,
)
from shared.providers.base import Receiver
from shared.seeing import Seen
from shared.storage.base import Add, Move, Save, Stored, Write

TRIES = 30
JITTER = 0.1
"""Seconds between two tries, at most: writers of one conversation take turns."""


@dataclass
class Storing:
    """Stores the mail of one mailbox.

    Attributes:
        learn: told a Message-ID that may have been answered before we knew it; returns what is to be written
            with it.
        seen: the mails that this look, and earlier ones, have dealt with.
    """

    app: App
    org_id: str
    mailbox: Mailbox
    receiver: Receiver
    actor: str = "system"
    learn: Callable[[str], Sequence[Write]] = lambda _: ()
    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        self.knowledge = Knowledge(self.app, self.org_id, self.mailbox.id)
        name = self.mailbox.receives_with
        stamps = self.app.provider(name).stamps if name else None
        self.believed = self.mailbox.authserv_id or stamps

    def store(
        self,
        envelope: Envelope,
        decision: Decision,
        conversation: Stored[Conversation],
        raw: bytes,
        *with_it: Write,
    ) -> str:
        """Store a mail that was fetched. Raises Raced when it must be decided again.

        `with_it` is written in the same transaction.
        """
        app, org_id = self.app, self.org_id
        parsed = mime.parse(raw)
        message = received(envelope, decision, conversation.value, parsed, self.mailbox.id, app.clock())
        message = replace(message, raw=naming.stored_as(message.raw, raw))
        if message.direction == "out":
            message = bouncing.as_marked(app, org_id, message)
        packed = pack(message, raw)
        packed.put(app, org_id)  # named after what it is: a second try overwrites it
        message = packed.message
        marks = bouncing.marks(app, org_id, message, raw) if decision.kind == "bounce" else []
        self._commit(
            conversation,
            *packed.writes,
            *indexed(envelope, message, decision, self.mailbox.id, self.knowledge.known),
            *marks,
            *self._late(envelope, decision),
            self._audit("message.filed", message, decision),
            *with_it,
        )
        return "file"

    def _late(self, envelope: Envelope, decision: Decision) -> Sequence[Write]:
        """Have answers to a mail looked for where they may have come before it."""
        answerable = decision.kind == "mail" and decision.trusted_id
        if answerable and envelope.message_id and self.seen.may_have_passed_over(envelope):
            return self.learn(envelope.message_id)
        return ()

    def _commit(self, conversation: Stored[Conversation], *writes: Write) -> None:
        """Write everything, provided that the conversation still is where it was.

        Colleagues' mailboxes may file into one conversation at the same moment; that is no reason to
        decide again. Raises Raced where the conversation was moved, or the mail was filed meanwhile.
        """
        for _ in range(TRIES):
            try:
                etag, *_ = self.app.records.commit(
                    self.org_id, Move(conversation, conversation.value), *writes
                )
            except Raced:
                latest = self.app.records.get(self.org_id, Conversation, conversation.value.id)
                if latest.value != conversation.value or latest.etag == conversation.etag:
                    raise
                conversation = latest
                time.sleep(random.random() * JITTER)  # noqa: S311 - spreads writers, protects nothing
            else:
                known = Stored(conversation.value, etag)
                self.knowledge.conversations[conversation.value.id] = known
                return
        raise Raced

    def confirm(self, envelope: Envelope, alias: Alias) -> str:
        """One more delivery fact of a message we have; also the proof that it was sent."""
        return self.seen_again(envelope, alias, self.knowledge.message(alias))

    def seen_again(self, envelope: Envelope, alias: Alias, message: Stored[Message] | None) -> str:
        """Note that a message was seen once more: `known`, or `learnt` where a further Message-ID was."""
        if message is None:
            return "known"  # erased since; its Message-ID still keeps it from coming back
        old = message.value
        new = self._with(envelope, old)
        proven: list[Write] = []
        if old.state == "uncertain" and old.mailbox_id != self.mailbox.id:  # whether Sent has a copy is open
            now = self.app.clock()
            new = replace(new, next_at=now)
            scheduling.promise_sweep(self.app, self.org_id, now)
            proven = [Save(OutboxItem.of(new, now))]
        learnt = self._is_new(envelope, alias)
        writes: list[Write] = [Move(message, new), *proven] if new != old else []
        if learnt and envelope.message_id:
            writes += known_by(replace(alias, message_id=envelope.message_id), envelope)
        if envelope.thread and new != old:
            writes.append(Save(ThreadHint(self.mailbox.id, envelope.thread, alias.conversation_id)))
        if writes:
            writes.append(self._audit("message.seen_again", new))
        for message_id in self._answerable(envelope, old, learnt=learnt):
            writes += self.learn(message_id)
        if writes:
            self.app.records.commit(self.org_id, *writes)
        return "learnt" if learnt else "known"

    def looks_alike(self, envelope: Envelope, message: Stored[Message]) -> str:
        """Note, once, that a mailbox has a mail under a message's headers that may be another one: `known`.

        That proves nothing: else who plants a private mail's headers would get the answers to that mail.
        """
        self.seen.passed_over(envelope)  # it may have come before the mail that it answers
        known = fact_of(message.value, self.mailbox.id)
        if known and known.unproven:
            return "known"
        fact = Delivery(self.mailbox.id, envelope.ref, envelope.folder, unproven=True)
        event = self._audit("message.seen_again", message.value)
        self.app.records.commit(self.org_id, Move(message, with_fact(message.value, fact)), event)
        return "known"

    def _answerable(self, envelope: Envelope, message: Message, *, learnt: bool) -> Iterator[str]:
        """Message-IDs that answers may have named in this mailbox before they proved anything here.

        One that is new to us, or that of a mail which a colleague's mailbox had first. And the id under
        which a mail left whose copy we filed under another: looked for when that copy is seen for the
        first time, until when the fact of it has no folder.
        """
        fact = fact_of(message, self.mailbox.id)
        arrived = fact is None or fact.unproven
        if envelope.message_id and (learnt or (arrived and self._may_be_answered(envelope))):
            yield envelope.message_id
        if message.message_id and _is_of_another_id(envelope, message) and not (fact and fact.folder):
            yield message.message_id

    def _may_be_answered(self, envelope: Envelope) -> bool:
        """Whether an answer may have been passed over: what names a signed id of ours never was."""
        own = self.knowledge.signed(envelope.message_id or "")
        return own is None and self.seen.may_have_passed_over(envelope)

    def _with(self, envelope: Envelope, message: Message) -> Message:
        """Return a message with what one more copy of it tells."""
        new, fact = message, fact_of(message, self.mailbox.id)
        if fact and fact.variant:  # a copy of something else
            return message
        copied = fact and not fact.folder and _is_of_another_id(envelope, message)  # looked for, and no more
        seen = self._fact(envelope, message)
        other = fact and not fact.known_as and seen.known_as
        if fact is None or fact.unproven or copied or other:
            new = with_fact(new, seen)
        if message.state == "uncertain":
            new = replace(new, state="sent", error=None)
        if message.error and message.error.code == COPY_MISSING and self._is_own(envelope, message):
            new = replace(new, error=None)
        own = envelope.is_sent and envelope.sender and envelope.sender.address == self.mailbox.address
        if own and message.direction == "in":  # a colleague's copy of it was seen first
            sent = replace(new, direction="out", state="sent", mailbox_id=self.mailbox.id)
            new = bouncing.as_marked(self.app, self.org_id, sent)
        return new

    def _is_own(self, envelope: Envelope, message: Message) -> bool:
        """Whether it lies in the Sent of the mailbox that it left from."""
        return envelope.is_sent and message.mailbox_id == self.mailbox.id

    def _fact(self, envelope: Envelope, message: Message) -> Delivery:
        """Make the fact of a copy; of a mail of ours it says under which id this mailbox has it."""
        other = message.origin == "case" and envelope.message_id != message.planned_id
        known_as = envelope.message_id if other and self._teaches(envelope) else None
        return Delivery(self.mailbox.id, envelope.ref, envelope.folder, known_as=known_as or "")

    def _teaches(self, envelope: Envelope) -> bool:
        """Whether the id of a copy is one of its message's: not where its sender is found forged.

        Else the answers to somebody's private mail, whose id it bears, would count as answers to this one.
        """
        return envelope.is_sent or mime.authentication(envelope, self.believed) != "fail"

    def _is_new(self, envelope: Envelope, alias: Alias) -> bool:
        """Whether a copy taught us a further Message-ID: one that we know stays whose it is."""
        message_id = envelope.message_id
        if message_id is None or message_id == alias.message_id or not self._teaches(envelope):
            return False
        return self.knowledge.alias(message_id) is None

    def beside(
        self,
        envelope: Envelope,
        alias: Alias,
        first: Stored[Message],
        decision: Decision,
        conversation: Stored[Conversation],
        raw: bytes,
    ) -> str:
        """Take what has the headers of a mail that came in; what says something else is filed beside it.

        An own mail is shown as it lies in Sent, without what somebody added to a copy of it.
        """
        try:
            kept = said(bytes_of(self.app, self.org_id, first.value))
        except NotFound:  # erased since
            return self.seen_again(envelope, alias, first)
        copy, apart = said(raw), conversation.value.id != alias.conversation_id
        if copy == kept and not apart:
            return self.seen_again(envelope, alias, first)
        if is_within(copy, kept) and not apart and not envelope.is_sent:
            return self.seen_again(envelope, alias, Stored(noted(first.value, LESS), first.etag))
        note = TAKEN if copy == kept else ANOTHER
        variant = as_variant(decision, envelope, copy, note)
        filed = self.knowledge.alias(variant.variant)
        fact = Delivery(self.mailbox.id, envelope.ref, envelope.folder, variant.variant)
        new = with_fact(noted(first.value, note), fact)
        told = (Move(first, new), self._audit("message.seen_again", new))
        if not filed:
            return self.store(envelope, variant, conversation, raw, *told)
        outcome = self.confirm(envelope, filed)
        self.app.records.commit(self.org_id, *told)
        return outcome

    def is_by_its_owner(self, message: Message) -> bool:
        """Whether a mail lies in the Sent of whose address it is from, so that copies of it say nothing new.

        From another address it may be an alias, or what somebody put there (decision 020).
        """
        if message.origin == "case":
            return True
        if message.direction == "in" or message.mailbox_id is None:
            return False
        box = self.app.records.find(self.org_id, Mailbox, message.mailbox_id)
        return bool(box and message.sender and message.sender.address == box.value.address)

    def _audit(self, event: str, message: Message, decision: Decision | None = None) -> Add:
        return audit.entry(
            self.app,
            event,
            actor=self.actor,
            mailbox_id=self.mailbox.id,
            case_id=message.case_id,
            email_id=message.id,
            detail=decision.evidence.rule if decision else "",
        )


def _is_of_another_id(envelope: Envelope, message: Message) -> bool:
    """Whether this is the copy of an own mail as it was planned, which left under another Message-ID."""
    return message.planned_id == envelope.message_id != message.message_id
