"""What the service's answers mean to us, with a service that answers on command."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from sandbox.web import Reply, Request, WebServer
from shared.errors import NotFound, Raced, RateLimited, Temporary
from shared.model import Case
from shared.settings import StorageAccess
from shared.storage import blobs, queues, tables
from shared.storage.base import Add


class Service(WebServer):
    """Answers everything with one status."""

    status = 200
    code = "Whatever"
    headers: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed

    def answer(self, request: Request) -> Reply:
        return Reply(
            self.status,
            {"odata.error": {"code": self.code, "message": {"value": "secret words"}}},
            self.headers,
        )


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    yield server
    server.stop()


@pytest.fixture
def calls(service: Service) -> dict[str, Callable[[], Any]]:
    endpoints = "".join(f"{kind}Endpoint={service.url}/acc;" for kind in ("Blob", "Queue", "Table"))
    access = StorageAccess(f"DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=a2V5;{endpoints}")
    records = tables.AzureRecords(tables.connect(access))
    return {
        "read": lambda: records.find("org", Case, "C"),
        "write": lambda: records.commit("org", Add(Case("C", "", ()))),
        "blob": lambda: blobs.AzureBlobs(blobs.connect(access)).get("org", "a"),
        "queue": lambda: queues.AzureQueues(queues.connect(access)).put("queue", "x"),
    }


EVERY = pytest.mark.parametrize("call", ["read", "write", "blob", "queue"])


@EVERY
@pytest.mark.parametrize("status", [500, 503])
def test_a_busy_service_is_temporary_after_a_few_quick_tries(
    service: Service, calls: dict[str, Callable[[], Any]], call: str, status: int
) -> None:
    service.status = status
    start = time.monotonic()
    with pytest.raises(Temporary, match="is not available") as caught:
        calls[call]()
    assert type(caught.value) is Temporary
    assert "secret words" not in caught.value.detail
    assert sum(service.calls.values()) <= 3
    assert time.monotonic() - start < 4


def test_a_hiccup_is_bridged(service: Service, calls: dict[str, Callable[[], Any]]) -> None:
    service.status, service.code = 404, "ResourceNotFound"
    service.fail_next(2, 503)
    assert calls["read"]() is None


@EVERY
def test_too_many_requests_is_rate_limited_with_the_service_s_delay(
    service: Service, calls: dict[str, Callable[[], Any]], call: str
) -> None:
    service.status, service.headers = 429, {"Retry-After": "1"}
    with pytest.raises(RateLimited) as caught:
        calls[call]()
    assert caught.value.retry_after == 1


@EVERY
@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_role_is_temporary_and_says_what_to_do(
    service: Service, calls: dict[str, Callable[[], Any]], call: str, status: int
) -> None:
    service.status = status
    with pytest.raises(Temporary, match="does not let the app in") as caught:
        calls[call]()
    assert caught.value.fix


@EVERY
def test_a_bad_request_is_our_bug_and_stays_one(
    service: Service, calls: dict[str, Callable[[], Any]], call: str
) -> None:
    service.status = 400
    with pytest.raises(HttpResponseError):
        calls[call]()


def test_conflicts_are_raced_and_absence_is_not_found(
    service: Service, calls: dict[str, Callable[[], Any]]
) -> None:
    service.status = 409
    with pytest.raises(Raced):
        calls["write"]()
    service.status = 404
    with pytest.raises(NotFound, match="Blob storage"):
        calls["blob"]()


def test_a_service_that_hangs_up_is_temporary(service: Service, calls: dict[str, Callable[[], Any]]) -> None:
    service.stop()
    with pytest.raises(Temporary, match="cannot be reached"):
        calls["write"]()
    service._server.server_close()
