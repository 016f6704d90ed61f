"""An organisation on Microsoft 365 for tests: its directory, its consent, its people, and our address for notices."""

import email
import email.policy
import itertools
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from sandbox.web import Reply, Request, WebServer
from shared import authorizing, bootstrap, casework, integrating, noticing, scheduling
from shared.app import App
from shared.callers import Caller
from shared.contract import AskConsent, ConnectMailbox, PutIntegration
from shared.errors import ZalionError
from shared.model import Mailbox, Message, SyncState
from shared.settings import load
from tests.scenes import Clock, Scene, caller, someone, write

PASSWORD = "correct horse"
_NUMBERS = itertools.count(1)


class Doorbell(WebServer):
    """Our address as Graph sees it: what the notification routes do, without the Functions host."""

    def __init__(self, app: App, tls: Any) -> None:
        self.app = app
        self.bodies: list[bytes] = []
        super().__init__(0, tls)

    def answer(self, request: Request) -> Reply:
        if "validationToken" in request.query:
            plain = {"Content-Type": "text/plain; charset=utf-8"}
            return Reply(200, request.query["validationToken"].encode(), plain)
        self.bodies.append(request.body)
        try:
            noticing.take(self.app, "microsoft", request.body)
        except ZalionError as error:
            return Reply(error.status)
        return Reply(202)


@dataclass
class Person:
    """Somebody with a mailbox in Exchange Online, and Outlook in front of it."""

    world: Any
    address: str

    @property
    def box(self) -> Any:
        return self.world.graph.mailbox(self.address)

    def inbox(self, folder: str = "inbox") -> list[bytes]:
        return [item.raw for item in self.box.listed(self.box.folder(folder).id)]

    def reply(self, raw: bytes, text: str = "From Outlook") -> bytes:
        """Answer in Outlook herself."""
        original = email.message_from_bytes(raw, policy=email.policy.default)
        known = str(original.get("References", "")).split()
        to = original["Reply-To"] or original["From"]
        if self.address in str(to):
            to = original["To"]
        mail = write(
            self.address,
            str(to),
            f"RE: {original['Subject']}",
            text,
            In_Reply_To=str(original["Message-ID"]),
            References=" ".join([*known, str(original["Message-ID"])]),
        ).as_bytes(policy=email.policy.SMTP)
        self.world.graph.send_as_user(self.address, mail)
        return mail


@dataclass
class MicrosoftScene(Scene):
    """A scene whose mailbox is Alice's in Exchange Online."""

    bell: Any = None
    admin: Caller | None = None
    domain: str = ""

    def settle(self) -> None:
        """Let notifications arrive, and do what they ask for."""
        self.world.graph.notifier.settle()
        self.work()

    def person(self, name: str) -> Person:
        return person(self.world, name, self.domain)

    def colleague(self, name: str = "carol", **changes: Any) -> tuple[Person, Mailbox]:
        """Connect one more mailbox of the organisation."""
        who = self.person(name)
        box = connect(self.world, self.app, self.org_id, who, **changes)
        self.settle()
        return who, box

    def poll(self, **by: float) -> None:
        """Let the time of the next poll come."""
        self.clock.advance(**by or {"minutes": 11})
        scheduling.tick(self.app)
        self.work()

    def arrived(self, message: Message) -> bytes:
        """What arrived at the supplier's of a mail from the case."""
        return next(raw for raw in self.supplier.inbox() if (message.message_id or "?").encode() in raw)

    def answers(self, first: Message) -> list[Message]:
        """The other messages of a message's conversation."""
        same = (one for one in self.timeline() if one.conversation_id == first.conversation_id)
        return [one for one in same if one.id != first.id]

    def record(self, box: Mailbox | None = None) -> Mailbox:
        """A mailbox as it is kept now."""
        return self.app.records.get(self.org_id, Mailbox, (box or self.mailbox).id).value

    def state(self, box: Mailbox | None = None) -> SyncState:
        return self.app.records.get(self.org_id, SyncState, (box or self.mailbox).id).value

    def subscriptions(self, address: str | None = None) -> list[Any]:
        """What Graph keeps for a mailbox."""
        address = address or self.alice.address
        return [one for one in self.world.graph.notifier.subscriptions.values() if one.address == address]

    def calls(self) -> Counter[tuple[str, str]]:
        """Every call that Graph has got, by method and template."""
        return Counter((method, path) for method, path, *_ in self.world.graph.requests)


@contextmanager
def faults(where: Any, **changes: Any) -> Iterator[None]:
    """Switch faults on for a while: Graph's, or the notifications'."""
    before = {name: getattr(where, name) for name in changes}
    for name, value in changes.items():
        setattr(where, name, value)
    yield
    for name, value in before.items():
        setattr(where, name, value)


def calm(world: Any) -> None:
    """Switch every fault off."""
    graph = world.graph
    graph.faults.__init__()
    graph.notifier.faults.__init__()
    graph.admission.lasts = 0.0


def office(world: Any, **options: Any) -> MicrosoftScene:
    """Set the stage with an app of its own, for a whole file of tests."""
    clock = Clock()
    scene = build(world, bootstrap.build(load(world.environment()), clock), clock, **options)
    scene.settle()
    return scene


def follow(world: Any, url: str) -> dict[str, str]:
    """Open a link as a signed-in browser does; returns the query it comes back with."""
    answer = requests.get(url, allow_redirects=False, verify=str(world.authority.bundle), timeout=10)
    assert answer.status_code == 302, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


def person(world: Any, name: str, domain: str, **options: Any) -> Person:
    address = f"{name}.{next(_NUMBERS)}@{domain}"
    world.add_microsoft_user(address, PASSWORD, **options)
    return Person(world, address)


def approve(world: Any, app: App, admin: Caller, **settings: Any) -> str:
    """Approve the integration and go through the administrator's consent; returns the outcome's key."""
    integrating.put(app, admin, "microsoft", PutIntegration(approved=True, settings=settings))
    url, _ = authorizing.ask_consent(app, admin, "microsoft", AskConsent())
    world.entra.auto_sign_in = admin.email
    proof = authorizing.consented(app, "microsoft", follow(world, url)).url
    return authorizing.signed_in(app, "microsoft", follow(world, proof)).key


def connect(
    world: Any, app: App, org_id: str, who: Person, user: str | None = None, **changes: Any
) -> Mailbox:
    """Connect a mailbox and sign in for it, as somebody else where `user` says so."""
    body = ConnectMailbox(
        **{
            "address": who.address,
            "receives_with": "microsoft",
            "sends_with": "microsoft",
            "since": datetime.now(UTC) - timedelta(minutes=5),
            **changes,
        }
    )
    mailbox, url = authorizing.connect(app, caller(org_id, user or who.address), body)
    assert url
    world.entra.auto_sign_in = user or who.address
    authorizing.signed_in(app, "microsoft", follow(world, url))
    return app.records.get(org_id, Mailbox, mailbox.id).value


def build(world: Any, app: App, clock: Clock, **options: Any) -> MicrosoftScene:
    """Set the stage: directory, consent, Alice's mailbox with live push, a case."""
    org_id, domain = f"org-{secrets.token_hex(4)}", f"m{next(_NUMBERS)}.microsoft.example"
    world.add_microsoft_domain(domain)
    it = person(world, "it", domain, admin=True)
    alice, supplier = person(world, "alice", domain), someone(world, "supplier", "supplier.example")
    admin = Caller(org_id, it.address, frozenset({"admin"}))
    bell = Doorbell(app, world.authority.server_context())
    app = bell.app = replace(app, public_url=bell.url)
    callbacks = (f"{bell.url}/api/{path}/microsoft/callback" for path in ("consent", "oauth"))
    world.microsoft_app.redirect_uris += tuple(callbacks)
    assert approve(world, app, admin, **options) == "approved"
    casework.put_case(app, Caller(org_id, "", frozenset({"platform"})), "C-1", "Screws", [alice.address])
    mailbox = connect(world, app, org_id, alice)
    return MicrosoftScene(
        world, app, clock, org_id, alice, supplier, mailbox, bell=bell, admin=admin, domain=domain
    )
