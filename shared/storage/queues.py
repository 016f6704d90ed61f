"""Nudges on Azure Queue Storage, in the encoding that the Functions queue trigger expects."""

import math

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import LinearRetry, QueueClient, QueueServiceClient, TextBase64EncodePolicy

from shared.settings import StorageAccess
from shared.storage.azure import OPTIONS, ensuring, identity, translated

SERVICE = "Queue storage"
MOST_OCTETS = 48 * 1024
"""64 KiB is the limit of the base64 text."""
WEEK = 7 * 24 * 3600
FOR_EVER = -1
POISON = "-poison"
"""The Functions host gives its own poison queues this ending."""


def connect(access: StorageAccess) -> QueueServiceClient:
    """Return a client for the account's queues; build it once, it is thread-safe."""
    # The default policy waits 15 s before its first retry (azure-storage-queue 12.18.1).
    options = {**OPTIONS, "retry_policy": LinearRetry(backoff=1, retry_total=2, random_jitter_range=0)}
    if access.connection_string:
        return QueueServiceClient.from_connection_string(access.connection_string, **options)
    return QueueServiceClient(access.queue_url, credential=identity(access.client_id), **options)


class AzureQueues:
    """The `Queues` port."""

    def __init__(self, service: QueueServiceClient) -> None:
        self._service = service

    def put(self, queue: str, text: str, *, delay: float = 0) -> None:
        """See `Queues.put`. Delays are rounded up to whole seconds."""
        if len(text.encode()) > MOST_OCTETS or not 0 <= delay <= WEEK:
            raise ValueError("A queue message has at most 48 KiB and waits at most 7 days.")
        wait = math.ceil(delay)
        # It must outlive its invisibility: a week is also the service's default. Poison waits for a human.
        life = FOR_EVER if queue.endswith(POISON) else wait + WEEK
        client = self._queue(queue)
        with translated(SERVICE):
            ensuring(
                lambda: client.send_message(text, visibility_timeout=wait, time_to_live=life),
                client.create_queue,
            )

    def length(self, queue: str) -> int:
        """See `Queues.length`. Counts messages that are still invisible, too."""
        with translated(SERVICE):
            try:
                return self._queue(queue).get_queue_properties().approximate_message_count or 0
            except ResourceNotFoundError:
                return 0

    def _queue(self, queue: str) -> QueueClient:
        return self._service.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())
