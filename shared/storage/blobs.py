"""Bytes on Azure Blob Storage: container `mail`, name `<org_id>/<name>`."""

import re
from collections.abc import Iterator

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobServiceClient, LinearRetry

from shared.settings import StorageAccess
from shared.storage.azure import OPTIONS, ensuring, identity, translated

SERVICE = "Blob storage"
CONTAINER = "mail"
LONGEST = 900
"""Characters of organisation and name; the service takes 1,024."""

# A segment that begins with a dot could be "..", which HTTP clients resolve: out of the organisation.
_NAME = re.compile(r"[A-Za-z0-9_~!-][A-Za-z0-9._~!-]*(/[A-Za-z0-9_~!-][A-Za-z0-9._~!-]*)*")


def connect(access: StorageAccess) -> BlobServiceClient:
    """Return a client for the account's blobs; build it once, it is thread-safe."""
    # The default policy waits 15 s before its first retry (azure-storage-blob 12.31.1).
    options = {**OPTIONS, "retry_policy": LinearRetry(backoff=1, retry_total=2, random_jitter_range=0)}
    if access.connection_string:
        return BlobServiceClient.from_connection_string(access.connection_string, **options)
    return BlobServiceClient(access.blob_url, credential=identity(access.client_id), **options)


class AzureBlobs:
    """The `Blobs` port. Names are `/`-separated segments of `A-Z a-z 0-9 . _ ~ ! -`."""

    def __init__(self, service: BlobServiceClient, container: str = CONTAINER) -> None:
        self._container = service.get_container_client(container)

    def put(self, org_id: str, name: str, data: bytes) -> None:
        """See `Blobs.put`."""
        blob = self._blob(org_id, name)
        with translated(SERVICE):
            ensuring(lambda: blob.upload_blob(data, overwrite=True), self._container.create_container)

    def get(self, org_id: str, name: str) -> bytes:
        """See `Blobs.get`."""
        with translated(SERVICE):
            return self._blob(org_id, name).download_blob().readall()

    def remove(self, org_id: str, name: str) -> None:
        """See `Blobs.remove`."""
        with translated(SERVICE):
            try:
                self._blob(org_id, name).delete_blob()
            except ResourceNotFoundError:
                return

    def names(self, org_id: str, prefix: str) -> Iterator[str]:
        """See `Blobs.names`."""
        path = self._path(org_id, prefix)
        with translated(SERVICE):
            try:
                for found in self._container.list_blob_names(name_starts_with=path):
                    yield found.removeprefix(f"{org_id}/")
            except ResourceNotFoundError:
                return  # no container yet: nothing was ever put

    def ping(self) -> None:
        """See `Blobs.ping`. A container that does not exist yet is as good."""
        with translated(SERVICE):
            self._container.exists()

    def _blob(self, org_id: str, name: str) -> BlobClient:
        return self._container.get_blob_client(self._path(org_id, name))

    @staticmethod
    def _path(org_id: str, name: str) -> str:
        path = f"{org_id}/{name}"
        if "/" in org_id or len(path) > LONGEST or not _NAME.fullmatch(path):
            raise ValueError("A blob is named by segments of A-Z a-z 0-9 . _ ~ ! -, 900 characters at most.")
        return path
