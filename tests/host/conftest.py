"""Azurite for the host's tests, and apps made of one string."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.host.process import free_port

APPS = Path(__file__).parent / "apps"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def connection_string(port: int, key: str = KEY) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};"
        f"QueueEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
    )


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Azurite's queue service; gives its port."""
    script = Path(os.environ.get("AZURITE", "/tmp/az/node_modules/azurite/dist/src/azurite.js"))
    node = shutil.which("node")
    if not node or not script.exists():
        pytest.skip("Azurite is not installed")
    ports = [free_port() for _ in range(3)]
    command = [
        node,
        str(script),
        "--inMemoryPersistence",
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    for service, port in zip(("queue", "blob", "table"), ports, strict=True):
        command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path_factory.mktemp("azurite"))
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", ports[0]), 0.2).close()
            except OSError:
                time.sleep(0.1)
            else:
                break
        yield ports[0]
    finally:
        process.terminate()
        process.wait(10)


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
