"""Every app in bad/ says in its docstring who must refuse it, and with which words.

`worker: ...` is part of the failure of the real worker. `host: ...` is part of a rule's sentence, and
then the worker must have nothing against the app, or the rule would not be needed.
"""

import ast
from pathlib import Path

import pytest

from tests.real_worker import rules, worker

HERE = Path(__file__).parent
SETTINGS = {"STORAGE": "UseDevelopmentStorage=true"}
ANONYMOUS = {"GET open/{}"}

pytestmark = pytest.mark.fast


def broken_rules(app: Path, indexed: worker.Indexed) -> list[str]:
    source = app.read_text()
    found = rules.violations(
        indexed.functions,
        settings=SETTINGS,
        anonymous=ANONYMOUS,
        declared=rules.declared_functions(source),
    )
    return found + rules.unstated_levels(source)


@pytest.mark.parametrize("app", sorted((HERE / "bad").glob("*.py")), ids=lambda app: app.stem)
def test_a_bad_app_is_refused_for_the_reason_it_names(app: Path):
    who, _, reason = ast.get_docstring(ast.parse(app.read_text())).splitlines()[0].partition(": ")
    indexed = worker.index(app)
    if who == "worker":
        assert reason in (indexed.failure or "the worker took it")
    else:
        assert who == "host"
        assert indexed.failure is None
        found = broken_rules(app, indexed)
        assert len(found) == 1
        assert reason in found[0]


def test_a_good_app_is_taken_and_breaks_no_rule():
    app = HERE / "good" / "all_kinds.py"
    indexed = worker.index(app)
    assert indexed.failure is None
    assert len(indexed.functions) == 5
    assert broken_rules(app, indexed) == []


def test_no_file_is_a_failure_and_not_an_empty_app(tmp_path: Path):
    assert "There is no function_app.py" in worker.index(tmp_path / "function_app.py").failure
