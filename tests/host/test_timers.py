"""Schedules, and timers on a running host."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from sandbox.host.config import ConfigError
from sandbox.host.process import HostProcess
from sandbox.host.timers import Schedule
from tests.host.conftest import APPS, wait_for


@pytest.mark.fast
@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 */5 * * * *", "2026-11-24T01:02:03", "2026-11-24T01:05:00"),
        ("* * * * * *", "2026-11-24T01:02:03", "2026-11-24T01:02:04"),
        ("30 0 9-17 * * MON-FRI", "2026-11-27T17:30:00", "2026-11-30T09:00:30"),
        ("0 0 0 13 * 5", "2026-11-24T00:00:00", "2027-08-13T00:00:00"),  # Friday AND the 13th
        ("0 0 0 * * 0", "2026-11-24T00:00:00", "2026-11-29T00:00:00"),  # 0 is Sunday
        ("0 0 0 1 January *", "2026-11-24T00:00:00", "2027-01-01T00:00:00"),
        ("0 5/20 * * * *", "2026-11-24T01:00:00", "2026-11-24T01:05:00"),
        ("0 0 0 29 2 *", "2026-11-24T00:00:00", "2028-02-29T00:00:00"),
        ("0,30 0 12 * feb,aug *", "2026-11-24T00:00:00", "2027-02-01T12:00:00"),
        ("0 0 1-5/2 * * *", "2026-11-24T01:00:00", "2026-11-24T03:00:00"),
    ],
)
def test_the_next_occurrence_is_ncrontabs(expression: str, after: str, expected: str):
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert Schedule(expression).after(moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.fast
@pytest.mark.parametrize(
    "expression",
    [
        "*/5 * * * *",
        "0 * * * * * *",
        "00:05:00",
        "@daily",
        "0 0 0 L * *",
        "0 0 0 ? * *",
        "0 0 0 * * 5#2",
        "0 0 0 15W * *",
        "60 * * * * *",
        "0 0 24 * * *",
        "0 0 0 0 * *",
        "0 0 0 * 13 *",
        "0 0 0 * * 7",
        "0 0 0 * * FRI-MON",
        "0 0 0 * * sometimes",
        "0 */0 * * * *",
        "0 1, * * * *",
        "0 0 0 31 2 *",
        "0 0 0 H * *",
        "",
    ],
)
def test_what_the_real_host_refuses_is_refused(expression: str):
    with pytest.raises(ConfigError):
        Schedule(expression)


def read(record: Path, name: str) -> list[dict[str, object]]:
    lines = record.read_text().splitlines() if record.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["name"] == name]


def test_timers_run_on_time_survive_failures_and_never_overlap_themselves(tmp_path: Path):
    record = tmp_path / "record"
    environment = {"RECORD": str(record), "SLOW_SCHEDULE": "* * * * * *"}
    with HostProcess(APPS / "timers", environment=environment, log=tmp_path / "log") as host:
        assert requests.post(f"{host.url}/admin/functions/By_Hand", json={}, timeout=5).status_code == 202
        wait_for(lambda: len(read(record, "every_second")) >= 4 and len(read(record, "slow ends")) >= 2)
        assert host.stop() == 0
    ticks = read(record, "every_second")
    assert all(tick["at"] % 1 < 0.5 for tick in ticks)
    assert all(later["at"] - earlier["at"] > 0.5 for earlier, later in pairwise(ticks))
    assert not ticks[0]["past_due"]
    assert len(read(record, "fails")) >= 3
    assert len(read(record, "at_start")) == 1
    assert len(read(record, "by_hand")) == 1
    slow = sorted(read(record, "slow starts") + read(record, "slow ends"), key=lambda entry: entry["at"])
    assert [entry["name"] for entry in slow] == ["slow starts", "slow ends"] * (len(slow) // 2)
