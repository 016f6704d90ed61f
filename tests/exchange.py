"""An organisation with an Exchange of its own, for tests: its people, and Outlook in front of them."""

import itertools
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from shared import connecting
from shared.app import App
from shared.callers import Caller
from shared.contract import ConnectMailbox
from shared.model import Mailbox
from tests.scenes import Clock, ProgramUser, Scene, begin, caller, someone

PASSWORD = "correct horse"
_NUMBERS = itertools.count(1)


class Person(ProgramUser):
    """Somebody with a mailbox at Exchange, and Outlook in front of it."""

    folders: ClassVar = {"INBOX": "inbox", "Sent": "sentitems"}

    @property
    def system(self) -> Any:
        return self.world.exchange

    def receive(self, *raws: bytes, folder: str = "INBOX") -> None:
        for raw in raws:
            self.box.add(raw, self.folders.get(folder, folder))


@dataclass
class ExchangeScene(Scene):
    """A scene whose mailbox is Alice's at Exchange."""

    domain: str = ""

    def colleague(self, name: str = "carol") -> tuple[Person, Mailbox]:
        """Connect a second mailbox of the organisation."""
        somebody = person(self.world, name, self.domain)
        return somebody, connect(self.world, self.app, self.org_id, somebody)


def person(world: Any, name: str, domain: str) -> Person:
    address = f"{name}.{next(_NUMBERS)}@{domain}"
    world.add_exchange_user(address, PASSWORD)
    return Person(world, address)


def connect(
    world: Any, app: App, org_id: str, who: Person, by: Caller | None = None, **changes: Any
) -> Mailbox:
    """Connect a mailbox through the use case; `settings` are added to where the server is.

    It signs in by Basic, which saves two requests a session: walks make thousands of them.
    """
    place = {
        "host": "localhost",
        "port": world.ports["exchange"],
        "auth": "basic",
        **changes.pop("settings", {}),
    }
    body = ConnectMailbox(
        **{
            "address": who.address,
            "receives_with": "ews",
            "sends_with": "ews",
            "settings": {"ews": place},
            "secret": {"password": PASSWORD},
            "since": datetime.now(UTC) - timedelta(minutes=5),
            **changes,
        }
    )
    return connecting.connect(app, by or caller(org_id, who.address), body)


def build(world: Any, app: App, clock: Clock, **mailbox: Any) -> ExchangeScene:
    """Set the stage."""
    org_id, domain = f"org-{secrets.token_hex(4)}", f"x{next(_NUMBERS)}.exchange.example"
    world.add_exchange_domain(domain)
    alice, supplier = person(world, "alice", domain), someone(world, "supplier", "supplier.example")
    begin(app, org_id, alice, "ews")
    box = connect(world, app, org_id, alice, **mailbox)
    return ExchangeScene(world, app, clock, org_id, alice, supplier, box, domain=domain)
