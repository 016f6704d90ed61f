"""`python -m sandbox [--directory DIR] [--reload] [--no-app [FILE]]`: everything on 127.0.0.1, seeded.

It runs until Ctrl-C or SIGTERM. SANDBOX_PORT (default 7071) is where the API listens; the others follow it.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import requests

from sandbox.families import SeedError
from sandbox.host.process import HostError, HostProcess
from sandbox.ports import API, HOST, NAMES, available
from sandbox.processes import StartError
from sandbox.seed import seed
from sandbox.world import World

APP = Path(__file__).resolve().parent.parent
SETTINGS = "local.settings.json"
SAMPLE = APP / "local.settings.sample.json"
MADE_BY = "python -m sandbox --no-app"
READY_SECONDS = 60
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a supervisor, and a terminal that is closed."""


_asked = threading.Event()
"""Somebody wants us to end. Looked at between two steps: an exception out of a signal handler could leave a
child process or a folder behind that nobody knows of yet."""


class Stop(Exception):
    """Somebody asked us to end."""


def main() -> int:
    """Run the sandbox; returns 0 after a stop and 1 after an error, which it tells in one line."""
    parser = argparse.ArgumentParser("python -m sandbox", description=__doc__)
    parser.add_argument("--directory", type=Path, default=APP / ".sandbox", help="default: .sandbox")
    parser.add_argument("--reload", action="store_true", help="start the app again when its source changes")
    parser.add_argument(
        "--no-app",
        type=Path,
        nargs="?",
        const=APP / SETTINGS,
        metavar="FILE",
        help=f"leave the app to another host, for which its settings are written (default: {SETTINGS})",
    )
    given = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, lambda *_: _asked.set())
    try:
        port = _port(os.environ.get("SANDBOX_PORT", ""))
        run(given.directory.resolve(), port, reload=given.reload, settings=given.no_app)
    except (StartError, HostError, SeedError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except Stop:
        print("\nThe sandbox has stopped.")
    return 0


def run(directory: Path, port: int, *, reload: bool, settings: Path | None = None) -> NoReturn:
    """Start, seed, tell, and stay until asked to stop.

    Args:
        settings: where to write the app's settings for another host; without it the app is started here.

    Raises Stop, StartError, HostError and SeedError.
    """
    for offset, name in enumerate(NAMES):
        if not available(port + offset):
            text = f"port {port + offset} ({name}) of {HOST} is taken; choose another base with SANDBOX_PORT."
            raise StartError(text)
    if settings and settings.exists() and MADE_BY not in settings.read_text():
        raise StartError(f"{settings} is there already and none of ours; move it away.")
    own = directory / str(port)
    shutil.rmtree(own, ignore_errors=True)  # a sandbox begins anew each time
    log = own / "app.log"
    with World(own, port) as world, ExitStack() as stack:
        if settings:
            stack.enter_context(_settings(settings, world.environment()))
            print(f"Now start the app: func start --port {port}   (its settings: {settings})", flush=True)
            ended = _wait_for_another_host(world.api)
        else:
            environment = {**world.environment(), "PYTHONUNBUFFERED": "1"}
            host = HostProcess(APP, port, environment, settings_file=_local(), reload=reload, log=log)
            stack.callback(host.stop)
            _check()
            _start(host, log)
            ended = lambda: host.process is None or host.process.poll() is not None  # noqa: E731
            _wait_until_healthy(f"{world.api}/api", log)
        facts = seed(world, f"{world.api}/api")
        _check()
        with _published(facts, directory / "sandbox.json", own / "sandbox.json"):
            print(table(world, facts, log, directory), flush=True)
            while not ended():
                _asked.wait(0.5)
                _check()
        raise HostError(f"The app's host has ended (see {log}).")


def _local() -> Path:
    """Return the file that says which pages may call the app (`Host.CORS`): one's own, or the sample."""
    own = APP / SETTINGS
    return own if own.exists() else SAMPLE


def _wait_for_another_host(url: str) -> Callable[[], bool]:
    """Wait as long as it takes; returns whether it has ended, which is for whoever runs it to see."""
    told = ""
    while True:
        _check()
        try:
            answer = requests.get(f"{url}/api/health", timeout=10)
        except requests.RequestException:
            pass  # nobody has started it yet
        else:
            if answer.ok:
                return lambda: False
            if told != (told := answer.text[:1000]):
                print(f"The app answers, but is not well ({answer.status_code}): {told}", flush=True)
        _asked.wait(0.5)


@contextmanager
def _settings(file: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Keep settings for Core Tools in a file while the sandbox runs."""
    sample = json.loads(SAMPLE.read_text())
    values = {**sample["Values"], **environment, "SANDBOX": MADE_BY}
    with _written(json.dumps({**sample, "Values": values}, indent=2), file):
        yield


def table(world: World, facts: dict[str, Any], log: Path, directory: Path) -> str:
    """Return what runs where, for a human."""
    ports = world.ports
    rows = [
        ("API", facts["api"], f"log: {log}"),
        (
            "Storage (Azurite)",
            world.azurite.urls["blob"],
            f"queues {ports['queue']}, tables {ports['table']}",
        ),
        ("Key Vault", world.vault.url, "simulator"),
        ("Token issuer", world.issuer.url, "simulator; managed identity at /msi/token"),
        ("IMAP", f"localhost:{ports['imaps']} (tls)", f"{ports['imap']} (starttls)"),
        ("POP3", f"localhost:{ports['pop3s']} (tls)", f"{ports['pop3']} (starttls)"),
        (
            "SMTP submission",
            f"localhost:{ports['smtps']} (tls)",
            f"{ports['smtp']} (starttls), MX {ports['mx']}",
        ),
        ("Microsoft 365", world.entra.url, f"Entra simulator; Graph {world.graph.base}"),
        ("Exchange (EWS)", f"{world.exchange.url}/EWS/Exchange.asmx", "simulator; NTLM and Basic"),
        ("Google", world.google.url, "simulator: sign-in, Gmail, Pub/Sub, Admin console"),
        ("Way in (HTTPS)", world.public_url, "for browsers and notifications"),
        ("DNS", world.dns.address, "UDP; for the sandbox's domains"),
        ("Supplier", facts["supplier"]["address"], f"password: {facts['supplier']['password']}"),
    ]
    rows += [
        (f"Organisation {name}", each["address"], f"case {each['case']}, mailbox {each['mailboxId']}")
        for name, each in facts["organisations"].items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]
    facts_file = directory / "sandbox.json"
    return "\n".join(
        [*lines, "", f"Tokens and passwords: {facts_file}", "The sandbox is ready. Ctrl-C stops it."]
    )


def _start(host: HostProcess, log: Path) -> None:
    try:
        host.start()
    except HostError as error:
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        raise StartError(f"{error} {said[:200]} (see {log})") from error


def _wait_until_healthy(url: str, log: Path) -> None:
    deadline, said = time.monotonic() + READY_SECONDS, "nothing"
    while time.monotonic() < deadline:
        _check()
        try:
            answer = requests.get(f"{url}/health", timeout=10)
        except requests.RequestException as error:
            said = type(error).__name__
        else:
            if answer.ok:
                return
            said = f"{answer.status_code} {answer.text[:300]}"
        time.sleep(0.2)
    raise StartError(f"the app is not healthy after {READY_SECONDS} s: {said} (see {log})")


@contextmanager
def _published(facts: dict[str, Any], newest: Path, own: Path) -> Iterator[None]:
    """Keep the facts in the sandbox's own file while it runs, and in the one of whichever is the newest."""
    text = json.dumps(facts, indent=2)
    try:
        with _written(text, own), _written(text, newest):
            yield
    finally:
        older = _of_another(newest.parent)
        if older and not newest.exists():
            _write(older, newest)


def _of_another(directory: Path) -> str | None:
    """Return the facts of the newest sandbox that runs in this directory; a killed one's lie there, too."""
    found = [file for file in directory.glob("*/sandbox.json") if file.parent.name.isdecimal()]
    for file in sorted(found, key=lambda each: each.stat().st_mtime, reverse=True):
        if not available(int(file.parent.name)):
            return file.read_text()
    return None


@contextmanager
def _written(text: str, file: Path) -> Iterator[None]:
    """Keep the text in a file, unless a newer one has replaced it."""
    _write(text, file)
    try:
        yield
    finally:
        if file.exists() and file.read_text() == text:
            file.unlink()


def _write(text: str, file: Path) -> None:
    """Write a text that holds passwords."""
    new = file.with_suffix(f".{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(file)


def _port(text: str) -> int:
    if not text:
        return API
    if not (text.isdecimal() and 1024 <= int(text) <= 65_500):
        raise StartError("SANDBOX_PORT must be a port number between 1024 and 65500.")
    return int(text)


def _check() -> None:
    if _asked.is_set():
        raise Stop


if __name__ == "__main__":
    sys.exit(main())
