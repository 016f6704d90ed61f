"""One request about one mailbox, and what every part of the API asks of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.graph.mailbox import Folder, Item, Mailbox
from sandbox.graph.permissions import allow, may
from sandbox.graph.problems import GraphError
from sandbox.graph.showing import message_json
from sandbox.web import Request

if TYPE_CHECKING:
    from sandbox.graph.server import Graph


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `own` where the mailbox is that of the user who signed in."""

    graph: "Graph"
    request: Request
    access: Any
    mailbox: Mailbox
    own: bool

    @property
    def rights(self) -> set[str]:
        """What Exchange lets the user do in somebody else's mailbox."""
        return self.mailbox.access.get(self.access.address or "", set())

    def may(self, scopes: set[str]) -> bool:
        """Whether the token holds one of the scopes."""
        return may(self.access, scopes, own=self.own)

    def allow(self, scopes: set[str]) -> None:
        """Raise GraphError where it does not."""
        allow(self.access, scopes, own=self.own)

    def item(self, id_: str) -> Item:
        """Return a message. Raises GraphError."""
        found = self.mailbox.find(id_)
        if found is None:
            raise GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        return found

    def folder(self, key: str) -> Folder:
        """Return a folder by id or well-known name. Raises GraphError."""
        found = self.mailbox.folders.get(key) or next(
            (f for f in self.mailbox.folders.values() if f.well_known == key.lower()), None
        )
        if found is None:
            raise GraphError(404, "ErrorItemNotFound", "The specified folder could not be found.")
        return found

    def shown(self, item: Item) -> dict[str, Any]:
        """Return everything there is to show of a message, with the kind of id that was asked for."""
        return message_json(item, immutable=wants_immutable(self.request))


def wants_immutable(request: Request) -> bool:
    """Whether ids are to survive a move.

    https://learn.microsoft.com/graph/outlook-immutable-id
    """
    return 'idtype="immutableid"' in request.headers.get("prefer", "").lower()
