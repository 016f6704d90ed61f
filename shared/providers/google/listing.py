"""Gmail's lists of mails: ids alone, newest first. A page may be empty and name a next one (lieer#24)."""

import sys
from collections.abc import Iterator, Mapping

from shared.providers.google.client import ME, Session

MOST = 500
"""What one list gives at most."""

NARROWEST = 1
"""Seconds of the narrowest window: what one list cannot show even so is listed in several."""

AHEAD = 60
"""Seconds beyond now up to which mails are listed: Gmail's clock may be ahead of ours."""

COPIES = 10
"""So many mails with one Message-ID are looked at."""

READ = "-in:drafts -in:chats"
"""What is read wherever it lies; spam and trash are listed for who asks for them only."""


def messages(session: Session, query: str, most: int) -> Iterator[Mapping[str, str]]:
    """Yield the `id` and `threadId` of what a search finds, at most so many."""
    return _listed(session, "messages", "id,threadId", query, most)


def _listed(session: Session, kind: str, wanted: str, query: str, most: int) -> Iterator[Mapping[str, str]]:
    """Yield what a search finds; no `snippet` of a thread, which is the beginning of a text."""
    token, fields = None, f"nextPageToken,{kind}({wanted})"
    while most > 0:
        request = session.api(kind).list(
            userId=ME, q=query, maxResults=min(most, MOST), pageToken=token, fields=fields
        )
        answer = session.run(request)
        found = answer.get(kind, ())
        yield from found
        most, token = most - len(found), answer.get("nextPageToken")
        if token is None:
            return


def ids(session: Session, query: str, most: int) -> list[str]:
    """Return the ids of what a search finds, at most so many."""
    return [one["id"] for one in messages(session, query, most)]


def window(session: Session, start: int, until: int, words: str = "") -> tuple[list[Mapping[str, str]], int]:
    """Return what `messages` tells of a stretch of time from `start` on, and its end: one list holds it.

    Times are seconds since 1970.
    """
    end = until
    while True:
        narrow = end - start <= NARROWEST
        found = [*messages(session, _stretch(start, end, words), sys.maxsize if narrow else MOST + 1)]
        if narrow or len(found) <= MOST:
            return found, end
        end = start + (end - start) // 2


def unchanged(session: Session, start: int, end: int, history: int) -> set[str]:
    """Return the threads of a stretch of time that nothing has happened to since this record.

    A thread's own record is the last that changed one of its mails, even by a label that it lost.
    """
    threads = _listed(session, "threads", "id,historyId", _stretch(start, end), sys.maxsize)
    return {one["id"] for one in threads if int(one["historyId"]) <= history}


def oldest(session: Session, start: int, until: int, words: str = "") -> Iterator[str]:
    """Yield the ids of a stretch of time, oldest first; some of them twice."""
    while start < until:
        found, start = window(session, start, until, words)
        yield from (one["id"] for one in reversed(found))


def _stretch(start: int, end: int, words: str = "") -> str:
    """Write the search for a stretch: nobody says whether its ends belong to it, so it is a little wider."""
    return f"{words} after:{start - 1} before:{end + 1} {READ}".strip()


def phrase(text: str) -> str:
    """Write words as one that a search takes as they are; it cannot hold quotes."""
    return '"' + " ".join(text.replace('"', " ").split()) + '"'


def named(message_id: str) -> str:
    """Write the search for a mail with this Message-ID."""
    return f"rfc822msgid:{message_id.strip('<>')}"
