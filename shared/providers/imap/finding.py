"""Mails that are asked for by Message-ID: what answers one that became known late, and our copy in Sent."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import reduce
from itertools import batched

from shared.errors import Rejected, Temporary, Unsupported, Withheld
from shared.model import Envelope
from shared.providers.base import Folder, Receipt, Unmetered
from shared.providers.imap.folders import Mailbox
from shared.providers.imap.items import make_ref, quoted

IDS_PER_SEARCH = 5
"""Fifteen criteria stay below the 8,000 octets that a command may have (RFC 7162 §4)."""

NOT_LOOKED_INTO = {"trash", "junk", "drafts"}
"""Deleted, unwanted or unfinished mail."""

_THREADING = ("Message-ID", "In-Reply-To", "References")
_APPENDED = re.compile(rb"\[APPENDUID (\d+) (\d+)\]")


class ImapFinder(Mailbox, Unmetered):
    """SentFolder of `base` over IMAP, and the part of Receiver that is alike."""

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`. What is not printable ASCII is no Message-ID (RFC 5322 §3.6.4)."""
        wanted = [id_ for id_ in message_ids if id_.isascii() and id_.isprintable()]
        withheld, mails = set[str](), 0
        for folder in self.looked_into() if wanted else ():
            for ids in batched(wanted, IDS_PER_SEARCH, strict=False):
                try:
                    yield from self._naming(folder, ids)
                except Withheld as error:
                    withheld, mails = withheld | {*ids}, mails + error.mails
        if mails:
            raise Withheld(withheld, mails)

    def find_sent(self, message_id: str) -> Receipt | None:
        """See `SentFolder.find_sent`. Raises Temporary where the server does not show all that may be it."""
        sent = self.sent()
        try:
            if not sent or not self.opens(sent):
                return None
            uids = self.matching([("HEADER Message-ID", message_id)])
            # SEARCH finds parts of headers too, so equality is for us to see
            copies = (copy for copy in self.headers(sent, uids, sent=True) if copy.message_id == message_id)
            return next((Receipt(copy.ref, message_id, copy.thread) for copy in copies), None)
        except Rejected as error:
            raise Temporary("The server does not show what lies in Sent.") from error

    def keep_sent(self, raw: bytes, sent_at: datetime) -> str | None:
        """See `SentFolder.keep_sent`. Raises Unsupported where the mailbox has no Sent folder."""
        sent = self.sent()
        if not sent:
            raise Unsupported("This mailbox has no Sent folder.", fix="Name one in the setting sentFolder.")
        answer = self.ask_of(sent, lambda client: client.append(sent, raw, (rb"\Seen",), sent_at))
        told = _APPENDED.search(answer)  # UIDPLUS, RFC 4315 §3
        return make_ref(sent, int(told[1]), int(told[2])) if told else None

    def _naming(self, folder: Folder, ids: Sequence[str]) -> Iterator[Envelope]:
        """Yield the mails in a folder that are, or refer to, one of the ids; see `headers`."""
        if folder.role in NOT_LOOKED_INTO or not self.exists(folder.name):
            return
        for envelope in self.headers(folder.name, self._about(ids), sent=folder.role == "sent"):
            if not {*ids}.isdisjoint((envelope.message_id, *envelope.references)):
                yield envelope

    def _about(self, ids: Sequence[str]) -> list[int]:
        """Search the open folder for mails that are, or refer to, one of the ids."""
        criteria = [f"HEADER {name} {quoted(id_)}" for id_ in ids for name in _THREADING]
        try:
            return self.find(reduce(lambda left, right: f"OR {left} {right}", criteria))
        except Rejected:  # Exchange answers BAD to HEADER within OR
            return sorted({uid for criterion in criteria for uid in self.find(criterion)})
