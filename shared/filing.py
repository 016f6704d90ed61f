"""Putting a mail where it belongs, once: the decision's consequences as one atomic commit.

The bytes are stored first (under a name made of their identity, so that a second try overwrites
instead of littering), then message, Message-ID, thread hint, participants and audit record in one
transaction. It also touches the conversation, so that a concurrent move is noticed: whoever loses
decides again.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from shared import audit, bouncing, logs, mime, scheduling
from shared.app import App
from shared.conversations import Decision, as_proven, decide
from shared.errors import NotFound, Raced, Rejected, ZalionError
from shared.fetching import fetch
from shared.holding import GONE, hold
from shared.keeping import indexed, pack, received
from shared.knowing import Knowledge, find
from shared.leasing import LeaseLost
from shared.model import (
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
class Filer:
    """Files the mail of one mailbox through one open receiver.

    Attributes:
        learn: told a Message-ID that may have been answered before we knew it, before it is written down.
        seen: the mails that this look, and earlier ones, have dealt with.
        hopeless: ref of a mail that has failed often enough; what belongs to a case is held instead.
        fetching: ref of the mail whose fetching or reading failed, for whoever finds that it did.
    """

    app: App
    org_id: str
    mailbox: Mailbox
    receiver: Receiver
    actor: str = "system"
    learn: Callable[[str], None] = lambda _: None
    hopeless: str = ""
    seen: Seen = field(default_factory=Seen)
    fetching: str = ""

    def __post_init__(self) -> None:
        self.knowledge = Knowledge(self.app, self.org_id, self.mailbox.id)
        name = self.mailbox.receives_with
        stamps = self.app.provider(name).stamps if name else None
        self.believed = self.mailbox.authserv_id or stamps

    def handle(self, envelope: Envelope) -> str:
        """Decide about one mail and carry it out; returns the outcome.

        One of `ignore`, `known`, `learnt` (a copy that taught us a further Message-ID), `file`,
        `review`, `lost` (gone before it could be fetched). Safe to repeat.
        """
        envelope = as_proven(envelope, self.mailbox.address)
        for _ in range(TRIES):
            report = self._report(envelope)
            decision = decide(
                envelope,
                self.knowledge,
                own=self.mailbox.address,
                authserv_id=self.believed,
                reported=mime.reported_ids(report),
                returned=mime.returned_references(report),
            )
            try:
                outcome = self._carry_out(envelope, decision)
            except LeaseLost:  # no race for this mail: the whole look has ended
                raise
            except Raced:
                self.knowledge.forget()  # what the decision was based on has changed: decide again
            else:
                self.seen.saw(envelope, outcome, self.app.clock())
                return outcome
        raise Raced

    def _report(self, envelope: Envelope) -> bytes:
        """The header blocks of what a bounce or receipt is about; nothing for other mail."""
        if mime.classify(envelope) not in {"bounce", "receipt"}:
            return b""
        if envelope.ref == self.hopeless:
            logs.log("report.unread", mailbox_id=self.mailbox.id)
            return b""
        with self._minding(envelope):
            try:
                return self.receiver.returned_headers(envelope.ref)
            except (NotFound, Rejected):
                return b""

    def _carry_out(self, envelope: Envelope, decision: Decision) -> str:
        if decision.outcome == "known" and decision.copy_of:
            return self.confirm(envelope, decision.copy_of)
        if decision.outcome == "review" and decision.conversation:
            self._hold(envelope, decision, decision.conversation)
            return "review"
        if decision.outcome == "file" and decision.conversation:
            return self.file(envelope, decision, self.knowledge.conversations[decision.conversation.id])
        return "ignore"

    def file(self, envelope: Envelope, decision: Decision, conversation: Stored[Conversation]) -> str:
        """Fetch and store one mail into a conversation. Raises Raced when it must be decided again."""
        if envelope.ref == self.hopeless:
            return self._lose(envelope, decision, conversation.value)
        answerable = decision.kind == "mail" and decision.trusted_id
        if answerable and envelope.message_id and self.seen.may_have_passed_over(envelope):
            self.learn(envelope.message_id)
        with self._minding(envelope):
            try:
                raw = fetch(self.receiver, envelope)
            except (NotFound, Rejected):  # gone, or the server will never give it (Exchange does that)
                return self._lose(envelope, decision, conversation.value)
            try:
                return self.store(envelope, decision, conversation, raw)
            except ZalionError:
                self.fetching = ""  # trouble with the storage, or a race: no fault of this mail
                raise

    @contextmanager
    def _minding(self, envelope: Envelope) -> Iterator[None]:
        """Note which mail is at hand: it stays noted when something breaks, a bug of ours included."""
        self.fetching = envelope.ref
        yield
        self.fetching = ""

    def store(
        self, envelope: Envelope, decision: Decision, conversation: Stored[Conversation], raw: bytes
    ) -> str:
        """Store a mail that was fetched. Raises Raced when it must be decided again."""
        app, org_id = self.app, self.org_id
        parsed = mime.parse(raw)
        message = received(envelope, decision, conversation.value, parsed, self.mailbox.id, app.clock())
        if message.direction == "out":
            message = bouncing.as_marked(app, org_id, message)
        packed = pack(message, raw)
        for blob, data in packed.blobs.items():  # named after the mail: whoever comes again overwrites them
            app.blobs.put(org_id, blob, data)
        message = packed.message
        marks = bouncing.marks(app, org_id, message, raw) if decision.kind == "bounce" else []
        self._commit(
            conversation,
            *packed.writes,
            *indexed(envelope, message, decision, self.mailbox.id, self.knowledge.known),
            *marks,
            self._audit("message.filed", message, decision),
        )
        return "file"

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
        message = find(self.app, self.org_id, alias.conversation_id, alias.email_id)
        if message is None:
            return "known"  # erased since; its Message-ID still keeps it from coming back
        old = message.value
        new = self._seen_in(envelope, old)
        proven: list[Write] = []
        if old.state == "uncertain" and old.mailbox_id != self.mailbox.id:  # whether Sent has a copy is open
            now = self.app.clock()
            new = replace(new, next_at=now)
            scheduling.promise_sweep(self.app, self.org_id, now)
            proven = [Save(OutboxItem.of(new, now))]
        learnt = self._is_new(envelope.message_id, alias)
        writes: list[Write] = [Move(message, new), *proven] if new != old else []
        if learnt and envelope.message_id:
            self.learn(envelope.message_id)
            writes.append(Add(replace(alias, message_id=envelope.message_id)))
        if old.message_id and old.planned_id == envelope.message_id != old.message_id:
            self.learn(old.message_id)  # a copy that we filed, of a mail that left under another id
        if envelope.thread and new != old:
            writes.append(Save(ThreadHint(self.mailbox.id, envelope.thread, alias.conversation_id)))
        if writes:
            writes.append(self._audit("message.seen_again", new))
            self.app.records.commit(self.org_id, *writes)
        return "learnt" if learnt else "known"

    def _seen_in(self, envelope: Envelope, message: Message) -> Message:
        """Return a message with what one more copy of it tells."""
        new = message
        if self.mailbox.id not in {delivery.mailbox_id for delivery in message.deliveries}:
            fact = Delivery(self.mailbox.id, envelope.ref, envelope.folder)
            new = replace(new, deliveries=(*message.deliveries, fact))
        if message.state == "uncertain":
            new = replace(new, state="sent", error=None)
        if envelope.is_sent and message.direction == "in":  # a colleague's copy of it was seen first
            sent = replace(new, direction="out", state="sent", mailbox_id=self.mailbox.id)
            new = bouncing.as_marked(self.app, self.org_id, sent)
        return new

    def _is_new(self, message_id: str | None, alias: Alias) -> bool:
        """Whether a copy taught us a further Message-ID: one that we know stays whose it is."""
        if message_id is None or message_id == alias.message_id:
            return False
        return self.knowledge.alias(message_id) is None

    def _hold(
        self, envelope: Envelope, decision: Decision, conversation: Conversation, reason: str = ""
    ) -> None:
        place = (self.app, self.org_id, self.mailbox.id)
        hold(*place, envelope, decision, conversation, actor=self.actor, reason=reason)

    def _lose(self, envelope: Envelope, decision: Decision, conversation: Conversation) -> str:
        """A case mail that cannot be fetched or read (deleted, no data, our bug) is shown to its owner."""
        self._hold(envelope, decision, conversation, GONE)
        return "lost"

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
