"""A cursor that is JSON: what most providers write down of where they stopped.

Cursors are kept for as long as a mailbox is connected, so a field that is added later has a default, and
one that goes away is passed over.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import msgspec

from shared import logs
from shared.errors import CursorExpired, Temporary, ZalionError
from shared.model import Envelope
from shared.providers.base import Cursor, Page

LONGEST = 200_000
"""Characters of a cursor; the record that keeps it takes 448,000, every quotation mark as two."""

WAITED, ASKED = 2 * 24 * 3600, 10
"""Seconds, and looks, in which a mail is asked for that a provider does not give while it gives others.

Both, because a mailbox may be paused for days.
"""


@dataclass
class Position:
    """What a cursor says; the fields are each provider's own."""

    @classmethod
    def of(cls, cursor: Cursor | None, **new: Any) -> Self:
        """Read a cursor, or begin with `new` where there is none.

        Raises CursorExpired for one that cannot be read.
        """
        if cursor is None:
            return cls(**new)
        try:
            return msgspec.json.decode(cursor, type=cls)
        except msgspec.DecodeError as error:
            raise CursorExpired("The cursor was made by another version.") from error

    @property
    def cursor(self) -> Cursor:
        """Write it down. Raises Temporary for one that is longer than what keeps it takes."""
        written = msgspec.json.encode(self).decode()
        if len(written) > LONGEST:
            raise Temporary(
                "There is more to remember of this mailbox than can be kept.",
                retry_after=300,
                fix="Choose fewer folders of it with PATCH; tell us if that changes nothing.",
            )
        return Cursor(written)

    def page(self, envelopes: Iterable[Envelope] = (), refused: int = 0, unreadable: int = 0) -> Page:
        """Make a page after which this position is true; see `Page`."""
        return Page(tuple(envelopes), self.cursor, refused, unreadable)


class Patient:
    """What a position knows of mails that the provider does not give while it gives others.

    Attributes:
        provider: its name, for the log.
        most_refused: so many at a time; more are no single mail's fault, and a cursor has an end.
        refused: such mails -> since when (seconds since 1970); asked for again at each look.
        tried: how often each of them was asked for.
    """

    provider: ClassVar[str]
    most_refused: ClassVar[int] = 100
    refused: dict[str, int]
    tried: dict[str, int]

    def put_off(self, asked: Sequence[str], refused: Mapping[str, ZalionError]) -> int:
        """Remember which of the mails that were asked for are to be asked for again.

        Returns how many are given up. Raises what was said of one where there are too many.
        """
        now, given_up = int(time.time()), 0
        known = {id_: (self.refused.pop(id_, now), self.tried.pop(id_, 0) + 1) for id_ in asked}
        for id_, error in refused.items():
            since, tries = known[id_]
            if now > since + WAITED and tries > ASKED:
                logs.log("mail.given_up", level=logging.WARNING, provider=self.provider, code=error.code)
                given_up += 1
            else:
                self.refused[id_], self.tried[id_] = since, tries
            if len(self.refused) > self.most_refused:
                raise error
        return given_up
