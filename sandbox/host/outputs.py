"""Queue outputs, written after a function returned."""

import asyncio
import base64
import json

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.functions.meta import Datum
from azure.storage.queue import QueueClient

from sandbox.host.config import Encoding
from sandbox.host.storage import Storage
from sandbox.host.worker import Function, Outcome


class OutputError(Exception):
    """A function set an output that cannot become queue messages."""


def messages(datum: Datum) -> list[str]:
    """Turn an output's value into message texts; raises OutputError.

    A plain string that reads as JSON is parsed again, as on the real host: an array becomes several
    messages and an object is written anew, indented. A list of strings is the way around it.
    """
    if datum.type == "bytes":
        return [datum.value.decode()]
    if datum.type == "string":
        try:
            parsed = json.loads(datum.value)
        except ValueError:
            return [datum.value]
        if isinstance(parsed, list):
            return [item if isinstance(item, str) else json.dumps(item) for item in parsed]
        return [json.dumps(parsed, indent=2) if isinstance(parsed, dict) else datum.value]
    items = json.loads(datum.value) if datum.type == "json" else None
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return items
    raise OutputError("this host writes strings, bytes and lists of strings to a queue, nothing else")


async def send(storage: Storage, queue: QueueClient, text: str) -> None:
    """Put one message, raw; a queue that does not exist is created, as by the real host."""
    try:
        await asyncio.to_thread(queue.send_message, text)
    except ResourceNotFoundError:
        await asyncio.to_thread(_create, queue)
        await asyncio.to_thread(queue.send_message, text)
    storage.wake(queue).set()


def _create(queue: QueueClient) -> None:
    try:
        queue.create_queue()
    except ResourceExistsError:
        return  # another output was faster


class Outputs:
    """Writes what a function has set."""

    def __init__(self, storage: Storage, encoding: Encoding) -> None:
        self._storage = storage
        self._encoding = encoding

    async def write(self, function: Function, outcome: Outcome) -> None:
        """Write all outputs of one call, in order; raises OutputError or the SDK's AzureError."""
        values = dict(outcome.outputs)
        if outcome.returned is not None:
            values["$return"] = outcome.returned
        for binding in function.bindings:
            datum = values.get(binding["name"])
            if binding["type"] != "queue" or datum is None or datum.type is None:
                continue
            queue = self._storage.queue(binding.get("connection", ""), binding["queueName"])
            for text in messages(datum):
                raw = base64.b64encode(text.encode()).decode() if self._encoding == "base64" else text
                await send(self._storage, queue, raw)
