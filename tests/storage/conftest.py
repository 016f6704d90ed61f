"""A real Azurite for the stores, and a new organisation for every test."""

import uuid
from collections.abc import Iterator

import pytest
from azure.data.tables import TableServiceClient

from sandbox.azurite import Azurite
from shared.settings import StorageAccess
from shared.storage import tables


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture(scope="session")
def access(azurite: Azurite) -> StorageAccess:
    return StorageAccess(azurite.connection_string)


@pytest.fixture(scope="session")
def nobody() -> StorageAccess:
    """An account where nothing listens."""
    key = "a2V5"
    endpoints = "".join(f"{kind}Endpoint=http://127.0.0.1:9/acc;" for kind in ("Blob", "Queue", "Table"))
    return StorageAccess(f"DefaultEndpointsProtocol=http;AccountName=acc;AccountKey={key};{endpoints}")


@pytest.fixture(scope="session")
def service(access: StorageAccess) -> TableServiceClient:
    return tables.connect(access)


@pytest.fixture
def records(service: TableServiceClient) -> tables.AzureRecords:
    return tables.AzureRecords(service)


@pytest.fixture
def org() -> str:
    return f"org-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def name() -> str:
    """A name for a table, container or queue that does not exist yet."""
    return f"new{uuid.uuid4().hex[:8]}"
