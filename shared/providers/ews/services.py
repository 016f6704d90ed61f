"""exchangelib's services with their answers as XML, and the properties that are asked for.

The library signs in, writes the requests and reads errors. Its models of items are gone past: what they show
beyond the schema has to be registered for the whole process.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from exchangelib import services
from exchangelib.errors import ErrorAccessDenied, ErrorFolderNotFound, ErrorServerBusy, EWSError
from exchangelib.extended_properties import ExtendedProperty
from exchangelib.fields import ExtendedPropertyField, FieldPath
from exchangelib.folders import Folder
from exchangelib.items import Message
from exchangelib.services.common import EWSAccountService
from exchangelib.services.sync_folder_hierarchy import SyncFolder as BaseSync
from exchangelib.util import TNS

from shared.errors import Temporary
from shared.providers.ews.xml import Element, octets

MOST_PAGES = 200
"""Of a list: 50,000 mails and more. A server that always has one more page would never let go of us."""

NOT_SEARCHED = (ErrorAccessDenied, ErrorFolderNotFound)
"""What may be said of one folder: a colleague's rights may end at it, or it has just been deleted."""


class TransportHeaders(ExtendedProperty):  # type: ignore[misc]  # the library has no types
    """PidTagTransportMessageHeaders: all of them; item:InternetMessageHeaders has some."""

    property_tag = 0x007D
    property_type = "String"


class CommitTime(ExtendedProperty):  # type: ignore[misc]
    """PidTagLocalCommitTimeMax: when something in the folder changed last."""

    property_tag = 0x670A
    property_type = "SystemTime"


def paths(model: Any, *fields: str) -> list[FieldPath]:
    """Name properties by the library's names for them."""
    return [FieldPath(field=model.get_field_by_fieldname(name)) for name in fields]


RECEIVED = paths(Message, "datetime_received")
FOUND = [*RECEIVED, *paths(Message, "parent_folder_id")]
"""What is asked for with a mail's id: nothing of its content."""

ENVELOPE = [
    *paths(Message, "subject", "datetime_received", "size", "in_reply_to", "is_draft", "datetime_sent"),
    *paths(
        Message, "conversation_id", "to_recipients", "cc_recipients", "author", "message_id", "references"
    ),
    *paths(Message, "parent_folder_id", "sender"),
    FieldPath(field=ExtendedPropertyField("transport_headers", value_cls=TransportHeaders)),
]
"""What an envelope is made of: no body, no preview."""

FOLDER = [
    *paths(Folder, "parent_folder_id", "folder_class", "name", "_distinguished_id"),
    FieldPath(field=ExtendedPropertyField("commit_time", value_cls=CommitTime)),
]


class Plain(EWSAccountService):  # type: ignore[misc]
    """Gives out the elements themselves; what went wrong with one stands in its place."""

    def ask(self, *arguments: Any) -> list[Element]:
        """Make one request; the arguments are those of the service's payload."""
        return list(self._get_elements(payload=self.get_payload(*arguments)))

    def _elems_to_objs(self, elems: Iterable[Element]) -> Iterable[Element]:
        return elems

    def _get_exception(self, msg_xml: Element = None, **said: Any) -> Exception:
        """Keep the pause that a busy server names; the library reads it where the whole request failed."""
        error: Exception = super()._get_exception(msg_xml=msg_xml, **said)
        if isinstance(error, ErrorServerBusy) and msg_xml is not None:
            named = {one.get("Name"): one.text for one in msg_xml.iterfind(f"{{{TNS}}}Value")}
            error.back_off = octets(named.get("BackOffMilliseconds") or "") / 1000
        return error


class GetItem(Plain, services.GetItem):  # type: ignore[misc]
    """See `Plain`."""

    ERRORS_TO_CATCH_IN_RESPONSE = EWSError
    """Each stands in its mail's place; the library raises most of them for all that were asked for."""


class GetFolder(Plain, services.GetFolder):  # type: ignore[misc]
    """See `Plain`."""


class GetAttachment(Plain, services.GetAttachment):  # type: ignore[misc]
    """See `Plain`."""


class CreateItem(Plain, services.CreateItem):  # type: ignore[misc]
    """See `Plain`."""

    def save(self, item: Element, folder: Any) -> list[Element]:
        """Put an item into a folder as it stands; the library's Message says more than the mail does."""
        payload = self.get_payload([], folder, "SaveOnly", "SendToNone")
        payload[-1].append(item)
        return list(self._get_elements(payload=payload))


class FindItem(Plain, services.FindItem):  # type: ignore[misc]
    """See `Plain`."""

    ERRORS_TO_CATCH_IN_RESPONSE = (*Plain.ERRORS_TO_CATCH_IN_RESPONSE, *NOT_SEARCHED)

    def pages(self, folders: Sequence[Any], **options: Any) -> list[tuple[list[Element] | EWSError, bool]]:
        """Return a page of each folder, in one request, or what is said of it; and whether it has more."""
        told = self._get_pages(self.get_payload, {**options, "folders": folders}, len(folders))
        return [(_items(page), following is not None) for page, following in told]


class FindFolder(Plain, services.FindFolder):  # type: ignore[misc]
    """See `Plain`."""

    def all(self, folders: Sequence[Any], **options: Any) -> Iterator[Element]:
        """Yield everything, in as many requests as it takes. Raises Temporary beyond `MOST_PAGES`."""
        pages = itertools.count(1)

        def payload(**asked: Any) -> Any:
            if next(pages) > MOST_PAGES:
                raise endless()
            return self.get_payload(**asked)

        yield from self._paged_call(payload, None, folders, **options)


class SyncFolderItems(Plain, services.SyncFolderItems):  # type: ignore[misc]
    """See `Plain`."""

    def _get_element_container(self, message: Element, name: str | None = None) -> Element:
        """Look at the code first: an error may come without the sync state that the library reads first."""
        if message.get("ResponseClass") != "Success":
            return super(BaseSync, self)._get_element_container(message=message, name=name)
        return super()._get_element_container(message=message, name=name)


def endless() -> Temporary:
    """Make the error for a list of more than `MOST_PAGES`."""
    return Temporary("The Exchange server's list has no end.", retry_after=300)


def surely(found: Iterable[Element]) -> Iterator[Element]:
    """Yield the elements; raise what stands in place of one."""
    for one in found:
        if isinstance(one, Exception):
            raise one
        yield one


def _items(page: Element) -> list[Element] | EWSError:
    if isinstance(page, EWSError):
        return page
    return list(page.iterfind(f"{{{TNS}}}Items/*")) if page is not None else []
