"""Child processes of the sandbox: started directly, waited for, and never left behind."""

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandbox.ports import HOST, available

PATIENCE = 15
"""Seconds a part may take to start or to stop."""


class StartError(Exception):
    """A part of the sandbox could not be started; the text is one line that says what to do."""


class Process:
    """A server process and the ports that tell whether it runs.

    Args:
        name: for the error's text.
        command: what to run; the process must not fork itself into the background.
        ports: those it listens on once it is ready.
        log: where its output goes.
        log_stays: whether the log is still there once a start has failed, for the error to name it.
        user: whom to become, if we are root.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        ports: Sequence[int],
        log: Path,
        *,
        log_stays: bool = True,
        user: pwd.struct_passwd | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._command, self._ports, self._log = name, command, ports, log
        self._log_stays = log_stays
        self._environment = {**os.environ, **(environment or {})}
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        self._identity: dict[str, Any] = identity
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and return at once. Raises StartError where a port is taken."""
        for port in self._ports:
            if not available(port):
                raise StartError(f"{self._name} cannot start: port {port} of {HOST} is taken.")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches the sandbox alone, which stops its parts in order
                **self._identity,
            )

    def wait(self) -> None:
        """Return when every port answers. Raises StartError when it ended or took too long."""
        deadline = time.monotonic() + PATIENCE
        for port in self._ports:
            while not _answers(port):
                if self.pid is None or time.monotonic() > deadline:
                    self.kill()
                    raise StartError(f"{self._name} did not start: {self._last_words()}")
                time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to end and wait until it has; twice is harmless."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The whole group at once: a Dovecot whose children are told by its master alone takes 5 s and more.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        return f"{said} (see {self._log})" if self._log_stays else said


class Service:
    """A part of the sandbox that is one process; started in two steps, so that parts start side by side."""

    _process: Process

    def launch(self) -> None:
        """Start it without waiting."""
        self._process.start()

    def wait(self) -> None:
        """Return once it answers."""
        self._process.wait()

    def start(self) -> None:
        """Start it, or start it again on the same ports, and wait. Raises StartError."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Stop it; what it has written down stays."""
        self._process.stop()


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
