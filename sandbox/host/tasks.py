"""The host's running work: what must be finished before it stops, and what ends it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """Keeps every trigger loop and every invocation. The first one that dies stops the host."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.failure: BaseException | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run `work` in the background. An exception that leaves it is a bug and stops the host."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        log.critical("%s died; the host stops.", task.get_name(), exc_info=error)
        self.failure = self.failure or error
        self.stopping.set()

    async def pause(self, seconds: float | None, wake: asyncio.Event | None = None) -> None:
        """Wait until the time is over (None: for ever), `wake` is set, or the host stops."""
        events = [self.stopping] + ([wake] if wake else [])
        waiters = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()

    async def drain(self, seconds: float) -> int:
        """Wait for all work, at most `seconds`; returns how much is still running."""
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            log.error("%d pieces of work are still running after %g s", len(self._tasks), seconds)  # noqa: TRY400 - no trace: a deadline, not a bug
        return len(self._tasks)
