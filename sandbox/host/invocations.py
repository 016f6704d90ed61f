"""One invocation: the worker's call, the queue outputs after it, one line in the log."""

import logging
import time
import uuid
from collections.abc import Mapping

from azure.core.exceptions import AzureError
from azure.functions.meta import Datum

from sandbox.host import worker
from sandbox.host.outputs import OutputError, Outputs
from sandbox.host.worker import Function

log = logging.getLogger(__name__)


class InvocationError(Exception):
    """The function raised, or its outputs could not be written; the log says why."""


class Invocations:
    """Runs functions for all triggers alike."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    async def run(
        self, function: Function, data: Datum, metadata: Mapping[str, Datum] | None = None
    ) -> Datum | None:
        """Run a function and write its outputs; returns its return value, raises InvocationError.

        As on the real host nothing is written when the function raised, and the invocation fails
        when a write does. The log line never shows what went in or out.
        """
        invocation_id = str(uuid.uuid4())
        started = time.perf_counter()
        ok = False
        try:
            outcome = await worker.invoke(function, invocation_id, data, metadata or {})
            if outcome.ok:
                await self._outputs.write(function, outcome)
            ok = outcome.ok
        except (AzureError, OutputError) as error:
            log.error("The outputs of %s could not be written: %s", function.name, error)  # noqa: TRY400 - no trace: a service's answer, not a bug
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            result = "Succeeded" if ok else "Failed"
            log.info("%s %s %.0f ms %s", function.name, invocation_id, milliseconds, result)
        if not ok:
            raise InvocationError(function.name)
        return outcome.returned
