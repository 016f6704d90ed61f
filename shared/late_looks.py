"""Looking for what may answer Message-IDs that became known late: it may have been passed over before.

Nothing is kept between two looks but the ids (`lateness`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.app import App
from shared.errors import Busy, NotFound, Rejected, Temporary, Withheld, ZalionError
from shared.findings import Findings
from shared.leasing import Lease
from shared.model import Envelope
from shared.providers.base import Receiver

AT_ONCE = 2
"""So many Message-IDs are looked for at once: at Gmail one costs 2,600 of a minute's 6,000 units at most
(`google.answers.EACH`), and more than a minute has would fail each time."""

WITHHELD, WITHHELD_LOOKS = timedelta(days=2), 10
"""So long, and in so many looks, is looked for what a provider keeps from us: a paused mailbox looks less."""


@dataclass
class LateLooks:
    """Looks for them through one open receiver, under one lease.

    Attributes:
        handle: told each mail that is shown, see `Receiver.look`.
    """

    app: App
    lease: Lease
    receiver: Receiver
    found: Findings
    handle: Callable[[Envelope], None]

    def look(self, ends_at: datetime) -> float | None:
        """Look for all that are noted; returns None, or in how many seconds another job is to go on.

        Raises what breaks a look, but Withheld.
        """
        put_off: set[str] = set()
        if self.lease.held.value.more:
            self.lease.looked_for(())  # reads what lies beside the record
        while wanted := [id_ for id_ in self.lease.held.value.look if id_ not in put_off][:AT_ONCE]:
            if rest := self.receiver.rest():
                return rest
            put_off |= self._looked_for(wanted)
            if self.app.clock() > ends_at:
                return 0
        return None

    def _looked_for(self, wanted: Sequence[str]) -> frozenset[str]:
        """Look once; returns what is to be looked for again, because the provider kept mails from us.

        A look that breaks keeps everything from us: it counts, or one mail could break it for ever.
        """
        withheld, mails, broke = frozenset[str](), 0, None
        try:
            for envelope in self._shown(wanted):
                self.handle(envelope)
        except Withheld as error:
            withheld, mails = error.message_ids, error.mails
        except _LookBroke as error:
            withheld, broke = frozenset(wanted), error.error
        again = frozenset(id_ for id_ in withheld if not self._hopeless(id_))
        self.found.refused += mails if again else 0
        told = [self.found.given_up(mails)] if again != withheld else []
        self.lease.looked_for(wanted, *told, withheld=again)
        if broke and again:
            raise broke
        return again

    def _shown(self, wanted: Sequence[str]) -> Iterator[Envelope]:
        """Yield what is shown; what breaks the look itself, and no handling of a mail, is told apart."""
        try:
            yield from self.receiver.look(wanted)
        except (Withheld, Busy):
            raise
        except (Temporary, Rejected, NotFound) as error:
            raise _LookBroke(error) from error

    def _hopeless(self, message_id: str) -> bool:
        """Whether what may answer it was kept from us long enough, and in looks enough, to go on without."""
        since, looks = self.lease.held.value.withheld.get(message_id, (self.app.clock(), 0))
        return looks >= WITHHELD_LOOKS and self.app.clock() - since > WITHHELD


class _LookBroke(Exception):
    def __init__(self, error: ZalionError) -> None:
        super().__init__(error.code)
        self.error = error
