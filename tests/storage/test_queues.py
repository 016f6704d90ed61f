"""`Queues` on a real Azurite, read back as the Functions host reads it."""

import base64
import time

import pytest
from azure.storage.queue import QueueServiceClient

from shared.errors import Temporary
from shared.settings import StorageAccess
from shared.storage import queues
from shared.storage.queues import MOST_OCTETS, WEEK, AzureQueues


@pytest.fixture(scope="module")
def store(access: StorageAccess) -> AzureQueues:
    return AzureQueues(queues.connect(access))


def texts(access: StorageAccess, queue: str) -> list[str]:
    """What is visible, as it lies on the wire."""
    service = QueueServiceClient.from_connection_string(access.connection_string or "")
    return [message.content for message in service.get_queue_client(queue).receive_messages(max_messages=32)]


def test_a_message_lies_in_base64_in_a_queue_made_for_it(
    store: AzureQueues, access: StorageAccess, name: str
) -> None:
    assert store.length(name) == 0
    store.put(name, "Grüße <&> 😀")
    assert [base64.b64decode(text).decode() for text in texts(access, name)] == ["Grüße <&> 😀"]


def test_a_delayed_message_is_invisible_until_then(
    store: AzureQueues, access: StorageAccess, name: str
) -> None:
    store.put(name, "later", delay=0.5)
    assert texts(access, name) == []
    assert store.length(name) == 1
    time.sleep(1.3)
    assert len(texts(access, name)) == 1


def test_the_largest_message_waits_the_longest(store: AzureQueues, name: str) -> None:
    store.put(name, "x" * MOST_OCTETS, delay=WEEK)
    assert store.length(name) == 1


def test_poison_waits_for_ever_and_everything_else_a_week(
    store: AzureQueues, access: StorageAccess, name: str
) -> None:
    service = QueueServiceClient.from_connection_string(access.connection_string or "")
    years = []
    for queue in (name, f"{name}-poison"):
        store.put(queue, "x")
        [message] = service.get_queue_client(queue).receive_messages()
        years.append(message.expires_on.year)
    assert years[0] < 2100
    assert years[1] == 9999


@pytest.mark.parametrize(("text", "delay"), [("ž" * (MOST_OCTETS // 2) + "x", 0), ("x", WEEK + 1), ("x", -1)])
def test_a_message_beyond_the_limits_is_a_bug(store: AzureQueues, name: str, text: str, delay: float) -> None:
    with pytest.raises(ValueError, match="queue message"):
        store.put(name, text, delay=delay)


def test_an_unreachable_account_is_temporary(nobody: StorageAccess, name: str) -> None:
    store = AzureQueues(queues.connect(nobody))
    with pytest.raises(Temporary, match=r"Queue storage cannot be reached\."):
        store.length(name)
