"""`make bench`: timings and call counts on the sandbox's real parts. It prints; it judges nothing.

Each row: what, how many, seconds, a second, and calls per item: to storage, which is tables, blobs and queues, and
to the network, which is the mail system and Key Vault. `-` is for what nobody counts. `python -m tests.bench cold`
prints one group of rows; `GROUPS` has their names.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox.ports import row
from sandbox.world import World
from shared import bootstrap
from shared.settings import load
from tests import bench_exchange, bench_google, bench_microsoft, microsoft
from tests.doors import Guard, guarded
from tests.scenes import Clock, Scene, build, imap, parsed, write
from tests.tally import Tally

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One line of the table; calls that nobody counted are None."""

    name: str
    items: int
    seconds: float
    storage: int | None = None
    network: int | None = None

    def __str__(self) -> str:
        """Show it."""
        calls = (
            "-" if count is None else f"{count / self.items:.2f}" for count in (self.storage, self.network)
        )
        storage, network = calls
        return (
            f"{self.name:<48}{self.items:>7}{self.seconds:>9.2f}{self.items / self.seconds:>10.1f}"
            f"{storage:>9}{network:>9}"
        )


def timed(name: str, items: int, guard: Guard, act: Callable[[], object]) -> Row:
    """Run and count."""
    guard.calls.clear()
    start = time.perf_counter()
    act()
    seconds = time.perf_counter() - start
    return Row(name, items, seconds, guard.storage, len(guard.calls) - guard.storage)


def rows(world: World) -> Iterable[Row]:
    """Measure everything on fresh organisations."""
    clock, guard = Clock(), Guard()
    app = bootstrap.build(load(world.environment()), clock)
    watched = guarded(app, guard)

    scene = build(world, app, clock)
    scene.sent()
    scene.sync()
    answers(scene, scene.alice.address, 1000)
    yield timed("ingest: case mails into one mailbox", 1000, guard, lambda: scene.sync(app=watched))

    scenes = [build(world, app, clock) for _ in range(20)]
    for scene in scenes:
        scene.sent()
        scene.sync()
        answers(scene, scene.alice.address, 50)
    with ThreadPoolExecutor(8) as pool:
        yield timed(
            "ingest: 50 case mails into each of 20, 8 workers",
            1000,
            guard,
            lambda: list(pool.map(lambda scene: scene.sync(app=watched), scenes)),
        )

    scene = build(world, app, clock)
    scene.sync()
    unrelated(scene, 1000)
    yield timed("ignore: unrelated mails", 1000, guard, lambda: scene.sync(app=watched))

    idle = [scene.mailbox, *(scene.colleague(f"idle{number}")[1] for number in range(99))]
    for box in idle:
        scene.sync(box)
    with ThreadPoolExecutor(8) as pool:
        yield timed(
            "idle poll of 100 mailboxes, 8 workers",
            100,
            guard,
            lambda: list(pool.map(lambda box: scene.sync(box, app=watched), idle)),
        )

    scene = build(world, app, clock)
    yield timed("send: request to Sent copy, one worker", 300, guard, lambda: sends(scene, watched, 300))


def answers(scene: Scene, to: str, count: int) -> None:
    """Put answers of the supplier into a mailbox, as its server would."""
    [original, *_] = scene.supplier.inbox()

    known = parsed(original)
    headers = {"In-Reply-To": known["Message-ID"], "References": known["Message-ID"]}
    with imap(scene.world, to) as client:
        for number in range(count):
            mail = write(scene.supplier.address, to, "Re: Offer 4711", f"Answer {number}\n" * 20, **headers)
            client.append("INBOX", mail.as_bytes())


def unrelated(scene: Scene, count: int) -> None:
    """Put other people's mail into the mailbox."""
    with imap(scene.world, scene.alice.address) as client:
        for number in range(count):
            mail = write(f"someone{number}@elsewhere.example", scene.alice.address, f"News {number}", "Words")
            client.append("INBOX", mail.as_bytes())


def sends(scene: Scene, app: object, count: int) -> None:
    """Accept and deliver, one after the other."""
    for _ in range(count):
        scene.deliver(scene.send(app=app), app=app)  # type: ignore[arg-type]


def imported() -> float:
    """How long a fresh process needs to import the app, best of five."""
    best = 9.0
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import function_app"], cwd=ROOT, check=True)
        best = min(best, time.perf_counter() - start)
    return best


def cold(world: World) -> Iterable[Row]:
    """Measure what a process needs that is new."""
    yield Row("import function_app, warm (seconds)", 1, imported())
    yield first_answer(world)


def first_answer(world: World) -> Row:
    """From starting the host to the first answer of an authenticated route: a user asks for the own mailboxes.

    They are at Microsoft, which counts its calls.
    """
    import requests

    from sandbox.host.process import HostProcess

    scene = microsoft.office(world)
    scene.bell.stop()
    token = world.issuer.issue(org=scene.org_id, email=scene.alice.address, roles=["member"])
    headers = {"Authorization": f"Bearer {token}"}
    log = Path(tempfile.mkdtemp()) / "host.log"
    clear_of_the_timer()
    with Tally(world) as tally:
        start = time.perf_counter()
        with HostProcess(ROOT, environment=world.environment(), log=log) as host:
            answer = requests.get(f"{host.url}/api/mailboxes", headers=headers, timeout=30)
            seconds = time.perf_counter() - start
    assert len(answer.json()["items"]) == 1, answer.text
    return Row("first answer after a cold start (host included)", 1, seconds, tally.storage, tally.network)


def clear_of_the_timer() -> None:
    """Wait until the host's next minute is some way off: what its timer asks for is no request's doing."""
    left = 60 - time.time() % 60
    if left < 15:
        time.sleep(left + 1)


def ready() -> Row:
    """From `python -m sandbox` to its seeded table: what `make run` takes once everything is installed."""
    port = str(row())
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        sandbox = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--directory", directory],
            cwd=ROOT,
            env={**os.environ, "SANDBOX_PORT": port},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sandbox.stdout
        try:
            if not any("is ready" in line for line in sandbox.stdout):
                raise RuntimeError("The sandbox did not start.")
            return Row("python -m sandbox, until ready (seeded)", 1, time.perf_counter() - start)
        finally:
            sandbox.terminate()
            sandbox.wait(60)


GROUPS: dict[str, Callable[[World], Iterable[object]]] = {
    "imap": rows,
    "microsoft": lambda world: bench_microsoft.rows(world, Row),
    "google": lambda world: bench_google.rows(world, Row),
    "exchange": lambda world: bench_exchange.rows(world, Row),
    "cold": cold,
}
"""The rows by name, in the order of the table; `ready`, which has a world of its own, comes before them."""


def main(*names: str) -> None:
    """Print the table, or these groups of it."""
    if unknown := {*names} - {"ready", *GROUPS}:
        sys.exit(f"There is no {', '.join(sorted(unknown))}, but ready, {', '.join(GROUPS)}.")
    print(
        f"{'what':<48}{'items':>7}{'seconds':>9}{'per s':>10}{'storage':>9}{'network':>9}   (calls per item)"
    )
    if not names or "ready" in names:
        print(ready(), flush=True)
    chosen = [group for name, group in GROUPS.items() if not names or name in names]
    if not chosen:
        return
    with tempfile.TemporaryDirectory() as directory, World(Path(directory), access_log=True) as world:
        os.environ.update(world.environment())
        for group in chosen:
            for row in group(world):
                print(row, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
