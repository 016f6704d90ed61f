"""`make bench`: timings and call counts on the sandbox's real parts. It prints; it judges nothing.

Each row: what, how many, seconds, a second, and calls per item: to storage, which is tables, blobs and queues, and
to the network, which is the mail system and Key Vault: requests, over IMAP commands as a proxy sees them, over SMTP
the server's replies. `-` is for what nobody counts. `python -m tests.bench cold` prints one group of rows; `GROUPS`
has their names.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.ports import row
from sandbox.world import World
from tests import bench_exchange, bench_google, bench_imap, bench_microsoft, microsoft
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
    "imap": lambda world: bench_imap.rows(world, Row),
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
