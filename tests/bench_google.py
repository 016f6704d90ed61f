"""The rows of `make bench` for Gmail: reading, sending, acknowledging. Network is what Gmail and the vault were asked for.

Each call in a batch counts. The quota is off: 300 mails a minute for a mailbox would be all that is measured.
"""

import time
from collections.abc import Callable, Iterable

from sandbox.world import World
from shared import bootstrap, noticing
from shared.providers.google import spending
from shared.settings import load
from tests import google
from tests.doors import Guard, guarded
from tests.google import GoogleScene
from tests.scenes import Clock, parsed, write

Make = Callable[[str, int, float, int, int], object]
"""Makes a row of: name, items, seconds, calls to storage, calls to the network."""


def rows(world: World, make: Make) -> Iterable[object]:
    """Measure on a fresh organisation."""
    world.google.gmail.quota.per_minute = spending.SHARE = 10**9
    clock = Clock()
    scene = google.build(world, bootstrap.build(load(world.environment()), clock), clock)
    scene.sent()
    scene.sync()
    original = parsed(scene.supplier.inbox()[0])
    answering = {"In-Reply-To": original["Message-ID"], "References": original["Message-ID"]}
    fill(scene, 250, scene.supplier.address, **answering)
    yield measured(scene, make, "Gmail ingest: case mails", 250, lambda app: scene.sync(app=app))
    fill(scene, 250, "somebody@elsewhere.example")
    yield measured(scene, make, "Gmail ignore: unrelated mails", 250, lambda app: scene.sync(app=app))
    yield measured(scene, make, "Gmail idle looks", 50, lambda app: [scene.sync(app=app) for _ in range(50)])
    yield measured(scene, make, "Gmail send: request to Sent copy", 50, lambda app: sends(scene, app, 50))
    body, token = google.notification(scene)
    noticing.take(scene.app, "google", body, token)  # Google's keys are known from here on

    def acknowledge(app: object) -> None:
        for _ in range(1000):
            noticing.take(app, "google", body, token)  # type: ignore[arg-type]

    yield measured(scene, make, "Gmail notices acknowledged (no host)", 1000, acknowledge)
    scene.bell.stop()


def measured(
    scene: GoogleScene, make: Make, name: str, items: int, act: Callable[[object], object]
) -> object:
    """Run and count."""
    guard = Guard()
    app = guarded(scene.app, guard)
    scene.world.google.requests.clear()
    start = time.perf_counter()
    act(app)
    seconds = time.perf_counter() - start
    network = guard.count("vault.") + len(scene.world.google.requests)
    return make(name, items, seconds, guard.storage, network)


def fill(scene: GoogleScene, count: int, sender: str, **headers: str) -> None:
    """Put mail into the mailbox."""
    for number in range(count):
        mail = write(sender, scene.alice.address, f"Re: Offer {number}", "Words\n" * 20, **headers)
        scene.alice.box.add(mail.as_bytes())


def sends(scene: GoogleScene, app: object, count: int) -> None:
    """Accept and deliver, one after the other."""
    for _ in range(count):
        scene.deliver(scene.send(app=app), app=app)  # type: ignore[arg-type]
