"""Entra ID's clients: one of MSAL's for each registration, over connections of our own.

MSAL is imported on first use (docs/decisions/002). It keeps no tokens of people: they live sealed in
our grants.
"""

import hashlib
import json
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.providers import aadsts, transport
from shared.providers.base import Registration

if TYPE_CHECKING:
    from msal import ConfidentialClientApplication

CLIENTS = 256
"""Registrations remembered per process: a client remembers for 60 s what Entra refused."""

TITLE = "Microsoft's sign-in service"


class Clients:
    """The clients of this process; safe to share between threads."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, ConfidentialClientApplication] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self, registration: Registration, *, remembers: bool = False, doubted: datetime | None = None
    ) -> "ConfidentialClientApplication":
        """Return a registration's client; a doubt gets one of its own, which remembers nothing older."""
        key = hashlib.sha256(
            "\x1f".join(
                (
                    registration.client_id,
                    authority(registration),
                    registration.secret or "",
                    registration.certificate or "",
                    str(remembers),
                    str(doubted),
                )
            ).encode()
        ).hexdigest()
        with self._lock:
            known = self._clients.get(key)
        client = known or made(registration, remembers=remembers)  # may ask Entra, so nobody waits for it
        with self._lock:
            client = self._clients.setdefault(key, client)
            self._clients.move_to_end(key)
            if len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
        return client


def made(registration: Registration, *, remembers: bool) -> "ConfidentialClientApplication":
    """Make a client that knows nothing yet, which may ask Entra. Raises what `aadsts` explains."""
    import msal

    # The redirects of people who sign in are GET in our contract; PKCE makes a code in a log worthless.
    warnings.filterwarnings("ignore", message="response_mode='form_post'", module="msal")

    class Forgetful(msal.TokenCache):  # type: ignore[misc]
        """People's tokens are kept by `grants` alone."""

        def add(self, event: Any, now: Any = None) -> None: ...

    if registration.certificate:
        credential: Any = {
            "private_key": registration.certificate,
            "public_certificate": registration.certificate,
        }
    else:
        credential = registration.secret
    try:
        return msal.ConfidentialClientApplication(
            registration.client_id,
            client_credential=credential,
            authority=authority(registration),
            instance_discovery=False,
            token_cache=msal.TokenCache() if remembers else Forgetful(),
            http_client=transport.session(registration.allowed_hosts),
        )
    except ValueError as error:
        if registration.certificate and "tenant" not in str(error).lower():
            raise aadsts.error_of("certificate_rejected", correlation_id=None) from error
        busy = "HTTP status: 429" in str(error.__context__)  # MSAL takes every 4xx for an unknown tenant
        raise aadsts.error_of("microsoft_busy" if busy else "tenant_unknown", correlation_id=None) from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn what MSAL and `requests` raise into Temporary; what Entra says in JSON is a result instead."""
    from msal.exceptions import MsalServiceError

    try:
        with transport.translated(TITLE):
            yield
    except (MsalServiceError, json.JSONDecodeError) as error:  # 5xx, or a page where JSON should be
        raise aadsts.error_of("microsoft_busy", correlation_id=None) from error


def authority(registration: Registration) -> str:
    """Return the URL of a registration's directory."""
    return f"{registration.endpoints['entra']}/{registration.tenant}"
