"""The scan at the end of a run: nothing secret in a log line, table, queue, blob or response.

Secrets are compared by their longest run of letters and digits, so that it does not matter how they are
quoted; where that run is short, as in a password, the secret itself is looked for.
"""

import base64
import binascii
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from sandbox import secrets_given

RUN = re.compile(rb"[A-Za-z0-9_-]{16,}")
ESCAPED = re.compile(rb"%[0-9A-Fa-f]{2}|\\u[0-9a-f]{4}|\\[nrt]")
"""What may stand before a run in URLs and JSON and looks like a part of it."""

LARGEST = 1_000_000
"""Octets looked at of a blob or answer: a secret in the tail of a mail would be the sender's own."""

ANSWERS: list[bytes] = []
"""What the app answered to tests."""


class Lines(logging.Handler):
    """Keeps every line that this process logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.kept: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.add(f"{record.name} {record.getMessage()} {record.exc_text or record.exc_info or ''}")


def leaks(secrets: Iterable[str], texts: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return where secrets were found: places only, so that the report itself leaks nothing."""
    runs, words = set(), set()
    for secret in secrets:
        longest = max(RUN.findall(secret.encode()), key=len, default=b"")
        (runs if longest else words).add(longest or secret.encode())
    found = []
    for place, text in texts:
        plain = ESCAPED.sub(b" ", text)
        if not runs.isdisjoint(RUN.findall(plain)) or any(word in text for word in words):
            found.append(place)
    return found


def stored(connection: str) -> Iterator[tuple[str, bytes]]:
    """Yield (place, octets) of everything in the account; of queues what can be seen now."""
    tables = TableServiceClient.from_connection_string(connection)
    for table in tables.list_tables():
        for entity in tables.get_table_client(table.name).list_entities():
            yield f"table {table.name} {entity['RowKey'][:40]}", _octets(entity)
    queues = QueueServiceClient.from_connection_string(connection)
    for queue in queues.list_queues():
        for message in queues.get_queue_client(queue.name).peek_messages(max_messages=32):
            yield f"queue {queue.name}", str(message.content).encode()
            with suppress(binascii.Error):  # a test may put in what nobody can read
                yield f"queue {queue.name}", base64.b64decode(message.content)
    blobs = BlobServiceClient.from_connection_string(connection)
    for container in blobs.list_containers():
        client = blobs.get_container_client(container.name)
        for blob in client.list_blobs():
            length = min(blob.size, LARGEST) or None
            yield f"blob {container.name}/{blob.name}", client.download_blob(blob.name, 0, length).readall()


def _octets(entity: Any) -> bytes:
    return b"\n".join(
        value if isinstance(value, bytes) else str(value).encode()
        for value in [*entity.keys(), *entity.values()]
    )


def everywhere(world: Any, lines: Lines) -> Iterator[tuple[str, bytes]]:
    """Yield all that a run left behind."""
    yield from stored(world.environment()["STORAGE"])
    for line in lines.kept:
        yield "log of the tests' process", line.encode()
    for log in Path(world.directory).glob("*.log"):
        yield f"log {log.name}", log.read_bytes()
    for answer in ANSWERS:
        yield "answer of the app", answer


def check(world: Any, lines: Lines) -> None:
    """Raise AssertionError naming the places where something secret lies."""
    found = leaks(secrets_given.of(world), everywhere(world, lines))
    assert not found, f"{len(found)} places hold a secret: {sorted(set(found))[:20]}"
