"""Signing in at Entra ID with MSAL: administrators' consent, people, and the app itself.

MSAL is imported on first use (docs/decisions/002). It keeps no tokens of people: they live sealed in
our grants. Since 1.38 it checks no id_token (msal-python#911), so that is done here.
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
"""

import base64
import hashlib
import json
import logging
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode
from uuid import UUID

import msgspec

from shared import logs
from shared.errors import ConsentRequired, NotFound, ZalionError
from shared.providers import aadsts, transport
from shared.providers.base import Bearer, Connection, Registration, Tokens
from shared.providers.microsoft.graph import Session

if TYPE_CHECKING:
    from msal import ConfidentialClientApplication

READ, SEND, WRITE = "Mail.Read", "Mail.Send", "Mail.ReadWrite"
APPLICATION = "https://graph.microsoft.com/.default"
RESOURCE = "https://graph.microsoft.com/"
ANY_TENANT = "organizations"

READING = {READ, WRITE, "Mail.ReadBasic", "Mail.ReadBasic.All"}
"""Permissions that show at a mailbox whether the app is limited; one that can only send shows it nowhere."""

CLIENTS = 256
"""Registrations remembered per process: a client remembers for 60 s what Entra refused."""

TOO_LONG = 10
"""Digits: no AADSTS number is so long."""

SKEW = 300
"""Seconds that Entra's clock may differ from ours."""

TITLE = "Microsoft's sign-in service"


class _Claims(msgspec.Struct):
    roles: tuple[str, ...] = ()


class Entra:
    """`OAuth` of `base`; safe to share between threads."""

    by_admin = True
    delegation_missing = ""
    delegable: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._clients: OrderedDict[str, ConfidentialClientApplication] = OrderedDict()
        self._lock = threading.Lock()

    def scopes(self, settings: Mapping[str, object]) -> tuple[str, ...]:
        """See `OAuth.scopes`. MSAL adds openid, profile and offline_access by itself."""
        shared_ = ".Shared" if settings.get("shared") else ""
        wanted = [READ + shared_, SEND + shared_]
        if settings.get("largeAttachments"):
            wanted.append(WRITE + shared_)
        return tuple(wanted)

    def consent_url(
        self, registration: Registration, settings: Mapping[str, object], redirect_uri: str, state: str
    ) -> str:
        """See `OAuth.consent_url`. Permissions of people only: those of the app itself are given in Exchange.

        With `.default` they would be granted for all mailboxes, and every limit in Exchange be void
        (https://learn.microsoft.com/exchange/permissions-exo/application-rbac).
        """
        scopes = [f"{RESOURCE}{scope}" for scope in (*self.scopes(settings), *self._extra(settings))]
        query = {
            "client_id": registration.client_id,
            "scope": " ".join([*scopes, "offline_access"]),
            "redirect_uri": redirect_uri,
            "state": state,
        }
        return f"{_authority(registration)}/v2.0/adminconsent?{urlencode(query, quote_via=quote)}"

    def consented(self, query: Mapping[str, str]) -> str:
        """See `OAuth.consented`. Errors come with `admin_consent=True` too, so they are looked for first."""
        if "error" in query:
            raise _explained(query["error"], [], None, query.get("error_description", ""))
        try:
            tenant = UUID(query.get("tenant", ""))  # it becomes part of a URL, and anybody can type it
        except ValueError:
            tenant = None
        if query.get("admin_consent", "").lower() != "true" or tenant is None:
            raise aadsts.error_of("start_again", correlation_id=None)
        return str(tenant)

    def begin(
        self, registration: Registration, scopes: Sequence[str], redirect_uri: str, state: str, hint: str
    ) -> tuple[str, str]:
        """See `OAuth.begin`."""
        wanted = [RESOURCE + scope for scope in scopes]
        with _translated():
            flow = self._client(registration).initiate_auth_code_flow(
                wanted, redirect_uri=redirect_uri, state=state, login_hint=hint or None
            )
        if "error" in flow:
            raise _refused(flow, registration)
        return flow["auth_uri"], json.dumps({key: value for key, value in flow.items() if key != "auth_uri"})

    def redeem(self, registration: Registration, begun: str, query: Mapping[str, str]) -> Tokens:
        """See `OAuth.redeem`. A query without code and error is none of Entra's."""
        flow = json.loads(begun)
        if "error" in query:
            raise _explained(query["error"], [], None, query.get("error_description", ""))
        try:
            with _translated():
                result = self._client(registration).acquire_token_by_auth_code_flow(flow, dict(query))
        except ValueError as error:
            raise aadsts.error_of("start_again", correlation_id=None) from error
        return _tokens(result, registration, self._identity(registration, result))

    def opens(self, registration: Registration, tokens: Tokens, address: str) -> bool:
        """See `OAuth.opens`. Who signs in with a name that is no address is compared by Graph."""
        if address in tokens.addresses:
            return True
        bearer = Bearer(tokens.address, tokens.access_token)
        folders = []
        for settings in ({}, {"shared": True}):  # the path of whoever signed in, and the address's
            hosts, endpoints = registration.allowed_hosts, registration.endpoints
            session = Session(Connection(address, settings, lambda: bearer, hosts, endpoints))
            try:
                folders.append(session.get("/mailFolders/inbox", select="id")["id"])
            except (ConsentRequired, NotFound):
                return False
            finally:
                session.close()
        return bool(folders[0] == folders[1])

    def renew(self, registration: Registration, refresh_token: str, scopes: Sequence[str]) -> Tokens:
        """See `OAuth.renew`."""
        wanted = [RESOURCE + scope for scope in scopes]
        with _translated():
            result = self._client(registration).acquire_token_by_refresh_token(refresh_token, wanted)
        return _tokens(result, registration)

    def application(
        self,
        registration: Registration,
        subject: str = "",  # noqa: ARG002 - the app is itself, for whatever mailbox
        scopes: Sequence[str] = (),  # noqa: ARG002
        *,
        anew: bool = False,
        doubted: datetime | None = None,
    ) -> Tokens:
        """See `OAuth.application`. A client remembers tokens until they nearly end, and refusals for 60 s."""
        with _translated():
            client = (
                _made(registration, remembers=False)
                if anew
                else self._client(registration, remembers=True, doubted=doubted)
            )
            result = client.acquire_token_for_client([APPLICATION])
        tokens = _tokens(result, registration)
        roles = _roles(tokens.access_token)
        return replace(tokens, unlimited="Mail.Send" in roles and not roles & READING)

    def delegation(
        self,
        registration: Registration,  # noqa: ARG002 - the wall's signature
        settings: Mapping[str, object],  # noqa: ARG002
    ) -> None:
        """See `OAuth.delegation`. An administrator's consent is a link here."""
        return

    def revoke(self, registration: Registration, token: str) -> bool:  # noqa: ARG002 - the wall's signature
        """See `OAuth.revoke`. Entra lets no app withdraw what a person granted it."""
        return False

    def _extra(self, settings: Mapping[str, object]) -> list[str]:
        """What IT may allow besides, so that it is approved once for all mailboxes."""
        return [f"{scope}.Shared" for scope in (READ, SEND)] if settings.get("sharedMailboxes") else []

    def _client(
        self, registration: Registration, *, remembers: bool = False, doubted: datetime | None = None
    ) -> "ConfidentialClientApplication":
        """Return a registration's client; a doubt gets one of its own, which remembers nothing older."""
        key = hashlib.sha256(
            "\x1f".join(
                (
                    registration.client_id,
                    _authority(registration),
                    registration.secret or "",
                    registration.certificate or "",
                    str(remembers),
                    str(doubted),
                )
            ).encode()
        ).hexdigest()
        with self._lock:
            known = self._clients.get(key)
        made = known or _made(registration, remembers=remembers)  # may ask Entra, so nobody waits for it
        with self._lock:
            client = self._clients.setdefault(key, made)
            self._clients.move_to_end(key)
            if len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
        return client

    @staticmethod
    def _identity(registration: Registration, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the id_token's claims. Its signature needs none: it came from the token endpoint over TLS.

        https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation (point 6)
        """
        claims = cast("Mapping[str, Any]", result.get("id_token_claims") or {})
        now, tenant = time.time(), claims.get("tid", "")
        genuine = (
            claims.get("aud") == registration.client_id
            and claims.get("iss") == f"{registration.endpoints['entra']}/{tenant}/v2.0"
            and claims.get("nbf", 0) - SKEW <= now <= claims.get("exp", 0) + SKEW
            and bool(tenant and claims.get("oid"))
        )
        if "error" not in result and not genuine:
            raise aadsts.error_of("start_again", correlation_id=None)
        return claims


def _made(registration: Registration, *, remembers: bool) -> "ConfidentialClientApplication":
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
            authority=_authority(registration),
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
def _translated() -> Iterator[None]:
    """Turn what MSAL and `requests` raise into Temporary; what Entra says in JSON is a result instead."""
    from msal.exceptions import MsalServiceError

    try:
        with transport.translated(TITLE):
            yield
    except (MsalServiceError, json.JSONDecodeError) as error:  # 5xx, or a page where JSON should be
        raise aadsts.error_of("microsoft_busy", correlation_id=None) from error


def _authority(registration: Registration) -> str:
    return f"{registration.endpoints['entra']}/{registration.tenant}"


def _tokens(
    result: Mapping[str, Any], registration: Registration, claims: Mapping[str, Any] = MappingProxyType({})
) -> Tokens:
    if "error" in result or "access_token" not in result:
        raise _refused(result, registration)
    names = [str(claims[name]).lower() for name in ("preferred_username", "email") if claims.get(name)]
    return Tokens(
        access_token=result["access_token"],
        expires_in=int(result.get("expires_in", 0)),
        refresh_token=result.get("refresh_token"),
        scopes=frozenset(scope.removeprefix(RESOURCE) for scope in str(result.get("scope", "")).split()),
        tenant=str(claims.get("tid", "")),
        subject=str(claims.get("oid", "")),
        address=names[0] if names else "",
        addresses=frozenset(names),
    )


def _roles(token: str) -> frozenset[str]:
    """Return an app's permissions for the whole directory, as far as its token can be read.

    What RBAC for Applications gives is not in it. The token is Graph's to read, so it may become opaque.
    """
    try:
        payload = token.split(".")[1]
        return frozenset(msgspec.json.decode(base64.urlsafe_b64decode(f"{payload}==="), type=_Claims).roles)
    except (IndexError, ValueError, msgspec.DecodeError):
        return frozenset()


def _refused(result: Mapping[str, Any], registration: Registration) -> ZalionError:
    codes = [int(code) for code in result.get("error_codes", []) if str(code).isdecimal()]
    error = _explained(str(result.get("error", "")), codes, result.get("correlation_id"), "")
    if registration.ours and error.reason in aadsts.REGISTRATION:
        logs.log("registration.refused", level=logging.ERROR, provider="microsoft", code=error.reason)
        return aadsts.error_of("our_app", correlation_id=result.get("correlation_id"))
    if registration.ours and error.reason == "app_not_found":  # it is in a directory by consent alone
        return aadsts.error_of("approval_needed", correlation_id=result.get("correlation_id"))
    return error


def _explained(error: str, codes: Sequence[int], correlation_id: str | None, description: str) -> ZalionError:
    """Explain a refusal. A redirect names its code in the description's first word only."""
    if not codes and description.startswith("AADSTS"):
        number = description[len("AADSTS") :].partition(":")[0].strip()
        codes = [int(number)] if number.isascii() and number.isdecimal() and len(number) < TOO_LONG else []
    return aadsts.error_of(aadsts.key_of(error, codes), correlation_id=correlation_id)
