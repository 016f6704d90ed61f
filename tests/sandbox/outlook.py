"""Somebody on Microsoft 365, and a plain HTTP client of Graph that signs in with MSAL."""

import itertools
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msal
import requests

from sandbox.entra.directory import GRAPH, Application, Tenant, User
from sandbox.graph.mailbox import Mailbox
from sandbox.web import Reply, Request, WebServer
from sandbox.world import World

BACK = "https://app.example/oauth"
ALL = ("Mail.Read", "Mail.ReadWrite", "Mail.Send", "Mail.Read.Shared", "Mail.Send.Shared", "User.Read")
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}
_NUMBERS = itertools.count(1)


@cache
def _session(bundle: str) -> requests.Session:
    """One for all: reading the trusted certificates takes long."""
    session = requests.Session()
    session.trust_env = False
    session.verify = bundle
    return session


@dataclass
class Office:
    """An organisation on Microsoft 365 with an app registration of its own."""

    world: World
    domain: str
    tenant: Tenant
    app: Application
    secret: str

    @classmethod
    def of(cls, world: World, *, multi_tenant: bool = False, consented: bool = True) -> "Office":
        domain = f"o{next(_NUMBERS)}.microsoft.example"
        tenant = world.add_microsoft_domain(domain)
        app = world.entra.directory.add_application(
            tenant,
            name="Client",
            redirect_uris=(BACK,),
            multi_tenant=multi_tenant,
            delegated=frozenset(ALL),
            application=frozenset({"Mail.Read", "Mail.Send"}),
        )
        if consented:
            world.entra.directory.consent(tenant, app)
        return cls(world, domain, tenant, app, app.add_secret())

    def user(self, name: str = "anna", **options: Any) -> User:
        return self.world.add_microsoft_user(f"{name}@{self.domain}", "pass:word", **options)

    def session(self) -> requests.Session:
        return _session(str(self.world.authority.pem))

    def msal(self, credential: Any = None, tenant: Tenant | str | None = None, **options: Any) -> Any:
        return msal.ConfidentialClientApplication(
            self.app.client_id,
            client_credential=self.secret if credential is None else credential,
            authority=self.world.entra.authority(tenant or self.tenant),
            instance_discovery=False,
            http_client=self.session(),
            **options,
        )

    def signed_in(self, user: User, *scopes: str, client: Any = None, **options: Any) -> dict[str, Any]:
        """Sign in with code and PKCE, as MSAL does it; returns its result."""
        client = client or self.msal()
        flow = client.initiate_auth_code_flow(
            [GRAPH + scope for scope in scopes or ALL],
            redirect_uri=BACK,
            login_hint=user.address,
            response_mode="query",
            **options,
        )
        return client.acquire_token_by_auth_code_flow(flow, self.came_back(flow["auth_uri"]))

    def came_back(self, url: str) -> dict[str, str]:
        """Open a link as a browser that is signed in; returns the query it comes back with."""
        before, self.world.entra.auto_sign_in = self.world.entra.auto_sign_in, True
        try:
            answer = self.session().get(url, allow_redirects=False)
        finally:
            self.world.entra.auto_sign_in = before
        assert answer.status_code == 302, answer.text
        assert answer.headers["Location"].startswith(BACK + "?")
        return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))

    def outlook(self, *scopes: str, name: str = "anna") -> "Outlook":
        """Sign somebody in with these scopes (all of them where none is named)."""
        user = self.user(name)
        token = self.world.entra.access_token(self.app, user, frozenset(scopes or ALL))
        return Outlook(self, user.address, token, self.session())

    def daemon(self) -> "Outlook":
        """Sign the app in as itself."""
        token = self.world.entra.application_token(self.app, self.tenant)
        return Outlook(self, "", token, self.session())


@dataclass
class Outlook:
    """Graph, as one token sees it."""

    office: Office
    address: str
    token: str
    session: requests.Session

    @property
    def world(self) -> World:
        return self.office.world

    @property
    def box(self) -> Mailbox:
        return self.world.graph.mailbox(self.address)

    def call(
        self,
        method: str,
        path: str,
        status: int = 200,
        json: Any = None,
        data: Any = None,
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> requests.Response:
        """Ask Graph; `path` may be a whole link; options are named without their $."""
        url = path if path.startswith("https:") else self.world.graph.base + path
        sent = {"Authorization": f"Bearer {self.token}", **IMMUTABLE, **(headers or {})}
        named = {name if name == "changeType" else f"${name}": value for name, value in query.items()}
        answer = self.session.request(
            method, url, params=named, json=json, data=data, headers=sent, timeout=20
        )
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", path, **options).json()

    def post(self, path: str, json: Any = None, status: int = 201, **options: Any) -> Any:
        answer = self.call("POST", path, status, json, **options)
        return answer.json() if answer.content else None

    def refused(self, method: str, path: str, status: int, **options: Any) -> str:
        """Return the code of a refusal."""
        return str(self.call(method, path, status, **options).json()["error"]["code"])

    def subjects(self, path: str = "/me/messages", **query: str) -> list[str]:
        return [one["subject"] for one in self.get(path, **query)["value"]]

    def take(self, subject: str, folder: str = "inbox", **options: Any) -> Any:
        """Let a mail arrive."""
        raw = mail("someone@else.example", To=self.address, Subject=subject)
        return self.world.graph.arrive(self.address, raw, folder, **options)


def mail(sender: str, text: str = "Good day", **headers: str) -> bytes:
    """Write a mail by hand."""
    asked = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"From": sender, "Message-ID": f"<{uuid.uuid4().hex}@here.example>", **asked}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{head}\r\n{text}\r\n".encode()


class Bell(WebServer):
    """A notification URL: what rang, and what it answers."""

    def __init__(self, world: World) -> None:
        self.rang: list[dict[str, Any]] = []
        self.shook_hands: list[str] = []
        self.status = 202
        self.token_suffix = ""
        super().__init__(0, world.authority.server_context())

    def answer(self, request: Request) -> Reply:
        if "validationToken" in request.query:
            self.shook_hands.append(request.path)
            text = request.query["validationToken"] + self.token_suffix
            return Reply(200, text.encode(), {"Content-Type": "text/plain"})
        if self.status == 202:
            self.rang += request.json["value"]
        return Reply(self.status)
