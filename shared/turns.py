"""Taking turns at a mailbox, for providers that serve one mailbox few calls at a time.

Graph serves four (https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits). One
worker looks at a mailbox, the holder of the lease in `syncing`; whoever else speaks with it takes a
turn first: one sends, one looks live. So three speak at once, however many workers there are.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal

from shared import logs
from shared.errors import Busy, Raced, Temporary
from shared.model import Turn
from shared.storage.base import Add, Move, Records, Remove, Stored, Write

Lane = Literal["send", "live"]

LONGEST = timedelta(minutes=5)
"""So long a worker that died keeps others out; one that is slower is overtaken, and four speak."""

PATIENCE = {"send": 1.0, "live": 10.0}
"""Seconds to wait for a turn: a job goes back to its queue, a person waits in front of a screen."""

PAUSE = 0.2


@contextmanager
def taken(
    records: Records,
    clock: Callable[[], datetime],
    org_id: str,
    mailbox_id: str,
    lane: Lane,
    leaving: list[Write] | None = None,
) -> Iterator[None]:
    """Hold the turn. Raises Busy where it was not to be had in time; giving it back never raises.

    With `leaving` it is given back by the caller's next commit: the write for it is put there.
    """
    turn = _take(records, clock, org_id, Turn(mailbox_id, lane, secrets.token_hex(8), clock() + LONGEST))
    handed_on = False
    try:
        yield
        handed_on = leaving is not None
    finally:
        if leaving is not None and handed_on:
            # whosever it is by then: a wrong one lets a fourth speak, an etag would cost the commit
            leaving.append(Remove(turn.value))
        else:
            _give_back(records, org_id, turn)


def _give_back(records: Records, org_id: str, turn: Stored[Turn]) -> None:
    try:
        records.commit(org_id, Remove(turn.value, turn.etag))
    except Temporary as error:  # overtaken, or the store is away: what was done is done, it runs out
        logs.log("turn.kept", mailbox_id=turn.value.mailbox_id, code=error.code)


def _take(records: Records, clock: Callable[[], datetime], org_id: str, turn: Turn) -> Stored[Turn]:
    deadline = time.monotonic() + PATIENCE[turn.lane]
    while True:
        found = _tried(records, clock, org_id, turn)
        if found:
            return found
        if time.monotonic() > deadline:
            raise Busy("Others are speaking with this mailbox.", retry_after=2)
        time.sleep(PAUSE)


def _tried(records: Records, clock: Callable[[], datetime], org_id: str, turn: Turn) -> Stored[Turn] | None:
    try:
        [etag] = records.commit(org_id, Add(turn))
    except Raced:
        held = records.find(org_id, Turn, turn.key)
        if held and held.value.holder == turn.holder:
            return held  # our own, whose answer was lost on the way
        if held is None or held.value.until > clock():
            return None
        return _overtake(records, org_id, held, turn)
    return Stored(turn, etag)


def _overtake(records: Records, org_id: str, held: Stored[Turn], turn: Turn) -> Stored[Turn] | None:
    try:
        [etag] = records.commit(org_id, Move(held, turn))
    except Raced:
        return None
    return Stored(turn, etag)
