"""The walls of the design that import-linter cannot see are kept by ruff (pyproject.toml: banned-api)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.fast


def refusals(path: str, source: str) -> str:
    """Return what ruff, configured as in `make check`, says of a file at this place with this content."""
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--stdin-filename", path],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stderr == ""
    return run.stdout if run.returncode else ""


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("handlers/jobs.py", "import azure.storage.queue", "only shared/storage knows"),
        (
            "handlers/http.py",
            "from azure.identity import DefaultAzureCredential",
            "only shared/storage knows",
        ),
        ("shared/matching.py", "import os\nKEY = os.environ['KEY']", "only shared/settings.py reads"),
        ("shared/storage/vault.py", "from os import getenv", "only shared/settings.py reads"),
        ("handlers/timers.py", "def tick():\n    from os import environ", "only shared/settings.py reads"),
        ("function_app.py", "import sandbox.world", "the sandbox is for tests"),
        ("shared/storage/tables.py", "import sandbox.world", "the sandbox is for tests"),
    ],
)
def test_what_goes_through_a_wall_does_not_pass_the_linter(path: str, source: str, why: str):
    assert why in refusals(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("handlers/jobs.py", "import azure.functions as func"),
        ("shared/storage/queues.py", "from azure.storage.queue import QueueClient"),
        ("shared/settings.py", "import os\nSOURCE = os.environ"),
        ("tests/conftest.py", "import os\nfrom sandbox import world\nSOURCE = os.environ"),
    ],
)
def test_what_lives_behind_a_wall_may_do_what_it_is_for(path: str, source: str):
    assert refusals(path, source) == ""
