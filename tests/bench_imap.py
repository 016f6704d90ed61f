"""The rows of `make bench` for IMAP and SMTP: network is commands at a proxy before IMAP, replies of the SMTP server."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sandbox.smtp import PostOffice
from sandbox.wire import Wire
from sandbox.world import World
from shared import bootstrap
from shared.app import App
from shared.model import Mailbox
from shared.settings import load
from tests.doors import Guard, guarded
from tests.scenes import Clock, Scene, behind, build_behind, connect, imap, parsed, someone, write

Make = Callable[[str, int, float, int, int], object]
"""Makes a row of: name, items, seconds, calls to storage, calls to the network."""

COMMAND = r"^[A-Z]{4}\d+ "
"""A line that begins with imaplib's tag: neither the answer to a challenge nor what follows a literal."""


@dataclass(frozen=True)
class Meter:
    """Counts storage and vault at the doors of an app, mail on the far side: a call of a port may be many."""

    guard: Guard
    wire: Wire
    post: PostOffice
    make: Make

    def timed(self, name: str, items: int, act: Callable[[], object]) -> object:
        """Run and count."""
        self.guard.calls.clear()
        self.wire.reset()
        replies, start = self.post.replies, time.perf_counter()
        act()
        seconds = time.perf_counter() - start
        mail = len(self.wire.lines(COMMAND)) + self.post.replies - replies
        return self.make(name, items, seconds, self.guard.storage, self.guard.count("vault.") + mail)


def rows(world: World, make: Make) -> Iterable[object]:
    """Measure everything on fresh organisations."""
    clock, guard = Clock(), Guard()
    app = bootstrap.build(load(world.environment()), clock)
    with Wire(world.authority, world.ports["imap"]) as wire:
        timed = Meter(guard, wire, world.post, make).timed
        yield from measured(timed, guarded(app, guard), partial(build_behind, wire, world, app, clock), wire)


def measured(
    timed: Callable[[str, int, Callable[[], object]], object],
    watched: App,
    stage: Callable[[], Scene],
    wire: Wire,
) -> Iterable[object]:
    """Measure on stages whose IMAP server is behind the wire."""
    scene = stage()
    scene.sent()
    scene.sync()
    answers(scene, scene.alice.address, 1000)
    yield timed("ingest: case mails into one mailbox", 1000, lambda: scene.sync(app=watched))

    scenes = [stage() for _ in range(20)]
    for one in scenes:
        one.sent()
        one.sync()
        answers(one, one.alice.address, 50)
    with ThreadPoolExecutor(8) as pool:
        yield timed(
            "ingest: 50 case mails into each of 20, 8 workers",
            1000,
            lambda: list(pool.map(lambda one: one.sync(app=watched), scenes)),
        )

    new = stage()
    new.sync()
    unrelated(new, 1000)
    yield timed("ignore: unrelated mails", 1000, lambda: new.sync(app=watched))

    idle = [new.mailbox, *(beside(new, wire, f"idle{number}") for number in range(99))]
    for box in idle:
        new.sync(box)
    with ThreadPoolExecutor(8) as pool:
        yield timed(
            "idle poll of 100 mailboxes, 8 workers",
            100,
            lambda: list(pool.map(lambda box: new.sync(box, app=watched), idle)),
        )

    sending = stage()
    yield timed("send: request to Sent copy, one worker", 300, lambda: sends(sending, watched, 300))


def beside(scene: Scene, wire: Wire, name: str) -> Mailbox:
    """Connect somebody else's mailbox at the same servers."""
    person, world = someone(scene.world, name, "imap.example"), scene.world
    return connect(world, scene.app, scene.org_id, person, settings=behind(wire, world))


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


def sends(scene: Scene, app: App, count: int) -> None:
    """Accept and deliver, one after the other."""
    for _ in range(count):
        scene.deliver(scene.send(app=app), app=app)
