"""Queue clients: raw message text on the wire, one client a queue, one wake-up event a queue."""

import asyncio
import logging
import re
from functools import cache

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.queue import LinearRetry, QueueClient, QueueServiceClient

from sandbox.host.config import ConfigError, Identity, Settings, connection, expand

_QUEUE_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")

# The SDK's own retries take over a minute, in which a worker thread hangs and the host cannot stop.
_RETRY = LinearRetry(backoff=1, retry_total=2, random_jitter_range=1)


def check_queue_name(name: str) -> None:
    """Raises ConfigError unless Queue Storage would take the name.

    https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata
    """
    if not _QUEUE_NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no queue name: 3-63 characters a-z, 0-9 and single dashes.")


def is_transient(error: AzureError) -> bool:
    """True when the storage could not be reached or was busy, so that trying later makes sense."""
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        return True
    return error.status_code in {408, 429} or error.status_code >= 500


class Storage:
    """Finds the client for a binding's queue. `wake(queue)` is set when this host wrote to that queue."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wake: dict[str, asyncio.Event] = {}
        self._service = cache(self._connect)
        self.queue = cache(self._queue)
        logging.getLogger("azure").setLevel(logging.WARNING)  # a line per request otherwise
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # "connection pool is full" is harmless

    def _queue(self, connection_name: str, queue_name: str) -> QueueClient:
        """Return the client of a queue; `queue_name` may contain `%NAME%`. Raises ConfigError."""
        name = expand(queue_name, self._settings)
        check_queue_name(name)
        return self._service(connection_name).get_queue_client(name)

    def wake(self, queue: QueueClient) -> asyncio.Event:
        """Return the event that ends the back-off of that queue's listener, as inside the real host."""
        return self._wake.setdefault(queue.url, asyncio.Event())

    def _connect(self, name: str) -> QueueServiceClient:
        found = connection(name, self._settings)
        if isinstance(found, Identity):
            return QueueServiceClient(found.url, credential=_credential(found), retry_policy=_RETRY)
        try:
            return QueueServiceClient.from_connection_string(found, retry_policy=_RETRY)
        except ValueError:
            # The SDK's own message may quote the string, and with it the account key.
            raise ConfigError(
                f"The connection string in {name or 'AzureWebJobsStorage'} is malformed."
            ) from None


def _credential(identity: Identity) -> TokenCredential:
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    if identity.managed:
        return ManagedIdentityCredential(client_id=identity.client_id)
    return DefaultAzureCredential(managed_identity_client_id=identity.client_id)
