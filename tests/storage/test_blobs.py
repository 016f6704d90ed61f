"""`Blobs` on a real Azurite."""

import os

import pytest

from shared.errors import NotFound, Temporary
from shared.settings import StorageAccess
from shared.storage import blobs
from shared.storage.blobs import AzureBlobs


@pytest.fixture(scope="module")
def store(access: StorageAccess) -> AzureBlobs:
    return AzureBlobs(blobs.connect(access))


def test_bytes_come_back_as_they_were(store: AzureBlobs, org: str) -> None:
    data = bytes(range(256)) * 10
    store.put(org, "raw/abc", data)
    assert store.get(org, "raw/abc") == data


def test_putting_again_overwrites(store: AzureBlobs, org: str) -> None:
    store.put(org, "raw/abc", b"long old value")
    store.put(org, "raw/abc", b"new")
    assert store.get(org, "raw/abc") == b"new"


def test_an_empty_blob_is_not_a_missing_one(store: AzureBlobs, org: str) -> None:
    store.put(org, "raw/abc", b"")
    assert store.get(org, "raw/abc") == b""


def test_the_largest_mail_fits(store: AzureBlobs, org: str) -> None:
    data = os.urandom(36_700_160)
    store.put(org, "raw/abc", data)
    assert store.get(org, "raw/abc") == data
    store.remove(org, "raw/abc")


def test_what_was_removed_is_not_found_and_removing_it_again_is_no_error(store: AzureBlobs, org: str) -> None:
    store.put(org, "raw/abc", b"x")
    store.remove(org, "raw/abc")
    store.remove(org, "raw/abc")
    with pytest.raises(NotFound):
        store.get(org, "raw/abc")


def test_another_organisation_has_its_own_blobs(store: AzureBlobs, org: str) -> None:
    store.put(org, "raw/abc", b"x")
    with pytest.raises(NotFound):
        store.get(f"{org}-2", "raw/abc")


def test_the_container_appears_with_the_first_blob(access: StorageAccess, org: str, name: str) -> None:
    fresh = AzureBlobs(blobs.connect(access), name)
    fresh.ping()
    fresh.remove(org, "a")
    with pytest.raises(NotFound):
        fresh.get(org, "a")
    fresh.put(org, "a", b"x")
    fresh.ping()
    assert fresh.get(org, "a") == b"x"


@pytest.mark.parametrize(
    "wrong", ["", "/a", "a/", "a//b", "../other/a", "a/../../other/b", "a/.", "a b", "ž", "a?b", "a" * 901]
)
def test_a_name_that_could_lead_elsewhere_is_a_bug(store: AzureBlobs, org: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="blob"):
        store.put(org, wrong, b"x")


@pytest.mark.parametrize("wrong", ["", "..", "a/b"])
def test_an_organisation_that_could_lead_elsewhere_is_a_bug(store: AzureBlobs, wrong: str) -> None:
    with pytest.raises(ValueError, match="blob"):
        store.get(wrong, "a")


def test_an_unreachable_account_is_temporary(nobody: StorageAccess, org: str) -> None:
    store = AzureBlobs(blobs.connect(nobody))
    with pytest.raises(Temporary, match=r"Blob storage cannot be reached\."):
        store.get(org, "a")
