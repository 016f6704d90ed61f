"""The owner's live look into the mailbox; nothing of it is kept."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import batched

from shared.errors import InvalidRequest
from shared.model import Envelope
from shared.providers.base import Hits, Query, given
from shared.providers.imap.folders import Mailbox
from shared.providers.imap.items import arrival

NEWEST_MATCHES = 5000
"""A search puts at most so many matches of a folder in order; who has more should narrow it."""

_BATCH = 1000
_DAY = timedelta(days=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class ImapSearcher(Mailbox):
    """Searcher of `base` over IMAP."""

    def search(self, query: Query) -> Hits:
        """See `Searcher.search`. Looks into Inbox, Sent and the chosen folders.

        IMAP has no criterion for attachments: a mail of the type multipart/mixed counts as one with.
        """
        terms = _terms(query)
        sent = self.sent()
        matches: list[tuple[datetime, str, int]] = []
        for folder in self.watched(sent):
            if self.exists(folder):
                dated = self._dated(self.matching(terms))
                matches += ((at, folder, uid) for at, uid in dated if _fits(at, query))
        matches.sort(reverse=True)
        end = query.offset + query.limit
        wanted = matches[query.offset : end]
        found = list[Envelope]()
        for folder in {folder for _, folder, _ in wanted}:
            uids = [uid for _, there, uid in wanted if there == folder]
            found += given(self.headers(folder, uids, sent=folder == sent))
        found.sort(key=lambda envelope: envelope.received_at or _NEVER, reverse=True)
        return Hits(tuple(found), more=len(matches) > end)

    def _dated(self, uids: Sequence[int]) -> Iterator[tuple[datetime, int]]:
        for batch in batched(uids[-NEWEST_MATCHES:], _BATCH, strict=False):
            for uid, items in self.items(batch, ["INTERNALDATE"]).items():
                yield arrival(items) or _NEVER, uid


def _terms(query: Query) -> list[tuple[str, str | datetime]]:
    """Make criteria; raises InvalidRequest for control characters. The server's dates are of its own zone."""
    terms: list[tuple[str, str | datetime]] = []
    for key, field, value in (
        ("TEXT", "q", query.text),
        ("FROM", "from", query.sender),
        ("TO", "to", query.to),
        ("SUBJECT", "subject", query.subject),
    ):
        if value and not value.isprintable():
            raise InvalidRequest("This must be one line of printable characters.", field=field)
        if value:
            terms.append((key, value))
    if query.after:
        terms.append(("SINCE", query.after - _DAY))
    if query.before:
        terms.append(("BEFORE", query.before + 2 * _DAY))
    if query.has_attachment is not None:
        key = "HEADER Content-Type" if query.has_attachment else "NOT HEADER Content-Type"
        terms.append((key, "multipart/mixed"))
    return terms


def _fits(at: datetime, query: Query) -> bool:
    """Whether it came in the asked time, to the second; the server compares days only."""
    return (query.after is None or at >= query.after) and (query.before is None or at < query.before)
