"""Azurite, the issuer and the vault's simulator with our stores in front: what keys and grants live on."""

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from unittest import mock

from sandbox.azurite import Azurite
from sandbox.ca import Authority
from sandbox.issuer import Issuer
from sandbox.vault import KeyVault
from shared.settings import StorageAccess
from shared.storage import azure, tables, vault


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class Parts:
    """Started together; the environment names the identity endpoint and the CA while they run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.authority = Authority(self._folder)
        tls = self.authority.server_context()
        azurite = self._stack.enter_context(Azurite(self._folder))
        self.issuer = Issuer(tls=tls)
        self._stack.callback(self.issuer.stop)
        self.key_vault = KeyVault(self.issuer, tls=tls)
        self._stack.callback(self.key_vault.stop)
        identity = {
            "IDENTITY_ENDPOINT": f"{self.issuer.url}/msi/token",
            "IDENTITY_HEADER": self.issuer.identity_header,
        }
        self._stack.enter_context(mock.patch.dict(os.environ, {**self.authority.environment(), **identity}))
        self.records = tables.AzureRecords(tables.connect(StorageAccess(azurite.connection_string)))
        self.client = vault.connect(self.key_vault.url, azure.identity(None), verify_challenge=False)
        self.vault = vault.KeyVaultVault(self.client)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
