"""Every app in bad/ says in its docstring who must refuse it, and with which words.

`worker: ...` is part of the failure of the real worker. `host: ...` is part of a rule's sentence, and
then the worker must have nothing against the app, or the rule would not be needed.
"""

import ast
import json
from pathlib import Path

import pytest

from tests.real_worker import rules, worker

HERE = Path(__file__).parent
SETTINGS = {"STORAGE": "UseDevelopmentStorage=true"}
ANONYMOUS = {"GET open/{}"}
FAIL_WHEN_CALLED = {
    "dict_response_without_annotation": worker.http("handler", "GET", "http://localhost/api/x"),
    "queue_function_returns_a_value": worker.message("handler", "text"),
    "sync_wrapper_over_async": worker.http("handler", "GET", "http://localhost/api/x"),
}

pytestmark = pytest.mark.fast


def broken_rules(app: Path, indexed: worker.Indexed) -> list[str]:
    source = app.read_text()
    found = rules.violations(
        indexed,
        settings=SETTINGS,
        anonymous=ANONYMOUS,
        declared=rules.declared_functions(source),
    )
    return found + rules.unstated_levels(source) + rules.repeated_headers(source)


@pytest.mark.parametrize("app", sorted((HERE / "bad").glob("*.py")), ids=lambda app: app.stem)
def test_a_bad_app_is_refused_for_the_reason_it_names(app: Path):
    who, _, reason = ast.get_docstring(ast.parse(app.read_text())).splitlines()[0].partition(": ")
    calls = [call for name, call in FAIL_WHEN_CALLED.items() if name == app.stem]
    indexed = worker.index(app, calls=calls)
    assert all(answer.failure for answer in indexed.answers)
    if who == "worker":
        assert reason in (indexed.failure or "the worker took it")
    else:
        assert who == "host"
        assert indexed.failure is None
        found = broken_rules(app, indexed)
        assert len(found) == 1
        assert reason in found[0]


def test_a_good_app_is_taken_breaks_no_rule_and_runs_at_every_kind_of_trigger():
    app = HERE / "good" / "all_kinds.py"
    calls = [
        worker.http("put_open", "PUT", "http://localhost/api/open/7?q=a&empty=", body="Grüße", name="7"),
        worker.message("sync-job_2", '{"kind": "sync"}'),
        worker.moment("often"),
        worker.moment("often", late=True),
    ]
    indexed = worker.index(app, calls=calls)
    assert indexed.failure is None
    assert len(indexed.functions) == 5
    assert broken_rules(app, indexed) == []
    put, queued, on_time, late = indexed.answers
    assert [answer.failure for answer in (put, queued, on_time)] == [None] * 3
    response = put.returned["http"]
    told = ["PUT", "localhost", {"name": "7"}, {"q": "a"}, "Grüße"]
    assert (response["status_code"], response["headers"]["Location"]) == ("201", "put_open")
    assert json.loads(response["body"]["bytes"]) == told
    assert json.loads(queued.outputs["jobs"]["json"]) == ['{"kind": "sync"}', "attempt 1"]
    assert "TimeoutError" in late.failure


def test_no_file_is_a_failure_and_not_an_empty_app(tmp_path: Path):
    assert "There is no function_app.py" in worker.index(tmp_path / "function_app.py").failure
