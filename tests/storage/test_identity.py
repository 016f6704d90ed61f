"""The production way in: no keys, a managed identity, and Azurite checking its tokens over TLS."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import jwt
import pytest

from sandbox import azurite
from sandbox.ca import Authority
from sandbox.ports import HOST, Ports
from sandbox.processes import Process
from sandbox.web import Reply, Request, WebServer
from shared.errors import Temporary
from shared.model import Case
from shared.settings import StorageAccess
from shared.storage import blobs, queues, tables
from shared.storage.base import Add, Due

TENANT = "00000000-0000-0000-0000-000000000001"
ISSUER = f"https://sts.windows.net/{TENANT}/"


class Identities(WebServer):
    """App Service's token endpoint: https://learn.microsoft.com/azure/app-service/overview-managed-identity."""

    audience = "https://storage.azure.com"

    def answer(self, request: Request) -> Reply:
        self.client_id = request.query.get("client_id")
        if request.headers.get("x-identity-header") != "secret-header":
            return Reply(401)
        end = int(time.time()) + 3600
        claims = {"aud": self.audience, "iss": ISSUER, "iat": end - 3700, "nbf": end - 3700, "exp": end}
        token = jwt.encode(claims, "k" * 32, "HS256")
        body = {
            "access_token": token,
            "expires_on": str(end),
            "resource": self.audience,
            "token_type": "Bearer",
        }
        return Reply(200, body)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StorageAccess, Authority]]:
    folder = tmp_path_factory.mktemp("identity")
    authority, ports, kinds = Authority(folder), Ports(), ("table", "blob", "queue")
    command = [
        str(azurite.node()),
        str(azurite.install()),
        "--inMemoryPersistence",
        "--silent",
        "--disableTelemetry",
    ]
    command += [
        "--skipApiVersionCheck",
        "--oauth",
        "basic",
        "--cert",
        str(authority.certificate),
        "--key",
        str(authority.key),
    ]
    for kind in kinds:
        command += [f"--{kind}Host", HOST, f"--{kind}Port", str(ports[kind])]
    process = Process("Azurite", command, [ports[kind] for kind in kinds], folder / "azurite.log")
    process.start()
    process.wait()
    table, blob, queue = (f"https://{HOST}:{ports[kind]}/{azurite.ACCOUNT}" for kind in kinds)
    yield StorageAccess(None, table, blob, queue, "client-1"), authority
    process.stop()


@pytest.fixture
def identities(
    account: tuple[StorageAccess, Authority], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Identities]:
    server = Identities()
    for name, value in account[1].environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "secret-header")
    yield server
    server.stop()


def test_all_stores_work_with_the_identity_alone(
    account: tuple[StorageAccess, Authority], identities: Identities, org: str, name: str
) -> None:
    access, _ = account
    service = tables.connect(access)
    records = tables.AzureRecords(service)
    records.commit(org, Add(Case("C-1", "t", ())), Add(Case("C-2", "t", ())))
    assert len(records.range(org, Case)) == 2
    schedule = tables.AzureSchedule(service)
    schedule.put(Due(datetime.now(UTC), "outbox", org, "-"))
    assert [due.org_id for due in schedule.until(datetime.now(UTC))] == [org]
    store = blobs.AzureBlobs(blobs.connect(access))
    store.put(org, "a", b"x")
    assert store.get(org, "a") == b"x"
    nudges = queues.AzureQueues(queues.connect(access))
    nudges.put(name, "x")
    assert nudges.length(name) == 1
    assert identities.client_id == "client-1"


def test_a_token_that_is_not_accepted_is_temporary_and_says_what_to_do(
    account: tuple[StorageAccess, Authority], identities: Identities, org: str
) -> None:
    identities.audience = "https://elsewhere.example"
    records = tables.AzureRecords(tables.connect(account[0]))
    with pytest.raises(Temporary, match="does not let the app in") as caught:
        records.find(org, Case, "C-1")
    assert caught.value.fix
    assert caught.value.retry_after == 300


def test_an_identity_that_is_not_there_is_temporary_too(
    account: tuple[StorageAccess, Authority], identities: Identities, org: str
) -> None:
    identities.fail_next(10, 400, body={"statusCode": 400, "message": "No User Assigned Identity found"})
    with pytest.raises(Temporary):
        tables.AzureRecords(tables.connect(account[0])).find(org, Case, "C-1")
