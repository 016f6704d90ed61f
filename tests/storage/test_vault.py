"""`Vault` on the vault's simulator, through the real SDK and the managed identity."""

import uuid
from collections.abc import Iterator

import pytest

from shared.errors import NotFound, RateLimited, Temporary
from shared.storage import azure, vault
from shared.storage.vault import KeyVaultVault
from tests.storage.parts import Parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with Parts(tmp_path_factory.mktemp("vault")) as running:
        yield running


@pytest.fixture
def store(parts: Parts) -> Iterator[KeyVaultVault]:
    yield parts.vault
    parts.key_vault.heal()
    parts.key_vault.forbidden = parts.key_vault.purge_protected = False


@pytest.fixture
def secret() -> str:
    return f"m-{uuid.uuid4().hex}"


def test_a_secret_comes_back_and_so_do_its_older_versions(store: KeyVaultVault, secret: str) -> None:
    first = store.set(secret, "Passw0rd ž😀")
    second = store.set(secret, "new")
    assert first != second
    assert store.get(secret) == "new"
    assert store.get(secret, first) == "Passw0rd ž😀"


def test_an_empty_secret_is_a_secret(store: KeyVaultVault, secret: str) -> None:
    store.set(secret, "")
    assert store.get(secret) == ""


def test_what_is_not_there_is_not_found(store: KeyVaultVault, secret: str) -> None:
    with pytest.raises(NotFound):
        store.get(secret)
    store.set(secret, "x")
    with pytest.raises(NotFound):
        store.get(secret, "0" * 32)


def test_a_destroyed_secret_is_gone_for_good_and_destroying_again_is_no_error(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    store.destroy(secret)
    store.set(secret, "x")
    store.destroy(secret)
    store.destroy(secret)
    assert secret not in parts.key_vault.secrets
    assert secret not in parts.key_vault.deleted
    with pytest.raises(NotFound):
        store.get(secret)


def test_where_purging_is_not_allowed_it_stays_soft_deleted(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    parts.key_vault.purge_protected = True
    store.set(secret, "x")
    store.destroy(secret)
    store.destroy(secret)
    assert secret in parts.key_vault.deleted
    with pytest.raises(NotFound):
        store.get(secret)


def test_a_deletion_that_died_before_the_purge_is_finished_by_the_next(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    store.set(secret, "x")
    parts.client.begin_delete_secret(secret).wait()
    assert secret in parts.key_vault.deleted
    store.destroy(secret)
    assert secret not in parts.key_vault.deleted


def test_setting_a_deleted_name_purges_the_old_value_first(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    old = store.set(secret, "old")
    parts.client.begin_delete_secret(secret).wait()
    store.set(secret, "new")
    assert store.get(secret) == "new"
    with pytest.raises(NotFound):
        store.get(secret, old)


def test_setting_a_deleted_name_recovers_it_where_purging_is_not_allowed(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    parts.key_vault.purge_protected = True
    store.set(secret, "old")
    store.destroy(secret)
    store.set(secret, "new")
    assert store.get(secret) == "new"


def test_a_name_that_is_still_being_deleted_is_temporary(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    body = {"error": {"code": "Conflict", "message": "m", "innererror": {"code": "ObjectIsBeingDeleted"}}}
    store.get(store_ready(store, secret))
    parts.key_vault.fail_next(1, 409, body=body)  # the set ...
    parts.key_vault.fail_next(1, 409, body=body)  # ... and the purge
    with pytest.raises(Temporary, match="still deleting") as caught:
        store.set(secret, "x")
    assert caught.value.retry_after == 10


def store_ready(store: KeyVaultVault, secret: str) -> str:
    """One call that works, so that the next is not the challenge's."""
    store.set(secret, "x")
    return secret


def test_a_throttled_vault_is_rate_limited_at_once_with_its_delay(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    store_ready(store, secret)
    parts.key_vault.throttle(1, retry_after=16)
    with pytest.raises(RateLimited) as caught:
        store.get(secret)
    assert caught.value.retry_after == 16
    assert store.get(secret) == "x"


def test_a_failing_vault_is_temporary(store: KeyVaultVault, parts: Parts, secret: str) -> None:
    store_ready(store, secret)
    parts.key_vault.fail_next(1, 503)
    with pytest.raises(Temporary):
        store.ping()
    store.ping()


def test_a_missing_role_is_temporary_and_says_what_to_do(
    store: KeyVaultVault, parts: Parts, secret: str
) -> None:
    parts.key_vault.forbidden = True
    for act in (
        store.ping,
        lambda: store.get(secret),
        lambda: store.set(secret, "s3cret"),
        lambda: store.destroy(secret),
    ):
        with pytest.raises(Temporary, match="does not let the app in") as caught:
            act()
        assert caught.value.fix
        assert "s3cret" not in str(caught.value)


def test_an_unreachable_vault_is_temporary(parts: Parts) -> None:
    store = KeyVaultVault(vault.connect("https://localhost:9", azure.identity(None), verify_challenge=False))
    with pytest.raises(Temporary, match=r"Key Vault cannot be reached\."):
        store.ping()


def test_another_server_that_knows_no_such_page_is_no_vault(parts: Parts) -> None:
    store = KeyVaultVault(vault.connect(parts.issuer.url, azure.identity(None), verify_challenge=False))
    with pytest.raises(Temporary, match=r"What answers is no Key Vault\.") as caught:
        store.ping()
    assert "KEY_VAULT_URL" in str(caught.value.fix)


def test_a_vault_whose_challenge_is_for_another_domain_gets_no_token(parts: Parts) -> None:
    store = KeyVaultVault(vault.connect(parts.key_vault.url, azure.identity(None)))
    with pytest.raises(ValueError, match="does not match the requested domain"):
        store.ping()


@pytest.mark.parametrize("wrong", ["", "a_b", "a.b", "a@b", "x" * 128, "a/b"])
def test_a_name_outside_the_alphabet_is_a_bug(store: KeyVaultVault, wrong: str) -> None:
    for act in (lambda: store.get(wrong), lambda: store.set(wrong, "x"), lambda: store.destroy(wrong)):
        with pytest.raises(ValueError, match="secret's name"):
            act()
