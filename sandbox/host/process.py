"""The host as a child process: for the sandbox and for tests."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from sandbox.ports import HOST, free

_ROOT = Path(__file__).parents[2]


class HostError(Exception):
    """The host ended before it was ready, or was not ready in time."""


class HostProcess:
    """Runs `python -m sandbox.host`; as a context manager it is started and stopped.

    `environment` is added to os.environ; `log` receives stderr and stdout (default: inherited).
    """

    def __init__(
        self,
        app_dir: Path,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        settings_file: Path | None = None,
        reload: bool = False,
        log: Path | None = None,
    ) -> None:
        self.port = port or free()
        self.url = f"http://{HOST}:{self.port}"
        self._command = [
            sys.executable,
            "-m",
            "sandbox.host",
            "--app",
            str(app_dir),
            "--port",
            str(self.port),
        ]
        self._command += ["--settings", str(settings_file)] if settings_file else []
        self._command += ["--reload"] if reload else []
        self._environment = {**os.environ, **(environment or {})}
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 30) -> Self:
        """Start and wait until `/admin/host/status` answers; raises HostError after `timeout` seconds."""
        output: IO[bytes] | None = self._log.open("ab") if self._log else None
        try:
            self.process = subprocess.Popen(
                self._command,
                cwd=_ROOT,
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its parts in order
            )
        finally:
            if output:
                output.close()
        deadline = time.monotonic() + timeout
        while not self.status():
            if self.process.poll() is not None:
                raise HostError(f"The host ended with exit code {self.process.returncode}.")
            if time.monotonic() > deadline:
                self.stop()
                raise HostError(f"The host was not ready after {timeout:g} s.")
            time.sleep(0.05)
        return self

    def status(self) -> dict[str, Any] | None:
        """Return what `/admin/host/status` says, or None when nothing answers there."""
        request = urllib.request.Request(f"{self.url}/admin/host/status")
        if key := self._environment.get("SANDBOX_FUNCTION_KEY"):
            request.add_header("x-functions-key", key)
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                status: dict[str, Any] = json.load(answer)
                return status
        except (urllib.error.URLError, OSError):
            return None

    def stop(self, timeout: float = 40) -> int:
        """Send SIGTERM and wait for the drain (30 s at most); returns the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
