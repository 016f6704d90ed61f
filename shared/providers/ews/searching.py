"""The owner's live look into a mailbox at Exchange: Inbox, Sent and the chosen folders, by query string.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/querystring-querystringtype
"""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from shared.errors import InvalidRequest
from shared.providers.base import Folder, Hits, Query
from shared.providers.ews.envelopes import envelope
from shared.providers.ews.finding import MOST_FOUND, Found
from shared.providers.ews.folders import ROLES, Folders
from shared.providers.ews.xml import id_of

_SHOWN = {"inbox", "sent", "drafts", "trash", "junk"}
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class EwsSearcher(Folders):
    """Searcher of `base` over EWS."""

    def search(self, query: Query) -> Hits:
        """See `Searcher.search`. The newest thousand matches of each folder are looked through."""
        layout = self.layout()
        # within days that are not whole, what the server finds is more than what is wanted
        end = query.offset + query.limit
        wanted = end + 1 if not (query.after or query.before) else MOST_FOUND
        found = self.find(list(layout.watched.values()), words=_aqs(query), most=min(wanted, MOST_FOUND))
        matches = sorted((one for one in found if _fits(one, query)), key=_at, reverse=True)
        page = matches[query.offset : end]
        names = layout.names
        given, _ = self.available([m.id for m in page])
        items = [(names.get(id_of(item, "ParentFolderId"), ""), item) for item in given]
        mails = [envelope(item, folder=name, sent=name == "sentitems") for name, item in items]
        return Hits(tuple(mails), more=len(matches) > end)

    def folders(self) -> list[Folder]:
        """See `Searcher.folders`."""
        found = []
        for path, one, roles in self.paths():
            role = ROLES.get(one.role) or next(
                (ROLES[name] for name in roles if name in ROLES and "/" not in path), ""
            )
            found.append(Folder(path, cast("Any", role if role in _SHOWN else None)))
        return found


def _aqs(query: Query) -> str:
    """Write the query in AQS. Raises InvalidRequest for control characters; quotes would end its phrases."""
    terms = []
    named = (("", "q", query.text), ("from:", "from", query.sender), ("to:", "to", query.to))
    for key, field, value in (*named, ("subject:", "subject", query.subject)):
        if value and not value.isprintable():
            raise InvalidRequest("This must be one line of printable characters.", field=field)
        if value:
            terms.append(f'{key}"{value.replace(chr(34), " ")}"')
    # the server's days are of its own zone
    if query.after:
        terms.append(f"received:>={query.after - _DAY:%Y-%m-%d}")
    if query.before:
        terms.append(f"received:<={query.before + _DAY:%Y-%m-%d}")
    if query.has_attachment is not None:
        terms.append(f"hasattachment:{str(query.has_attachment).lower()}")
    return " AND ".join(terms)


def _fits(one: Found, query: Query) -> bool:
    """Whether it came in the asked time, to the second."""
    at = _at(one)
    return (query.after is None or at >= query.after) and (query.before is None or at < query.before)


def _at(one: Found) -> datetime:
    return one.received_at or _NEVER
