"""What answers a mail at Gmail, which cannot search for In-Reply-To."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from shared.errors import Withheld
from shared.model import Envelope
from shared.providers.google import listing, spending
from shared.providers.google.client import ME, Session, envelope, readable

AFTERWARDS = 25
"""So many mails after a mail are looked through for answers that Gmail did not put into its thread."""

PEOPLE = 10
"""So many of those whom a mail is from or to are searched for."""


class Answers(Session):
    """Looks for answers that came before it was known what they answer."""

    def rest(self) -> float:
        """See `Receiver.rest`."""
        return self.spending.rest(spending.ANSWERS)

    def look(self, message_ids: Sequence[str]) -> Iterator[Envelope]:
        """See `Receiver.look`.

        The mail is found, and then its thread and what came after it are looked through for what names it.
        """
        found: dict[str, dict[str, Any]] = {}
        refused: set[str] = set()
        missing = {id_: kept for id_ in message_ids if (kept := self._about(id_, found, refused))}
        wanted = set(message_ids)
        for item in sorted(found.values(), key=lambda one: int(one["internalDate"])):
            mail = envelope(item)
            if readable(item) and wanted & {mail.message_id, *mail.references}:
                yield mail
        if missing:
            raise Withheld(missing, len(refused))

    def _about(self, message_id: str, found: dict[str, dict[str, Any]], refused: set[str]) -> set[str]:
        """Read a mail and what lies around it, which `found` and `refused` keep: nothing is asked for twice.

        Returns which of these Gmail does not give.
        """
        ids = {*listing.ids(self, listing.named(message_id), listing.COPIES)}
        self._read(ids, found, refused)
        for item in [found[id_] for id_ in ids if id_ in found]:
            around = [*self._thread(item["threadId"], refused), *self._after(item)]
            self._read(around, found, refused)
            ids.update(around)
        return ids & refused

    def _read(self, ids: Iterable[str], found: dict[str, dict[str, Any]], refused: set[str]) -> None:
        """Read those of the mails that were not asked for yet."""
        came, kept = self.available([id_ for id_ in ids if id_ not in found and id_ not in refused])
        found.update({item["id"]: item for item in came})
        refused.update(kept)

    def _thread(self, id_: str, refused: set[str]) -> list[str]:
        """Return the ids of a thread's mails; one that Gmail does not give is among `refused` then."""
        name = f"thread {id_}"  # a thread's id is that of its first mail
        if name not in refused:
            wanted = {"format": "minimal", "fields": "messages/id"}
            thread, error = self.alone(self.api("threads").get(userId=ME, id=id_, **wanted))
            if not error:
                return [one["id"] for one in thread["messages"]] if thread else []
            refused.add(name)
        return [name]

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
