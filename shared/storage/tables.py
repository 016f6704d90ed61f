"""Records and the schedule on Azure Table Storage.

Table `records`: PartitionKey is the organisation, RowKey is kind and key; the record is JSON, cut
into string properties d0, d1, ... Table `due`: PartitionKey is the minute. Tables appear with the
first write.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.data.tables import TableClient, TableServiceClient, TableTransactionError, UpdateMode

from shared.errors import NotFound, Raced
from shared.settings import StorageAccess
from shared.storage import entities
from shared.storage.azure import OPTIONS, ensuring, error_code, identity, translated
from shared.storage.base import PAGE, Add, Due, Record, Remove, Save, Stored, Write
from shared.storage.entities import Entity

SERVICE = "Table storage"
MOST_WRITES = 100

Operation = tuple[str, Entity, dict[str, Any]]
"""A verb of the SDK's transactions, the entity, and the verb's options."""

_REPLACE: dict[str, Any] = {"mode": UpdateMode.REPLACE}
"""The SDK's default, merge, would leave behind the last properties of a longer old value."""


def connect(access: StorageAccess) -> TableServiceClient:
    """Return a client for the account's tables; build it once, it is thread-safe."""
    options = {**OPTIONS, "raw_request_hook": require_partition}
    if access.connection_string:
        return TableServiceClient.from_connection_string(access.connection_string, **options)
    return TableServiceClient(access.table_url, credential=identity(access.client_id), **options)


def require_partition(request: Any) -> None:
    """Refuse, on its way out, a query that does not begin with its partition: it would scan the table.

    Azurite cannot show such a mistake (every query is a scan there), so it is made impossible.
    """
    url = urlsplit(request.http_request.url)
    condition = parse_qs(url.query).get("$filter", [""])[0]
    if url.path.endswith("()") and not condition.startswith("PartitionKey "):
        raise ValueError("A table query must begin with its PartitionKey.")


class AzureRecords:
    """The `Records` port; `committed` is told the writes of every commit that was carried out."""

    def __init__(
        self,
        service: TableServiceClient,
        name: str = "records",
        *,
        committed: Callable[[Sequence[Write]], None] = lambda _: None,
    ) -> None:
        self._table = service.get_table_client(name)
        self._committed = committed

    def get[R: Record](self, org_id: str, type_: type[R], key: str, *, field: str | None = None) -> Stored[R]:
        """See `Records.get`."""
        found = self.find(org_id, type_, key)
        if found is None:
            raise NotFound(f"There is no such {type_.kind}.", field=field)
        return found

    def find[R: Record](self, org_id: str, type_: type[R], key: str) -> Stored[R] | None:
        """See `Records.find`. A key that cannot exist, as callers may send one, finds nothing."""
        if not entities.possible(key):
            return None
        entity = self._read(entities.partition(org_id), entities.row(type_.kind, key))
        return entities.decode(entity, type_) if entity is not None else None

    def range[R: Record](
        self,
        org_id: str,
        type_: type[R],
        *,
        prefix: str = "",
        after: str = "",
        until: str = "",
        limit: int = PAGE,
    ) -> list[Stored[R]]:
        """See `Records.range`. Costs one call for every 1,000 records."""
        start = entities.bound(type_.kind, prefix)
        end = entities.beyond(start)
        comparison = "ge"
        if after and (above := entities.bound(type_.kind, after)) >= start:
            comparison, start = "gt", above
        if until:
            end = min(end, entities.bound(type_.kind, until))
        condition = f"PartitionKey eq @partition and RowKey {comparison} @start and RowKey lt @end"
        parameters = {"partition": entities.partition(org_id), "start": start, "end": end}
        return [
            entities.decode(entity, type_) for entity in _query(self._table, condition, parameters, limit)
        ]

    def commit(self, org_id: str, *writes: Write) -> list[str]:
        """See `Records.commit`. One call; one more for each Remove that finds nothing.

        Raced can also mean that our own write arrived and its reply was lost: the SDK repeats a
        call that broke. Who must know reads the record again.
        """
        if not 1 <= len(writes) <= MOST_WRITES:
            raise ValueError(f"A commit takes 1 to {MOST_WRITES} writes, not {len(writes)}.")
        operations = [_operation(org_id, write) for write in writes]
        with translated(SERVICE):
            try:
                etags = ensuring(lambda: _submit(self._table, operations), self._table.create_table)
            except HttpResponseError as error:
                if error.status_code == HTTPStatus.NOT_FOUND:  # what a Move wanted to replace is gone
                    raise Raced from error
                raise
        self._committed(writes)
        return etags

    def ping(self) -> None:
        """See `Records.ping`. A point read of nothing."""
        self._read("-", "-")

    def _read(self, partition: str, row: str) -> Entity | None:
        with translated(SERVICE):
            try:
                return self._table.get_entity(partition, row)
            except ResourceNotFoundError:
                return None


class AzureSchedule:
    """The `Schedule` port."""

    def __init__(self, service: TableServiceClient, name: str = "due") -> None:
        self._table = service.get_table_client(name)

    def put(self, due: Due) -> None:
        """See `Schedule.put`. Seconds are cut off, so it may be yielded up to a minute early."""
        operation = ("upsert", {**entities.place(due), "every": due.every}, _REPLACE)
        with translated(SERVICE):
            ensuring(lambda: _submit(self._table, [operation]), self._table.create_table)

    def until(self, now: datetime) -> Iterator[Due]:
        """See `Schedule.until`.

        The only query across partitions in the app: a range of minutes that are past, which holds
        nothing but what is due, because whoever deals with an entry removes it.
        """
        parameters = {"minute": entities.minute(now)}
        for entity in _query(self._table, "PartitionKey le @minute", parameters, None):
            yield entities.due(entity)

    def remove(self, due: Due) -> None:
        """See `Schedule.remove`."""
        with translated(SERVICE):
            _submit(self._table, [("delete", entities.place(due), {})])


def _query(
    table: TableClient, condition: str, parameters: dict[str, str], limit: int | None
) -> Iterator[Any]:
    size = min(limit or PAGE, PAGE)
    with translated(SERVICE):
        try:
            rows = table.query_entities(condition, parameters=parameters, results_per_page=size)
            yield from islice(rows, limit)
        except ResourceNotFoundError:
            return  # no table yet: nothing was ever written


def _operation(org_id: str, write: Write) -> Operation:
    record = write.record
    if isinstance(write, Remove):
        return ("delete", entities.address(org_id, record), _match(write.etag) if write.etag else {})
    entity = entities.encode(org_id, record)
    if isinstance(write, Add):
        return ("create", entity, {})
    if isinstance(write, Save):
        return ("upsert", entity, _REPLACE)
    if (record.kind, record.key) != (write.stored.value.kind, write.stored.value.key):
        raise ValueError("A Move keeps kind and key.")
    return ("update", entity, _REPLACE | _match(write.stored.etag))


def _match(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}


def _submit(table: TableClient, operations: Sequence[Operation]) -> list[str]:
    """Carry out all or none; return the new etags.

    A transaction fails when it deletes what is not there; where that is no error, it is sent again without.
    """
    left = dict(enumerate(operations))
    etags = [""] * len(operations)
    while True:
        try:
            replies = _send(table, list(left.values()))
        except TableTransactionError as error:
            index = list(left)[error.index]
            if not _found_nothing_to_delete(error, left[index]):
                raise
            del left[index]
        else:
            return _filled(etags, zip(left, replies, strict=True))


def _send(table: TableClient, operations: list[Operation]) -> Sequence[Mapping[str, Any] | None]:
    verb, entity, options = operations[0]
    if len(operations) > 1 or (verb == "delete" and options):  # a plain deletion hides that nothing was there
        return table.submit_transaction(operations)
    return [getattr(table, f"{verb}_entity")(entity, **options)]


def _found_nothing_to_delete(error: TableTransactionError, operation: Operation) -> bool:
    verb, _, condition = operation
    return error_code(error) == "ResourceNotFound" and verb == "delete" and not condition


def _filled(etags: list[str], replies: Iterable[tuple[int, Mapping[str, Any] | None]]) -> list[str]:
    for index, reply in replies:
        etags[index] = (reply or {}).get("etag") or ""  # none for a deletion
    return etags
