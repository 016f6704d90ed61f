"""What Google knows of people and apps: Workspace domains, users, OAuth clients, service accounts."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SCOPE = "https://www.googleapis.com/auth/"
MAIL = "https://mail.google.com/"
SIGN_IN = frozenset({"openid", f"{SCOPE}userinfo.email", f"{SCOPE}userinfo.profile"})
GMAIL_SCOPES = frozenset(
    {MAIL}
    | {
        f"{SCOPE}gmail.{name}"
        for name in (
            "readonly",
            "send",
            "modify",
            "compose",
            "metadata",
            "insert",
            "labels",
            "settings.basic",
            "settings.sharing",
        )
    }
)


@dataclass
class Domain:
    """A customer of Workspace, called by its primary domain; secondary ones are the same customer.

    Attributes:
        delegations: client id -> scopes it may have of everybody in all its domains (Admin console).
        blocked_clients: OAuth clients that the administrator does not trust.
        session_control: refresh tokens end with invalid_rapt.
    """

    name: str
    delegations: dict[str, set[str]] = field(default_factory=dict)
    blocked_clients: set[str] = field(default_factory=set)
    session_control: bool = False


@dataclass
class User:
    """Somebody with a Google account; `generation` grows when the password changes."""

    sub: str
    address: str
    password: str
    domain: Domain
    admin: bool = False
    suspended: bool = False
    has_gmail: bool = True
    aliases: set[str] = field(default_factory=set)
    generation: int = 0

    @property
    def name(self) -> str:
        """What is shown."""
        return self.address.partition("@")[0].title()


@dataclass
class Client:
    """An OAuth client of a Cloud project. `testing`: its refresh tokens die after seven days."""

    client_id: str
    client_secret: str
    project: str
    name: str
    redirect_uris: tuple[str, ...]
    testing: bool = False


@dataclass
class ServiceAccount:
    """A service account with one key; `client_id` is the number that administrators authorise."""

    client_id: str
    email: str
    project: str
    key_id: str
    key: rsa.RSAPrivateKey
    disabled: bool = False

    def info(self, token_uri: str) -> dict[str, Any]:
        """Return the JSON key file's content."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": self.key_id,
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": self.client_id,
            "auth_uri": token_uri.replace("/token", "/o/oauth2/v2/auth"),
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }

    def key_file(self, token_uri: str) -> str:
        """Return the JSON key file."""
        return json.dumps(self.info(token_uri))


@dataclass
class Directory:
    """Everything Google knows of people and apps; `domains` has each mail domain's customer."""

    domains: dict[str, Domain] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    service_accounts: dict[str, ServiceAccount] = field(default_factory=dict)

    def add_domain(self, name: str, customer: str = "") -> Domain:
        """Add a customer; or a secondary domain of the one whose domain `customer` is."""
        made = self.add_domain(customer) if customer else Domain(name.lower())
        return self.domains.setdefault(name.lower(), made)

    def add_user(self, address: str, password: str, *, admin: bool = False) -> User:
        """Add somebody, and the domain."""
        address = address.lower()
        domain = self.add_domain(address.rpartition("@")[2])
        made = User(f"1{_number(address):020}", address, password, domain, admin)
        return self.users.setdefault(address, made)

    def add_client(self, project: str, name: str, redirect_uris: tuple[str, ...]) -> Client:
        """Register an OAuth client (web application)."""
        client_id = f"{_number(project):012}-{_number(name):032x}.apps.googleusercontent.com"
        made = Client(client_id, f"GOCSPX-{secrets.token_urlsafe(21)}", project, name, redirect_uris)
        return self.clients.setdefault(client_id, made)

    def add_service_account(self, project: str, name: str) -> ServiceAccount:
        """Make a service account with a key."""
        email = f"{name}@{project}.iam.gserviceaccount.com"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        made = ServiceAccount(f"1{_number(email):020}", email, project, secrets.token_hex(20), key)
        return self.service_accounts.setdefault(email, made)

    def delegate(self, domain: str, client_id: str, *scopes: str) -> None:
        """What an administrator enters under "domain-wide delegation"; replaces what was there.

        It holds for every domain of the customer, whichever is named.
        """
        self.add_domain(domain).delegations[client_id] = {full(scope) for scope in scopes}

    def undelegate(self, domain: str, client_id: str) -> None:
        """Take the entry away."""
        self.domains[domain.lower()].delegations.pop(client_id, None)

    def change_password(self, address: str, password: str) -> None:
        """Set a password; it ends refresh tokens that have Gmail's scopes."""
        user = self.users[address.lower()]
        user.password, user.generation = password, user.generation + 1


def full(scope: str) -> str:
    """Return a scope's whole name: gmail.send and email are short ones."""
    if scope in {"email", "profile"}:
        return f"{SCOPE}userinfo.{scope}"
    return scope if scope == "openid" or "://" in scope else SCOPE + scope


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
