"""`python -m sandbox [--directory DIR] [--reload]`: everything on 127.0.0.1, seeded, until Ctrl-C or SIGTERM.

SANDBOX_PORT (default 7071) is where the API listens; the other parts follow it.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    given = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, lambda *_: _asked.set())
    try:
        run(given.directory.resolve(), _port(os.environ.get("SANDBOX_PORT", "")), reload=given.reload)
    except (StartError, HostError, SeedError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except Stop:
        print("\nThe sandbox has stopped.")
    return 0


def run(directory: Path, port: int, *, reload: bool) -> NoReturn:
    """Start, seed, tell, and stay until asked to stop. Raises Stop, StartError, HostError and SeedError."""
    for offset, name in enumerate(NAMES):
        if not available(port + offset):
            text = f"port {port + offset} ({name}) of {HOST} is taken; choose another base with SANDBOX_PORT."
            raise StartError(text)
    own = directory / str(port)
    shutil.rmtree(own, ignore_errors=True)  # a sandbox begins anew each time
    log = own / "app.log"
    with World(own, port) as world:
        environment = {**world.environment(), "PYTHONUNBUFFERED": "1"}
        host = HostProcess(APP, port, environment, reload=reload, log=log)
        try:
            _check()
            _start(host, log)
            url = f"{host.url}/api"
            _wait_until_healthy(url, log)
            facts = seed(world, url)
            _check()
            with _published(facts, directory / "sandbox.json", own / "sandbox.json"):
                print(table(world, facts, log, directory), flush=True)
                while host.process and host.process.poll() is None:
                    _asked.wait(0.5)
                    _check()
            raise HostError(f"The app's host has ended (see {log}).")
        finally:
            host.stop()


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
def _published(facts: dict[str, Any], *files: Path) -> Iterator[None]:
    """Keep the facts in these files while the sandbox runs, unless a newer one has replaced them."""
    text = json.dumps(facts, indent=2)
    for file in files:
        new = file.with_suffix(f".{os.getpid()}")
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(file)
    try:
        yield
    finally:
        for file in files:
            if file.exists() and file.read_text() == text:
                file.unlink()


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
