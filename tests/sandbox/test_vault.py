"""The Key Vault simulator through azure-keyvault-secrets and azure-identity, signed in by managed identity."""

import uuid

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient

from sandbox.vault import PAGE


@pytest.fixture
def client(world):
    with SecretClient(
        world.vault.url, ManagedIdentityCredential(), verify_challenge_resource=False, retry_total=0
    ) as client:
        yield client
    world.vault.heal()
    world.vault.forbidden = world.vault.purge_protected = False
    world.vault.deletion_seconds = 0.0


@pytest.fixture
def name():
    return f"s-{uuid.uuid4().hex}"


def test_the_newest_version_is_read_unless_another_is_named(client, name):
    first = client.set_secret(name, "one", tags={"a": "b"}).properties.version
    second = client.set_secret(name, "two").properties.version
    assert client.get_secret(name).value == "two"
    assert client.get_secret(name, first).value == "one"
    assert client.get_secret(name, first).properties.tags == {"a": "b"}
    listed = [each.version for each in client.list_properties_of_secret_versions(name)]
    assert listed == [first, second]


def test_a_missing_secret_or_version_is_404(client, name):
    with pytest.raises(ResourceNotFoundError):
        client.get_secret(name)
    client.set_secret(name, "one")
    with pytest.raises(ResourceNotFoundError):
        client.get_secret(name, "0" * 32)


def test_secrets_their_versions_and_deleted_ones_come_in_pages(world, client, name):
    for number in range(PAGE + 5):
        world.vault.seed(name, "x")
        world.vault.seed(f"{name}-{number}", "x")
        world.vault.seed(f"{name}-gone-{number}", "x")
        client.begin_delete_secret(f"{name}-gone-{number}")
    versions = paged(client.list_properties_of_secret_versions(name), "version")
    assert len({*versions}) == len(versions) == PAGE + 5
    wanted = {f"{name}-{number}" for number in range(PAGE + 5)}
    assert wanted <= {*paged(client.list_properties_of_secrets(), "name")}
    gone = {f"{name}-gone-{number}" for number in range(PAGE + 5)}
    assert gone <= {*paged(client.list_deleted_secrets(), "name")}


def paged(items, attribute):
    """Read a list that takes more than one page."""
    pages = [[getattr(each, attribute) for each in page] for page in items.by_page()]
    assert [len(page) for page in pages[:-1]] == [PAGE] * (len(pages) - 1)
    assert 0 < len(pages[-1]) <= PAGE < sum(map(len, pages))
    return [each for page in pages for each in page]


def test_properties_change_and_a_disabled_secret_is_403(client, name):
    client.set_secret(name, "one")
    assert client.update_secret_properties(name, content_type="text/plain").content_type == "text/plain"
    client.update_secret_properties(name, enabled=False)
    with pytest.raises(HttpResponseError) as refused:
        client.get_secret(name)
    assert refused.value.status_code == 403


def test_a_deleted_name_is_409_until_it_is_recovered_or_purged(client, name):
    client.set_secret(name, "one")
    client.begin_delete_secret(name).wait()
    with pytest.raises(ResourceNotFoundError):
        client.get_secret(name)
    with pytest.raises(ResourceExistsError):
        client.set_secret(name, "two")
    assert name in {each.name for each in client.list_deleted_secrets()}
    client.begin_recover_deleted_secret(name).wait()
    assert client.get_secret(name).value == "one"
    client.begin_delete_secret(name).wait()
    client.purge_deleted_secret(name)
    assert client.set_secret(name, "two").value == "two"


def test_a_deletion_can_take_its_time(world, client, name):
    world.vault.deletion_seconds = 30
    client.set_secret(name, "one")
    client.begin_delete_secret(name)
    with pytest.raises(ResourceExistsError):
        client.set_secret(name, "two")
    with pytest.raises(ResourceNotFoundError):
        client.purge_deleted_secret(name)


def test_purge_protection_is_403(world, client, name):
    world.vault.purge_protected = True
    client.set_secret(name, "one")
    client.begin_delete_secret(name).wait()
    with pytest.raises(HttpResponseError) as refused:
        client.purge_deleted_secret(name)
    assert refused.value.status_code == 403


@pytest.mark.parametrize(("name", "value"), [("under_score", "x"), ("big", "x" * 25_601)])
def test_what_a_vault_does_not_take_is_400(client, name, value):
    with pytest.raises(HttpResponseError) as refused:
        client.set_secret(name, value)
    assert refused.value.status_code == 400


def test_an_identity_without_a_role_is_403(world, client, name):
    world.vault.forbidden = True
    with pytest.raises(HttpResponseError) as refused:
        client.get_secret(name)
    assert refused.value.status_code == 403


def test_throttling_and_outages_end_by_themselves_and_are_counted(world, client, name):
    client.set_secret(name, "one")
    world.vault.throttle(1, retry_after=7)
    with pytest.raises(HttpResponseError) as throttled:
        client.get_secret(name)
    assert (throttled.value.status_code, throttled.value.response.headers["Retry-After"]) == (429, "7")
    world.vault.fail_next(1, 503)
    with pytest.raises(HttpResponseError) as down:
        client.get_secret(name)
    assert down.value.status_code == 503
    assert client.get_secret(name).value == "one"
    assert world.vault.calls["GET", f"/secrets/{name}/"] == 3


def test_a_token_for_another_service_does_not_open_it(world, name):
    class Foreign:
        def get_token(self, *scopes, **kwargs):
            return ManagedIdentityCredential().get_token("https://storage.azure.com/.default")

    with (
        SecretClient(world.vault.url, Foreign(), verify_challenge_resource=False) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.get_secret(name)
