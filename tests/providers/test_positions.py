"""What is kept of where a mailbox's last look stopped: it is read by every later version."""

from datetime import UTC, datetime

import pytest

from shared.errors import CursorExpired, Temporary
from shared.providers.base import Cursor
from shared.providers.ews.position import Position as Ews
from shared.providers.google.position import Position as Google
from shared.providers.imap.position import Kept, Mark
from shared.providers.imap.position import Position as Imap
from shared.providers.microsoft.reading import Position as Microsoft
from shared.providers.positions import LONGEST

pytestmark = pytest.mark.fast

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
KEPT = [
    (
        '{"history":"1","swept":2,"again":3,"seen":["a"],"lost":"4","told":"5","told_at":6,"refused":{"x":1},"tried":{"x":2},"last":"z","number":"8","upto":"u"}',
        Google("1", 2, 3, ["a"], "4", "5", 6, {"x": 1}, {"x": 2}, "z", "8", "u"),
    ),
    (
        '{"folders":{"f":"inbox"},"links":{"f":"l"},"swept":"2026-01-02T03:04:05.000678Z","seen":{"z":1}}',
        Microsoft({"f": "inbox"}, {"f": "l"}, AT, {"z": 1}),
    ),
    (
        '{"states":{"inbox":"s"},"swept":"2026-01-02T03:04:05.000678Z","seen":["q"],"refused":{"x":1},"tried":{"x":2},"chosen":{"A":"a"},"sweep_from":"2026-01-02T03:04:05.000678Z","places":{"x":"b"},"closed":true,"shut":{"y":[3,4]}}',
        Ews({"inbox": "s"}, AT, ["q"], {"x": 1}, {"x": 2}, {"A": "a"}, AT, {"x": "b"}, True, {"y": (3, 4)}),
    ),
    (
        '{"at":"2026-01-02T03:04:05.000678Z","sent":"","elsewhere":true,"folders":{"A":{"validity":1,"next":2,"modseq":3}},"owed":{"A":[1,{"2":[3,4]},[5]]},"shut":true,"configured":true,"v":1}',
        Imap(
            AT, "", True, {"A": Mark(1, 2, 3)}, {"A": Kept(1, {2: (3, 4)}, {5})}, shut=True, configured=True
        ),
    ),
]


@pytest.mark.parametrize(("cursor", "position"), KEPT, ids=["google", "microsoft", "ews", "imap"])
def test_a_cursor_is_written_as_it_always_was_and_read_again(cursor, position):
    assert position.cursor == cursor
    assert type(position).of(cursor) == position


def test_a_cursor_without_what_was_added_later_is_read():
    assert Ews.of(Cursor('{"states":{"inbox":"s"},"swept":null,"seen":[]}')) == Ews({"inbox": "s"})
    assert Google.of(Cursor('{"history":"1","swept":2,"seen":["a"]}')) == Google("1", 2, seen=["a"])


@pytest.mark.parametrize(
    "position",
    [
        Google("1", seen=["x" * LONGEST]),
        Microsoft(links={"f": "x" * LONGEST}),
        Ews(seen=["x" * LONGEST]),
        Imap(AT, sent="x" * LONGEST),
    ],
    ids=["google", "microsoft", "ews", "imap"],
)
def test_a_cursor_that_is_longer_than_can_be_kept_is_refused_with_what_to_do(position):
    with pytest.raises(Temporary, match="more to remember") as caught:
        position.page()
    assert "Choose fewer folders" in caught.value.fix


def test_without_a_cursor_it_begins_with_what_is_given():
    assert Imap.of(None, at=AT) == Imap(AT)
    assert Google.of(None) == Google()


@pytest.mark.parametrize(
    "cursor",
    ["", "no JSON", "[]", "{}", '{"at":"today"}', '{"at":"2026-01-02T03:04:05Z","v":2}'],
)
def test_a_cursor_that_cannot_be_read_has_expired(cursor):
    with pytest.raises(CursorExpired):
        Imap.of(cursor, at=AT)
