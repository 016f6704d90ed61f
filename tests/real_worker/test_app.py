"""The real app, on the real worker."""

import functools
import json
import os
import subprocess
import sys

import pytest

from tests.real_worker import rules, worker
from tests.real_worker.worker import ROOT

pytestmark = pytest.mark.fast

# Who calls is proven inside: a bearer token, the signed state of a consent, clientState, a Pub/Sub token.
ANONYMOUS = {
    "GET health",
    "GET openapi.json",
    "GET integrations",
    *(f"{method} integrations/{{}}" for method in ("GET", "PUT", "DELETE")),
    "POST integrations/{}/consent",
    "POST integrations/{}/test",
    "GET consent/{}/callback",
    "GET oauth/{}/callback",
    "POST oauth/{}/answer",
    "GET mailboxes",
    "POST mailboxes",
    *(f"{method} mailboxes/{{}}" for method in ("GET", "PATCH", "DELETE")),
    "POST mailboxes/{}/sync",
    "POST mailboxes/{}/test",
    "GET mailboxes/{}/folders",
    "GET mailboxes/{}/search",
    "GET mailboxes/{}/reviews",
    "POST mailboxes/{}/reviews/{}",
    "PUT cases/{}",
    "GET cases/{}/emails",
    "POST cases/{}/drafts",
    "POST cases/{}/drafts/{}/send",
    "POST cases/{}/emails",
    "GET cases/{}/emails/{}",
    "GET cases/{}/emails/{}/raw",
    "GET cases/{}/emails/{}/attachments/{}",
    "POST cases/{}/emails/{}/move",
    "POST cases/{}/links",
    "GET domains",
    "PUT domains/{}",
    "POST domains/{}/verify",
    "POST mailboxes/autodetect",
    "GET audit",
    "POST notifications/{}",
    "POST notifications/{}/lifecycle",
}
HEAVY = (
    "msal",
    "googleapiclient",
    "exchangelib",
    "imapclient",
    "checkdmarc",
    "dkim",
    "dns",
    "defusedxml",
    "azure.identity",
    "azure.data",
    "azure.storage",
    "azure.keyvault",
)


def settings() -> dict[str, str]:
    return json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]


@functools.cache
def indexed() -> worker.Indexed:
    return worker.index(ROOT / "function_app.py", settings())


def sources() -> dict[str, str]:
    return {path.name: path.read_text() for path in (ROOT / "handlers").glob("*.py")}


def test_the_worker_takes_the_app():
    assert indexed().failure is None
    assert indexed().functions


def test_the_app_breaks_no_rule_of_the_host():
    declared = set().union(*map(rules.declared_functions, sources().values()))
    assert declared
    found = rules.violations(indexed(), settings=settings(), anonymous=ANONYMOUS, declared=declared)
    assert found == []


@pytest.mark.parametrize("name", sorted(sources()))
def test_every_route_states_its_authorization_level(name: str):
    assert rules.unstated_levels(sources()[name]) == []


@pytest.mark.parametrize("name", sorted(sources()))
def test_no_handler_adds_a_header_beside_another(name: str):
    assert rules.repeated_headers(sources()[name]) == []


def without_settings(script):
    """Run it as a process that has no settings."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_deployment_without_settings_tells_its_log_which_and_callers_only_that_it_is_so():
    script = (
        "import azure.functions as func, function_app\n"
        "from handlers.http import respond\n"
        "for who in ('anyone', 'member'):\n"
        "    request = func.HttpRequest('GET', '/', headers={}, body=b'')\n"
        "    answer = respond(request, lambda call: None, who, None)\n"
        "    print(answer.status_code, answer.get_body().decode())"
    )
    run = without_settings(script)
    assert run.stdout.count("500 ") == run.stdout.count('"misconfigured"') == 2, run.stderr
    assert "settings.wrong" in run.stdout
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    critical = lines[0]
    assert (critical["event"], critical["level"]) == ("settings.wrong", "CRITICAL")
    # Azure drops what is logged at the import; a request's lines arrive
    told = [line for line in lines if line["event"] == "settings.wrong" and "correlation_id" in line]
    assert [line["error"]["detail"] for line in told] == [critical["error"]["detail"]] * 2
    for name in ("KEY_VAULT_URL", "AUTH_ISSUER"):
        assert f"{name} is missing" in critical["error"]["detail"]
        assert name not in run.stdout


def test_a_job_that_finds_no_settings_tells_the_log_which():
    script = (
        "from types import SimpleNamespace\n"
        "from handlers.jobs import sync_job\n"
        "sync_job._function.get_user_function()(SimpleNamespace(get_body=lambda: b'{}'))"
    )
    run = without_settings(script)
    line = json.loads(run.stderr.splitlines()[0])
    assert (line["event"], "AUTH_ISSUER is missing" in line["error"]["detail"]) == ("settings.wrong", True)


NOWHERE = (
    "AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;"
    "QueueEndpoint=http://127.0.0.1:9/a;BlobEndpoint=http://127.0.0.1:9/a"
)


def without_a_store(script):
    """Run it as a process whose store does not answer."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **settings(), "STORAGE": NOWHERE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_trigger_of_each_kind_reaches_the_app_and_what_fails_is_in_our_log_and_told_to_the_host():
    calls = [
        worker.http("openapi_document", "GET", "http://localhost/api/openapi.json"),
        worker.message("sync_job", "no job"),
        worker.moment("tick"),
    ]
    found = worker.index(ROOT / "function_app.py", {**settings(), "STORAGE": NOWHERE}, calls)
    document, job, tick = found.answers
    assert document.returned["http"]["status_code"] == "200"
    assert json.loads(document.returned["http"]["body"]["bytes"])["openapi"]
    ours, store = [json.loads(line) for line in found.log.splitlines() if line.startswith("{")]
    assert (ours["event"], ours["level"], ours["error"]["class"]) == (
        "job.failed",
        "ERROR",
        "msgspec.DecodeError",
    )
    assert ours["correlation_id"] in job.failure
    assert (store["event"], store["level"]) == ("tick.failed", "ERROR")
    assert (store["job"], store["error"]["code"]) == ("tick", "temporary")
    assert "Temporary" in tick.failure


def test_why_a_request_was_refused_is_in_our_log_where_it_is_ours_to_mend_and_else_the_callers_to_read():
    script = (
        "import azure.functions as func, function_app\n"
        "from handlers.http import respond\n"
        "request = func.HttpRequest('GET', '/', headers={}, body=b'')\n"
        "for who, handler in (('anyone', lambda call: call.app.records.ping()), ('member', None)):\n"
        "    respond(request, handler or (lambda call: None), who, None)"
    )
    lines = [json.loads(line) for line in without_a_store(script).stderr.splitlines()]
    ours, theirs = [line for line in lines if line["event"] == "request.refused"]
    assert (ours["code"], ours["error"]["detail"]) == ("temporary", "Table storage cannot be reached.")
    assert any("shared/storage/tables.py" in frame for frame in ours["error"]["stack"])
    assert (theirs["code"], "error" in theirs) == ("unauthenticated", False)


def test_importing_the_app_loads_no_provider_and_no_azure_client():
    """They are most of a cold start."""
    script = "import function_app, json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **settings()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    loaded = json.loads(run.stdout.splitlines()[-1])
    assert [name for name in loaded if name.startswith(HEAVY)] == []
