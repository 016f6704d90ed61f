"""The organisation's data key, on the real table and the vault's simulator."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from sandbox.vault import KeyVault
from shared.errors import NotFound
from shared.keys import LIFETIME, Keys
from shared.model import DataKey, digest
from shared.storage.tables import AzureRecords
from shared.storage.vault import KeyVaultVault
from tests.storage.parts import Clock, Parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with Parts(tmp_path_factory.mktemp("keys")) as running:
        yield running


@pytest.fixture
def records(parts: Parts) -> AzureRecords:
    return parts.records


@pytest.fixture
def vault(parts: Parts) -> KeyVaultVault:
    return parts.vault


@pytest.fixture
def far(parts: Parts) -> KeyVault:
    return parts.key_vault


@pytest.fixture
def org() -> str:
    return f"org-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(records: AzureRecords, vault: KeyVaultVault, clock: Clock) -> Keys:
    return Keys(records, vault, clock)


def test_a_key_is_made_on_first_use_and_stays(
    keys: Keys, records: AzureRecords, vault: KeyVaultVault, clock: Clock, org: str
) -> None:
    kid, key = keys.key(org)
    assert len(key) == 32
    assert keys.key(org) == (kid, key)
    assert Keys(records, vault, clock).key(org) == (kid, key)
    assert records.get(org, DataKey, "current").value.version == kid


def test_organisations_have_different_keys_and_purposes_too(keys: Keys, org: str) -> None:
    made = {
        keys.key(org)[1],
        keys.key(f"{org}2")[1],
        keys.signing(org),
        keys.cursors(org),
        keys.signing(f"{org}2"),
    }
    assert len(made) == 5


def test_the_secret_s_name_tells_nothing_about_the_organisation(keys: Keys, far: KeyVault, org: str) -> None:
    keys.key(org)
    assert f"k-{digest(org)}" in far.secrets
    assert not any(org in name for name in far.secrets)


def test_many_workers_that_meet_a_new_organisation_agree_on_one_key(
    records: AzureRecords, vault: KeyVaultVault, clock: Clock, org: str
) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Keys(records, vault, clock).key(org), range(8)))
    assert len(set(made)) == 1


def test_a_key_is_remembered_for_a_quarter_of_an_hour(
    keys: Keys, vault: KeyVaultVault, far: KeyVault, clock: Clock, org: str
) -> None:
    keys.key(org)
    before = sum(far.calls.values())
    clock.now += LIFETIME - timedelta(seconds=1)
    keys.key(org)
    assert sum(far.calls.values()) == before
    vault.destroy(f"k-{digest(org)}")
    clock.now += timedelta(seconds=1)
    with pytest.raises(NotFound):
        keys.key(org)


def test_an_older_key_still_opens_what_it_sealed(
    keys: Keys, records: AzureRecords, vault: KeyVaultVault, clock: Clock, org: str
) -> None:
    old = keys.key(org)
    records_key = records.get(org, DataKey, "current")
    version = vault.set(f"k-{digest(org)}", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    from shared.storage.base import Move

    records.commit(org, Move(records_key, DataKey(version)))
    fresh = Keys(records, vault, clock)
    assert fresh.key(org) == (version, bytes(range(32)))
    assert fresh.by_kid(org, old[0]) == old[1]
