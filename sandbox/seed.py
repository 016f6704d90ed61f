"""What a fresh sandbox holds, made through the app's API: enough that Alice can tell the story at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sandbox.world import Organisation, World

CASE = "C-1001"
SUPPLIER = "supplier@supplier.example"
SUPPLIER_PASSWORD = "sandbox-supplier"
ORGANISATIONS = {"imap": "imap.example", "imap2": "imap2.example", "pop3": "pop3.example"}
SECURITY = {
    "imap": {"imap": "tls", "smtp": "starttls"},
    "imap2": {"imap": "starttls", "smtp": "tls"},
    "pop3": {"pop3": "starttls", "smtp": "tls"},
}
"""What each organisation's mailboxes receive and send with, and how: between them, every way."""

PORTS = {
    "imap": {"tls": "imaps", "starttls": "imap"},
    "pop3": {"tls": "pop3s", "starttls": "pop3"},
    "smtp": {"tls": "smtps", "starttls": "smtp"},
}

ROLES = {"admin": ["admin"], "platform": ["platform"]}


class SeedError(Exception):
    """The app did not take what the sandbox is seeded with; one line that says what it answered."""


@dataclass(frozen=True, slots=True)
class Api:
    """The app's HTTP API as one caller."""

    url: str
    token: str

    def call(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer's JSON. Raises SeedError."""
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            answer = requests.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)
        except requests.RequestException as error:
            raise SeedError(f"{method} {path}: the app does not answer ({type(error).__name__}).") from error
        if not answer.ok:
            raise SeedError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None


def seed(world: World, url: str) -> dict[str, Any]:
    """Fill the world and the app, whose API is at `url`; return what `sandbox.json` holds."""
    world.add_user(SUPPLIER, SUPPLIER_PASSWORD)
    organisations = {
        family: _organisation(world, url, world.add_organisation(family, domain))
        for family, domain in ORGANISATIONS.items()
    }
    supplier = {"address": SUPPLIER, "password": SUPPLIER_PASSWORD, **settings(world, SECURITY["imap"])}
    return {
        "api": url,
        "ca": str(world.authority.pem.resolve()),
        "supplier": supplier,
        "organisations": organisations,
        "providers": _providers(world),
    }


def settings(world: World, speaks: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the mail server's places for these providers and their kinds of security."""
    return {
        name: {"host": "localhost", "port": world.ports[PORTS[name][security]], "security": security}
        for name, security in speaks.items()
    }


def _organisation(world: World, url: str, organisation: Organisation) -> dict[str, Any]:
    """Approve the providers, open the case, and connect Alice's mailbox."""
    places = settings(world, SECURITY[organisation.family])
    tokens = _tokens(world, organisation)
    for name, place in places.items():
        body = {"approved": True, "settings": place, "domains": [organisation.domain]}
        Api(url, tokens["admin"]).call("PUT", f"/integrations/{name}", body)
    alice = organisation.address("alice")
    case = {"title": "Screws for the new hall", "members": [alice]}
    Api(url, tokens["platform"]).call("PUT", f"/cases/{CASE}", case)
    mailbox = {
        "address": alice,
        "receivesWith": next(iter(places)),
        "sendsWith": "smtp",
        "settings": places,
        "secret": {"password": organisation.passwords["alice"]},
        "pollSeconds": 60,
    }
    connected = Api(url, tokens["alice"]).call("POST", "/mailboxes", mailbox)
    return {
        "org": organisation.org,
        "domain": organisation.domain,
        "case": CASE,
        "address": alice,
        "password": organisation.passwords["alice"],
        "mailboxId": connected["id"],
        "tokens": tokens,
        "users": {organisation.address(user): word for user, word in organisation.passwords.items()},
        **places,
    }


def _tokens(world: World, organisation: Organisation) -> dict[str, str]:
    """A day's token for each user, IT's administrator and Zalion's backend."""
    return {
        name: world.issuer.issue(
            org=organisation.org, email=organisation.address(name), roles=ROLES.get(name, ["member"])
        )
        for name in (*organisation.passwords, *ROLES)
    }


def _providers(world: World) -> dict[str, Any]:
    """What a client of each part needs besides the CA."""
    return {
        **settings(world, {"imap": "tls", "smtp": "starttls", "pop3": "tls"}),
        "dns": {"address": world.dns.address},
        "mx": {"host": "localhost", "port": world.ports["mx"]},
        "storage": {"connectionString": world.azurite.connection_string},
        "keyVault": {"url": world.vault.url},
        "issuer": {"url": world.issuer.url, "jwks": f"{world.issuer.url}/jwks.json"},
        "oauth": {"tokenUrl": f"{world.issuer.url}/oauth/token", "clientId": world.issuer.client_id},
        "logs": {"app": str(Path(world.directory).resolve()), "mail": str(world.dovecot.directory)},
    }
