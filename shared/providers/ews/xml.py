"""Small pieces of EWS's XML: conditions to search by, and values read out of answers."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exchangelib.util import TNS, create_element

from shared.errors import Rejected

type Element = Any  # lxml's

MESSAGE_ID, IN_REPLY_TO, REFERENCES = "message:InternetMessageId", "item:InReplyTo", "message:References"
RECEIVED = "item:DateTimeReceived"
READ = "1"
"""mfRead."""

LONGEST_SIZE = 10
"""Digits of EWS's 32 bits."""


@dataclass(frozen=True)
class Where:
    """A Restriction."""

    condition: Element

    def to_xml(self, version: Any) -> Element:  # noqa: ARG002 - the library's hook
        """Return it as it stands in a request."""
        return _element("m:Restriction", self.condition)


@dataclass(frozen=True)
class Words:
    """A QueryString: words in Advanced Query Syntax."""

    text: str

    def to_xml(self, version: Any) -> Element:  # noqa: ARG002 - the library's hook
        """Return it as it stands in a request."""
        made = create_element("m:QueryString")
        made.text = self.text
        return made


def equal(field: str, value: str) -> Element:
    """Say that a field is this value."""
    return _compared("t:IsEqualTo", field, value)


def since_then(at: datetime) -> Element:
    """Say that Exchange took a mail in at this time or later."""
    return _compared("t:IsGreaterThanOrEqualTo", RECEIVED, _written(at))


def before(at: datetime) -> Element:
    """Say that Exchange took a mail in before this time."""
    return _compared("t:IsLessThan", RECEIVED, _written(at))


def holding(field: str, value: str, *, any_case: bool = False) -> Element:
    """Say that a field holds this text, in these letters or in those of any case."""
    return _element(
        "t:Contains",
        create_element("t:FieldURI", attrs={"FieldURI": field}),
        create_element("t:Constant", attrs={"Value": value}),
        ContainmentMode="Substring",
        ContainmentComparison="IgnoreCase" if any_case else "Exact",
    )


def either(conditions: Sequence[Element]) -> Element:
    """Say that one of them holds."""
    return _element("t:Or", *conditions) if len(conditions) > 1 else conditions[0]


def both(one: Element, other: Element) -> Element:
    """Say that both hold."""
    return _element("t:And", one, other)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _compared(how: str, field: str, value: str) -> Element:
    constant = create_element("t:Constant", attrs={"Value": value})
    uri = create_element("t:FieldURI", attrs={"FieldURI": field})
    return _element(how, uri, _element("t:FieldURIOrConstant", constant))


def _element(name: str, *children: Element, **attributes: str) -> Element:
    made = create_element(name, attrs=attributes)
    made.extend(children)
    return made


def finished(raw: bytes) -> Element:
    """Write a mail that is to be filed as read, and is none to be written on.

    That is PidTagMessageFlags without mfUnsent, which can be set only while an item is made.
    https://learn.microsoft.com/openspecs/exchange_server_protocols/ms-oxcmsg
    """
    content, value = create_element("t:MimeContent"), create_element("t:Value")
    content.text, value.text = base64.b64encode(raw).decode(), READ
    tag = create_element("t:ExtendedFieldURI", attrs={"PropertyTag": "0x0E07", "PropertyType": "Integer"})
    return _element("t:Message", content, _element("t:ExtendedProperty", tag, value))


def text(element: Element, path: str) -> str:
    """Return the text at a path such as `From/Mailbox/EmailAddress`, or an empty string."""
    found = element.find("/".join(f"{{{TNS}}}{name}" for name in path.split("/")))
    return (found.text or "") if found is not None else ""


def texts(element: Element, path: str) -> list[str]:
    """Return all texts at a path."""
    found = element.iterfind("/".join(f"{{{TNS}}}{name}" for name in path.split("/")))
    return [one.text for one in found if one.text]


def id_of(element: Element, name: str) -> str:
    """Return the Id of a child, or an empty string."""
    found = element.find(f"{{{TNS}}}{name}")
    return str(found.get("Id")) if found is not None else ""


def extended(element: Element) -> str:
    """Return the value of the one extended property that was asked for, or an empty string."""
    return text(element, "ExtendedProperty/Value")


def moment(value: str) -> datetime | None:
    """Read a time of Exchange's, in UTC; None for what is none, or would be none in UTC."""
    try:
        read = datetime.fromisoformat(value)
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def octets(value: str) -> int:
    """Read a size, or another number; 0 for what is none."""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= LONGEST_SIZE else 0


def decoded(content: str) -> bytes:
    """Read base64, on however many lines. Raises Rejected."""
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except ValueError as error:
        raise Rejected("The Exchange server gives something else than this mail.") from error
