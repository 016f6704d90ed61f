"""Invariants of the templates, as far as they can be checked without Azure's compiler."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from shared import deadline
from shared.app import DELIVER, SYNC
from shared.settings import SETTINGS
from shared.shares import JOBS, REQUESTS

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
README = (INFRA / "README.md").read_text()
MAIN = (INFRA / "main.bicep").read_text()
ROLES = (INFRA / "roles.bicep").read_text()
EVERYTHING = MAIN + ROLES
FULL = re.MULTILINE | re.DOTALL


NOT_IN_AZURE = {"STORAGE", "AzureWebJobsStorage", "AzureWebJobsStorage__accountName"}
"""Other forms of what is set."""

OF_THE_PLATFORM = {
    "PYTHON_THREADPOOL_THREAD_COUNT",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}
"""The worker and the host read them, and we do not."""


def test_the_settings_that_are_set_are_those_that_are_known():
    declared = set(
        re.findall(r"^  (\w+): ", re.search(r"^var settings = {\n(.*?)^}", MAIN, FULL)[1], re.MULTILINE)
    )
    assert declared == {setting.name for setting in SETTINGS} - NOT_IN_AZURE | OF_THE_PLATFORM


def test_the_readme_names_every_parameter():
    rows = re.findall(r"^\| (`.*?) \|", README, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(re.findall(r"^param (\w+)", MAIN, re.MULTILINE))


def test_the_readme_says_how_each_secret_of_ours_gets_into_the_vault():
    names = {setting.name for setting in SETTINGS if setting.name.endswith(("_SECRET_NAME", "_KEY_NAME"))}
    secrets = {re.search(rf"^  {name}: '(.*)'", MAIN, re.MULTILINE)[1] for name in names}
    assert set(re.findall(r"az keyvault secret set .*--name (\S+)", README)) == secrets
    assert secrets == {setting.default for setting in SETTINGS if setting.name in names}


def test_every_queue_is_declared_with_its_poison_twin():
    queues = set(re.findall(r"'([a-z-]+)'", re.search(r"queueNames = \[(.*)\]", MAIN)[1]))
    assert queues == {SYNC, f"{SYNC}-poison", DELIVER, f"{DELIVER}-poison"}


def test_threads_are_left_for_callers_when_every_job_of_both_queues_hangs():
    """One process serves all three on a developer's machine; in Azure each queue scales by itself."""
    queues = json.loads((INFRA.parent / "host.json").read_text())["extensions"]["queues"]
    busy = 2 * (queues["batchSize"] + queues["newBatchThreshold"])
    sample = json.loads((INFRA.parent / "local.settings.sample.json").read_text())["Values"]
    in_azure = re.search(r"PYTHON_THREADPOOL_THREAD_COUNT: '(\d+)'", MAIN)[1]
    for threads in (sample["PYTHON_THREADPOOL_THREAD_COUNT"], in_azure):
        assert int(threads) - busy >= 8


def test_a_job_is_over_well_before_the_host_ends_the_worker():
    host = json.loads((INFRA.parent / "host.json").read_text())
    hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))
    assert 3600 * hours + 60 * minutes + seconds - 60 >= deadline.JOB


def test_one_organisations_slow_jobs_keep_no_queue_from_being_read():
    queues = json.loads((INFRA.parent / "host.json").read_text())["extensions"]["queues"]
    assert JOBS.most < queues["newBatchThreshold"]
    assert 3 * REQUESTS.most < int(re.search(r"PYTHON_THREADPOOL_THREAD_COUNT: '(\d+)'", MAIN)[1])


def test_no_shared_key_and_no_public_access_anywhere():
    accounts = MAIN.count("'Microsoft.Storage/storageAccounts@")
    assert MAIN.count("allowSharedKeyAccess: false") == accounts == 2
    assert MAIN.count("allowBlobPublicAccess: false") == accounts
    assert "listKeys(" not in EVERYTHING
    assert "AccountKey" not in EVERYTHING


def test_what_has_its_keys_switched_off_is_open_to_the_apps_identity():
    """Application Insights takes nothing without a key but from a Monitoring Metrics Publisher."""
    assert "DisableLocalAuth: true" in MAIN
    [publisher] = re.findall(r"^var (\w+) = '3913510d-42f4-4e42-8a64-420c390055eb'$", MAIN, re.MULTILINE)
    assert f"insightsRoles: [{publisher}]" in MAIN
    assert "insightsName: insights.name" in MAIN
    assert re.search(r"for role in insightsRoles: \{\n  scope: insights\n", ROLES)
    assert re.search(r"resource insights '[^']+' existing = \{\n  name: insightsName\n", ROLES)


def test_the_app_may_destroy_secrets_but_no_vault():
    """Secrets Officer purges secrets; Purge Operator has no data action, but purges whole vaults."""
    [officer] = re.findall(r"^var (\w+) = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'$", MAIN, re.MULTILINE)
    assert f"vaultRoles: [{officer}]" in MAIN
    assert "a68e7c17-0ab2-4c09-9a58-125dae29748c" not in EVERYTHING


def test_whatever_is_logged_as_an_error_raises_the_alert():
    code = "".join(
        file.read_text() for part in ("shared", "handlers") for file in (INFRA.parent / part).rglob("*.py")
    )
    logged = re.findall(r'log\(\s*"([\w.]+)",\s*level=logging\.(?:ERROR|CRITICAL)', code)
    levels = re.findall(r"level=logging\.(?:ERROR|CRITICAL)", code)
    assert len(logged) == len(levels) - 1, "all but the one in `telling`"
    events = {*logged, *re.findall(r'telling\("([\w.]+)"\)', code)}
    query = re.search(r"query: '(traces .*)'", MAIN)[1]
    assert events == set(re.findall(r'message has "([\w.]+)"', query))
    sampling = json.loads((INFRA.parent / "host.json").read_text())["logging"]["applicationInsights"]
    assert "Trace" in sampling["samplingSettings"]["excludedTypes"].split(";")
    assert MAIN.count("actions: { actionGroups: [told.id] }") == MAIN.count("/scheduledQueryRules@") == 2


def test_a_timer_that_does_not_run_raises_an_alert_whatever_is_logged():
    rule = re.search(r"^resource silenceAlert .*?^}$", MAIN, FULL)[0]
    assert "query: 'requests | where name == \"tick\"'" in rule
    for line in ("windowSize: 'PT15M'", "operator: 'LessThan'", "threshold: 1", "actionGroups: [told.id]"):
        assert line in rule
    assert '@bp.function_name("tick")' in (INFRA.parent / "handlers" / "timers.py").read_text()
    logging = json.loads((INFRA.parent / "host.json").read_text())["logging"]
    assert logging["logLevel"]["Host.Results"] == "Information", "else the host keeps no record of a run"
    assert "Request" in logging["applicationInsights"]["samplingSettings"]["excludedTypes"].split(";")


def ignored(file):
    """Whether a file stays out of the package: a pattern without a slash fits any part of its path."""
    lines = (ROOT / ".funcignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert not any(set("/!") & set(pattern) for pattern in patterns), "not what this test understands"
    return any(fnmatchcase(part, pattern) for part in file.parts for pattern in patterns)


def test_what_the_app_needs_is_deployed_and_nothing_else_of_the_repository():
    script = "import json, sys, function_app; print(json.dumps([*map(str, sys.modules.values())]))"
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True).stdout
    imported = {Path(file) for file in re.findall(rf"'{ROOT}/([^.'][^']*\.py)'", said.decode())}
    lazy = {file.relative_to(ROOT) for part in ("shared", "handlers") for file in (ROOT / part).rglob("*.py")}
    needed = {*imported, *lazy, Path("function_app.py"), Path("host.json"), Path("requirements.txt")}
    assert Path("handlers/jobs.py") in imported
    assert [file for file in needed if ignored(file)] == []
    made = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    ours = {".git", ".ci", "docs", "infra", "sandbox", "tests", "tools", "README.md", "pyproject.toml"}
    assert [name for name in made | ours if not ignored(Path(name))] == []


def test_braces_and_brackets_are_balanced():
    for pair in ("{}", "[]", "()"):
        assert EVERYTHING.count(pair[0]) == EVERYTHING.count(pair[1])
