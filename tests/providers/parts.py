"""The real mail server, shared by the tests of the providers; a fresh mailbox for each."""

import email.policy
import secrets
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cached_property
from typing import Any

import imapclient
import pytest

from sandbox.ca import Authority
from sandbox.dovecot import Dovecot
from sandbox.entra import Entra
from sandbox.entra.directory import Application
from sandbox.exchange import Exchange
from sandbox.google import Google
from sandbox.graph import Graph
from sandbox.issuer import Issuer, TokenInfo
from sandbox.smtp import PostOffice
from sandbox.wire import Wire
from shared.model import Envelope
from shared.providers.base import Connection, Credential, Password
from tests import ews_contract, graph_contract

HOSTS = frozenset({"localhost"})
PASSWORD = "correct horse"
SINCE = datetime.now(UTC) - timedelta(hours=1)
CALLBACK = "https://api.example/api/oauth/google/callback"


@dataclass
class MailServer:
    """Dovecot and the post office, as one."""

    authority: Authority
    dovecot: Dovecot
    post: PostOffice
    issuer: Issuer
    open: ExitStack

    @cached_property
    def microsoft(self) -> tuple[Entra, Graph, Application]:
        """Entra and Graph beside the mail server, with one app that may everything there."""
        entra = Entra(tls=self.authority.server_context())
        self.open.callback(entra.stop)
        mx = ("127.0.0.1", self.post.ports["mx"])
        graph = Graph(entra, tls=self.authority.server_context(), mx=mx, ca=str(self.authority.pem))
        self.open.callback(graph.stop)
        graph_contract.install(graph)
        self.post.route("microsoft.example", graph)
        tenant = entra.directory.add_tenant("microsoft.example")
        scopes = frozenset({"Mail.Read", "Mail.Send", "Mail.ReadWrite"})
        app = entra.directory.add_application(
            tenant, name="Tests", redirect_uris=(), multi_tenant=False, delegated=scopes
        )
        entra.directory.consent(tenant, app)
        return entra, graph, app

    @cached_property
    def google(self) -> Google:
        """Google beside the mail server, with one app and its service account."""
        mx = ("127.0.0.1", self.post.ports["mx"])
        google = Google(tls=self.authority.server_context(), mx=mx, ca=str(self.authority.pem))
        self.open.callback(google.stop)
        self.post.route("google.example", google)
        google.directory.add_client("tests", "Tests", (CALLBACK,))
        google.directory.add_service_account("tests", "service")
        return google

    @cached_property
    def exchange(self) -> Exchange:
        """An Exchange on premises beside the mail server."""
        tls, mx = self.authority.server_context(), ("127.0.0.1", self.post.ports["mx"])
        exchange = Exchange(tls=tls, mx=mx, certificate=self.authority.certificate)
        self.open.callback(exchange.stop)
        ews_contract.install(exchange)
        self.post.route("exchange.example", exchange)
        return exchange

    @cached_property
    def wires(self) -> dict[str, Wire]:
        """Counted ways to Dovecot, by protocol."""
        ports = self.dovecot.ports
        return {name: self.open.enter_context(Wire(self.authority, ports[name])) for name in ("imap", "pop3")}

    def account(self, name: str = "alice", password: str = PASSWORD) -> "Account":
        address = f"{name}.{secrets.token_hex(4)}@imap.example"
        self.dovecot.add_user(address, password)
        return Account(self, address)


@dataclass
class Account:
    """Somebody's mailbox, and a mail program that we did not write."""

    server: MailServer
    address: str
    _filling: imapclient.IMAPClient | None = None

    def connection(
        self,
        port: int,
        security: str = "tls",
        *,
        credential: Callable[[], Credential] | None = None,
        **settings: Any,
    ) -> Connection:
        return connection(port, security, self.address, credential=credential, **settings)

    def program(self) -> imapclient.IMAPClient:
        context = self.server.authority.client_context()
        client = imapclient.IMAPClient("localhost", self.server.dovecot.ports["imaps"], ssl_context=context)
        client.login(self.address, PASSWORD)
        return client

    def put(self, raw: bytes, folder: str = "INBOX", at: datetime | None = None) -> int:
        """Put a mail into a folder, created if need be; returns the UID."""
        if self._filling is None:
            self._filling = self.server.open.enter_context(self.program())  # signing in each time takes long
        if not self._filling.folder_exists(folder):
            self._filling.create_folder(folder)
        answer = self._filling.append(folder, raw, (), at)
        return int(answer.decode().rpartition("]")[0].split()[-1])

    def read(self, folder: str) -> list[tuple[bytes, tuple[bytes, ...]]]:
        """Return bytes and flags of all mails in a folder."""
        with self.program() as client:
            client.select_folder(folder, readonly=True)
            found = client.fetch(client.search(), ["BODY.PEEK[]", "FLAGS"])
        return [(items[b"BODY[]"], items[b"FLAGS"]) for items in found.values()]


def connection(
    port: int,
    security: str = "tls",
    address: str = "alice@imap.example",
    *,
    host: str = "localhost",
    credential: Callable[[], Credential] | None = None,
    **settings: Any,
) -> Connection:
    return Connection(
        address=address,
        settings={"host": host, "port": port, "security": security, **settings},
        credential=credential or (lambda: Password(address, PASSWORD)),
        allowed_hosts=HOSTS,
    )


def mail(subject: str = "Hello", text: str = "Text", **headers: str) -> bytes:
    """Write a mail with the standard library; `In_Reply_To="…"` becomes a header."""
    message = EmailMessage()
    message["From"] = headers.pop("From", "supplier@supplier.example")
    message["To"] = headers.pop("To", "alice@imap.example")
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = headers.pop("Message_ID", f"<{secrets.token_hex(8)}@supplier.example>")
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message.as_bytes(policy=email.policy.SMTP)


def read(receiver: Any, cursor: Any = None, since: datetime = SINCE) -> tuple[list[Envelope], Any]:
    """Walk all pages; returns their envelopes and the last cursor."""
    pages = list(receiver.pages(cursor, since))
    return [envelope for page in pages for envelope in page.envelopes], pages[-1].cursor if pages else cursor


def id_of(raw: bytes) -> str:
    return str(email.message_from_bytes(raw)["Message-ID"])


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def server(authority: Authority) -> Iterator[MailServer]:
    with ExitStack() as stack:
        issuer = Issuer()
        stack.callback(issuer.stop)
        tokeninfo = TokenInfo(issuer)
        stack.callback(tokeninfo.stop)
        asked = f"{tokeninfo.url}/tokeninfo?access_token="
        dovecot = stack.enter_context(Dovecot(authority, tokeninfo=asked))
        tls = authority.server_context()
        post = stack.enter_context(PostOffice(tls, dovecot.passwords, address_of=issuer.address_of))
        post.route("imap.example", dovecot)
        yield MailServer(authority, dovecot, post, issuer, stack)


@pytest.fixture(autouse=True)
def _trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an administrator does for a private CA."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))


@pytest.fixture(autouse=True)
def _no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        server.post.faults.clear()
        if "microsoft" in vars(server):
            graph_contract.check(server.microsoft[1])
        if "google" in vars(server):
            server.google.heal()
            assert server.google.violations == []
        if "exchange" in vars(server):
            server.exchange.faults.clear()
            ews_contract.check(server.exchange)


@pytest.fixture
def alice(server: MailServer) -> Account:
    return server.account()


@pytest.fixture
def wire(server: MailServer) -> Iterator[Wire]:
    """A counted way to the IMAP server."""
    with Wire(server.authority, server.dovecot.ports["imap"]) as wire:
        yield wire


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    """The TLS of a scripted server."""
    return authority.server_context()
