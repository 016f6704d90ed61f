"""The whole app on the local host, called over HTTP as the frontend does."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.host.process import HostProcess
from sandbox.ports import free
from tests import scan
from tests.scenes import PASSWORD, Person_, someone

ROOT = Path(__file__).parents[2]
CALLBACKS = ("consent", "oauth")


@pytest.fixture(scope="package")
def api(world):
    """The app on the real worker; its base URL. It ends with this folder: it takes every job of its world."""
    port = free()
    url = f"http://127.0.0.1:{port}"
    world.microsoft_app.redirect_uris += tuple(f"{url}/api/{path}/microsoft/callback" for path in CALLBACKS)
    environment = {**world.environment(), "PUBLIC_URL": url, "RETURN_URLS": f"{url}/api/health"}
    with HostProcess(ROOT, port, environment, log=world.directory / "host.log") as host:
        yield f"{host.url}/api"


@dataclass
class Client:
    """Somebody with a token."""

    api: str
    token: str | None

    def __call__(self, method: str, path: str, json: Any = None, **options: Any) -> requests.Response:
        headers = {"X-Correlation-Id": f"test-{secrets.token_hex(4)}", **options.pop("headers", {})}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        url = f"{self.api}{path}"
        answer = requests.request(method, url, json=json, headers=headers, **{"timeout": 60, **options})
        scan.ANSWERS.append(answer.content[: scan.LARGEST] + str(answer.headers).encode())
        return answer


@dataclass
class Office:
    """An organisation seen from outside: who can call, the case and the connected mailbox."""

    org_id: str
    alice: Person_
    supplier: Person_
    mailbox_id: str
    clients: dict[str, Client]

    def __getattr__(self, name: str) -> Client:
        return self.clients[name]


def client(api, world, org_id, email, *roles):
    return Client(api, world.issuer.issue(org=org_id, email=email, roles=list(roles)))


@pytest.fixture(scope="package")
def office(api, world):
    return open_office(api, world)


@pytest.fixture(scope="package")
def stranger(api, world):
    """Another organisation with everything the first one has."""
    return open_office(api, world)


def open_office(api, world):
    org_id = f"org-{secrets.token_hex(4)}"
    alice, supplier = someone(world, "alice", "imap.example"), someone(world, "supplier", "supplier.example")
    people = {
        "alice_": (alice.address, "member"),
        "bob": ("bob@imap.example", "member"),
        "admin": ("admin@imap.example", "admin"),
        "platform": ("", "platform"),
    }
    clients = {name: client(api, world, org_id, *who) for name, who in people.items()}
    for provider in ("imap", "smtp"):
        answer = clients["admin"]("PUT", f"/integrations/{provider}", {"approved": True})
        assert answer.status_code == 200, answer.text
    answer = clients["platform"]("PUT", "/cases/C-1", {"title": "Screws", "members": [alice.address]})
    assert answer.status_code == 200, answer.text
    answer = clients["alice_"]("POST", "/mailboxes", connection(world, alice))
    assert answer.status_code == 201, answer.text
    return Office(org_id, alice, supplier, answer.json()["id"], clients)


def connection(world, person, **changes):
    return {
        "address": person.address,
        "receivesWith": "imap",
        "sendsWith": "smtp",
        "settings": {
            "imap": {"host": "localhost", "port": world.ports["imaps"], "security": "tls"},
            "smtp": {"host": "localhost", "port": world.ports["smtp"], "security": "starttls"},
        },
        "secret": {"password": PASSWORD},
        **changes,
    }


def draft(office, **changes):
    return {
        "mailboxId": office.mailbox_id,
        "to": [{"address": office.supplier.address}],
        "subject": "Offer",
        "text": "Please.",
        **changes,
    }


def key():
    return {"Idempotency-Key": secrets.token_hex(8)}


def until(check, seconds=30):
    """Wait for what the host does by itself; return what `check` finds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")
