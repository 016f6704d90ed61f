"""Records to table entities and back, without a server."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import pytest

from shared.model import Address, Case, Evidence, Mailbox, Message
from shared.storage import entities
from shared.storage.base import Due

pytestmark = pytest.mark.fast


class Row(dict[str, Any]):
    metadata: ClassVar[dict[str, str]] = {"etag": "e"}


def there_and_back(record: Any, type_: type | None = None) -> Any:
    return entities.decode(Row(entities.encode("org", record)), type_ or type(record)).value


def test_a_message_survives_with_all_its_parts() -> None:
    message = Message(
        id="1",
        case_id="C-1",
        conversation_id="c",
        mail_kind="mail",
        direction="in",
        origin="mailbox",
        state="received",
        sender=Address("a@b.example", "Žluťoučký 😀"),
        to=(Address("c@d.example"),),
        cc=(),
        subject='quotes " and \\ and \n control \x01',
        received_at=datetime(2026, 11, 24, 1, 2, 3, 456789, tzinfo=UTC),
        raw="raw/1",
        evidence=Evidence("signed", notes=("x",)),
    )
    assert there_and_back(message) == message


def test_nested_settings_and_times_survive() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    mailbox = Mailbox(
        "m", "a@b.example", "a@b.example", "imap", None, {"imap": {"port": 993}}, "active", now, now
    )
    assert there_and_back(mailbox) == mailbox


@pytest.mark.parametrize("offset", range(4))
def test_no_property_is_longer_than_the_limit_and_no_emoji_is_cut_in_half(offset: int) -> None:
    case = Case("C", "x" * offset + "😀" * 60_000, ())
    entity = entities.encode("org", case)
    chunks = [value for name, value in entity.items() if name.startswith("d")]
    assert len(chunks) == 4
    assert all(len(chunk.encode("utf-16-le")) <= 64_000 for chunk in chunks)
    assert entities.decode(Row(entity), Case).value == case


def test_fourteen_properties_are_the_most() -> None:
    overhead = len('{"id":"C","title":"","members":[]}')
    fits = Case("C", "x" * (14 * 32_000 - overhead), ())
    assert there_and_back(fits) == fits
    with pytest.raises(ValueError, match="case record is too large"):
        entities.encode("org", Case("C", fits.title + "x", ()))


@dataclass(frozen=True)
class NewerCase:
    kind: ClassVar[str] = "case"
    id: str
    title: str
    members: tuple[str, ...]
    colour: str
    key: ClassVar[str] = "C"


def test_fields_of_a_newer_version_are_left_out() -> None:
    assert there_and_back(NewerCase("C", "t", (), "red"), Case) == Case("C", "t", ())


def test_fields_that_came_later_have_their_defaults() -> None:
    text = '{"rule":"signed"}'
    assert entities.decode(Row(d0=text), Evidence).value == Evidence("signed")  # type: ignore[type-var]


@pytest.mark.parametrize("key", ["", "a/b", "a\\b", "a#b", "a?b", "a b", "é", "a\n", "x" * 501, "a%b", "a+b"])
def test_a_key_outside_the_alphabet_is_a_bug(key: str) -> None:
    with pytest.raises(ValueError, match="case key"):
        entities.row("case", key)


@pytest.mark.parametrize("org", ["", "a!b", "a/b", "x" * 101, "a'b"])
def test_an_organisation_outside_the_alphabet_is_a_bug(org: str) -> None:
    with pytest.raises(ValueError, match="organisation"):
        entities.partition(org)


def test_a_schedule_entry_is_kept_to_the_minute_in_utc() -> None:
    at = datetime(2026, 11, 24, 1, 2, 59, tzinfo=timezone(timedelta(hours=1)))
    due = Due(at, "poll", "org", "m", 60, "t")
    assert entities.due(Row(entities.place(due), every=60)) == Due(
        datetime(2026, 11, 24, 0, 2, tzinfo=UTC), "poll", "org", "m", 60, "t"
    )


def test_a_schedule_entry_with_a_separator_in_an_id_is_a_bug() -> None:
    with pytest.raises(ValueError, match="schedule"):
        entities.place(Due(datetime.now(UTC), "poll", "org", "a!b"))
