"""An organisation on Google Workspace for tests: its people, their consents, and our address for Pub/Sub."""

import base64
import itertools
import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from sandbox.web import Reply, Request, WebServer
from sandbox.world import GOOGLE_PROJECT
from shared import authorizing, casework, integrating, noticing, proving, returning
from shared.app import App
from shared.callers import Caller
from shared.contract import ConnectMailbox, PutIntegration
from shared.errors import ZalionError
from shared.model import PLATFORM, Mailbox
from tests.scenes import Clock, ProgramUser, Scene, caller, follow, someone

PASSWORD = "correct horse"
READ, SEND, MODIFY = "gmail.readonly", "gmail.send", "gmail.modify"
_NUMBERS = itertools.count(1)


class Doorbell(WebServer):
    """Our address as Pub/Sub sees it: what the notification route does, without the Functions host."""

    def __init__(self, app: App, tls: Any) -> None:
        self.app = app
        self.posted: list[Request] = []
        super().__init__(0, tls)

    def answer(self, request: Request) -> Reply:
        self.posted.append(request)
        try:
            noticing.take(self.app, "google", request.body, request.headers.get("authorization", ""))
        except ZalionError as error:
            return Reply(error.status)
        return Reply(202)


class Person(ProgramUser):
    """Somebody with a Google account, and Gmail in front of it."""

    folders: ClassVar = {"INBOX": "inbox", "Sent": "sent"}

    @property
    def system(self) -> Any:
        return self.world.google

    @property
    def account(self) -> Any:
        return self.world.google.directory.users[self.address]

    def listed(self, folder: str) -> list[Any]:
        return self.box.listed(folder)


@dataclass
class GoogleScene(Scene):
    """A scene whose mailbox is Alice's at Gmail."""

    also: tuple[str, ...] = (PLATFORM,)
    """A notice may name many mailboxes: then it is nobody\'s job."""
    bell: Any = None
    admin: Caller | None = None
    domain: str = ""

    def settle(self) -> None:
        """Let Pub/Sub post what it has, and do what it asks for."""
        self.world.google.pubsub.settle()
        self.work()

    def person(self, name: str) -> Person:
        return person(self.world, name, self.domain)

    def colleague(self, name: str = "carol") -> tuple[Person, Mailbox]:
        """Connect a second mailbox of the organisation."""
        somebody = self.person(name)
        return somebody, connect(self.world, self.app, self.org_id, somebody)


def person(world: Any, name: str, domain: str) -> Person:
    address = f"{name}.{next(_NUMBERS)}@{domain}"
    world.add_google_user(address, PASSWORD)
    return Person(world, address)


def sign_in(world: Any, app: App, url: str, user: str, *, unticked: set[str] = frozenset()) -> Any:
    """Sign in at Google and come back; returns the outcome."""
    world.google.auto_sign_in = user
    world.google.faults.partial_consent = set(unticked)
    return returning.signed_in(app, "google", follow(world, url))


def connect(world: Any, app: App, org_id: str, who: Person, **changes: Any) -> Mailbox:
    """Connect a mailbox and sign in for it."""
    mailbox, url = authorizing.connect(app, caller(org_id, who.address), request(who.address, **changes))
    assert url
    sign_in(world, app, url, who.address)
    return app.records.get(org_id, Mailbox, mailbox.id).value


def request(address: str, **changes: Any) -> ConnectMailbox:
    return ConnectMailbox(
        **{
            "address": address,
            "receives_with": "google",
            "sends_with": "google",
            "since": datetime.now(UTC) - timedelta(minutes=5),
            **changes,
        }
    )


def approve(app: App, org_id: str, **settings: Any) -> Any:
    """Approve the integration, with settings; returns it as it is shown."""
    return integrating.put(app, admin_of(org_id), "google", PutIntegration(approved=True, settings=settings))


def prove(world: Any, app: App, org_id: str, *domains: str) -> None:
    """Publish what proves these domains, as their administrator does."""
    for domain in domains:
        proof = proving.ask(app, admin_of(org_id), domain)
        world.dns.put(proof.name, "TXT", proof.text)


def admin_of(org_id: str) -> Caller:
    return Caller(org_id, f"it@{org_id}.example", frozenset({"admin"}))


def listening(world: Any, app: App) -> Doorbell:
    """Open our address for Pub/Sub, with a topic and a subscription of its own; `app` of it listens there."""
    bell = Doorbell(app, world.authority.server_context())
    name = f"projects/{GOOGLE_PROJECT}/topics/{secrets.token_hex(4)}"
    topic = world.google.pubsub.add_topic(name, f"{bell.url}/api/notifications/google")
    pubsub = {
        "google_topic": name,
        "google_subscription": topic.subscription,
        "google_audience": topic.url,
    }
    bell.app = replace(app, public_url=bell.url, endpoints={**app.endpoints, **pubsub})
    world.google_app.redirect_uris += (f"{bell.url}/api/oauth/google/callback",)
    return bell


def notification(scene: Any, address: str = "", **changes: Any) -> tuple[bytes, str]:
    """Return a message as Pub/Sub posts it, and its Authorization header."""
    data = {"emailAddress": address or scene.alice.address, "historyId": 4711}
    message = {"data": base64.urlsafe_b64encode(json.dumps(data).encode()).decode(), "messageId": "1"}
    places = scene.app.endpoints
    body = {"message": message, "subscription": places["google_subscription"], **changes}
    token = scene.world.google.pubsub.token(places["google_audience"])
    return json.dumps(body).encode(), f"Bearer {token}"


def build(world: Any, app: App, clock: Clock, **settings: Any) -> GoogleScene:
    """Set the stage: an approved integration, Alice's mailbox with live push, a case."""
    org_id, domain = f"org-{secrets.token_hex(4)}", f"g{next(_NUMBERS)}.google.example"
    world.add_google_domain(domain)
    alice, supplier = person(world, "alice", domain), someone(world, "supplier", "supplier.example")
    world.google.faults.push_seconds = 0  # Gmail drops what is faster than one a second: polls find it then
    bell = listening(world, app)
    app = bell.app
    approve(app, org_id, **settings)
    casework.put_case(app, Caller(org_id, "", frozenset({"platform"})), "C-1", "Screws", [alice.address])
    mailbox = connect(world, app, org_id, alice)
    return GoogleScene(
        world, app, clock, org_id, alice, supplier, mailbox, bell=bell, admin=admin_of(org_id), domain=domain
    )
