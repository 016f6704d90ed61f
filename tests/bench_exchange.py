"""The rows of `make bench` for Exchange on premises: calls to it are the requests it got, by NTLM too."""

import email.policy
import time
from collections.abc import Callable, Iterable

from sandbox.world import World
from shared import bootstrap
from shared.settings import load
from tests import exchange
from tests.doors import Guard, guarded
from tests.scenes import Clock, write

Make = Callable[[str, int, float, int, int], object]
"""Makes a row of: name, items, seconds, calls to storage, calls to the network."""

COUNT = 300


def rows(world: World, make: Make) -> Iterable[object]:
    """Measure on a fresh organisation that signs in by NTLM."""
    clock, guard = Clock(), Guard()
    app = bootstrap.build(load(world.environment()), clock)
    scene = exchange.build(world, app, clock, settings={"auth": "ntlm"})
    watched = guarded(app, guard)

    def measured(name: str, items: int, act: Callable[[], object]) -> object:
        guard.calls.clear()
        before, start = world.exchange.calls.total(), time.perf_counter()
        act()
        seconds = time.perf_counter() - start
        network = guard.count("vault.") + world.exchange.calls.total() - before
        return make(name, items, seconds, guard.storage, network)

    def arrive(**headers: str) -> None:
        raws = (
            write(scene.supplier.address, scene.alice.address, f"Re: {n}", "Words\n" * 20, **headers)
            for n in range(COUNT)
        )
        scene.alice.receive(*(raw.as_bytes(policy=email.policy.SMTP) for raw in raws))

    parent = scene.sent().message_id
    scene.sync()
    arrive(In_Reply_To=parent, References=parent)
    yield measured("Exchange: ingest case mails", COUNT, lambda: scene.sync(app=watched))
    arrive()
    yield measured("Exchange: ignore unrelated mails", COUNT, lambda: scene.sync(app=watched))
    yield measured("Exchange: idle looks", 100, lambda: [scene.sync(app=watched) for _ in range(100)])
    promised = [scene.send() for _ in range(100)]
    yield measured(
        "Exchange: hand over", 100, lambda: [scene.deliver(message, app=watched) for message in promised]
    )
