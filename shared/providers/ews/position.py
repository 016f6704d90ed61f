"""Where the last look at a mailbox at Exchange stopped: the cursor, from the inside."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar

from shared.errors import CursorExpired
from shared.providers import positions
from shared.providers.ews.folders import Layout


@dataclass
class Position(positions.Position, positions.Patient):
    """What a cursor says.

    Attributes:
        states: folder -> its sync state.
        swept: until when the other folders were looked through; set by the first look, however early it ends.
        seen: the mails given out of them since shortly before, hashed.
        refused, tried: see `Patient`.
        chosen: folder that is chosen -> the id, hashed, of the one that bears or last bore its name.
    """

    provider: ClassVar[str] = "ews"
    most_refused: ClassVar[int] = 30  # an id has 150 characters and more, and is written twice
    states: dict[str, str] = field(default_factory=dict)
    swept: datetime | None = None
    seen: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)

    def follow(self, layout: Layout) -> None:
        """Forget the folders that are not followed any more; one that is renamed stays chosen."""
        self.states = {name: state for name, state in self.states.items() if name in layout.watched}
        missing = {name: self.chosen[name] for name in layout.missing if name in self.chosen}
        self.chosen = missing | {name: hashed(id_) for name, id_ in layout.chosen.items()}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Have a lost sync state start over with the folders that are followed, and not with the others."""
        try:
            yield
        except CursorExpired as expired:
            rest = replace(self, states={})
            raise CursorExpired(expired.detail, resume=rest.cursor) from expired


def hashed(id_: str) -> str:
    """Shorten an id to what tells it from the others of a mailbox."""
    return hashlib.sha256(id_.encode()).hexdigest()[:12]
