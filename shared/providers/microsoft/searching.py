"""The owner's live look into a mailbox at Graph.

`$search` gives at most 1,000 mails, newest first, and takes no filter beside it; so words go to it as
KQL and times are KQL too. https://learn.microsoft.com/graph/search-query-parameter
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from shared.model import Envelope
from shared.providers.base import Folder, Hits, Query
from shared.providers.microsoft.graph import FIELDS, PAGE, Session, moment, segment, when
from shared.providers.microsoft.reading import ROLES

MOST_TERMS = 20
_STEERING = re.compile(r'["\\()*:<>=\x00-\x1f]')
_OPERATORS = {"AND", "OR", "NOT", "NEAR", "ONEAR", "XRANK", "WORDS"}
_KNOWN = {"inbox", "sent", "drafts", "trash", "junk", "archive"}


class GraphSearcher(Session):
    """Searcher of `base` over Graph."""

    def search(self, query: Query) -> Hits:
        """See `Searcher.search`."""
        if _is_void(query):
            return Hits()
        wanted, found = query.offset + query.limit, list[dict[str, Any]]()
        for page in self._pages(query, min(wanted + 1, PAGE)):
            found += [item for item in page if _within(item, query)]
            if len(found) > wanted:
                break
        mails = self.envelopes(found[query.offset : wanted], self._roles())
        return Hits(tuple(self._named(mails)), more=len(found) > wanted)

    def folders(self) -> list[Folder]:
        """See `Searcher.folders`."""
        roles = self._roles()
        return [
            Folder(path, cast("Any", roles.get(id_) if roles.get(id_) in _KNOWN else None))
            for id_, path in self._tree("/mailFolders", "")
        ]

    def _named(self, mails: Sequence[Envelope]) -> Iterator[Envelope]:
        """Yield mails with their folders by the names of `folders`: Graph has ids there."""
        wanted, names = {mail.folder for mail in mails}, dict[str, str]()
        for id_, path in self._tree("/mailFolders", "") if wanted else ():
            names[id_] = path
            if wanted <= names.keys():
                break
        yield from (replace(mail, folder=names.get(mail.folder, "")) for mail in mails)

    def _pages(self, query: Query, size: int) -> Iterator[list[dict[str, Any]]]:
        words = _kql(query)
        if words:
            return self.all("/messages", search=f'"{words}"', select=FIELDS, top=str(size))
        filters = [
            *([f"receivedDateTime ge {moment(query.after)}"] if query.after else []),
            *([f"receivedDateTime lt {moment(query.before)}"] if query.before else []),
        ] or ["receivedDateTime ge 1970-01-01T00:00:00Z"]
        return self.all(
            "/messages",
            filter=" and ".join(filters),
            orderby="receivedDateTime desc",
            select=FIELDS,
            top=str(size),
        )

    def _roles(self) -> dict[str, str]:
        found = self.batch([f"/mailFolders/{name}?$select=id" for name in ROLES])
        return {folder["id"]: role for folder, role in zip(found, ROLES.values(), strict=True) if folder}

    def _tree(self, path: str, above: str) -> Iterator[tuple[str, str]]:
        for page in self.all(path, select="id,displayName,childFolderCount", top="100"):
            for folder in page:
                name = above + folder["displayName"]
                yield folder["id"], name
                if folder.get("childFolderCount"):
                    yield from self._tree(f"/mailFolders/{segment(folder['id'])}/childFolders", f"{name}/")


def _kql(query: Query) -> str:
    """Write the query as KQL, every word a condition. Signs and words that steer KQL steer nothing here."""
    named = {"": query.text, "from:": query.sender, "to:": query.to, "subject:": query.subject}
    terms = [name + word for name, text in named.items() for word in _words(text or "")]
    if query.has_attachment is not None:
        terms.append(f"hasAttachments:{str(query.has_attachment).lower()}")
    return " AND ".join(terms[:MOST_TERMS])


def _words(text: str) -> list[str]:
    return [word.lower() if word in _OPERATORS else word for word in _STEERING.sub(" ", text).split()]


def _is_void(query: Query) -> bool:
    """Whether words are asked for, and none of them can be searched for."""
    texts = [text for text in (query.text, query.sender, query.to, query.subject) if text]
    return any(not _words(text) for text in texts)


def _within(item: dict[str, Any], query: Query) -> bool:
    """`$search` takes whole days only, so times are compared here."""
    at = when(item.get("receivedDateTime"))
    early = query.after is not None and (at is None or at < query.after)
    late = query.before is not None and (at is None or at >= query.before)
    return not (early or late or item.get("isDraft"))
