"""Queue triggers, with the real host's numbers.

Source: QueueListener and QueueProcessor of Microsoft.Azure.WebJobs.Extensions.Storage.Queues.
"""

import asyncio
import base64
import binascii
import json
import logging

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.functions.meta import Datum
from azure.storage.queue import QueueClient, QueueMessage

from sandbox.host.config import QueueOptions
from sandbox.host.invocations import InvocationError, Invocations
from sandbox.host.outputs import send
from sandbox.host.storage import Storage, is_transient
from sandbox.host.tasks import Tasks
from sandbox.host.worker import Function

log = logging.getLogger(__name__)

LEASE = 600  # seconds a message stays hidden while its function runs; renewed at half time
FIRST_PAUSE = 0.1  # seconds; doubles with every empty poll
_LONGEST_NAME = 63
_POISON = "-poison"


class Listener:
    """Polls one queue for one function; `lease` in seconds is shortened only by tests."""

    def __init__(
        self,
        function: Function,
        storage: Storage,
        options: QueueOptions,
        tasks: Tasks,
        invocations: Invocations,
        *,
        lease: int = LEASE,
    ) -> None:
        connection, name = function.trigger.get("connection", ""), function.trigger["queueName"]
        self._function = function
        self._storage = storage
        self._options = options
        self._tasks = tasks
        self._invocations = invocations
        self._queue = storage.queue(connection, name)
        self._poison = _poison_queue(storage, connection, self._queue)
        self._wake = storage.wake(self._queue)
        self._lease = lease
        self._running = 0

    async def run(self) -> None:
        """Poll until the host stops. Raises AzureError when the storage refuses for good (e.g. 403)."""
        pause = FIRST_PAUSE
        while not self._tasks.stopping.is_set():
            if self._running > self._options.new_batch_threshold:
                await self._idle(None)
                continue
            found = await self._receive()
            for message in found:
                self._running += 1
                self._tasks.spawn(self._process(message), f"a message of {self._function.name}")
            if found:
                pause = FIRST_PAUSE
            else:
                await self._idle(pause)
                pause = min(pause * 2, self._options.max_polling_interval)

    async def _idle(self, seconds: float | None) -> None:
        await self._tasks.pause(seconds, self._wake)
        self._wake.clear()

    async def _receive(self) -> list[QueueMessage]:
        batch = self._options.batch_size

        def receive() -> list[QueueMessage]:
            pages = self._queue.receive_messages(
                messages_per_page=batch, max_messages=batch, visibility_timeout=self._lease
            )
            return list(pages)

        try:
            return await asyncio.to_thread(receive)
        except ResourceNotFoundError:
            return []  # a queue that does not exist yet is an empty queue
        except AzureError as error:
            if not is_transient(error):
                raise
            log.warning("%s cannot be polled, trying again: %s", self._queue.queue_name, type(error).__name__)
            return []

    async def _process(self, message: QueueMessage) -> None:
        try:
            await self._handle(message)
        except AzureError as error:
            # At least once: the message comes back when its lease ends.
            log.warning(
                "A message of %s could not be settled: %s", self._queue.queue_name, type(error).__name__
            )
        finally:
            self._running -= 1
            self._wake.set()

    async def _handle(self, message: QueueMessage) -> None:
        used_up = (message.dequeue_count or 0) > self._options.max_dequeue_count
        text = None if used_up else self._decode(message)
        if text is None:
            await self._give_up(message)
        elif await self._invoke(message, text):
            await asyncio.to_thread(self._queue.delete_message, message)
        elif self._poison and (message.dequeue_count or 0) >= self._options.max_dequeue_count:
            await self._give_up(message)
        elif self._poison:
            visible = int(self._options.visibility_timeout)
            await asyncio.to_thread(self._queue.update_message, message, visibility_timeout=visible)
        # Without a poison queue the message stays hidden, against a fast endless loop.

    async def _invoke(self, message: QueueMessage, text: str) -> bool:
        done = asyncio.Event()
        renewal = asyncio.create_task(self._renew(message, done))
        try:
            await self._invocations.run(self._function, Datum(text, "string"), _metadata(message))
        except InvocationError:
            return False
        else:
            return True
        finally:
            done.set()
            await renewal  # a renewal under way changes the pop receipt that settling needs

    async def _renew(self, message: QueueMessage, done: asyncio.Event) -> None:
        while True:
            try:
                await asyncio.wait_for(done.wait(), self._lease / 2)
            except TimeoutError:
                await self._extend(message)
            else:
                return

    async def _extend(self, message: QueueMessage) -> None:
        try:
            renewed = await asyncio.to_thread(
                self._queue.update_message, message, visibility_timeout=self._lease
            )
        except AzureError as error:
            log.warning(
                "The lease of a message of %s was not renewed: %s",
                self._queue.queue_name,
                type(error).__name__,
            )
        else:
            message.pop_receipt = renewed.pop_receipt

    async def _give_up(self, message: QueueMessage) -> None:
        if not self._poison:
            return
        await send(self._storage, self._poison, message.content)
        await asyncio.to_thread(self._queue.delete_message, message)
        log.warning("A message was moved to %s", self._poison.queue_name)

    def _decode(self, message: QueueMessage) -> str | None:
        if self._options.encoding == "none":
            return str(message.content)
        try:
            return base64.b64decode(message.content, validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            log.warning("A message of %s is not base64", self._queue.queue_name)
            return None


def _poison_queue(storage: Storage, connection: str, queue: QueueClient) -> QueueClient | None:
    name = queue.queue_name
    if name.endswith(_POISON) or len(name + _POISON) > _LONGEST_NAME:
        return None
    return storage.queue(connection, name + _POISON)


def _metadata(message: QueueMessage) -> dict[str, Datum]:
    times = {
        "InsertionTime": message.inserted_on,
        "ExpirationTime": message.expires_on,
        "NextVisibleTime": message.next_visible_on,
    }
    return {
        "Id": Datum(message.id, "string"),
        "PopReceipt": Datum(message.pop_receipt, "string"),
        "DequeueCount": Datum(json.dumps(message.dequeue_count), "json"),
        **{name: Datum(json.dumps(time.isoformat()), "json") for name, time in times.items() if time},
    }
