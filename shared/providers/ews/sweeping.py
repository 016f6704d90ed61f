"""What came to the folders that are not followed, found by time; some of them may be shut for a while."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from shared import mime
from shared.providers.ews.finding import Found
from shared.providers.ews.folders import Folders, Layout, places
from shared.providers.ews.position import Position, hashed
from shared.providers.ews.xml import IN_REPLY_TO, REFERENCES, Where, both, either, holding, since_then


class Sweeping(Folders):
    """A mailbox of which all folders are looked through."""

    def came(self, position: Position, layout: Layout, after: datetime) -> tuple[Iterable[Found], set[str]]:
        """Find what came since then to folders that are not followed; to one that was shut, since it is.

        Returns also which of those, hashed, have opened again.
        """
        asked = position.to_search(layout, after)
        found, refused = self._since(position, layout, asked, after)
        opened = {one for one in asked if hashed(one) in position.shut} - refused
        if opened:
            begin = min(position.shut[hashed(one)][0] for one in opened)
            more, again = self._since(position, layout, opened, datetime.fromtimestamp(begin, UTC))
            found, refused, opened = found + more, refused | again, opened - again
        position.shut_out(refused, after)
        return dict.fromkeys(found), {*map(hashed, opened)}

    def _since(
        self, position: Position, layout: Layout, folders: Collection[str], after: datetime
    ) -> tuple[list[Found], set[str]]:
        """Find what came to folders since then; returns also which of them may not be searched.

        Where folders were chosen, nothing else of the other ones is ours to read than what quotes an id that
        begins as ours do: Exchange itself looks for it. A chosen one that was renamed is read whole.
        """
        ours = position.ours(layout)
        whole = [one for one in folders if hashed(one) in ours]
        others = [one for one in folders if hashed(one) not in ours]
        quotes = either([holding(field, mime.OURS, any_case=True) for field in (IN_REPLY_TO, REFERENCES)])
        then = since_then(after)
        rest, shut = self.find_in(places(others), Where(both(then, quotes)))
        found, closed = self.find_in(places(whole), Where(then))
        return found + [replace(one, folder="") for one in rest], shut | closed
