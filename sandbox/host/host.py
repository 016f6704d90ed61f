"""The host: indexes an app, starts its triggers, and stops without losing running work."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path

import uvicorn
from azure.functions.meta import Datum
from watchfiles import Change, DefaultFilter, awatch

from sandbox.host import worker
from sandbox.host.config import Config, ConfigError, load
from sandbox.host.http import ByHand, HttpApp
from sandbox.host.invocations import InvocationError, Invocations
from sandbox.host.outputs import Outputs
from sandbox.host.queues import Listener
from sandbox.host.storage import Storage
from sandbox.host.tasks import Tasks
from sandbox.host.timers import Timer
from sandbox.host.worker import Function, IndexingError

log = logging.getLogger(__name__)

DRAIN = 30  # seconds running invocations get after SIGTERM
_STORAGE_THREADS = 32
_KNOWN = {"httpTrigger", "http", "queueTrigger", "queue", "timerTrigger"}


class Host:
    """Serves the app in `app_dir` on 127.0.0.1:`port`; one per process, since an app is global state.

    `environment` (default: os.environ) wins over local.settings.json; `settings_file` names another
    such file. With `watch` the host stops with `changed` set when a source file changes. With
    `patient` an app that cannot be indexed is waited for instead of ending the host.
    """

    def __init__(
        self,
        app_dir: Path,
        port: int,
        environment: Mapping[str, str] | None = None,
        *,
        settings_file: Path | None = None,
        watch: bool = False,
        patient: bool = False,
    ) -> None:
        self._app_dir = app_dir.resolve()
        self._port = port
        self._environment = dict(os.environ if environment is None else environment)
        self._settings_file = settings_file
        self._watch = watch
        self._patient = patient
        self._tasks = Tasks()
        self.changed = False
        self.abandoned = 0  # invocations still running at the end

    def stop(self) -> None:
        """Stop polling, finish what runs, end. May be called from the event loop's thread only."""
        self._tasks.stopping.set()

    async def run(self) -> int:
        """Serve until stopped; returns the exit code: 0, or 1 when something died, 2 for a bad app."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_STORAGE_THREADS, "storage"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self._watch:
            self._tasks.spawn(self._watch_sources(), "the watch for changes")
        try:
            server = await self._start()
        except (ConfigError, IndexingError, OSError) as error:
            log.error("The host cannot start: %s\n%s", error, getattr(error, "trace", ""))  # noqa: TRY400 - the app's trace, not ours
            if not self._patient:
                return 2
            server = None
        await self._tasks.stopping.wait()
        log.info("Stopping")
        if server:
            server.should_exit = True
        self.abandoned = await self._tasks.drain(DRAIN)
        if not self.abandoned:
            worker.stop_threads()
        return 1 if self.abandoned or self._tasks.failure else 0

    async def _start(self) -> uvicorn.Server:
        config = load(self._app_dir, self._port, self._environment, self._settings_file)
        os.environ.update(config.settings)
        os.chdir(config.app_dir)
        functions = await worker.index(config.app_dir)
        for function in functions:
            _check_bindings(function)
        worker.start_threads()
        app, loops = self._build(config, functions)
        server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN,
            )
        )
        listening = _listen(config.port)
        self._tasks.spawn(server.serve([listening]), "the HTTP server")
        for trigger in loops:
            self._tasks.spawn(trigger.run(), type(trigger).__name__)
        log.info("%d functions on http://127.0.0.1:%d", len(functions), listening.getsockname()[1])
        return server

    def _build(
        self, config: Config, functions: tuple[Function, ...]
    ) -> tuple[HttpApp, list[Listener | Timer]]:
        storage = Storage(config.settings)
        for function in functions:
            for binding in function.bindings:
                if (
                    binding["type"] == "queue"
                ):  # a wrong name or connection should show now, not at the first call
                    storage.queue(binding.get("connection", ""), binding["queueName"])
        invocations = Invocations(Outputs(storage, config.queues.encoding))
        loops: list[Listener | Timer] = []
        by_hand: dict[str, ByHand] = {}
        for function in functions:
            kind = function.trigger["type"]
            if kind == "timerTrigger":
                timer = Timer(function, config.settings, self._tasks, invocations)
                loops.append(timer)
                by_hand[function.name.lower()] = timer.fire
            elif kind == "queueTrigger":
                loops.append(Listener(function, storage, config.queues, self._tasks, invocations))
                by_hand[function.name.lower()] = partial(_run_by_hand, invocations, function)
        return HttpApp(config, functions, invocations, self._tasks, by_hand), loops

    async def _watch_sources(self) -> None:
        async for changes in awatch(
            self._app_dir, watch_filter=_Sources(self._app_dir), stop_event=self._tasks.stopping
        ):
            for _, path in changes:
                _forget_compiled(Path(path))
            log.info("A file changed: starting again")
            self.changed = True
            self.stop()


def _forget_compiled(source: Path) -> None:
    """Remove what Python keeps of a source: it tells a changed one by size and second of change only.

    https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
    """
    if source.suffix == ".py":
        Path(cache_from_source(source)).unlink(missing_ok=True)


def _listen(port: int) -> socket.socket:
    """Bind here, so that a taken port is an OSError; uvicorn would end the process.

    The protocol is stated because asyncio sets TCP_NODELAY only on sockets that state it: 40 ms a
    response otherwise (Nagle meets delayed ACK).
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening


async def _run_by_hand(invocations: Invocations, function: Function, text: str) -> None:
    with contextlib.suppress(InvocationError):  # already logged; nobody waits for the result
        await invocations.run(function, Datum(text, "string"))


def _check_bindings(function: Function) -> None:
    if len(function.triggers) != 1:
        raise ConfigError(f"{function.name} needs exactly one trigger.")
    unknown = sorted({binding["type"] for binding in function.bindings} - _KNOWN)
    if unknown:
        raise ConfigError(f"{function.name} uses {', '.join(unknown)}, which this host does not know.")


class _Sources(DefaultFilter):
    """Python and JSON files, but none of a test, a tool or the sandbox's own state."""

    ignore_dirs = (*DefaultFilter.ignore_dirs, ".sandbox", ".ruff_cache", "tests")

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def __call__(self, change: Change, path: str) -> bool:
        inside = os.path.relpath(path, self._root)  # the app itself may live under a folder "tests"
        return path.endswith((".py", ".json")) and super().__call__(change, inside)


class _Server(uvicorn.Server):
    """Leaves the signals to the host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
