"""The owner's live look into a mailbox at Gmail, in the words of its search box.

https://support.google.com/mail/answer/7190 (operators); times may be seconds since 1970.
"""

import math
from typing import Literal, cast

from shared.model import Envelope
from shared.providers.base import Folder, Query
from shared.providers.google.client import ME, Session, envelope

MOST = 500
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

    def search(self, query: Query) -> list[Envelope]:
        """See `Searcher.search`. Of what is skipped only the ids are listed."""
        words, wanted = _words(query), query.offset + query.limit
        ids, token = list[str](), None
        while len(ids) < wanted:
            size = min(MOST, wanted - len(ids))
            answer = self.run(self.api("messages").list(userId=ME, q=words, maxResults=size, pageToken=token))
            ids += [one["id"] for one in answer.get("messages", ())]
            token = answer.get("nextPageToken")
            if token is None:
                break
        return [envelope(item) for item in self.available(ids[query.offset : wanted])[0]]

    def folders(self) -> list[Folder]:
        """See `Searcher.folders`: labels; those that only sort what is in the inbox are left out."""
        labels = self.run(self.api("labels").list(userId=ME))["labels"]
        shown = [one for one in labels if one["type"] == "user" or one["id"] in _ROLES]
        return [Folder(one["name"], cast("Literal['inbox']", _ROLES.get(one["id"]))) for one in shown]


def _words(query: Query) -> str:
    """Write the query as Gmail's; a phrase in quotes cannot hold quotes.

    Nobody says whether the seconds of a range belong to it, so it is asked for a little wider.
    """
    named = {"from": query.sender, "to": query.to, "subject": query.subject}
    terms = [f"{name}:{_phrase(text)}" for name, text in named.items() if text]
    terms += [_phrase(word) for word in (query.text or "").split()]
    if query.has_attachment is not None:
        terms.append(f"{'' if query.has_attachment else '-'}has:attachment")
    if query.after:
        terms.append(f"after:{math.floor(query.after.timestamp()) - 1}")
    if query.before:
        terms.append(f"before:{math.ceil(query.before.timestamp())}")
    return " ".join([*terms, "-in:drafts", "-in:chats"])


def _phrase(text: str) -> str:
    return '"' + " ".join(text.replace('"', " ").split()) + '"'
