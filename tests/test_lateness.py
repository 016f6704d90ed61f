"""What the record of a mailbox takes of Message-IDs that became known late."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared import lateness, mime
from shared.model import Late, SyncState
from shared.storage.entities import encode

pytestmark = pytest.mark.fast

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def longest(number, letter):
    """The longest Message-ID that a participant can give a mail, made of one letter."""
    line = f"Message-ID: <{number:03d}".encode() + letter.encode() * 980 + b"@x>"
    return mime.envelope(b"From: s@supplier.example\r\n" + line + b"\r\n\r\nx", ref="1").message_id


@pytest.mark.parametrize("letter", ["a", "\\", '"', "\u00e4", "\U0001f600"])
def test_whatever_they_are_made_of_a_record_holds_those_that_it_names_and_the_others_wait(letter):
    ids = [longest(number, letter) for number in range(250)]
    state, waiting = lateness.remembered(SyncState("m" * 16, cursor="c" * 100_000), ids)
    assert [*state.look, *(write.record.message_id for write in waiting)] == ids
    assert len(state.look) >= 20
    assert state.more
    counted = lateness.looked_for(state, state.look, state.look, NOW)
    assert len(counted.withheld) == len(state.look)
    assert encode("org", replace(counted, newest=NOW))


def test_what_lay_beside_the_record_comes_into_it_as_there_is_room():
    beside = {longest(number, "a"): None for number in range(120)}
    state, removed = lateness.taken_in(SyncState("m"), beside, lateness.MOST_MOVED)
    assert 0 < len(state.look) <= lateness.MOST_MOVED
    assert {write.record for write in removed} == {Late("m", id_) for id_ in state.look}
    assert state.more
    rest = {id_: None for id_ in beside if id_ not in state.look}
    emptied = lateness.looked_for(state, state.look, (), NOW)
    state, _ = lateness.taken_in(replace(emptied, more=False), rest, lateness.MOST_MOVED)
    assert (state.look, state.more) == (tuple(rest), False)
