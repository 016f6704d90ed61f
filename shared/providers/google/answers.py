"""What answers a mail at Gmail, which cannot search for In-Reply-To."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched, islice
from typing import Any

from shared.errors import Withheld
from shared.model import Envelope
from shared.providers.google import listing, spending
from shared.providers.google.client import BATCH, ME, Session
from shared.providers.google.envelopes import envelope, readable

AFTERWARDS = 25
"""So many mails after a mail are looked through for answers that Gmail did not put into its thread."""

PEOPLE = 10
"""So many of those whom a mail is from or to are searched for."""


EACH = 2_600
"""Units that the look for one Message-ID may cost: that is a mail in a thread of a hundred, the most that a
thread has, and what came after it."""


@dataclass
class _Seen:
    """What a look has seen, by its id: nothing is asked for twice."""

    mails: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    threads: dict[str, list[str]] = field(default_factory=dict)


class Answers(Session):
    """Looks for answers that came before it was known what they answer."""

    def rest(self) -> float:
        """See `Receiver.rest`."""
        return self.spending.rest(spending.ANSWERS)

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`.

        The mail is found, and then its thread and what came after it are looked through for what names it.
        """
        seen = _Seen()
        missing = {id_: kept for id_ in message_ids if (kept := self._about(id_, seen))}
        wanted = set(message_ids)
        for item in sorted(seen.mails.values(), key=lambda one: int(one["internalDate"])):
            mail = envelope(item)
            if readable(item) and wanted & {mail.message_id, *mail.references}:
                yield mail
        if missing:
            raise Withheld(missing, len(seen.refused))

    def _about(self, message_id: str, seen: _Seen) -> set[str]:
        """Read a mail and what lies around it; returns which of these Gmail does not give.

        Anybody may write mails with one Message-ID: of what it may cost each copy has an equal share, beside
        what the copies before it left.
        """
        most = self.spending.total + EACH
        ids = listing.ids(self, listing.named(message_id), listing.COPIES)
        self._read(ids, seen, most)
        begun = self.spending.total
        copies = [seen.mails[id_] for id_ in ids if id_ in seen.mails]
        about = {*ids}
        for number, item in enumerate(copies, 1):
            around = self._around(item, seen)
            self._read(around, seen, begun + (most - begun) * number // len(copies))
            about.update(around)
        return about & seen.refused

    def _around(self, item: Mapping[str, Any], seen: _Seen) -> list[str]:
        """Return the ids of what lies around a mail, what may answer it first."""
        thread = self._thread(item["threadId"], seen)
        place = thread.index(item["id"]) if item["id"] in thread else 0
        return [*thread[place:], *self._after(item), *thread[:place]]

    def _read(self, ids: Sequence[str], seen: _Seen, until: int) -> None:
        """Read those of the mails that were not asked for yet, until so many units are spent."""
        left = [id_ for id_ in ids if id_ not in seen.mails and id_ not in seen.refused]
        for chunk in batched(dict.fromkeys(left), BATCH, strict=False):
            if self.spending.total + len(chunk) * spending.MAIL > until:
                return
            came, refused = self.available(chunk)
            seen.mails.update({item["id"]: item for item in came})
            seen.refused.update(refused)

    def _thread(self, id_: str, seen: _Seen) -> list[str]:
        """Return the ids of a thread's mails; one that Gmail does not give is among those refused then."""
        if id_ not in seen.threads:
            wanted = {"format": "minimal", "fields": "messages/id"}
            thread, error = self.alone(self.api("threads").get(userId=ME, id=id_, **wanted))
            name = f"thread {id_}"  # a thread's id is that of its first mail
            seen.refused.update([name] if error else [])
            seen.threads[id_] = [name] if error else [one["id"] for one in (thread or {}).get("messages", ())]
        return seen.threads[id_]

    def _after(self, item: Mapping[str, Any]) -> list[str]:
        """Return the ids of what came first after a mail: its people's, then others'."""
        start = int(item["internalDate"]) // 1000
        until = max(start, int(time.time())) + listing.AHEAD
        after = dict[str, None]()
        for words in dict.fromkeys((self._people(envelope(item)), "")):
            after |= dict.fromkeys(islice(listing.oldest(self, start, until, words), AFTERWARDS))
        return [*islice(after, AFTERWARDS)]

    def _people(self, mail: Envelope) -> str:
        """Write the search for what is from, or to, those whom a mail is from or to; not the owner."""
        people = {one.address: None for one in (mail.sender, *mail.recipients) if one}
        people.pop(self.connection.address.lower(), None)
        named = [listing.phrase(address) for address in islice(people, PEOPLE)]
        ways = " ".join(f"{way}:{one}" for one in named for way in ("from", "to", "cc"))
        return f"{{{ways}}}" if ways else ""
