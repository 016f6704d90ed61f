"""Secrets on Azure Key Vault, whose soft delete makes a destroyed name linger until it is purged.

https://learn.microsoft.com/azure/key-vault/general/soft-delete-overview
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient

from shared.errors import NotFound, Temporary
from shared.storage.azure import OPTIONS, translated

SERVICE = "Key Vault"
PATIENCE = 20
"""Seconds to wait for a deletion or recovery, which the vault carries out in the background."""

LINGERING = "Key Vault is still deleting the old secret of that name."

_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")


def connect(url: str, credential: TokenCredential, *, verify_challenge: bool = True) -> SecretClient:
    """Return a client for the vault; build it once, it is thread-safe.

    `credential` is the app's identity; without `verify_challenge` the vault's host need not match the
    resource it asks a token for.
    """
    # A throttled vault says how long to wait, up to 16 s; that wait belongs to our queue, not to a thread.
    options = {**OPTIONS, "retry_status": 0}
    return SecretClient(url, credential, verify_challenge_resource=verify_challenge, **options)


class KeyVaultVault:
    """The `Vault` port."""

    def __init__(self, client: SecretClient) -> None:
        self._client = client

    def set(self, name: str, value: str) -> str:
        """See `Vault.set`. A destroyed name is purged first, or recovered where purging is not allowed.

        Raises Temporary while the name is still being deleted.
        """
        with _settled():
            try:
                return self._set(name, value)
            except ResourceExistsError:
                if not self._purge(name):
                    self._client.begin_recover_deleted_secret(name).wait(PATIENCE)
            return self._set(name, value)

    def get(self, name: str, version: str | None = None) -> str:
        """See `Vault.get`."""
        with _settled():
            value = self._client.get_secret(_checked(name), version).value
        if value is None:
            raise NotFound("The secret is empty.")
        return value

    def destroy(self, name: str) -> None:
        """See `Vault.destroy`. Where purging is not allowed it stays soft-deleted until retention ends.

        Raises Temporary while the deletion still goes on; call again.
        """
        with _settled():
            with suppress(ResourceNotFoundError):  # deleted by a run that died before it could purge
                deletion = self._client.begin_delete_secret(_checked(name))
                deletion.wait(PATIENCE)
                if not deletion.done():
                    raise Temporary(LINGERING, retry_after=PATIENCE)
            self._purge(name)

    def ping(self) -> None:
        """See `Vault.ping`. Asks for a secret that need not exist; only a vault says that it does not."""
        with _settled():
            try:
                self._client.get_secret("ping")
            except ResourceNotFoundError as error:
                if error.error is None or error.error.code != "SecretNotFound":
                    raise Temporary("What answers is no Key Vault.", fix="Correct KEY_VAULT_URL.") from error

    def _set(self, name: str, value: str) -> str:
        version = self._client.set_secret(_checked(name), value).properties.version
        if not version:
            raise Temporary("Key Vault did not say which version it stored.")
        return version

    def _purge(self, name: str) -> bool:
        """Purge if allowed and return whether it was; purge protection and a missing role both answer 403."""
        try:
            self._client.purge_deleted_secret(name)
        except ResourceNotFoundError:
            return True
        except HttpResponseError as error:
            if error.status_code != HTTPStatus.FORBIDDEN:
                raise
            return False
        return True


@contextmanager
def _settled() -> Iterator[None]:
    """Translate errors; a conflict in a vault always means a deletion or recovery that still goes on."""
    with translated(SERVICE):
        try:
            yield
        except ResourceExistsError as error:
            raise Temporary(LINGERING, retry_after=10) from error


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("A secret's name has 1 to 127 characters of 0-9 a-z A-Z -")
    return name
