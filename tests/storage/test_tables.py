"""`Records` and `Schedule` on a real Azurite."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from azure.data.tables import TableServiceClient

from shared.errors import NotFound, Raced, Temporary
from shared.model import Case, Conversation
from shared.settings import StorageAccess
from shared.storage import tables
from shared.storage.base import Add, Due, Move, Remove, Save, Stored, Write, every
from shared.storage.tables import AzureRecords, AzureSchedule


def case(id_: str, title: str = "") -> Case:
    return Case(id_, title, ())


def ids(rows: list[Stored[Case]]) -> list[str]:
    return [row.value.id for row in rows]


def test_what_was_added_is_found(records: AzureRecords, org: str) -> None:
    [etag] = records.commit(org, Add(Case("C-1", "Schrauben 😀", ("a@b.example",))))
    stored = records.get(org, Case, "C-1")
    assert stored == Stored(Case("C-1", "Schrauben 😀", ("a@b.example",)), etag)


def test_what_is_not_there_is_not_found(records: AzureRecords, org: str) -> None:
    assert records.find(org, Case, "C-1") is None
    with pytest.raises(NotFound):
        records.get(org, Case, "C-1")


def test_another_organisation_sees_nothing(records: AzureRecords, org: str) -> None:
    records.commit(org, Add(case("C-1")))
    assert records.find(f"{org}x", Case, "C-1") is None
    assert records.range(f"{org}x", Case) == []


def test_another_kind_with_the_same_key_is_another_record(records: AzureRecords, org: str) -> None:
    records.commit(org, Add(case("1")), Add(Conversation("1", "C", "s")))
    assert records.get(org, Conversation, "1").value.base_subject == "s"
    assert ids(records.range(org, Case)) == ["1"]


def test_a_table_that_does_not_exist_is_empty_and_appears_with_the_first_write(
    service: TableServiceClient, org: str, name: str
) -> None:
    records = AzureRecords(service, name)
    records.ping()
    assert records.find(org, Case, "C-1") is None
    assert records.range(org, Case) == []
    records.commit(org, Add(case("C-1")))
    assert ids(records.range(org, Case)) == ["C-1"]


def test_a_transaction_creates_the_table_too(service: TableServiceClient, org: str, name: str) -> None:
    records = AzureRecords(service, name)
    records.commit(org, Remove(case("C-0")), Add(case("C-1")), Save(case("C-2")))
    assert ids(records.range(org, Case)) == ["C-1", "C-2"]


def test_many_workers_may_meet_a_missing_table_at_once(
    service: TableServiceClient, org: str, name: str
) -> None:
    records = AzureRecords(service, name)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: records.commit(org, Add(case(f"C-{number}"))), range(8)))
    assert len(records.range(org, Case)) == 8


def test_adding_twice_is_raced_and_changes_nothing(records: AzureRecords, org: str) -> None:
    records.commit(org, Add(case("C-1", "first")))
    with pytest.raises(Raced):
        records.commit(org, Add(case("C-1", "second")))
    assert records.get(org, Case, "C-1").value.title == "first"


def test_saving_overwrites_and_leaves_no_rest_of_a_longer_value(records: AzureRecords, org: str) -> None:
    records.commit(org, Save(case("C-1", "😀" * 50_000)))
    records.commit(org, Save(case("C-1", "short")))
    assert records.get(org, Case, "C-1").value.title == "short"


def test_a_record_of_several_properties_survives(records: AzureRecords, org: str) -> None:
    title = "a" + "😀" * 100_000
    records.commit(org, Add(case("C-1", title)))
    assert records.get(org, Case, "C-1").value.title == title


def test_a_move_wins_once(records: AzureRecords, org: str) -> None:
    records.commit(org, Add(case("C-1")))
    stored = records.get(org, Case, "C-1")
    records.commit(org, Move(stored, case("C-1", "one")))
    with pytest.raises(Raced):
        records.commit(org, Move(stored, case("C-1", "two")))
    assert records.get(org, Case, "C-1").value.title == "one"


def test_the_etag_of_a_commit_is_good_for_the_next_move(records: AzureRecords, org: str) -> None:
    value = case("C-1")
    [etag] = records.commit(org, Add(value))
    etag, gone = records.commit(org, Move(Stored(value, etag), value), Remove(case("C-2")))
    assert gone == ""
    [etag] = records.commit(org, Move(Stored(value, etag), value))
    assert records.get(org, Case, "C-1").etag == etag


@pytest.mark.parametrize("company", [(), (Save(case("C-2")),)])
def test_moving_what_is_gone_is_raced(records: AzureRecords, org: str, company: tuple[Write, ...]) -> None:
    records.commit(org, Add(case("C-1")))
    stored = records.get(org, Case, "C-1")
    records.commit(org, Remove(stored.value))
    with pytest.raises(Raced):
        records.commit(org, Move(stored, case("C-1")), *company)
    assert records.range(org, Case) == []


def test_a_move_to_another_key_is_a_bug(records: AzureRecords, org: str) -> None:
    records.commit(org, Add(case("C-1")))
    with pytest.raises(ValueError, match="kind and key"):
        records.commit(org, Move(records.get(org, Case, "C-1"), case("C-2")))


@pytest.mark.parametrize("broken", ["add", "move"])
def test_of_a_lost_commit_nothing_happens(records: AzureRecords, org: str, broken: str) -> None:
    records.commit(org, Add(case("C-1")), Add(case("C-3")))
    stored = records.get(org, Case, "C-1")
    records.commit(org, Move(stored, case("C-1", "newer")))
    losing: Write = Add(case("C-1")) if broken == "add" else Move(stored, case("C-1"))
    with pytest.raises(Raced):
        records.commit(org, Save(case("C-2")), Remove(case("C-3")), losing)
    assert ids(records.range(org, Case)) == ["C-1", "C-3"]


def test_removing_what_is_not_there_is_no_error(records: AzureRecords, org: str) -> None:
    assert records.commit(org, Remove(case("C-1"))) == [""]
    assert records.commit(org, Remove(case("C-1")), Remove(case("C-2"))) == ["", ""]
    [_, etag, _] = records.commit(org, Remove(case("C-1")), Add(case("C-4")), Remove(case("C-2")))
    assert records.get(org, Case, "C-4").etag == etag


@pytest.mark.parametrize("company", [(), (Save(case("C-2")),)])
def test_a_conditional_remove_loses_to_any_change(
    records: AzureRecords, org: str, company: tuple[Write, ...]
) -> None:
    [etag] = records.commit(org, Add(case("C-1")))
    records.commit(org, Save(case("C-1", "changed")))
    with pytest.raises(Raced):
        records.commit(org, Remove(case("C-1"), etag), *company)
    [etag] = records.commit(org, Save(case("C-1", "again")))
    records.commit(org, Remove(case("C-1"), etag), *company)
    with pytest.raises(Raced):
        records.commit(org, Remove(case("C-1"), etag), *company)


def test_of_many_that_add_the_same_key_one_wins(records: AzureRecords, org: str) -> None:
    outcomes = race(8, lambda number: records.commit(org, Add(case("C-1", str(number)))))
    assert outcomes.count("won") == 1
    assert records.get(org, Case, "C-1").value.title == str(outcomes.index("won"))


def test_of_many_that_move_one_record_one_wins(records: AzureRecords, org: str) -> None:
    records.commit(org, Add(case("C-1")))
    stored = records.get(org, Case, "C-1")
    move: Callable[[int], object] = lambda number: records.commit(  # noqa: E731
        org, Move(stored, case("C-1", str(number))), Add(case(f"C-1-{number}"))
    )
    outcomes = race(8, move)
    assert outcomes.count("won") == 1
    winner = str(outcomes.index("won"))
    assert ids(records.range(org, Case)) == ["C-1", f"C-1-{winner}"]
    assert records.get(org, Case, "C-1").value.title == winner


def race(many: int, act: Callable[[int], object]) -> list[str]:
    def run(number: int) -> str:
        try:
            act(number)
        except Raced:
            return "raced"
        return "won"

    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(run, range(many)))


def test_a_hundred_writes_are_one_commit_and_more_are_a_bug(records: AzureRecords, org: str) -> None:
    writes = [Add(case(f"C-{number:03}")) for number in range(101)]
    records.commit(org, *writes[:100])
    assert len(records.range(org, Case)) == 100
    for wrong in (writes, []):
        with pytest.raises(ValueError, match="1 to 100"):
            records.commit(org, *wrong)


@pytest.fixture(scope="module")
def crowded(service: TableServiceClient) -> AzureRecords:
    """2,050 cases of the organisation `crowd`, with neighbours on all sides."""
    records = AzureRecords(service, "crowded")
    rows = [Add(case(f"a!{number:04}")) for number in range(2050)]
    for start in range(0, len(rows), 100):
        records.commit("crowd", *rows[start : start + 100])
    records.commit(
        "crowd", Add(case("b!1")), Add(Conversation("a!0", "C", "")), Add(case("a")), Add(case("a~"))
    )
    records.commit("crowd-2", Add(case("a!0000")))
    return records


def test_a_range_goes_over_pages_of_a_thousand_in_key_order(crowded: AzureRecords) -> None:
    found = ids(crowded.range("crowd", Case, prefix="a!", limit=5000))
    assert found == [f"a!{number:04}" for number in range(2050)]


@pytest.mark.parametrize(("prefix", "count"), [("a!", 2050), ("a!0", 1000), ("a!2", 50), ("c", 0)])
def test_every_record_comes_in_key_order_however_many_there_are(
    crowded: AzureRecords, prefix: str, count: int
) -> None:
    found = ids([*every(crowded, "crowd", Case, prefix=prefix)])
    assert found == ids(crowded.range("crowd", Case, prefix=prefix, limit=5000))
    assert len(found) == count


def test_a_range_ends_at_its_limit(crowded: AzureRecords) -> None:
    assert ids(crowded.range("crowd", Case, prefix="a!", limit=2)) == ["a!0000", "a!0001"]
    assert len(crowded.range("crowd", Case, prefix="a!")) == 1000
    assert len(crowded.range("crowd", Case, prefix="a!", limit=1500)) == 1500


def test_a_range_begins_after_and_ends_before_its_bounds(crowded: AzureRecords) -> None:
    between = crowded.range("crowd", Case, prefix="a!", after="a!0009", until="a!0012")
    assert ids(between) == ["a!0010", "a!0011"]
    assert ids(crowded.range("crowd", Case, after="a!2048")) == ["a!2049", "a~", "b!1"]
    assert ids(crowded.range("crowd", Case, prefix="b!", after="a!0009")) == ["b!1"]
    assert ids(crowded.range("crowd", Case, prefix="a!", after="b")) == []
    assert ids(crowded.range("crowd", Case, prefix="a!204", until="c")) == [
        f"a!{n}" for n in range(2040, 2050)
    ]


@pytest.mark.parametrize("bound", [{"prefix": "a/"}, {"after": "a b"}, {"until": "é"}])
def test_a_bound_outside_the_alphabet_is_a_bug(
    records: AzureRecords, org: str, bound: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="range"):
        records.range(org, Case, **bound)  # type: ignore[arg-type]


@pytest.mark.parametrize("condition", ["RowKey ge 'a'", "kind eq 'case' and PartitionKey eq 'o'", ""])
def test_a_query_without_its_partition_does_not_leave_the_process(
    service: TableServiceClient, records: AzureRecords, condition: str
) -> None:
    with pytest.raises(ValueError, match="PartitionKey"):
        list(service.get_table_client("records").query_entities(condition))


def test_listing_all_entities_does_not_leave_the_process(service: TableServiceClient) -> None:
    with pytest.raises(ValueError, match="PartitionKey"):
        next(service.get_table_client("records").list_entities())


@pytest.mark.parametrize("query", ["", "?$top=1", "?$filter=RowKey%20eq%20'PartitionKey%20'"])
def test_the_guard_reads_the_request_itself(query: str) -> None:
    request = SimpleNamespace(http_request=SimpleNamespace(url=f"https://a.example/records(){query}"))
    with pytest.raises(ValueError, match="PartitionKey"):
        tables.require_partition(request)


def test_an_unreachable_account_is_temporary(nobody: StorageAccess, org: str) -> None:
    records = AzureRecords(tables.connect(nobody))
    for act in (
        records.ping,
        lambda: records.find(org, Case, "C"),
        lambda: records.range(org, Case),
        lambda: records.commit(org, Add(case("C"))),
        lambda: records.commit(org, Add(case("C")), Add(case("D"))),
        lambda: list(AzureSchedule(tables.connect(nobody)).until(datetime.now(UTC))),
    ):
        with pytest.raises(Temporary) as caught:
            act()
        assert caught.value.detail == "Table storage cannot be reached."


# The schedule

NOW = datetime(2026, 11, 24, 12, 30, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_what_is_due_comes_oldest_first_and_what_is_not_stays(service: TableServiceClient, name: str) -> None:
    schedule = AzureSchedule(service, name)
    assert list(schedule.until(NOW)) == []
    dues = [Due(NOW + offset * MINUTE, "poll", "org", f"m{offset}", 60, "t") for offset in (0, 1, -900, -1)]
    for due in dues:
        schedule.put(due)
    assert [due.id for due in schedule.until(NOW)] == ["m-900", "m-1", "m0"]
    [first, *_] = schedule.until(NOW)
    assert first == replace(dues[2], at=dues[2].at.replace(second=0))


def test_noting_the_same_twice_is_one_entry(service: TableServiceClient, name: str) -> None:
    schedule = AzureSchedule(service, name)
    for seconds in (0, 5, 29):
        schedule.put(Due(NOW + timedelta(seconds=seconds), "poll", "org", "m", 60, "t"))
    schedule.put(Due(NOW, "poll", "org", "m", 60, "other"))
    schedule.put(Due(NOW, "outbox", "org", "-"))
    assert len(list(schedule.until(NOW))) == 3


def test_an_entry_is_removed_once_and_removing_it_again_is_no_error(
    service: TableServiceClient, name: str
) -> None:
    schedule = AzureSchedule(service, name)
    due = Due(NOW, "outbox", "org", "-")
    schedule.remove(due)
    schedule.put(due)
    for found in schedule.until(NOW):
        schedule.remove(found)
        schedule.remove(found)
    assert list(schedule.until(NOW)) == []


def test_a_long_backlog_comes_in_pages(service: TableServiceClient, name: str) -> None:
    schedule = AzureSchedule(service, name)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: schedule.put(Due(NOW, "poll", "org", f"m{n:04}")), range(1010)))
    assert [due.id for due in schedule.until(NOW)] == [f"m{number:04}" for number in range(1010)]
