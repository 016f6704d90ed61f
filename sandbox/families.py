"""How an organisation of each provider family is set up through the app's API: one row a family."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urljoin

import requests

from sandbox.entra import Entra
from sandbox.google import Google
from sandbox.programs import MailSystem
from sandbox.world import GOOGLE_TOPIC, Organisation, World


class SeedError(Exception):
    """The app did not take what the sandbox is seeded with; one line that says what it answered."""


@dataclass(frozen=True, slots=True)
class Api:
    """The app's HTTP API as one caller."""

    url: str
    token: str

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer's JSON. Raises SeedError."""
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            answer = requests.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)
        except requests.RequestException as error:
            raise SeedError(f"{method} {path}: the app does not answer ({type(error).__name__}).") from error
        if not answer.ok:
            raise SeedError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of customer.

    Attributes:
        domain: whose mail is there.
        people: gives each user an account and a mailbox; dave administers, where somebody can.
        uses: integration -> the settings IT approves it with.
        mailbox: what a mailbox is connected with, beside its address.
        approve: IT's consent at the provider after the approval, where it needs one.
        sign_in: takes the link that a mailbox's user signs in at, where there is one.
        system: the simulator whose users have no mail program but ours (see `programs`).
        facts: what a client of the system needs besides the CA (`providers` of sandbox.json).
    """

    domain: str
    people: Callable[[World, Organisation], None]
    uses: Callable[[World], Mapping[str, Mapping[str, Any]]]
    mailbox: Callable[[World, Organisation, str], Mapping[str, Any]]
    approve: Callable[[World, Api, Organisation], None] = lambda *_: None
    sign_in: Callable[[World, str, str], None] = lambda *_: None
    system: Callable[[World], MailSystem] | None = None
    facts: Callable[[World], Mapping[str, Any]] | None = None


def places(world: World, **security: str) -> dict[str, dict[str, Any]]:
    """Return the mail server's places, each with its kind of security."""
    names = {"tls": {"imap": "imaps", "pop3": "pop3s", "smtp": "smtps"}, "starttls": {}}
    return {
        name: {"host": "localhost", "port": world.ports[names[kind].get(name, name)], "security": kind}
        for name, kind in security.items()
    }


def _hosted(domain: str, receives: str, **security: str) -> Family:
    """A mail server that people sign in to with passwords."""

    def mailbox(world: World, organisation: Organisation, user: str) -> dict[str, Any]:
        return {
            "receivesWith": receives,
            "sendsWith": "smtp",
            "settings": places(world, **security),
            "secret": {"password": organisation.passwords[user]},
        }

    return Family(domain, _at_the_mail_server, lambda world: places(world, **security), mailbox)


def _at_the_mail_server(world: World, organisation: Organisation) -> None:
    for address, password in organisation.people():
        world.add_user(address, password)


def _at_microsoft(world: World, organisation: Organisation) -> None:
    world.tenants[organisation.family] = world.add_microsoft_domain(organisation.domain)
    for address, password in organisation.people():
        world.add_microsoft_user(address, password, admin=address == organisation.address("dave"))


def _at_google(world: World, organisation: Organisation) -> None:
    for address, password in organisation.people():
        world.add_google_user(address, password, admin=address == organisation.address("dave"))


def _at_exchange(world: World, organisation: Organisation) -> None:
    world.add_exchange_domain(organisation.domain)
    for address, password in organisation.people():
        world.add_exchange_user(address, password)


def _facts_of_microsoft(world: World) -> dict[str, Any]:
    return {
        "entra": world.entra.url,
        "graph": world.graph.base,
        "clientId": world.microsoft_app.client_id,
        "tenants": {name: each.id for name, each in world.tenants.items()},
    }


def _facts_of_google(world: World) -> dict[str, Any]:
    return {
        "url": world.google.url,
        "clientId": world.google_app.client_id,
        "serviceClientId": world.google_service.client_id,
        "topic": GOOGLE_TOPIC,
    }


def _by_browser(name: str) -> Callable[[World, Organisation, str], dict[str, Any]]:
    return lambda *_: {"receivesWith": name, "sendsWith": name}


def _consent_at_microsoft(world: World, admin: Api, organisation: Organisation) -> None:
    """IT follows the personal link, signed in as dave, who administers the directory."""
    url = admin.call("POST", "/integrations/microsoft/consent", {})["url"]
    _browse_at_microsoft(world, url, organisation.address("dave"))


def _publish_proof(world: World, admin: Api, organisation: Organisation) -> None:
    """IT publishes that the domain is theirs, so that a delegation can be tried at once."""
    record = admin.call("PUT", f"/domains/{organisation.domain}")["record"]
    world.dns.put(record["name"], record["type"], record["value"])


def _browse_at_microsoft(world: World, url: str, address: str) -> None:
    _browse(world, world.entra, url, address)


def _browse_at_google(world: World, url: str, address: str) -> None:
    _browse(world, world.google, url, address)


def _browse(world: World, at: Entra | Google, url: str, address: str) -> None:
    """Follow a link in a browser that is signed in already, and agree where the page at its end asks."""
    at.auto_sign_in = address
    ca = str(world.authority.pem)
    try:
        page = requests.get(url, verify=ca, timeout=60)
        page.raise_for_status()
        asked = re.search(r'name="state" value="([^"]+)"', page.text)
        if asked:
            answer = {"state": unescape(asked[1]), "answer": "yes"}
            said = requests.post(urljoin(page.url, "answer"), data=answer, verify=ca, timeout=60)
            said.raise_for_status()
    except requests.RequestException as error:
        name = type(at).__name__
        raise SeedError(f"Nobody could sign in at {name} ({type(error).__name__}).") from error
    finally:
        at.auto_sign_in = False


def _exchange_place(world: World) -> dict[str, dict[str, Any]]:
    return {"ews": {"host": "localhost", "port": world.ports["exchange"]}}


def _exchange_mailbox(world: World, organisation: Organisation, user: str) -> dict[str, Any]:
    """Sign in by NTLM, with the user's own name."""
    return {
        "receivesWith": "ews",
        "sendsWith": "ews",
        "settings": _exchange_place(world),
        "secret": {"password": organisation.passwords[user]},
    }


FAMILIES: Mapping[str, Family] = {
    "imap": _hosted("imap.example", "imap", imap="tls", smtp="starttls"),
    "imap2": _hosted("imap2.example", "imap", imap="starttls", smtp="tls"),
    "pop3": _hosted("pop3.example", "pop3", pop3="starttls", smtp="tls"),
    "microsoft": Family(
        "microsoft.example",
        _at_microsoft,
        lambda _: {"microsoft": {}},
        _by_browser("microsoft"),
        _consent_at_microsoft,
        _browse_at_microsoft,
        lambda world: world.graph,
        _facts_of_microsoft,
    ),
    "ews": Family(
        "ews.example",
        _at_exchange,
        _exchange_place,
        _exchange_mailbox,
        system=lambda world: world.exchange,
        facts=lambda world: {**_exchange_place(world)["ews"], "url": world.exchange.url},
    ),
    "google": Family(
        "google.example",
        _at_google,
        lambda _: {"google": {}},
        _by_browser("google"),
        _publish_proof,
        sign_in=_browse_at_google,
        system=lambda world: world.google,
        facts=_facts_of_google,
    ),
}
"""Between them, every way to speak to each part. `imap2` is the first one's stranger."""
