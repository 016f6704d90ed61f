"""Azurite for the host's tests, and apps made of one string."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.azurite import ACCOUNT, KEY, Azurite
from sandbox.ports import Ports

APPS = Path(__file__).parent / "apps"


def connection_string(port: int, key: str = KEY) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};"
        f"QueueEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    )


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Azurite; gives the port of its queue service."""
    ports = Ports()
    with Azurite(tmp_path_factory.mktemp("azurite"), ports):
        yield ports["queue"]


MakeApp = Callable[..., Path]


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """Write a one-file app and return its folder."""

    def make(source: str, host: object = None) -> Path:
        folder = tmp_path / "app"
        folder.mkdir(exist_ok=True)
        content = {"version": "2.0"} if host is None else host
        (folder / "host.json").write_text(json.dumps(content))
        (folder / "function_app.py").write_text(
            "import azure.functions as func\napp = func.FunctionApp(http_auth_level='ANONYMOUS')\n" + source
        )
        return folder

    return make


def wait_for(condition: Callable[[], object], seconds: float = 15) -> object:
    """Ask until the answer is true; returns it, fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return answer
