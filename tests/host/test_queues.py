"""Queue triggers and outputs, on a running host and on one listener, against Azurite."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.functions.meta import Datum
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
from azure.storage.queue import QueueServiceClient

from sandbox.host.config import QueueOptions
from sandbox.host.invocations import InvocationError
from sandbox.host.outputs import OutputError, messages
from sandbox.host.process import HostProcess
from sandbox.host.queues import Listener
from sandbox.host.storage import Storage
from sandbox.host.tasks import Tasks
from sandbox.host.worker import Function
from sandbox.ports import free
from tests.host.conftest import APPS, connection_string, wait_for


@dataclass
class Queues:
    """The queues of one test, seen from outside: base64 like any producer for Functions."""

    service: QueueServiceClient
    prefix: str

    def client(self, name: str):
        return self.service.get_queue_client(f"{self.prefix}-{name}")

    def put(self, name: str, *texts: str) -> None:
        self.put_raw(name, *(base64.b64encode(text.encode()).decode() for text in texts))

    def put_raw(self, name: str, *texts: str) -> None:
        for text in texts:
            self.client(name).send_message(text)

    def take(self, name: str, seconds: float = 15) -> str:
        client = self.client(name)
        message = wait_for(lambda: self._receive(client), seconds)
        client.delete_message(message)
        return base64.b64decode(message.content).decode()

    @staticmethod
    def _receive(client):
        try:
            return client.receive_message()
        except ResourceNotFoundError:
            return None

    def count(self, name: str) -> int:
        return self.client(name).get_queue_properties().approximate_message_count


@pytest.fixture
def queues(azurite: int) -> Queues:
    service = QueueServiceClient.from_connection_string(connection_string(azurite))
    return Queues(service, f"t{uuid.uuid4().hex[:10]}")


@pytest.fixture
def host(azurite: int, queues: Queues, tmp_path: Path) -> Iterator[HostProcess]:
    for name in ("work", "lonely-poison"):
        queues.client(name).create_queue()
    environment = {"STORE": connection_string(azurite), "PREFIX": queues.prefix}
    with HostProcess(APPS / "queues", environment=environment, log=tmp_path / "log") as running:
        running.log = tmp_path / "log"
        yield running


def test_a_message_is_handled_deleted_and_its_outputs_create_their_queue(host: HostProcess, queues: Queues):
    queues.put("work", "grüße")
    first, second = json.loads(queues.take("done")), queues.take("done")
    assert (first["body"], first["count"], first["utc"]) == ("grüße", 1, True)
    assert second == "second"
    wait_for(lambda: queues.count("work") == 0)


def test_a_failing_message_is_retried_after_its_timeout_and_then_poisoned(host: HostProcess, queues: Queues):
    started = time.monotonic()
    queues.put("work", "fail")
    assert queues.take("work-poison") == "fail"
    assert time.monotonic() - started >= 2  # two timeouts of a second between three attempts
    wait_for(lambda: queues.count("work") == 0)  # copied first, deleted then
    log = host.log.read_text()
    assert log.count(" work ") == 3
    assert log.count("RuntimeError: as asked") == 3


def test_what_is_not_base64_is_poisoned_without_being_run(host: HostProcess, queues: Queues):
    queues.put_raw("work", "plain text!")
    message = wait_for(lambda: queues._receive(queues.client("work-poison")))
    assert message.content == "plain text!"
    assert " work " not in host.log.read_text()


def test_a_poison_queues_own_message_stays_hidden_instead_of_looping(host: HostProcess, queues: Queues):
    queues.put("lonely-poison", "x")
    wait_for(lambda: " lonely " in host.log.read_text())
    time.sleep(1.5)
    assert host.log.read_text().count(" lonely ") == 1
    assert queues.count("lonely-poison") == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", ["plain"]),
        ('["one", {"two": 2}]', ["one", '{"two": 2}']),  # the trap: an array becomes several messages
        ('{"a":1}', ['{\n  "a": 1\n}']),
        ("12", ["12"]),
    ],
)
def test_a_plain_string_output_is_parsed_again(
    host: HostProcess, queues: Queues, value: str, expected: list[str]
):
    assert requests.post(f"{host.url}/api/put", json=value, timeout=10).text == "put"
    assert [queues.take("out") for _ in expected] == expected


def test_an_output_of_a_failed_function_is_not_written(host: HostProcess, queues: Queues):
    assert requests.post(f"{host.url}/api/fails-after-set", timeout=10).status_code == 500
    with pytest.raises(ResourceNotFoundError):
        queues.count("out")


def test_an_output_that_cannot_be_written_fails_the_invocation(host: HostProcess, queues: Queues):
    too_large = "x" * 70_000
    assert requests.post(f"{host.url}/api/put", json=too_large, timeout=10).status_code == 500


def test_a_queue_function_can_be_run_by_hand(host: HostProcess, queues: Queues):
    url = f"{host.url}/admin/functions/lonely"
    assert requests.post(url, data="no json", timeout=10).status_code == 400
    assert requests.post(url, json={"input": {"any": "thing"}}, timeout=10).status_code == 202
    wait_for(lambda: "there is no poison queue" in host.log.read_text())


def test_sigterm_lets_running_messages_and_requests_finish(host: HostProcess, queues: Queues):
    queues.put("work", "slow")
    wait_for(lambda: not queues.client("work").peek_messages())
    time.sleep(0.3)
    assert queues.count("work") == 1
    assert host.stop() == 0
    assert json.loads(queues.take("done"))["body"] == "slow"
    assert queues.count("work") == 0


def test_a_storage_that_is_away_is_waited_for(queues: Queues, tmp_path: Path):
    environment = {"STORE": connection_string(free()), "PREFIX": queues.prefix}
    with HostProcess(APPS / "queues", environment=environment, log=tmp_path / "log") as host:
        wait_for(lambda: "cannot be polled, trying again" in (tmp_path / "log").read_text())
        assert host.status()


def test_a_storage_that_refuses_for_good_ends_the_host(azurite: int, queues: Queues, tmp_path: Path):
    wrong_key = base64.b64encode(b"x" * 64).decode()
    environment = {"STORE": connection_string(azurite, wrong_key), "PREFIX": queues.prefix}
    host = HostProcess(APPS / "queues", environment=environment, log=tmp_path / "log")
    host.start()
    assert host.process.wait(15) == 1
    assert "Listener died" in (tmp_path / "log").read_text()
    assert wrong_key not in (tmp_path / "log").read_text()


def test_an_identity_based_connection_needs_no_key():
    settings = {
        "C__queueServiceUri": "https://a.example/",
        "C__credential": "managedidentity",
        "D__accountName": "b",
    }
    storage = Storage(settings)
    assert storage.queue("C", "jobs").url == "https://a.example/jobs"
    assert isinstance(storage.queue("C", "jobs").credential, ManagedIdentityCredential)
    assert storage.queue("D", "jobs").url == "https://b.queue.core.windows.net/jobs"
    assert isinstance(storage.queue("D", "jobs").credential, DefaultAzureCredential)


def test_a_connection_is_looked_for_with_the_prefix_first():
    settings = {"AzureWebJobsC": connection_string(1), "C": connection_string(2)}
    assert ":1/" in Storage(settings).queue("C", "jobs").url


# One listener, with an invocation of the test's own.


class Calls:
    """Takes the place of the worker: counts and waits."""

    def __init__(self, seconds: float, *, fail: bool = False) -> None:
        self.seconds, self.fail = seconds, fail
        self.bodies: list[str] = []
        self.running = self.most = 0

    async def run(self, function: Function, data: Datum, metadata: dict[str, Datum]) -> None:
        self.bodies.append(data.value)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.seconds * len(data.value))
        self.running -= 1
        if self.fail:
            raise InvocationError


def listen(queues: Queues, azurite: int, calls: Calls, options: QueueOptions, seconds: float, **more) -> None:
    trigger = {"type": "queueTrigger", "name": "m", "queueName": f"{queues.prefix}-q", "connection": "C"}

    async def run() -> None:
        tasks = Tasks()
        storage = Storage({"C": connection_string(azurite)})
        listener = Listener(Function("f", "f", (trigger,)), storage, options, tasks, calls, **more)
        tasks.spawn(listener.run(), "listener")
        await asyncio.sleep(seconds)
        tasks.stopping.set()
        assert await tasks.drain(10) == 0
        assert tasks.failure is None

    asyncio.run(run())


def test_at_most_batch_size_plus_threshold_run_at_once(azurite: int, queues: Queues):
    queues.client("q").create_queue()
    bodies = ["aaaa", *"bcdefghij"]  # the first one takes longer, so that a batch comes on top of it
    queues.put("q", *bodies)
    calls = Calls(0.3)
    listen(queues, azurite, calls, QueueOptions(batch_size=3, new_batch_threshold=1), 3)
    assert sorted(calls.bodies) == bodies
    assert calls.most == 4


def test_a_lease_is_renewed_while_the_function_runs(azurite: int, queues: Queues):
    queues.client("q").create_queue()
    queues.put("q", "long")
    calls = Calls(1.25)
    listen(queues, azurite, calls, QueueOptions(max_polling_interval=0.2), 1, lease=2)
    assert calls.bodies == ["long"]  # a lease that ran out would have brought it again
    assert queues.count("q") == 0


def test_a_message_that_came_too_often_already_is_poisoned_without_being_run(azurite: int, queues: Queues):
    client = queues.client("q")
    client.create_queue()
    queues.put("q", "crashed the host")
    for _ in range(2):
        client.update_message(client.receive_message(), visibility_timeout=0)
    calls = Calls(0)
    listen(queues, azurite, calls, QueueOptions(max_dequeue_count=2), 1)
    assert calls.bodies == []
    assert queues.take("q-poison") == "crashed the host"


def test_an_empty_queue_is_asked_less_and_less(azurite: int, queues: Queues):
    queues.client("q").create_queue()
    calls = Calls(0)

    async def later() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(queues.put, "q", "late")

    async def both() -> None:
        await asyncio.gather(later(), asyncio.to_thread(listen, queues, azurite, calls, QueueOptions(), 1.4))

    asyncio.run(both())
    assert calls.bodies == []  # polls at about 0.1, 0.3, 0.7 and 1.5 s: the last one was never made


def test_without_encoding_the_text_is_taken_as_it_is(azurite: int, queues: Queues):
    queues.client("q").create_queue()
    queues.put_raw("q", "plain <text> & ünicode")
    calls = Calls(0)
    listen(queues, azurite, calls, QueueOptions(encoding="none"), 1)
    assert calls.bodies == ["plain <text> & ünicode"]


@pytest.mark.fast
@pytest.mark.parametrize(
    "datum", [Datum('{"id": 1, "body": "x"}', "json"), Datum("[{}]", "json"), Datum(1, "int")]
)
def test_an_output_that_is_no_text_is_an_error(datum: Datum):
    with pytest.raises(OutputError):
        messages(datum)
