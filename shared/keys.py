"""The organisation's data key: it lives in the vault, and everything of the organisation hangs on it.

Rotating tokens are sealed with it, Message-IDs and cursors signed with keys derived from it.
Destroying it destroys what it sealed.
"""

import base64
import os
from collections.abc import Callable
from datetime import datetime, timedelta

from shared import sealing
from shared.errors import Raced
from shared.model import PLATFORM, DataKey, digest
from shared.storage.base import Add, Records, Vault

LIFETIME = timedelta(minutes=15)
"""How long a process remembers a key: so long an erased one may still work."""


class Keys:
    """Data keys by organisation, remembered in memory; safe to share between threads.

    Every method raises Temporary when a store cannot be reached, NotFound for a key that was erased.
    """

    def __init__(self, records: Records, vault: Vault, clock: Callable[[], datetime]) -> None:
        self._records = records
        self._vault = vault
        self._clock = clock
        self._current: dict[str, tuple[datetime, str]] = {}
        self._keys: dict[tuple[str, str], tuple[datetime, bytes]] = {}
        self._notices: bytes | None = None

    def key(self, org_id: str) -> tuple[str, bytes]:
        """Return the key in force, as (kid, 32 octets), making one on first use."""
        remembered = self._current.get(org_id)
        if remembered and self._clock() < remembered[0]:
            kid = remembered[1]
        else:
            kid = self._version(org_id)
            self._current[org_id] = (self._clock() + LIFETIME, kid)
        return kid, self.by_kid(org_id, kid)

    def by_kid(self, org_id: str, kid: str) -> bytes:
        """Return one key, in force or not, by the vault's version id."""
        remembered = self._keys.get((org_id, kid))
        if remembered and self._clock() < remembered[0]:
            return remembered[1]
        key = base64.b64decode(self._vault.get(_secret_name(org_id), kid))
        self._keys[org_id, kid] = (self._clock() + LIFETIME, key)
        return key

    def signing(self, org_id: str) -> bytes:
        """Return the key that signs Message-IDs."""
        return sealing.derive(self.key(org_id)[1], "message-id")

    def cursors(self, org_id: str) -> bytes:
        """Return the key that signs the cursors of lists."""
        return sealing.derive(self.key(org_id)[1], "cursor")

    def notices(self) -> bytes:
        """Return the key that signs the secrets of notifications; kept for the life of the process.

        It belongs to no organisation and is never erased, so a notice costs no storage at all.
        """
        if self._notices is None:
            self._notices = sealing.derive(self.key(PLATFORM)[1], "notice")
        return self._notices

    def _version(self, org_id: str) -> str:
        stored = self._records.find(org_id, DataKey, "current")
        return stored.value.version if stored else self._make(org_id)

    def _make(self, org_id: str) -> str:
        """Whose record comes first decides; the loser's version stays in the vault, sealing nothing."""
        version = self._vault.set(_secret_name(org_id), base64.b64encode(os.urandom(32)).decode())
        try:
            self._records.commit(org_id, Add(DataKey(version)))
        except Raced:
            return self._records.get(org_id, DataKey, "current").value.version
        return version


def _secret_name(org_id: str) -> str:
    return f"k-{digest(org_id)}"
