"""Reading batch by batch, whatever is kept back: that is owed, and asked for again by the next looks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import batched, islice

from shared.errors import Rejected, Temporary
from shared.model import Envelope
from shared.providers.base import Page
from shared.providers.imap.finding import ImapFinder
from shared.providers.imap.headers import BATCH, MANY
from shared.providers.imap.position import PATIENCE, Full, Position
from shared.providers.imap.refusals import Broke, Silent
from shared.providers.reopening import Shut

MOST_SILENT = 3
"""So often a look waits in vain for what is owed: each time takes the whole time-out."""


class Batches(ImapFinder):
    """The part of Receiver that reads what is to be read."""

    def read_first(
        self, position: Position, folder: str, uids: Sequence[int], oldest: datetime, *, sent: bool
    ) -> Iterator[Page]:
        """Yield a page of mails; where the server gives none of many, or is silent to all, they are owed.

        But only if it gives another mail: else it is out of order, and that is no matter of single mails.
        They are owed, too, where one ends the session and nobody is let in again: Shut then is raised, or
        Full for want of room, and see `Position.shut`.
        """
        validity = self.examine(folder)
        try:
            found = self.described(folder, uids, sent=sent, oldest=oldest)
        except Shut:
            position.shut = True
            position.owe(folder, validity, uids, uids, uids)
            yield position.page((), len(uids))
            raise
        except (Silent, Broke, Rejected):
            unasked = self.unasked
            if not self._gives_another(position, folder, ({*uids} - unasked) | position.withheld(folder)):
                raise
            given_up = position.owe(folder, validity, uids, uids, unasked)
            yield position.page((), len(uids) - given_up, given_up)
        else:
            yield self._page(position, folder, uids, found)

    def _gives_another(self, position: Position, folder: str, known: Collection[int]) -> bool:
        """Whether the server gives a mail of those not known to be kept back.

        It is asked for the newest of another folder that is read, and for the oldest and the newest of this
        one, in which all that there is may be kept back.
        """
        names = [name for name in self.watched(position.sent) if name != folder and self.exists(name)]
        elsewhere = ((name, self._besides(name, position.withheld(name))[-1:]) for name in names)
        asked = [*islice(filter(lambda one: one[1], elsewhere), 1)]
        here = self._besides(folder, known)
        return any(
            self._gives(name, uids) for name, uids in [*asked, (folder, here[:1]), (folder, here[1:][-1:])]
        )

    def _besides(self, folder: str, known: Collection[int]) -> list[int]:
        """Return what lies in a folder besides these."""
        self.examine(folder)
        return [uid for uid in self.find("ALL") if uid not in known]

    def _gives(self, folder: str, uids: Sequence[int]) -> bool:
        """Whether the server gives any of these."""
        try:
            return bool(uids and self.described(folder, uids, sent=True))
        except Silent:
            return False

    def _read(
        self, position: Position, folder: str, uids: Sequence[int], oldest: datetime, *, sent: bool
    ) -> Page:
        """Read headers, and make a page of the mails that are not older, drafts left out."""
        return self._page(position, folder, uids, self.described(folder, uids, sent=sent, oldest=oldest))

    def _page(
        self, position: Position, folder: str, uids: Sequence[int], found: Mapping[int, Envelope | None]
    ) -> Page:
        """Make a page of what was read.

        What is kept back and still there is owed, what is gone must be looked for elsewhere.
        """
        there = self.kept_back(uids, found)
        position.elsewhere |= len(found) + len(there) < len(uids)
        given_up = position.owe(folder, self.examine(folder), uids, there)
        return position.page(filter(None, found.values()), len(there) - given_up, given_up)

    def owed(self, position: Position, oldest: datetime) -> Iterator[Page]:
        """Ask once more for what was kept back; what stops us there keeps back nothing that is new.

        Nor does who says nothing too often: the rest is asked for by the next looks, and first. Where one
        ends the session and nobody is let in again, that is raised; such mails are given up only while the
        server gives another. Of a folder that the server refuses to open a look is counted for all of them;
        where it only ended the session, or is busy, none was asked for.
        """
        borne, well = self.silences + MOST_SILENT, True
        # fewer than `MANY`: that the server gives none of these is known, and says nothing of others
        size = 1 if position.shut else MANY - 1
        for folder in position.folders_least_asked():
            kept, left = position.owed[folder], position.least_asked(folder)
            asked: Sequence[int] = left
            self.unasked = {*left}
            try:
                if not self._is_same(folder, kept.validity):
                    position.elsewhere = True
                    del position.owed[folder]
                    continue
                asked = ()
                well = not position.shut or self._is_well(position, folder)
                for asked in batched([*left], size, strict=False):
                    if self.silences >= borne:
                        yield position.page((), len(left))
                        break
                    yield self._read(position, folder, asked, oldest, sent=folder == position.sent)
                    del left[: len(asked)]
            except (Rejected, Temporary) as error:
                position.shut |= isinstance(error, Shut)
                known = well and (asked is not left or isinstance(error, Rejected))
                given_up = position.owe(folder, kept.validity, asked, asked, self.unasked, well=known)
                yield position.page((), len(left) - given_up, given_up)
                if isinstance(error, Shut):
                    raise

    def _is_well(self, position: Position, folder: str) -> bool:
        """Whether the server gives another mail than those that are owed.

        It is not asked before that matters where these come first: a new one may end the session, too, and
        then nothing that is owed would ever be asked for.
        """
        if position.crowded and position.owed[folder].least < PATIENCE - 1:
            return False
        return self._gives_another(position, folder, position.withheld(folder))

    def _is_same(self, folder: str, validity: int) -> bool:
        """Open a folder; False where there is none, or another. One that is refused gives no mail."""
        try:
            return self.opens(folder) and self.examine(folder) == validity
        except Rejected:
            self.unasked = set()
            raise


def cut(position: Position, uids: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Cut what is to be read; into small ones where a mail may end the session: its whole batch is owed."""
    return batched(uids, MANY - 1 if position.shut else BATCH, strict=False)


def bearable(full: Full) -> Full:
    """Return the error; raises it where a mail ended the session, and no other folder can be read."""
    if isinstance(full.__context__, Shut):
        raise full
    return full
