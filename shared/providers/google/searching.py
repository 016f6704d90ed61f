"""The owner's live look into a mailbox at Gmail, in the words of its search box.

https://support.google.com/mail/answer/7190 (operators); times may be seconds since 1970.
"""

import math
from dataclasses import replace
from typing import Any, Literal, cast

from shared.providers.base import Folder, Hits, Query
from shared.providers.google import listing
from shared.providers.google.client import ME, Session
from shared.providers.google.envelopes import envelope

_ROLES = {
    "INBOX": "inbox",
    "SENT": "sent",
    "DRAFT": "drafts",
    "TRASH": "trash",
    "SPAM": "junk",
    "STARRED": "flagged",
}


class GmailSearcher(Session):
    """Searcher of `base` over Gmail."""

    def search(self, query: Query) -> Hits:
        """See `Searcher.search`. Of what is skipped only the ids are listed."""
        wanted = query.offset + query.limit
        ids = listing.ids(self, _words(query), wanted + 1)
        mails = [envelope(item) for item in self.available(ids[query.offset : wanted])[0]]
        names = {label["id"]: label["name"] for label in self._labels()} if mails else {}
        named = [replace(mail, folder=names.get(mail.folder, "")) for mail in mails]
        return Hits(tuple(named), more=len(ids) > wanted)

    def folders(self) -> list[Folder]:
        """See `Searcher.folders`: labels; those that only sort what is in the inbox are left out."""
        shown = [one for one in self._labels() if one["type"] == "user" or one["id"] in _ROLES]
        return [Folder(one["name"], cast("Literal['inbox']", _ROLES.get(one["id"]))) for one in shown]

    def _labels(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run(self.api("labels").list(userId=ME))["labels"]
        return found


def _words(query: Query) -> str:
    """Write the query as Gmail's; a phrase in quotes cannot hold quotes.

    Nobody says whether the seconds of a range belong to it, so it is asked for a little wider.
    """
    named = {"from": query.sender, "to": query.to, "subject": query.subject}
    terms = [f"{name}:{listing.phrase(text)}" for name, text in named.items() if text]
    terms += [listing.phrase(word) for word in (query.text or "").split()]
    if query.has_attachment is not None:
        terms.append(f"{'' if query.has_attachment else '-'}has:attachment")
    if query.after:
        terms.append(f"after:{math.floor(query.after.timestamp()) - 1}")
    if query.before:
        terms.append(f"before:{math.ceil(query.before.timestamp())}")
    return " ".join([*terms, "-in:drafts", "-in:chats"])
