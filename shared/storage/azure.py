"""What the Azure stores share: who we are, how long the SDK tries, and what its errors mean to us.

Our queue retries whole jobs, so the SDK's own retries only bridge a hiccup and never hold a worker's thread.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ResourceExistsError,
    ServiceRequestError,
    ServiceResponseError,
)

from shared.errors import NotFound, Raced, RateLimited, Temporary, ZalionError

OPTIONS: dict[str, Any] = {
    "connection_timeout": 5,
    "read_timeout": 30,
    "retry_total": 3,
    "retry_connect": 2,
    "retry_read": 2,
    "retry_status": 2,
    "retry_backoff_factor": 0.2,
    "retry_backoff_max": 2,
}
"""For every client, in seconds. azure-data-tables 12.7.0 by itself waits up to 300 s and tries 10 times."""

MISSING = ("TableNotFound", "ContainerNotFound", "QueueNotFound")


def identity(client_id: str | None) -> TokenCredential:
    """Return the app's managed identity; `client_id` names a user-assigned one."""
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=client_id)


def error_code(error: HttpResponseError) -> str:
    """Return the service's own code for an error, or an empty string.

    azure-data-tables 12.7.0 sets no `error_code` on inserts, and transactions have no header.
    """
    code = getattr(error, "error_code", None) or _header(error, "x-ms-error-code")
    return str(getattr(code, "value", code))


def ensuring[T](act: Callable[[], T], create: Callable[[], object]) -> T:
    """Run `act`; where its table, container or queue is missing, create it and run `act` once more.

    So the warm path costs no extra call, and a new environment needs no set-up step.
    """
    try:
        return act()
    except HttpResponseError as error:
        if error_code(error) not in MISSING:
            raise
    with suppress(ResourceExistsError):  # another worker was faster: just as good
        create()
    return act()


@contextmanager
def translated(service: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; `service` names the store for the human who reads the detail.

    Raises Temporary, RateLimited, NotFound (404) and Raced (409, 412). Anything else, such as a
    400, is a bug of ours and stays what it is.
    """
    try:
        yield
    except AzureError as error:
        ours = _meaning(error, service)
        if ours is None:
            raise
        raise ours from error


def _meaning(error: AzureError, service: str) -> ZalionError | None:
    if isinstance(error, ServiceRequestError | ServiceResponseError | IncompleteReadError):
        return Temporary(f"{service} cannot be reached.")
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if isinstance(error, ClientAuthenticationError) or status in (401, 403):
        # Temporary, because a new role assignment takes minutes to arrive:
        # https://learn.microsoft.com/azure/role-based-access-control/troubleshooting
        fix = "Give the app's managed identity its role there."
        return Temporary(f"{service} does not let the app in.", retry_after=300, fix=fix)
    if status is None or not isinstance(error, HttpResponseError):
        return None
    return _status_meaning(error, status, service)


def _status_meaning(error: HttpResponseError, status: int, service: str) -> ZalionError | None:
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{service} holds nothing of that name.")
    if status in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
        return Raced()
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(f"{service} is asked too often.", retry_after=_retry_after(error, 10))
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Temporary(f"{service} is not available.", retry_after=_retry_after(error, 30))
    return None


def _retry_after(error: HttpResponseError, default: float) -> float:
    """Return the seconds of the Retry-After header (Azure sends delta-seconds), or `default`."""
    value = _header(error, "Retry-After")
    return float(value) if value.isdecimal() else default


def _header(error: HttpResponseError, name: str) -> str:
    # The three SDKs' response classes all have `headers`; their common base does not declare it.
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    return headers.get(name) or ""
