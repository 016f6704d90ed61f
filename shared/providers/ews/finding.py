"""Finding mails in folders: FindItem of many at once, page after page."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exchangelib import Account
from exchangelib.errors import EWSError
from exchangelib.fields import FieldOrder
from exchangelib.properties import DistinguishedFolderId, FolderId

from shared import logs
from shared.providers.ews import services
from shared.providers.ews.services import FOUND, MOST_PAGES, NOT_SEARCHED, RECEIVED
from shared.providers.ews.xml import Element, Where, Words, before, both, id_of, moment, text

MOST_FOUND = 1000
"""EWSFindCountLimit's default."""

_SECOND = timedelta(seconds=1)
_LATEST = datetime.max.replace(tzinfo=UTC) - _SECOND

type Place = FolderId | DistinguishedFolderId
type Speaking = Callable[[], AbstractContextManager[Account]]


@dataclass(frozen=True, slots=True)
class Found:
    """A mail's id, when Exchange took it in, and the id of the folder it lies in."""

    id: str
    received_at: datetime | None
    folder: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One request of a search, the first or a later one: what came before `until`, from that place on."""

    folders: Sequence[Place]
    number: int = 1
    until: datetime | None = None
    offset: int = 0

    def within(self, where: Where | None) -> Where | None:
        """Return the condition of this request."""
        if not self.until:
            return where
        return Where(both(where.condition, before(self.until)) if where else before(self.until))

    def following(self, folder: Place, page: Sequence[Found]) -> "_Step":
        """Return the step after this page of a folder: by time, as each mail that goes away moves places.

        Exchange tells whole seconds: the last one is asked for again. If nothing else came, go by place.
        """
        last = page[-1].received_at if page else None
        until = min(last, _LATEST) + _SECOND if last else None
        if until is None or (self.until and until >= self.until):
            return _Step([folder], self.number + 1, self.until, self.offset + len(page))
        return _Step([folder], self.number + 1, until)


def find(
    speaking: Speaking,
    folders: Sequence[Place],
    where: Where | None = None,
    *,
    words: str = "",
    most: int = 0,
) -> tuple[list[Found], set[str]]:
    """Return the mails of these folders that match: all, or the `most` newest of each.

    Returns also the ids of the folders that may not be searched, or are gone. One that every mailbox has
    raises that.
    """
    found, refused = dict[str, Found](), set[str]()
    steps = [_Step(folders)] if folders else []
    for step in steps:  # it grows meanwhile
        if step.number > MOST_PAGES:
            raise services.endless()
        pages = _pages(speaking, step, where, words, most or MOST_FOUND)
        for folder, (page, more) in zip(step.folders, pages, strict=True):
            if isinstance(page, EWSError):
                refused.add(str(folder.id))
                continue
            mails = [*map(found_in, page)]
            found |= {one.id: one for one in mails}
            if more and not most:
                steps.append(step.following(folder, mails))
    return [*found.values()], refused


def found_in(element: Element) -> Found:
    """Read what is told of a mail in a list."""
    received_at, folder = moment(text(element, "DateTimeReceived")), id_of(element, "ParentFolderId")
    return Found(id_of(element, "ItemId"), received_at, folder)


def _pages(
    speaking: Speaking, step: _Step, where: Where | None, words: str, size: int
) -> list[tuple[list[Element] | EWSError, bool]]:
    """Ask for a page of each folder: its mails, newest first, or what is said of it; whether it has more."""
    options = {
        "additional_fields": FOUND,
        "restriction": step.within(where),
        "order_fields": [FieldOrder(RECEIVED[0], reverse=True)],
        "query_string": Words(words) if words else None,
        "shape": "IdOnly",
        "depth": "Shallow",
        "calendar_view": None,
        "page_size": size,
        "offset": step.offset,
    }
    with speaking() as account:
        told = services.FindItem(account=account).pages(step.folders, **options)
        named = zip(step.folders, told, strict=True)
        refused = Counter(_code(folder, page) for folder, (page, _) in named if isinstance(page, EWSError))
    for code, count in refused.items():
        logs.log("folder.not_searched", level=logging.WARNING, provider="ews", code=code, count=count)
    return told


def _code(folder: Place, error: EWSError) -> str:
    """Name what is said of a folder of somebody's own alone; raise what is said of another, or of more."""
    if isinstance(folder, DistinguishedFolderId) or not isinstance(error, NOT_SEARCHED):
        raise error
    return type(error).__name__
