"""The sandbox's parts, started together: a small mail world, and the settings of an app in it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Self

from sandbox.autoconfig import Autoconfig
from sandbox.azurite import Azurite
from sandbox.ca import Authority
from sandbox.dns import Nameserver
from sandbox.dovecot import Dovecot
from sandbox.entra import Entra
from sandbox.entra.directory import Tenant, User
from sandbox.exchange import Exchange
from sandbox.front import Front
from sandbox.google import Google
from sandbox.google.directory import User as GoogleUser
from sandbox.graph import Graph
from sandbox.issuer import AUDIENCE, Issuer, TokenInfo
from sandbox.ports import HOST, Ports
from sandbox.programs import MailPrograms
from sandbox.smtp import PostOffice
from sandbox.vault import KeyVault

USERS = ("alice", "bob", "carol", "dave")
DELEGATED = frozenset(
    f"Mail.{name}{shared}" for name in ("Read", "Send", "ReadWrite") for shared in ("", ".Shared")
)
"""What Zalion's app may ask users for."""

GOOGLE_PROJECT = "zalion-mail"
GOOGLE_TOPIC = f"projects/{GOOGLE_PROJECT}/topics/gmail"
"""Zalion's Cloud project, and where Gmail publishes."""

SERVICES = {
    "imaps": "imaps",
    "imap": "imap",
    "pop3s": "pop3s",
    "pop3": "pop3",
    "submissions": "smtps",
    "submission": "smtp",
}
"""A hosted domain's SRV records, and the ports they name."""

SPF_OF_GOOGLE = "_spf.google.com"
OUTLOOK, SPF_OF_MICROSOFT = ".mail.protection.outlook.com", "spf.protection.outlook.com"


@dataclass(frozen=True, slots=True)
class Organisation:
    """A customer: one provider family, one domain, four users."""

    family: str
    org: str
    domain: str
    passwords: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, family: str, domain: str) -> Self:
        """Make up a customer; its family gives its users their mailboxes (`families.Family.people`)."""
        passwords = {user: f"sandbox-{user}-{family}" for user in USERS}
        return cls(family, f"org-{family}", domain, passwords)

    def people(self) -> Iterator[tuple[str, str]]:
        """Yield each user's address and password."""
        for user, password in self.passwords.items():
            yield self.address(user), password

    def address(self, user: str) -> str:
        """Return a user's address."""
        return f"{user}@{self.domain}"


class World:
    """Everything but the app itself.

    Args:
        directory: for the CA, logs and persistent data.
        base_port: the API's port, which the others follow; without it all ports are free ones.
        persistent: keep Azurite's data over its `stop` and `start` (slower).
        access_log: have Azurite note every request; see `Azurite.requests`.

    Attributes:
        ports, authority, issuer, vault, azurite, dovecot, post: the parts.
    """

    def __init__(
        self,
        directory: Path,
        base_port: int | None = None,
        *,
        persistent: bool = False,
        access_log: bool = False,
    ) -> None:
        self.directory = directory
        self.ports = Ports(base_port)
        self._persistent, self._access_log = persistent, access_log
        self._stack = ExitStack()
        self.tenants: dict[str, Tenant] = {}

    @property
    def public_url(self) -> str:
        """Where browsers and providers reach the app, over HTTPS."""
        return f"https://localhost:{self.ports['front']}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        """Launch the slow ones first, then the quick ones, then wait for all."""
        self.authority = Authority(self.directory / "ca")
        tls = self.authority.server_context()
        self.azurite = Azurite(
            self.directory, self.ports, persistent=self._persistent, access_log=self._access_log
        )
        stack.callback(self.azurite.stop)
        self.azurite.launch()
        self.issuer = Issuer(self.ports["issuer"], tls)
        stack.callback(self.issuer.stop)
        self.tokeninfo = TokenInfo(self.issuer, self.ports["tokeninfo"])
        stack.callback(self.tokeninfo.stop)
        self.vault = KeyVault(self.issuer, self.ports["vault"], tls)
        stack.callback(self.vault.stop)
        asked = f"{self.tokeninfo.url}/tokeninfo?access_token="
        self.dovecot = Dovecot(self.authority, self.ports, tokeninfo=asked)
        stack.callback(self.dovecot.close)
        self.dovecot.launch()
        self.post = PostOffice(tls, self.dovecot.passwords, self.ports, address_of=self.issuer.address_of)
        self.post.start()
        stack.callback(self.post.stop)
        self._start_web(stack, tls)
        self._start_microsoft(stack)
        self._start_google(stack)
        self.exchange = self._start_exchange(stack)
        self.dovecot.wait()
        self.azurite.wait()

    def _start_web(self, stack: ExitStack, tls: SSLContext) -> None:
        """The way in, people's mail programs, and what the internet tells of a domain."""
        front = Front(self.ports["front"], tls, self.api)
        stack.callback(front.stop)
        self.programs = MailPrograms(self.ports["programs"], tls)
        stack.callback(self.programs.stop)
        self.dns = Nameserver()
        stack.callback(self.dns.stop)
        self.autoconfig = Autoconfig(tls=tls)
        stack.callback(self.autoconfig.stop)

    def _start_microsoft(self, stack: ExitStack) -> None:
        """Entra and Graph, and Zalion's own app there."""
        tls = self.authority.server_context()
        self.entra = Entra(self.ports["entra"], tls)
        stack.callback(self.entra.stop)
        mx = (HOST, self.ports["mx"])
        self.graph = Graph(self.entra, self.ports["graph"], tls, mx=mx, ca=str(self.authority.pem))
        stack.callback(self.graph.stop)
        directory = self.entra.directory
        self.microsoft_app = directory.add_application(
            directory.add_tenant("zalion.example"),
            name="Zalion",
            redirect_uris=tuple(
                f"{self.public_url}/api/{path}/microsoft/callback" for path in ("consent", "oauth")
            ),
            multi_tenant=True,
            delegated=DELEGATED,
            application=frozenset({"Mail.Read", "Mail.Send"}),
        )
        self.vault.seed("microsoft-client-secret", self.microsoft_app.add_secret())

    def _start_google(self, stack: ExitStack) -> None:
        """Google, and Zalion's Cloud project there: OAuth client, service account, a topic that pushes."""
        mx, ca = (HOST, self.ports["mx"]), str(self.authority.pem)
        self.google = Google(self.ports["google"], self.authority.server_context(), mx=mx, ca=ca)
        stack.callback(self.google.stop)
        callbacks = (f"{self.public_url}/api/{path}/google/callback" for path in ("consent", "oauth"))
        directory = self.google.directory
        self.google_app = directory.add_client(GOOGLE_PROJECT, "Zalion", tuple(callbacks))
        self.google_service = directory.add_service_account(GOOGLE_PROJECT, "zalion-mail")
        self.google.pubsub.add_topic(GOOGLE_TOPIC, f"{self.public_url}/api/notifications/google")
        self.vault.seed("google-client-secret", self.google_app.client_secret)
        self.vault.seed("google-service-account", self.google_service.key_file(self.google.token_uri))

    def _start_exchange(self, stack: ExitStack) -> Exchange:
        """An Exchange on premises, which wants NTLM bound to its TLS connection."""
        tls, mx = self.authority.server_context(), (HOST, self.ports["mx"])
        exchange = Exchange(self.ports["exchange"], tls, mx=mx, certificate=self.authority.certificate)
        stack.callback(exchange.stop)
        return exchange

    @property
    def api(self) -> str:
        """Where the app is served, without its path."""
        return f"http://{HOST}:{self.ports['api']}"

    def add_domain(self, domain: str) -> None:
        """Let the mail server take mail for the domain, and publish where it is."""
        self.post.route(domain, self.dovecot)
        self._publish(domain, "localhost", "mx")
        for service, port in SERVICES.items():
            self.dns.put(f"_{service}._tcp.{domain}", "SRV", ("localhost", self.ports[port]))

    def add_microsoft_domain(self, domain: str) -> Tenant:
        """Add a directory, and let its domain's mail go to Exchange Online."""
        self._publish(domain, f"{domain.replace('.', '-')}{OUTLOOK}", f"include:{SPF_OF_MICROSOFT}")
        self.dns.put(SPF_OF_MICROSOFT, "TXT", "v=spf1 ip4:192.0.2.0/24 -all")
        self.post.route(domain, self.graph)
        return self.entra.directory.add_tenant(domain)

    def _publish(self, domain: str, mx: str, may_send: str) -> None:
        """Publish what a well kept domain does: who takes its mail, who sends it, what about forgeries."""
        self.dns.put(domain, "MX", mx)
        self.dns.put(domain, "TXT", f"v=spf1 {may_send} -all")
        self.dns.put(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}")

    def add_microsoft_user(self, address: str, password: str, *, admin: bool = False) -> User:
        """Add somebody with a mailbox in Exchange Online."""
        self.graph.add_mailbox(address)
        return self.entra.directory.add_user(address, password, admin=admin)

    def add_google_domain(self, domain: str, customer: str = "") -> None:
        """Add a customer of Google Workspace, or a second domain of one, and let its mail go to Gmail."""
        self._publish(domain, "smtp.google.com", f"include:{SPF_OF_GOOGLE}")
        self.dns.put(SPF_OF_GOOGLE, "TXT", "v=spf1 ip4:192.0.2.0/24 ~all")
        self.post.route(domain, self.google)
        self.google.directory.add_domain(domain, customer)

    def add_google_user(self, address: str, password: str, *, admin: bool = False) -> GoogleUser:
        """Add somebody with a mailbox in Gmail; the domain too."""
        self.add_google_domain(address.rpartition("@")[2])
        return self.google.add_user(address, password, admin=admin)

    def add_exchange_domain(self, domain: str) -> None:
        """Let the domain's mail go to the Exchange on premises."""
        self._publish(domain, "localhost", "mx")
        self.post.route(domain, self.exchange)

    def add_exchange_user(self, address: str, password: str) -> None:
        """Add somebody with an account and a mailbox there."""
        self.exchange.add_user(address, password)

    def add_user(self, address: str, password: str) -> None:
        """Add an account that can be read by IMAP and POP3 and send by SMTP; its domain too."""
        self.add_domain(address.rpartition("@")[2])
        self.dovecot.add_user(address, password)

    def environment(self) -> dict[str, str]:
        """Return the settings of an app that lives in this world, and what makes it trust the CA."""
        return {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "PYTHON_THREADPOOL_THREAD_COUNT": "32",
            "AzureWebJobsStorage": self.azurite.connection_string,
            "STORAGE": self.azurite.connection_string,
            "KEY_VAULT_URL": self.vault.url,
            "KEY_VAULT_VERIFY_CHALLENGE": "false",  # the challenge names vault.azure.net, we are localhost
            "IDENTITY_ENDPOINT": f"{self.issuer.url}/msi/token",
            "IDENTITY_HEADER": self.issuer.identity_header,
            "AUTH_ISSUER": self.issuer.url,
            "AUTH_AUDIENCE": AUDIENCE,
            "AUTH_JWKS_URL": f"{self.issuer.url}/jwks.json",
            "PUBLIC_URL": self.public_url,
            "RETURN_URLS": f"{self.public_url}/done",
            "MICROSOFT_CLIENT_ID": self.microsoft_app.client_id,
            "ENTRA_URL": self.entra.url,
            "GRAPH_URL": self.graph.base,
            "GOOGLE_CLIENT_ID": self.google_app.client_id,
            "GOOGLE_ACCOUNTS_URL": self.google.url,
            "GOOGLE_OAUTH_URL": self.google.url,
            "GOOGLE_CERTS_URL": f"{self.google.url}/oauth2/v3/certs",
            "GMAIL_URL": self.google.url,
            "GOOGLE_TOPIC": GOOGLE_TOPIC,
            "GOOGLE_SUBSCRIPTION": self.google.pubsub.topics[GOOGLE_TOPIC].subscription,
            "GOOGLE_PUSHER": self.google.pubsub.account,
            "DNS_SERVER": self.dns.address,
            "AUTOCONFIG_URLS": self.autoconfig.pattern,
            "MX_PORT": str(self.ports["mx"]),
            "ALLOWED_PRIVATE_HOSTS": "localhost,127.0.0.1",
            "NO_PROXY": "localhost,127.0.0.1",  # nor does one of the machine come between: it is all here
            **self.authority.environment(),
        }
