"""Starting, refusing to start, reloading, stopping."""

import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import requests

from sandbox.host.process import HostError, HostProcess
from tests.host.conftest import APPS, MakeApp, wait_for

HELLO = """
@app.route('hello')
def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse('{}')
"""
QUEUE = """
@app.queue_trigger('m', '{}', connection='{}')
def q(m: func.QueueMessage) -> None: ...
"""
TIMER = """
@app.timer_trigger('t', '{}')
def t(t: func.TimerRequest) -> None: ...
"""
BLOB = """
@app.route('hello')
@app.blob_output('out', 'box/file', connection='STORE')
def hello(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse: ...
"""
TWICE = """
@app.route('x/{a}', methods=['GET'])
def one(req: func.HttpRequest) -> func.HttpResponse: ...
@app.route('x/{b}', methods=['GET', 'PUT'])
def two(req: func.HttpRequest) -> func.HttpResponse: ...
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("def broken(:", "SyntaxError"),
        ("app = None", "Could not find top level function app"),
        ("@app.route('x')\ndef f(req: func.HttpRequest) -> dict: ...", "does not match binding type"),
        (BLOB, "hello uses blob, which this host does not know"),
        (QUEUE.format("jobs", "MISSING"), "The connection MISSING needs an app setting"),
        (QUEUE.format("%UNSET%", "STORE"), "the app setting UNSET is not set"),
        (QUEUE.format("No_Name", "STORE"), "'No_Name' is no queue name"),
        (QUEUE.format("jobs", "MALFORMED"), "The connection string in MALFORMED is malformed"),
        (TIMER.format("*/5 * * * *"), "has 5 fields"),
        (
            "@app.route('admin/x')\ndef f(req: func.HttpRequest) -> func.HttpResponse: ...",
            "reserved by the host",
        ),
        (TWICE, "two has the route and a method of one"),
    ],
)
def test_an_app_that_cannot_run_ends_the_host_with_the_reason(
    make_app: MakeApp, tmp_path: Path, source: str, reason: str
):
    log = tmp_path / "log"
    environment = {"STORE": "UseDevelopmentStorage=true", "MALFORMED": "AccountKey=s3cret;nonsense"}
    with pytest.raises(HostError, match="exit code 2"):
        HostProcess(make_app(source), environment=environment, log=log).start()
    assert reason in log.read_text()
    assert "s3cret" not in log.read_text()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ({"version": "1.0"}, '"version": "2.0"'),
        ({"version": "2.0", "extensions": {"queues": {"visibilityTimeout": "30"}}}, "is not a time span"),
        ({"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}, "between 1 and 32"),
        ({"version": "2.0", "extensions": {"queues": {"messageEncoding": "utf8"}}}, "base64 or none"),
        ([], "must contain a JSON object"),
    ],
)
def test_a_wrong_host_json_ends_the_host_with_the_reason(
    make_app: MakeApp, tmp_path: Path, host: object, reason: str
):
    log = tmp_path / "log"
    with pytest.raises(HostError, match="exit code 2"):
        HostProcess(make_app(HELLO, host), log=log).start()
    assert reason in log.read_text()


def test_missing_files_end_the_host_with_the_reason(make_app: MakeApp, tmp_path: Path):
    folder, log = make_app(HELLO), tmp_path / "log"
    with pytest.raises(HostError):
        HostProcess(folder, settings_file=tmp_path / "nowhere.json", log=log).start()
    (folder / "function_app.py").unlink()
    with pytest.raises(HostError):
        HostProcess(folder, log=log).start()
    (folder / "host.json").unlink()
    with pytest.raises(HostError):
        HostProcess(folder, log=log).start()
    for reason in ("nowhere.json does not exist", "There is no function_app.py", "host.json does not exist"):
        assert reason in log.read_text()


def test_a_port_in_use_ends_the_host_with_the_reason(make_app: MakeApp, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = HostProcess(make_app(HELLO), port=taken.getsockname()[1], log=tmp_path / "log")
        with pytest.raises(HostError, match="exit code 2"):
            host.start()
    assert "Address already in use" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_running_request_and_exits_with_0(tmp_path: Path, number: signal.Signals):
    source = APPS / "slow"
    with HostProcess(source, log=tmp_path / "log") as host:
        answers: list[str] = []
        request = threading.Thread(
            target=lambda: answers.append(requests.get(f"{host.url}/api/slow", timeout=10).text)
        )
        request.start()
        time.sleep(0.5)
        host.process.send_signal(number)
        time.sleep(0.5)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{host.url}/api/slow", timeout=5)
        request.join()
        assert host.process.wait(10) == 0
    assert answers == ["done"]


@pytest.mark.long
def test_reload_serves_the_new_source_and_survives_a_broken_one(tmp_path: Path, make_app: MakeApp):
    folder = make_app(HELLO.format("one"))
    source = folder / "function_app.py"
    good = source.read_text()

    def answers(text: str) -> bool:
        try:
            return requests.get(f"{host.url}/api/hello", timeout=2).text == text
        except requests.ConnectionError:
            return False

    with HostProcess(folder, reload=True, log=tmp_path / "log") as host:
        pid = host.process.pid
        assert answers("one")
        saved = source.stat()
        source.write_text(good.replace("one", "two"))
        os.utime(source, ns=(saved.st_atime_ns, saved.st_mtime_ns))  # as if saved in the same second
        wait_for(lambda: answers("two"))
        source.write_text("def broken(:")
        wait_for(lambda: "SyntaxError" in (tmp_path / "log").read_text())
        assert host.process.poll() is None
        source.write_text(good.replace("one", "three"))
        wait_for(lambda: answers("three"))
        assert host.process.pid == pid
        assert host.stop() == 0


def test_reload_takes_a_changed_local_settings_file(tmp_path: Path):
    folder = tmp_path / "app"
    shutil.copytree(APPS / "http", folder)
    settings = folder / "local.settings.json"
    with HostProcess(folder, reload=True, log=tmp_path / "log") as host:
        settings.write_text(settings.read_text().replace("from the file", "edited"))

        def edited() -> bool:
            try:
                return requests.get(f"{host.url}/api/settings", timeout=2).json()["GREETING"] == "edited"
            except requests.ConnectionError:
                return False

        wait_for(edited)
