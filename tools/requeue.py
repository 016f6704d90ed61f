"""`python -m tools.requeue [CORRELATION_ID ... | --all]`: show the poisoned jobs, or put them back.

Without an argument it only shows what lies there: queue, type, organisation, id, attempts, correlation id; a
job holds nothing else. Whoever may process the account's queue messages may do this (the role "Storage Queue
Data Contributor", as `az login` says who you are), and nobody else. The account is named by --account, or by
STORAGE (a connection string) where there is no identity, as in the sandbox.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from azure.core.exceptions import ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.queue import QueueClient, QueueMessage, QueueServiceClient
from azure.storage.queue import TextBase64DecodePolicy as Decoded
from azure.storage.queue import TextBase64EncodePolicy as Encoded

from shared.app import DELIVER, SYNC
from shared.jobs import Job, read
from shared.storage.queues import POISON

HIDDEN = 30
"""Seconds for which a message that is looked at is out of everybody else's sight."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A message in a poison queue; `job` is None where it cannot be read."""

    queue: str
    message: QueueMessage
    job: Job | None

    def __str__(self) -> str:
        """Show it."""
        job = self.job
        if job is None:
            return f"{self.queue:<8} unreadable, message id {self.message.id}"
        ids = f"{job.org_id} {job.id} attempts={job.attempt} {job.correlation_id}"
        return f"{self.queue:<8} {job.type:<10} {ids}"

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return self.job.correlation_id if self.job and self.job.correlation_id else self.message.id


def main(arguments: list[str] | None = None) -> int:
    """Show or put back; returns 1 where something that was asked for is not there."""
    parser = argparse.ArgumentParser("python -m tools.requeue", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CORRELATION_ID", help="which jobs to put back")
    parser.add_argument("--all", action="store_true", help="put all of them back")
    parser.add_argument("--account", help="the account's queues, https://<name>.queue.core.windows.net")
    given = parser.parse_args(arguments)
    service = _service(given.account)
    found = set()
    for poisoned in list(_poisoned(service)):
        chosen = given.all or poisoned.name in given.names
        print(f"{'put back' if chosen else 'lies here'}: {poisoned}")
        if chosen:
            _put_back(service, poisoned)
            found.add(poisoned.name)
        else:
            _client(service, poisoned.queue + POISON).update_message(poisoned.message, visibility_timeout=0)
    missing = set(given.names) - found
    for name in sorted(missing):
        print(f"not found: {name}", file=sys.stderr)
    return 1 if missing else 0


def _service(account: str | None) -> QueueServiceClient:
    if account:
        return QueueServiceClient(account, credential=DefaultAzureCredential())
    if text := os.environ.get("STORAGE"):
        return QueueServiceClient.from_connection_string(text)
    sys.exit("Name the storage account: --account https://<name>.queue.core.windows.net")


def _client(service: QueueServiceClient, queue: str) -> QueueClient:
    codecs: dict[str, Any] = {"message_encode_policy": Encoded(), "message_decode_policy": Decoded()}
    return service.get_queue_client(queue, **codecs)


def _poisoned(service: QueueServiceClient) -> Iterator[Poisoned]:
    for queue in (SYNC, DELIVER):
        messages = _client(service, queue + POISON).receive_messages(
            messages_per_page=32, visibility_timeout=HIDDEN
        )
        try:
            for message in messages:
                yield Poisoned(queue, message, _job(message.content))
        except ResourceNotFoundError:
            continue  # nothing was ever poisoned


def _job(text: str) -> Job | None:
    try:
        return read(text)
    except msgspec.MsgspecError:
        return None


def _put_back(service: QueueServiceClient, poisoned: Poisoned) -> None:
    """Its attempts are counted anew. Written first: dying in between doubles a job, which is harmless."""
    text = poisoned.message.content
    if poisoned.job:
        text = msgspec.json.encode(msgspec.structs.replace(poisoned.job, attempt=0)).decode()
    _client(service, poisoned.queue).send_message(text)
    _client(service, poisoned.queue + POISON).delete_message(poisoned.message)


if __name__ == "__main__":
    sys.exit(main())
