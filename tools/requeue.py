"""`python -m tools.requeue [CORRELATION_ID ... | --all]`: show the poisoned jobs, or put them back.

Without an argument it only shows what lies there: queue, type, organisation, id, attempts, correlation id; a
job holds nothing else. Whoever may process the account's queue messages may do this (the role "Storage Queue
Data Contributor", as `az login` says who you are), and nobody else. The account is named by --account, or by
STORAGE (a connection string) where there is no identity, as in the sandbox.
"""

import argparse
import base64
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.queue import QueueMessage, QueueServiceClient

from shared.app import DELIVER, SYNC
from shared.jobs import Job, read
from shared.storage.queues import POISON

HIDDEN = 30
"""Seconds for which a message that is looked at is out of everybody else's sight."""

PATIENCE: dict[str, Any] = {"retry_total": 1, "initial_backoff": 1}
"""The client's own takes more than a minute to say that nobody has signed in."""

UNNAMED = (
    "Name the storage account: --account https://<name>.queue.core.windows.net, or its connection string in"
    " STORAGE (the sandbox's is in .sandbox/sandbox.json)."
)
DENIED = (
    "The storage account does not let you in. Sign in with `az login` as somebody who has the role Storage"
    " Queue Data Contributor on it."
)


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
    try:
        found = _gone_through(_service(given.account), given.names, all_=given.all)
    except HttpResponseError as error:
        if isinstance(error, ClientAuthenticationError) or error.status_code == HTTPStatus.FORBIDDEN:
            sys.exit(DENIED)
        raise
    missing = set(given.names) - found
    for name in sorted(missing):
        print(f"not found: {name}", file=sys.stderr)
    return 1 if missing else 0


def _gone_through(service: QueueServiceClient, names: Collection[str], *, all_: bool) -> set[str]:
    """Tell of everything that lies there, and put back what was asked for; returns the names of that."""
    found = set()
    for poisoned in list(_poisoned(service)):
        chosen = all_ or poisoned.name in names
        print(f"{'put back' if chosen else 'lies here'}: {poisoned}")
        if chosen:
            _put_back(service, poisoned)
            found.add(poisoned.name)
        else:
            queue = service.get_queue_client(poisoned.queue + POISON)
            queue.update_message(poisoned.message, visibility_timeout=0)
    return found


def _service(account: str | None) -> QueueServiceClient:
    """Messages are received as they lie there: a client that decodes gives up where one is not base64."""
    if account:
        return QueueServiceClient(account, credential=DefaultAzureCredential(), **PATIENCE)
    if text := os.environ.get("STORAGE"):
        return QueueServiceClient.from_connection_string(text, **PATIENCE)
    sys.exit(UNNAMED)


def _poisoned(service: QueueServiceClient) -> Iterator[Poisoned]:
    for queue in (SYNC, DELIVER):
        messages = service.get_queue_client(queue + POISON).receive_messages(
            messages_per_page=32, visibility_timeout=HIDDEN
        )
        try:
            for message in messages:
                yield Poisoned(queue, message, _job(message.content))
        except ResourceNotFoundError:
            continue  # nothing was ever poisoned


def _job(text: str) -> Job | None:
    try:
        return read(base64.b64decode(text, validate=True).decode())
    except (ValueError, msgspec.MsgspecError):
        return None


def _put_back(service: QueueServiceClient, poisoned: Poisoned) -> None:
    """Its attempts are counted anew. Written first: dying in between doubles a job, which is harmless."""
    text = poisoned.message.content
    if poisoned.job:
        again = msgspec.json.encode(msgspec.structs.replace(poisoned.job, attempt=0))
        text = base64.b64encode(again).decode()
    service.get_queue_client(poisoned.queue).send_message(text)
    service.get_queue_client(poisoned.queue + POISON).delete_message(poisoned.message)


if __name__ == "__main__":
    sys.exit(main())
