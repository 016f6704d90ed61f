"""Putting a mail where it belongs: the decision's consequences.

What is filed is fetched, compared where it looks like what is there already, and stored (`storing`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared import logs, mime
from shared.comparing import belongs_apart, is_unread
from shared.conversations import Decision, as_proven, decide, on_its_own
from shared.errors import NotFound, Raced, Rejected, ZalionError
from shared.fetching import fetch
from shared.holding import GONE, hold, is_dismissed
from shared.model import Alias, Conversation, Envelope, Message
from shared.storage.base import Stored
from shared.storing import TRIES, Storing


@dataclass
class Filer(Storing):
    """Files the mail of one mailbox through one open receiver.

    Attributes:
        hopeless: ref of a mail that has failed often enough; what belongs to a case is held instead.
        fetching: ref of the mail whose fetching or reading failed, for whoever finds that it did.
    """

    hopeless: str = ""
    fetching: str = ""

    def handle(self, envelope: Envelope) -> str:
        """Decide about one mail and carry it out; returns the outcome.

        One of `ignore`, `known`, `learnt` (a copy that taught us a further Message-ID), `file`,
        `review`, `lost` (gone before it could be fetched). Safe to repeat.
        """
        envelope = mime.as_judged(as_proven(envelope, self.mailbox.address), self.believed)
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
        with self._fetching(envelope):
            try:
                return self.receiver.returned_headers(envelope.ref)
            except (NotFound, Rejected):
                return b""

    def _carry_out(self, envelope: Envelope, decision: Decision) -> str:
        if decision.outcome == "known" and decision.copy_of:
            return self._copied(envelope, decision.copy_of)
        if decision.outcome == "review" and decision.conversation:
            self._hold(envelope, decision, decision.conversation)
            return "review"
        if decision.outcome == "file" and decision.conversation and not self._is_dismissed(envelope):
            return self.file(envelope, decision, self.knowledge.conversations[decision.conversation.id])
        return "ignore"

    def _is_dismissed(self, envelope: Envelope) -> bool:
        """Whether its owner has dismissed it, whatever speaks for it now; asked of what was seen before."""
        return self.seen.is_old(envelope) and is_dismissed(self.app, self.org_id, self.mailbox.id, envelope)

    def file(self, envelope: Envelope, decision: Decision, conversation: Stored[Conversation]) -> str:
        """Fetch and store one mail into a conversation. Raises Raced when it must be decided again."""
        raw = self._given(envelope)
        if raw is None:
            return self._lose(envelope, decision, conversation.value)
        with self._minding(envelope):
            return self.store(envelope, decision, conversation, raw)

    def _given(self, envelope: Envelope) -> bytes | None:
        """Fetch a mail; None where that failed too often, it is gone, or never given (Exchange does so)."""
        if envelope.ref == self.hopeless:
            return None
        with self._fetching(envelope):
            try:
                return fetch(self.receiver, envelope)
            except (NotFound, Rejected):
                return None

    @contextmanager
    def _fetching(self, envelope: Envelope) -> Iterator[None]:
        """Note which mail is at hand: it stays noted when something breaks, a bug of ours included."""
        self.fetching = envelope.ref
        yield
        self.fetching = ""

    @contextmanager
    def _minding(self, envelope: Envelope) -> Iterator[None]:
        """Note which mail is read; trouble with the storage, or a race, is no fault of that mail."""
        with self._fetching(envelope):
            try:
                yield
            except ZalionError:
                self.fetching = ""
                raise

    def _copied(self, envelope: Envelope, alias: Alias) -> str:
        """Take one more copy of a mail that we have; it may have the headers only."""
        first = self.knowledge.message(alias)
        if first and is_unread(first.value, self.mailbox.id):
            return self._compared(envelope, alias, first)
        return self.seen_again(envelope, alias, first)

    def _compared(self, envelope: Envelope, alias: Alias, first: Stored[Message]) -> str:
        """Read what else is under the headers of a mail that came in, or belongs elsewhere.

        Once a mailbox, as what was read is proven; only the headers of what is not are judged again.
        Only what would be filed without that mail, there or where it belongs by what it names: else whoever
        plants a private mail's headers in a case of his own would have its text read. What would be held
        elsewhere is: a colleague's copy that names his own case answers no question of its owner's.
        """
        judged = on_its_own(envelope, self.knowledge, own=self.mailbox.address, authserv_id=self.believed)
        place, apart = judged.conversation, belongs_apart(first.value, judged)
        if place and apart and judged.outcome == "review":
            self._hold(envelope, judged, place)
            return "review"
        there = apart or (place is not None and place.id == alias.conversation_id)
        if place is None or judged.outcome != "file" or not there:
            return self.looks_alike(envelope, first)
        if not apart and self.is_by_its_owner(first.value):
            return self.seen_again(envelope, alias, first)
        if self._is_dismissed(envelope):
            return self.looks_alike(envelope, first)
        return self.read(envelope, alias, first, judged, self.knowledge.conversations[place.id])

    def read(
        self,
        envelope: Envelope,
        alias: Alias,
        first: Stored[Message],
        judged: Decision,
        conversation: Stored[Conversation],
    ) -> str:
        """Fetch it and take it. What cannot be fetched is a copy; not of a mail of another conversation."""
        raw = self._given(envelope)
        if raw is None and conversation.value.id != alias.conversation_id:
            return self._lose(envelope, judged, conversation.value)
        if raw is None:
            return self.seen_again(envelope, alias, first)
        with self._minding(envelope):
            return self.beside(envelope, alias, first, judged, conversation, raw)

    def _hold(
        self, envelope: Envelope, decision: Decision, conversation: Conversation, reason: str = ""
    ) -> None:
        place = (self.app, self.org_id, self.mailbox.id)
        hold(*place, envelope, decision, conversation, actor=self.actor, reason=reason)

    def _lose(self, envelope: Envelope, decision: Decision, conversation: Conversation) -> str:
        """A case mail that cannot be fetched or read (deleted, no data, our bug) is shown to its owner."""
        self._hold(envelope, decision, conversation, GONE)
        return "lost"
