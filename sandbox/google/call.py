"""One call of Gmail's API: who, what, and what the discovery document says about it."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.google.discovery import Method
from sandbox.google.grants import Access
from sandbox.google.mailbox import Item, Mailbox
from sandbox.google.problems import invalid, not_found

if TYPE_CHECKING:
    from sandbox.google.gmail import Gmail


@dataclass(frozen=True)
class Served:
    """What was asked for, for tests that count."""

    method: str
    user: str
    format: str
    status: int
    units: int
    query: tuple[tuple[str, str], ...]


@dataclass
class Call:
    """One call.

    Attributes:
        query: values by name; all of them are known to the discovery document.
        body: the JSON, an empty object where there is none.
        media: the mail of an upload.
    """

    gmail: "Gmail"
    method: Method
    access: Access
    mailbox: Mailbox
    query: dict[str, list[str]]
    body: dict[str, Any]
    media: bytes | None = None

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.method.path["id"]

    def one(self, name: str, default: str = "") -> str:
        """Return a query parameter."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Return a boolean query parameter."""
        return self.one(name) == "true"

    def item(self, id_: str = "") -> Item:
        """Return the message that the path names. Raises Problem."""
        found = self.mailbox.find(id_ or self.id)
        if found is None:
            raise not_found()
        return found

    def page[T](
        self, found: Sequence[T], key: Callable[[T], Sequence[float]], default: int = 100, most: int = 500
    ) -> tuple[list[T], dict[str, str]]:
        """Return one page of what is sorted by falling keys, and the token of the next where there is one.

        The token names the last one given: what comes or goes between two pages shifts nothing.
        Raises Problem.
        """
        size = max(1, min(int(self.one("maxResults", str(default))), most))
        if token := self.one("pageToken"):
            last = _unpacked(token)
            found = [one for one in found if list(key(one)) < last]
        elif found and self.gmail.faults.hollow_pages > 0:
            self.gmail.faults.hollow_pages -= 1
            return [], {"nextPageToken": _packed([float(2**62)])}
        page = list(found[:size])
        return page, {"nextPageToken": _packed(key(page[-1]))} if len(found) > size else {}


def _packed(value: Sequence[float]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(value)).encode()).decode()


def _unpacked(text: str) -> list[float]:
    try:
        return [float(one) for one in json.loads(base64.urlsafe_b64decode(text))]
    except (ValueError, TypeError) as error:
        raise invalid("Invalid pageToken") from error
