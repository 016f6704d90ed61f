"""Counts what a process of its own asks for, on the far side: no door can stand in front of its ports."""

import re
import time
from dataclasses import dataclass
from typing import Self

from sandbox.world import World

LISTENING = re.compile(r"(?!POST )[A-Z]+ /[^/]+/[^/]+/messages[/?]")
"""What the host asks queues for by itself: to get messages, to keep them longer, to delete them."""

LATE = 0.2
"""Seconds within which Azurite has noted what it answered."""


@dataclass
class Tally:
    """Counts within a `with` what everybody asks a world that has an `access_log`.

    Attributes:
        storage: requests to tables, blobs and queues, without `LISTENING`.
        network: requests to Key Vault, the token issuer and the mail systems that speak HTTP.
    """

    world: World
    storage: int = 0
    network: int = 0

    def __enter__(self) -> Self:
        self.storage, self.network = self._counts()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(LATE)
        storage, network = self._counts()
        self.storage, self.network = storage - self.storage, network - self.network

    def _counts(self) -> tuple[int, int]:
        world = self.world
        asked = [one for one in world.azurite.requests() if not LISTENING.match(one)]
        parts = (world.vault, world.issuer, world.entra, world.graph, world.google, world.exchange)
        return len(asked), sum(part.calls.total() for part in parts)
