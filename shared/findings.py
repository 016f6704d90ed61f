"""What one look at a mailbox has found, as it is told: at the mailbox, and on the audit's record."""

from collections import Counter
from dataclasses import dataclass, field

from shared import audit
from shared.app import App
from shared.explaining import explain
from shared.model import Mailbox, Problem
from shared.storage.base import Add

NAMED = 3
"""So many folders that are missing are named; a mailbox may have fifty."""


@dataclass
class Findings:
    """Found by one look, in the name of `actor`.

    Attributes:
        counts: how many mails had which outcome (`Filer.handle`).
        refused: how many mails the provider kept from us.
        missing: the chosen folders that are not there.
    """

    app: App
    mailbox: Mailbox
    actor: str
    counts: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    missing: tuple[str, ...] = ()

    def begin_again(self) -> None:
        """Forget what the next pages tell anew: a look that is repeated asks for the same mails."""
        self.refused, self.missing = 0, ()

    @property
    def problem(self) -> Problem | None:
        """What the mailbox's owner, or IT, should know of a look that reached its end."""
        return self._missing() or self._withheld()

    def _missing(self) -> Problem | None:
        """Name the chosen folders that are not there, as many as one reads: only a human can mend that."""
        if not self.missing:
            return None
        named, more = self.missing[:NAMED], self.missing[NAMED:]
        names = ", ".join([*(f"“{name}”" for name in named), *([f"+{len(more)}"] if more else [])])
        told = explain("folders_missing", folders=names, mailbox=self.mailbox.id)
        return Problem(told.key, told.detail, told.fix)

    def _withheld(self) -> Problem | None:
        """Say that the provider keeps mails from us, while it gives others."""
        if not self.refused:
            return None
        fix = "Zalion asks for them again at each look, for some time. Ask your provider if it stays."
        return Problem("mail_refused", f"The provider did not give {self.refused} of the mails.", fix)

    def read(self, outcome: str) -> Add:
        """Make the record of this look: what was read, and how it ended."""
        counts = dict(self.counts + Counter(refused=self.refused))
        return self._event("mailbox.read", outcome, counts=counts)

    def restarted(self, reason: str) -> Add:
        """Make the record of a look that begins at the connection date again."""
        return self._event("mailbox.restarted", "done", detail=reason)

    def given_up(self, mails: int) -> Add:
        """Make the record of mails that the next looks ask for no more."""
        return self._event(
            "mailbox.mail_given_up",
            "unreadable",
            counts={"unreadable": mails},
            detail="The mail server has refused to show the headers of this mail to several looks; "
            "whether it belongs to a case only its owner can see, in the own mail program.",
        )

    def _event(
        self, event: str, outcome: str, *, counts: dict[str, int] | None = None, detail: str = ""
    ) -> Add:
        return audit.entry(
            self.app,
            event,
            actor=self.actor,
            outcome=outcome,
            mailbox_id=self.mailbox.id,
            counts=counts,
            detail=detail,
        )
