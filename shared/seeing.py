"""Whether a mail may have been answered by one that was seen, and passed over, before it.

Which mail of a case is read first is a matter of folders and of when copies come into Sent. Of what was
passed over nothing is kept but, for the time of the look, the Message-IDs that it names.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from shared.model import Envelope

NEAREST = 20
"""Of what a mail refers to, so many of the nearest are remembered."""

MOST_NAMED = 20_000

PROMPT = timedelta(minutes=2)
"""A mail that took longer may have been answered, by somebody who got it sooner, before it came in here."""

SKEW = timedelta(minutes=10)
"""So far a mail server's clock may be ahead of ours."""


@dataclass
class Seen:
    """What one look has seen.

    Attributes:
        before: when the newest mail came in that earlier looks had seen.
        newest: the same, of this one, too.
    """

    before: datetime | None = None
    newest: datetime | None = None
    _named: set[str] = field(default_factory=set)

    @classmethod
    def everything(cls) -> Self:
        """Make the one of a look through what lies there: all of it may have been seen before."""
        return cls(before=datetime.max.replace(tzinfo=UTC))

    def saw(self, envelope: Envelope, outcome: str, now: datetime) -> None:
        """Note a mail that was dealt with.

        What came in a little later than "now" was dated by the mail server's clock, by which the next ones
        come, too; what came in much later by somebody's program.
        """
        if came := _came(envelope):
            came = came if came <= now + SKEW else now
            self.newest = max(self.newest or came, came)
        if outcome == "ignore":
            self.passed_over(envelope)

    def passed_over(self, envelope: Envelope) -> None:
        """Note what a mail names that was not filed by it: that may come later."""
        self._named.update(filter(None, (envelope.in_reply_to, *envelope.references[-NEAREST:])))

    def may_have_passed_over(self, envelope: Envelope) -> bool:
        """Whether an answer to this mail may have been seen before it.

        Earlier looks are known by the time only: a copy in Sent may come later than the first answer to it,
        and so may a mail that was held up on its way.
        """
        if envelope.message_id in self._named:
            return True
        until = self.newest if len(self._named) >= MOST_NAMED else self.before
        came, written = _came(envelope), envelope.sent_at
        if until is None or came is None:
            return False
        if written and (envelope.is_sent or came - written > PROMPT):
            return written <= until
        return came < until

    def is_old(self, envelope: Envelope) -> bool:
        """Whether an earlier look may have seen this very mail."""
        came = _came(envelope)
        return came is None or (self.before is not None and came <= self.before)


def _came(envelope: Envelope) -> datetime | None:
    """When a mail came in; of some servers only its Date is known (POP3 without Received)."""
    return envelope.received_at or envelope.sent_at
