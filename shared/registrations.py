"""Which app registration speaks for an organisation: its own, or Zalion's; and whose directory is whose."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from shared import explaining, logs
from shared.errors import Conflict, NotFound, Raced, Temporary, ZalionError
from shared.model import PLATFORM, Integration, Problem, TenantBinding, digest
from shared.providers.base import Registration
from shared.storage.base import Add, Move, Records, Remove, Vault

BROKEN_PAUSE = 300
"""Seconds until another try with an app of ours that has no secret."""


@dataclass(frozen=True, slots=True)
class OwnApp:
    """Zalion's multi-tenant app at a provider. Names are the Vault's, `tenant` means any customer.

    `key_name` is that of a service account that can act for mailboxes, at a provider that has such; `broken`
    is the key of what is said while the app does not work.
    """

    client_id: str
    secret_name: str
    tenant: str = ""
    key_name: str = ""
    broken: str = "our_app"


@dataclass(frozen=True)
class Registrations:
    """Finds registrations and binds directories. Every method raises Temporary when a store is down.

    Attributes:
        apps: provider -> Zalion's own app there, where there is one.
        endpoints: where the cloud providers are.
    """

    records: Records
    vault: Vault
    apps: Mapping[str, OwnApp] = field(default_factory=dict)
    endpoints: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: frozenset[str] = frozenset()

    def of(self, org_id: str, provider: str) -> Registration:
        """Return the registration that an organisation's mailboxes sign in with. Raises Conflict."""
        stored = self.records.find(org_id, Integration, provider)
        return self.named(org_id, stored.value if stored else Integration(provider))

    def named(self, org_id: str, integration: Integration, secret: str | None = None) -> Registration:
        """Return an integration's registration; `secret` stands in for the stored one while it is tried.

        Raises Conflict where there is none, or its secret is gone; Temporary where that is Zalion's.
        """
        own, app = integration.settings.get("clientId"), self.apps.get(integration.provider)
        if own:
            secret = secret or self._secret(secret_name(org_id, integration.provider))
            tenant = str(integration.settings.get("tenantId", ""))
            return self._made(str(own), tenant, secret, certificate=integration.proof == "certificate")
        if app is None:
            fix = "Give tenantId, clientId and a secret of your own app registration."
            raise Conflict("Zalion has no app of its own for this provider here.", fix=fix)
        tenant = integration.tenant or app.tenant
        found = self._made(app.client_id, tenant, self._our_secret(app, app.secret_name), ours=True)
        if not (app.key_name and integration.settings.get("applicationAccess")):
            return found
        listed = {str(address).lower() for address in integration.settings.get("mailboxes", ())}
        domains = {address.rpartition("@")[2] for address in listed}
        ours = {domain for domain in domains if self.owner(integration.provider, domain) == org_id}
        usable = frozenset(address for address in listed if address.rpartition("@")[2] in ours)
        return replace(found, service_key=self._our_secret(app, app.key_name), mailboxes=usable)

    def lists(self, org_id: str, provider: str, address: str) -> bool:
        """Whether the organisation's list names this mailbox. Where there is none, nothing is limited."""
        app = self.apps.get(provider)
        if app is None or not app.key_name:
            return True
        stored = self.records.find(org_id, Integration, provider)
        settings = stored.value.settings if stored else {}
        listed = settings.get("mailboxes", ()) if settings.get("applicationAccess") else ()
        return address.lower() in {str(one).lower() for one in listed}

    def mark(self, org_id: str, provider: str, error: ZalionError) -> None:
        """Note that the organisation's own registration no longer works: IT sees it at the integration.

        Of Zalion's app nothing is noted: no IT can mend it, and nothing would take the note back.
        """
        stored = self.records.find(org_id, Integration, provider)
        problem = Problem(error.code, error.detail, error.fix)
        if stored and stored.value.settings.get("clientId") and stored.value.problem != problem:
            with suppress(Raced):  # whoever changed it has tried it
                self.records.commit(org_id, Move(stored, replace(stored.value, problem=problem)))

    def bind(self, org_id: str, provider: str, tenant: str) -> bool:
        """Give a directory to an organisation; returns False where another one has it."""
        binding = TenantBinding(provider, tenant.lower(), org_id)
        try:
            self.records.commit(PLATFORM, Add(binding))
        except Raced:
            return self.records.get(PLATFORM, TenantBinding, binding.key).value.org_id == org_id
        return True

    def owner(self, provider: str, tenant: str) -> str | None:
        """Return whose directory it is, if anybody's."""
        binding = TenantBinding(provider, tenant.lower(), "")
        stored = self.records.find(PLATFORM, TenantBinding, binding.key)
        return stored.value.org_id if stored else None

    def release(self, org_id: str, provider: str, tenant: str) -> None:
        """Give the directory back if it is this organisation's."""
        binding = TenantBinding(provider, tenant.lower(), org_id)
        stored = self.records.find(PLATFORM, TenantBinding, binding.key)
        if stored and stored.value.org_id == org_id:
            self.records.commit(PLATFORM, Remove(binding, stored.etag))

    def _secret(self, name: str) -> str:
        try:
            return self.vault.get(name)
        except NotFound as error:
            fix = "An administrator has to give the client secret or certificate again."
            raise Conflict("The secret of the app registration is missing.", fix=fix) from error

    def _our_secret(self, app: OwnApp, name: str) -> str:
        """Return a secret of Zalion's own. Raises Temporary: where it is missing, it is for us to mend."""
        try:
            return self.vault.get(name)
        except NotFound as error:
            logs.log("registration.refused", level=logging.ERROR, code="secret_missing")
            told = explaining.explain(app.broken)
            missing = Temporary(told.detail, retry_after=BROKEN_PAUSE, fix=told.fix)
            missing.reason = told.key
            raise missing from error

    def _made(
        self, client_id: str, tenant: str, secret: str, *, certificate: bool = False, ours: bool = False
    ) -> Registration:
        """A private key must never be sent as a secret: PEM may have text before it (RFC 7468 section 2)."""
        before, begins, rest = secret.partition("-----BEGIN")
        certificate = certificate or bool(begins)
        secret = begins + rest or before
        return Registration(
            client_id=client_id,
            tenant=tenant,
            secret=None if certificate else secret,
            certificate=secret if certificate else None,
            endpoints=self.endpoints,
            allowed_hosts=self.allowed_hosts,
            ours=ours,
        )


def secret_name(org_id: str, provider: str) -> str:
    """Name the Vault's secret of an organisation's own registration."""
    return f"i-{digest(org_id, provider)}"
