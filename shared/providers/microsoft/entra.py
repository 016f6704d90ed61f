"""Signing in at Entra ID with MSAL: administrators' consent, people, and the app itself.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote, urlencode
from uuid import UUID

from shared.errors import ConsentRequired, NotFound
from shared.providers import aadsts
from shared.providers.base import Bearer, Connection, Registration, Tokens
from shared.providers.microsoft.clients import Clients, authority, made, translated
from shared.providers.microsoft.graph import Session
from shared.providers.microsoft.results import RESOURCE, explained, identity, refused, roles_of, tokens_of

READ, SEND, WRITE = "Mail.Read", "Mail.Send", "Mail.ReadWrite"
APPLICATION = "https://graph.microsoft.com/.default"

READING = {READ, WRITE, "Mail.ReadBasic", "Mail.ReadBasic.All"}
"""Permissions that show at a mailbox whether the app is limited; one that can only send shows it nowhere."""


class Entra:
    """`OAuth` of `base`; safe to share between threads."""

    by_admin = True
    delegation_missing = ""
    delegable: tuple[str, ...] = ()
    not_listed = ""

    def __init__(self) -> None:
        self._clients = Clients()

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
        return f"{authority(registration)}/v2.0/adminconsent?{urlencode(query, quote_via=quote)}"

    def consented(self, query: Mapping[str, str]) -> str:
        """See `OAuth.consented`. Errors come with `admin_consent=True` too, so they are looked for first."""
        if "error" in query:
            raise explained(query["error"], [], None, query.get("error_description", ""))
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
        with translated():
            flow = self._clients.of(registration).initiate_auth_code_flow(
                wanted, redirect_uri=redirect_uri, state=state, login_hint=hint or None
            )
        if "error" in flow:
            raise refused(flow, registration)
        return flow["auth_uri"], json.dumps({key: value for key, value in flow.items() if key != "auth_uri"})

    def redeem(self, registration: Registration, begun: str, query: Mapping[str, str]) -> Tokens:
        """See `OAuth.redeem`. A query without code and error is none of Entra's."""
        flow = json.loads(begun)
        if "error" in query:
            raise explained(query["error"], [], None, query.get("error_description", ""))
        try:
            with translated():
                result = self._clients.of(registration).acquire_token_by_auth_code_flow(flow, dict(query))
        except ValueError as error:
            raise aadsts.error_of("start_again", correlation_id=None) from error
        return tokens_of(result, registration, identity(registration, result))

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
        with translated():
            result = self._clients.of(registration).acquire_token_by_refresh_token(refresh_token, wanted)
        return tokens_of(result, registration)

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
        with translated():
            client = (
                made(registration, remembers=False)
                if anew
                else self._clients.of(registration, remembers=True, doubted=doubted)
            )
            result = client.acquire_token_for_client([APPLICATION])
        tokens = tokens_of(result, registration)
        roles = roles_of(tokens.access_token)
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
