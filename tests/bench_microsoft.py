"""The rows of `make bench` for Microsoft Graph: reading, notices through the real host, renewals."""

import email.policy
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from sandbox.host.process import HostProcess
from sandbox.world import World
from shared import noticing
from tests import microsoft
from tests.doors import Guard, guarded
from tests.microsoft import Gauge, MicrosoftScene, many_due
from tests.scenes import write
from tests.tally import Tally

ROOT = Path(__file__).parents[1]
Make = Callable[[str, int, float, int, int], object]
"""Makes a row of: name, items, seconds, calls to storage, calls to the network."""


def rows(world: World, make: Make) -> Iterable[object]:
    """Measure on a fresh organisation."""
    scene = microsoft.office(world)
    world.graph.notifier.faults.lose = 1.0
    first = scene.sent()
    scene.sync()
    yield reading(scene, make, "Graph ingest: case mails", 300, first.message_id)
    yield reading(scene, make, "Graph ignore: unrelated mails", 300, None)
    log = Path(tempfile.mkdtemp()) / "host.log"
    with HostProcess(ROOT, environment=world.environment(), log=log) as host:
        yield from notices(scene, f"{host.url}/api/notifications/microsoft", make)
        yield renewals(scene, host.url, make, 1000)
    scene.bell.stop()


def reading(scene: MicrosoftScene, make: Make, name: str, count: int, parent: str | None) -> object:
    """One look at a mailbox with new mail."""
    related = {"In_Reply_To": parent, "References": parent} if parent else {}
    scene.alice.box.items.clear()
    for number in range(count):
        raw = write(scene.supplier.address, scene.alice.address, f"Re: {number}", "Words\n" * 20, **related)
        scene.alice.box.add(raw.as_bytes(policy=email.policy.SMTP))
    guard = Guard()
    app = guarded(scene.app, guard)
    scene.world.graph.requests.clear()
    start = time.perf_counter()
    scene.sync(app=app)
    seconds = time.perf_counter() - start
    network = guard.count("vault.") + len(scene.world.graph.requests)
    return make(name, count, seconds, guard.storage, network)


def notices(scene: MicrosoftScene, url: str, make: Make) -> Iterable[object]:
    """How fast the real host acknowledges what Graph posts; the same mailbox each time.

    Calls are counted in this process: in the host's, others do at once what the notices ask for.
    """
    item = {"clientState": noticing.secret_of(scene.app, scene.org_id, scene.mailbox.id)}
    session = requests.Session()

    def post(count: int) -> float:
        start = time.perf_counter()
        answer = session.post(url, data=json.dumps({"value": [item] * count}), timeout=30)
        assert answer.status_code == 202, answer.text
        return time.perf_counter() - start

    def counted(count: int) -> tuple[int, int]:
        guard.calls.clear()
        noticing.take(app, "microsoft", json.dumps({"value": [item] * count}).encode())
        return guard.storage, len(guard.calls) - guard.storage

    guard = Guard()
    app = guarded(scene.app, guard)
    counted(1)  # the key of the proof is known from here on
    storage, network = counted(1)
    post(1)
    start = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        took = sorted(pool.map(post, [1] * 400))
    seconds = time.perf_counter() - start
    median, worst = took[200] * 1000, took[396] * 1000
    name = f"notices acked, 8 at once: {median:.0f} ms, p99 {worst:.0f}"
    yield make(name, 400, seconds, 400 * storage, 400 * network)
    yield make("notices acked, 3,000 in one post", 3000, post(3000), *counted(3000))


def renewals(scene: MicrosoftScene, url: str, make: Make, count: int) -> object:
    """From the timer's tick to the last renewal, through the host's queues."""
    time.sleep(62 - time.time() % 60)  # the host's own tick of a minute would do the same work beside ours
    due = many_due(scene, count)
    with Tally(scene.world) as tally, Gauge(scene.world.graph, "/subscriptions") as gauge:
        start = time.perf_counter()
        requests.post(f"{url}/admin/functions/tick", json={}, timeout=60).raise_for_status()
        while any(one.reauthorized == 0 for one in due) and time.perf_counter() - start < 600:
            time.sleep(0.5)
        seconds = time.perf_counter() - start
    done = sum(one.reauthorized > 0 for one in due)
    name = f"renewals due at once, at most {gauge.most} together"
    return make(name, done, seconds, tally.storage, tally.network)
