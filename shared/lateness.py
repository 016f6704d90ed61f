"""Message-IDs that became known late: a mail that answers one may have been passed over before.

They are named in the mailbox's `SyncState` until they were looked for. What that record has no room for, or
what was not yet taken into it, lies beside it: each a `Late`. Pure, but for `beside`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import accumulate

import msgspec

from shared.app import App
from shared.model import Late, SyncState
from shared.storage.base import Remove, Save, Write

ROOM = 200_000
"""Octets of JSON that they may take in the record, which holds 448,000 characters with all else it knows."""

COUNTED = 60
"""Octets by which the record counts the looks for one that did not see all."""

MOST_MOVED = 90
"""So many come into it at once: a transaction has at most a hundred writes."""


def remembered(state: SyncState, message_ids: Iterable[str]) -> tuple[SyncState, list[Write]]:
    """Name further ones; returns also the writes of those that have to wait beside the record."""
    coming = [id_ for id_ in dict.fromkeys(message_ids) if id_ not in state.look]
    fits = _fitting(state.look, coming)
    waiting: list[Write] = [Save(Late(state.mailbox_id, id_)) for id_ in coming[fits:]]
    return replace(state, look=(*state.look, *coming[:fits]), more=state.more or bool(waiting)), waiting


def taken_in(state: SyncState, beside: Collection[str], most: int) -> tuple[SyncState, list[Write]]:
    """Name what lies beside the record, as far as there is room; returns also what removes it there.

    Args:
        most: so many writes, at most.
    """
    coming = [*beside][:most]
    fits = coming[: _fitting(state.look, coming)]
    look, more = tuple(dict.fromkeys([*state.look, *fits])), state.more or len(fits) < len(beside)
    return replace(state, look=look, more=more), [Remove(Late(state.mailbox_id, id_)) for id_ in fits]


def looked_for(
    state: SyncState, message_ids: Sequence[str], withheld: Collection[str], now: datetime
) -> SyncState:
    """Forget what was looked for, and count a look that did not see all that answers the `withheld`."""
    gone = {*message_ids} - {*withheld}
    look = tuple(id_ for id_ in state.look if id_ not in gone)
    counted = {id_: times for id_, times in state.withheld.items() if id_ in look}
    for id_ in withheld:
        since, looks = counted.get(id_, (now, 0))
        counted[id_] = (since, looks + 1)
    return replace(state, look=look, withheld=counted)


def beside(app: App, org_id: str, mailbox_id: str) -> tuple[list[str], bool]:
    """Read what lies beside the record; returns also whether there is more of it."""
    rows = app.records.range(org_id, Late, prefix=f"{mailbox_id}!", limit=MOST_MOVED)
    return [row.value.message_id for row in rows], len(rows) == MOST_MOVED


def _fitting(there: Sequence[str], coming: Sequence[str]) -> int:
    """How many of those that come find room: what an id is made of decides how long it is in JSON.

    Each is named twice where a look for it did not see all.
    """
    weights = accumulate(2 * len(msgspec.json.encode(id_)) + COUNTED for id_ in (*there, *coming))
    return sum(weight <= ROOM for weight in [*weights][len(there) :])
