"""An organisation on Microsoft 365 for tests: its directory, its consent, its people, and our address for notices."""

import itertools
import json
import re
import secrets
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.ca import self_signed
from sandbox.web import Reply, Request, WebServer
from shared import authorizing, bootstrap, casework, integrating, noticing, returning, scheduling, subscribing
from shared.app import App
from shared.callers import Caller
from shared.contract import AppSecret, AskConsent, ConnectMailbox, PutIntegration
from shared.errors import ZalionError
from shared.model import PLATFORM, Case, Grant, Integration, Mailbox, Message, Subscription, SyncState
from shared.settings import load
from shared.storage.base import Add, Due, Save
from tests.scenes import Clock, ProgramUser, Scene, caller, follow, someone

PASSWORD = "correct horse"
_QUEUES = json.loads((Path(__file__).parent.parent / "host.json").read_text())["extensions"]["queues"]
AT_ONCE = _QUEUES["batchSize"] + _QUEUES["newBatchThreshold"]
"""Jobs of a queue that one instance of the host runs at once."""

CONSENTED = ("Mail.Read", "Mail.Send", "openid", "profile")
"""What tokens carry after the consent that is asked for by default: what was granted, and who they are of."""

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


class Person(ProgramUser):
    """Somebody with a mailbox in Exchange Online, and Outlook in front of it."""

    folders: ClassVar = {"INBOX": "inbox", "Sent": "sentitems"}

    @property
    def system(self) -> Any:
        return self.world.graph


@dataclass
class MicrosoftScene(Scene):
    """A scene whose mailbox is Alice's in Exchange Online."""

    also: tuple[str, ...] = (PLATFORM,)
    """A notice may name many mailboxes: then it is nobody\'s job."""
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


@contextmanager
def in_place_of(server: Any, path: str, reply: Reply) -> Iterator[None]:
    """Have something on the way to a simulator answer whatever asks for paths that end like this."""
    answer = server.answer
    server.answer = lambda request: reply if request.path.endswith(path) else answer(request)
    try:
        yield
    finally:
        del server.answer


@dataclass
class Gauge:
    """Stands in front of a simulator: counts the calls under a path, and the most at once.

    `meeting`: so many seconds a call waits for a second one beside it, until two have met.
    """

    server: Any
    path: str
    meeting: float = 0
    calls: int = 0
    most: int = 0
    _met: threading.Event = field(default_factory=threading.Event)
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._answer = self.server.answer
        self.server.answer = self._counted
        return self

    def __exit__(self, *_: object) -> None:
        del self.server.answer

    def _counted(self, request: Request) -> Reply:
        if self.path not in request.path:
            return self._answer(request)
        with self._lock:
            self.calls, self._now = self.calls + 1, self._now + 1
            self.most = max(self.most, self._now)
            if self.most > 1:
                self._met.set()
        self._met.wait(self.meeting)
        try:
            return self._answer(request)
        finally:
            with self._lock:
                self._now -= 1


def many_due(scene: MicrosoftScene, count: int) -> list[Any]:
    """Make mailboxes directly in storage whose push ends within the hour; returns Graph's subscriptions."""
    app, org_id, now = scene.app, scene.org_id, datetime.now(UTC)
    if not scene.subscriptions():  # a host took the job; Graph cannot reach it, so it waits for an hour
        subscribing.subscribe(app, org_id, scene.mailbox.id, "renew")
    alices = scene.subscriptions()[0]
    token = app.grants.credential(org_id, scene.mailbox.id, "microsoft").token
    kept = app.records.get(org_id, Grant, f"{scene.mailbox.id}!microsoft").value
    mine, made, writes, dues = scene.record(), [], [], []
    for _ in range(count):
        until = now + timedelta(minutes=50)
        made.append(replace(alices, id=str(uuid.uuid4()), until=until, reauthorized=0))
        scene.world.graph.notifier.subscriptions[made[-1].id] = made[-1]
        push = Subscription(made[-1].id, until, renew_at=now)
        box = replace(mine, id=secrets.token_hex(8), push=push, push_again=None)
        grant = replace(kept, mailbox_id=box.id, sealed={}, expires_at=app.clock() + timedelta(hours=1))
        writes += [Add(box), Add(app.grants._tokens.sealed(org_id, grant, {"access_token": token}))]
        dues.append(Due(now - timedelta(minutes=1), "push", org_id, box.id))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(app.schedule.put, dues))
    for some in itertools.batched(writes, 100, strict=False):
        app.records.commit(org_id, *some)
    return made


def person(world: Any, name: str, domain: str, **options: Any) -> Person:
    address = f"{name}.{next(_NUMBERS)}@{domain}"
    world.add_microsoft_user(address, PASSWORD, **options)
    return Person(world, address)


def approve(world: Any, app: App, admin: Caller, **settings: Any) -> str:
    """Approve the integration and go through the administrator's consent; returns the outcome's key."""
    integrating.put(app, admin, "microsoft", PutIntegration(approved=True, settings=settings))
    url, _ = authorizing.ask_consent(app, admin, "microsoft", AskConsent())
    world.entra.auto_sign_in = admin.email
    proof = returning.consented(app, "microsoft", follow(world, url)).url
    return returning.signed_in(app, "microsoft", follow(world, proof)).key


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
    returning.signed_in(app, "microsoft", follow(world, url))
    return app.records.get(org_id, Mailbox, mailbox.id).value


def certificate(days: int = 30) -> tuple[str, str]:
    """A private key and its certificate, both PEM, as a customer makes them for an app of their own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = datetime.now(UTC)
    public = self_signed(key, "zalion", now - timedelta(days=60), now + timedelta(days=days))
    plain = serialization.NoEncryption()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    ).decode(), public


@dataclass
class Company:
    """An organisation with a directory at Microsoft, and the administrator of both."""

    world: Any
    app: App
    org_id: str = field(default_factory=lambda: f"org-{secrets.token_hex(4)}")
    domain: str = field(default_factory=lambda: f"m{next(_NUMBERS)}.microsoft.example")

    def __post_init__(self) -> None:
        self.tenant = self.world.add_microsoft_domain(self.domain)
        self.it = person(self.world, "it", self.domain, admin=True)
        self.admin = Caller(self.org_id, self.it.address, frozenset({"admin"}))

    def person(self, name: str) -> Person:
        return person(self.world, name, self.domain)

    def integration(self) -> Integration:
        return integrating.show(self.app, self.admin, "microsoft")[0]

    def put(self, secret: AppSecret | None = None, approved: bool = True, **settings: Any) -> Integration:
        body = PutIntegration(approved=approved, settings=settings, secret=secret)
        return integrating.put(self.app, self.admin, "microsoft", body)[0]

    def link(self, **body: Any) -> str:
        """The consent link that IT asks for."""
        return authorizing.ask_consent(self.app, self.admin, "microsoft", AskConsent(**body))[0]

    def browse(self, url: str, user: str | None = None) -> dict[str, str]:
        """Open a link in the browser of somebody signed in at Microsoft; by default the administrator."""
        self.world.entra.auto_sign_in = user or self.it.address
        return follow(self.world, re.sub(r"&login_hint=[^&]*", "", url))

    def own_app(self, **changes: Any) -> tuple[Any, str]:
        """Register an app of their own in their directory, consented to; returns it and its secret."""
        directory = self.world.entra.directory
        made = directory.add_application(
            self.tenant,
            **{
                "name": "Own",
                "redirect_uris": (integrating.redirect_uri(self.app, "microsoft"),),
                "multi_tenant": False,
                "delegated": frozenset({"Mail.Read", "Mail.Send"}),
                **changes,
            },
        )
        directory.consent(self.tenant, made, application_permissions=frozenset())
        return made, made.add_secret()

    def own(self, made: Any, secret: str, **settings: Any) -> Integration:
        """Approve the integration with an app registration of their own."""
        ids = {"tenantId": self.tenant.id, "clientId": made.client_id}
        return self.put(AppSecret(client_secret=secret), **{**ids, **settings})


def begin(company: Company, member: Person) -> None:
    """Have what `approve` ends in, and a case, without its thirty calls.

    Most tests begin with it, and none is about it: those that are approve in the browser.
    """
    app, org_id, tenant = company.app, company.org_id, company.tenant
    directory, granted = company.world.entra.directory, frozenset(CONSENTED[:2])
    directory.consent(
        tenant, company.world.microsoft_app, delegated=granted, application_permissions=frozenset()
    )
    assert app.registrations.bind(org_id, "microsoft", tenant.id)
    told = {"updated_at": app.clock(), "updated_by": company.admin.email}
    approved = Integration("microsoft", "approved", tenant=tenant.id, consented=CONSENTED, **told)
    app.records.commit(org_id, Add(approved), Save(Case("C-1", "Screws", (member.address,))))


def build(world: Any, app: App, clock: Clock, **options: Any) -> MicrosoftScene:
    """Set the stage: directory, consent, Alice's mailbox with live push, a case."""
    bell = Doorbell(app, world.authority.server_context())
    app = bell.app = replace(app, public_url=bell.url)
    callbacks = (f"{bell.url}/api/{path}/microsoft/callback" for path in ("consent", "oauth"))
    world.microsoft_app.redirect_uris += tuple(callbacks)
    company = Company(world, app)
    org_id, domain, admin = company.org_id, company.domain, company.admin
    alice, supplier = company.person("alice"), someone(world, "supplier", "supplier.example")
    if options:
        assert approve(world, app, admin, **options) == "approved"
        casework.put_case(app, Caller(org_id, "", frozenset({"platform"})), "C-1", "Screws", [alice.address])
    else:
        begin(company, alice)
    mailbox = connect(world, app, org_id, alice)
    return MicrosoftScene(
        world, app, clock, org_id, alice, supplier, mailbox, bell=bell, admin=admin, domain=domain
    )
