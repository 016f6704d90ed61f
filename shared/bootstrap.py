"""Builds the `App` once per process, with the real storage behind its ports.

Azure's libraries cost a third of a second to import, so that is done here, on the first call, and
not when the worker starts (docs/decisions/002).
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache

from shared import audit, logs
from shared.app import App
from shared.callers import Tokens
from shared.grants import Grants
from shared.keys import Keys
from shared.lookups import Lookups
from shared.providers import registry
from shared.registrations import OwnApp, Registrations
from shared.settings import Settings, SettingsError, load


def _now() -> datetime:
    return datetime.now(UTC)


@cache
def settings() -> Settings:
    """Read and check the settings, once. Raises SettingsError naming every wrong one, and tells the log.

    It does so for each call: Azure keeps no line of ours from outside an invocation, such as the import.
    """
    try:
        found = load()
    except SettingsError as error:
        logs.configure("INFO")
        logs.log("settings.wrong", level=logging.CRITICAL, error=error)
        raise
    logs.configure(found.log_level)
    return found


def start() -> None:
    """Check the settings when the process starts.

    The import goes on, so that the host can show every function, and every request (`/api/health`, too) is
    answered that the service is not configured.
    """
    with suppress(SettingsError):  # `settings` has told the log
        settings()


@cache
def app() -> App:
    """Return this process's app."""
    return build(settings())


@cache
def tokens() -> Tokens:
    """Return the checker of callers' tokens; it caches the issuer's keys."""
    found = settings()
    return Tokens(found.auth_issuer, found.auth_audience, found.auth_jwks_url)


def _own_apps(found: Settings) -> dict[str, OwnApp]:
    apps = {
        "microsoft": OwnApp(found.microsoft_client_id or "", found.microsoft_secret_name, "organizations"),
        "google": OwnApp(
            found.google_client_id or "",
            found.google_secret_name,
            key_name=found.google_key_name,
            broken="google_misconfigured",
        ),
    }
    return {name: app for name, app in apps.items() if app.client_id}


def build(found: Settings, clock: Callable[[], datetime] = _now) -> App:
    """Build an app from settings; tests give their own, and a clock that they can set."""
    from shared.storage import azure, blobs, queues, tables, vault

    service = tables.connect(found.storage)
    records = tables.AzureRecords(service, committed=audit.tell)
    secrets = vault.KeyVaultVault(
        vault.connect(
            found.key_vault_url,
            azure.identity(found.azure_client_id),
            verify_challenge=found.key_vault_verify_challenge,
        )
    )
    keys = Keys(records, secrets, clock)
    registrations = Registrations(
        records, secrets, _own_apps(found), found.endpoints, found.allowed_private_hosts
    )
    return App(
        records=records,
        blobs=blobs.AzureBlobs(blobs.connect(found.storage)),
        queues=queues.AzureQueues(queues.connect(found.storage)),
        schedule=tables.AzureSchedule(service),
        vault=secrets,
        keys=keys,
        grants=Grants(
            records,
            secrets,
            keys,
            clock,
            allowed_hosts=found.allowed_private_hosts,
            registrations=registrations,
            oauth=lambda name: registry.provider(name).oauth,
        ),
        provider=registry.provider,
        clock=clock,
        registrations=registrations,
        endpoints=found.endpoints,
        public_url=found.public_url,
        return_urls=found.return_urls,
        allowed_hosts=found.allowed_private_hosts,
        lookups=Lookups(found.dns_server or ""),
        autoconfig_urls=found.autoconfig_urls,
        mx_port=found.mx_port,
        max_mail_bytes=found.max_mail_bytes,
    )
