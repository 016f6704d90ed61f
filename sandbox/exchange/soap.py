"""SOAP as Exchange speaks it: requests taken apart, answers, faults, and the schemas for them.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/ews-xml-elements-in-exchange
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

from sandbox.web import Reply

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
ERRORS = "http://schemas.microsoft.com/exchange/services/2006/errors"
NAMESPACES = {"s": SOAP, "t": TYPES, "m": MESSAGES}
PREFIX = {"soap": SOAP, "t": TYPES, "m": MESSAGES, "e": ERRORS}

HEADERS = {"Content-Type": "text/xml; charset=utf-8"}
VERSION = {
    "MajorVersion": "15",
    "MinorVersion": "2",
    "MajorBuildNumber": "1544",
    "MinorBuildNumber": "14",
    "Version": "V2017_07_11",
}
"""Exchange Server 2019's."""

KNOWN_VERSIONS = ("Exchange2007", "Exchange2010", "Exchange2013", "Exchange2015", "Exchange2016", "V20")

type Element = etree._Element  # noqa: SLF001 - lxml has no public name for it


class EwsError(Exception):
    """An error answer: of one response message, or of the whole request where it is raised outside of one."""

    def __init__(self, code: str, text: str = "", **values: str) -> None:
        super().__init__(code)
        self.code, self.text, self.values = code, text or code, values


@dataclass(frozen=True)
class Call:
    """One request, taken apart.

    Attributes:
        operation: e.g. `GetItem`; `body` is its element.
        impersonated: the address to act as, or empty.
    """

    operation: str
    body: Element
    impersonated: str


def element(namespace: str, name: str, *children: "Element | str | None", **attributes: Any) -> Element:
    """Make an element; None and empty children are left out, values become text."""
    made = etree.Element(
        f"{{{namespace}}}{name}", {k: _text(v) for k, v in attributes.items() if v is not None}, nsmap=PREFIX
    )
    for child in children:
        if isinstance(child, str):
            made.text = child
        elif child is not None:
            made.append(child)
    return made


def t(name: str, *children: "Element | str | None", **attributes: Any) -> Element:
    """Make an element of the types' namespace."""
    return element(TYPES, name, *children, **attributes)


def m(name: str, *children: "Element | str | None", **attributes: Any) -> Element:
    """Make an element of the messages' namespace."""
    return element(MESSAGES, name, *children, **attributes)


def find(where: Element, path: str) -> Element | None:
    """Find by a path with the prefixes s, t and m."""
    return where.find(path, NAMESPACES)


def find_all(where: Element, path: str) -> list[Element]:
    """Find all by a path with the prefixes s, t and m."""
    return list(where.iterfind(path, NAMESPACES))


def local(one: Element) -> str:
    """Return an element's name without its namespace."""
    return str(etree.QName(one).localname)


def yes(value: str | None) -> bool:
    """Read a boolean of XML's."""
    return value in {"true", "1"}


def clean(text: str) -> str:
    """Leave out what XML 1.0 cannot say, as Exchange does."""
    return "".join(
        c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
    )


def read(data: bytes) -> Call:
    """Take a request apart. Raises EwsError."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise EwsError("ErrorSchemaValidation", str(error)) from error
    body = find(root, "s:Body")
    if body is None or len(body) != 1:
        raise EwsError("ErrorSchemaValidation", "The request has no body.")
    version = find(root, "s:Header/t:RequestServerVersion")
    if version is not None and not str(version.get("Version")).startswith(KNOWN_VERSIONS):
        raise EwsError("ErrorInvalidServerVersion", "The specified server version is invalid.")
    whom = find(root, "s:Header/t:ExchangeImpersonation/t:ConnectingSID")
    impersonated = (whom[0].text or "").lower() if whom is not None and len(whom) else ""
    return Call(local(body[0]), body[0], impersonated)


def answer(operation: str, messages: Iterable[Element]) -> Reply:
    """Answer with response messages."""
    response = m(f"{operation}Response", m("ResponseMessages", *messages))
    return Reply(200, _envelope(response), dict(HEADERS))


def message(operation: str, *content: Element | None) -> Element:
    """Make one response message of success."""
    code = m("ResponseCode", "NoError")
    return m(f"{operation}ResponseMessage", code, *content, ResponseClass="Success")


def refused(operation: str, error: EwsError, *content: Element) -> Element:
    """Make one response message of failure."""
    return m(
        f"{operation}ResponseMessage",
        m("MessageText", error.text),
        m("ResponseCode", error.code),
        m("DescriptiveLinkKey", "0"),
        m("MessageXml", *_values(error)) if error.values else None,
        *content,
        ResponseClass="Error",
    )


def fault(error: EwsError) -> Reply:
    """Refuse the whole request: a SOAP fault, which Exchange sends with status 500."""
    values = _values(error)
    inside = [element(ERRORS, "ResponseCode", error.code), element(ERRORS, "Message", error.text)]
    inside += [t("MessageXml", *values)] if values else []
    detail, code = etree.Element("detail"), etree.Element("faultcode")
    detail.extend(inside)
    code.text = f"a:{error.code}"
    words = etree.Element("faultstring")
    words.text = error.text
    return Reply(500, _envelope(element(SOAP, "Fault", code, words, detail)), dict(HEADERS))


def _values(error: EwsError) -> list[Element]:
    return [t("Value", value, Name=name) for name, value in error.values.items()]


def _envelope(inside: Element) -> bytes:
    header = element(SOAP, "Header", t("ServerVersionInfo", **VERSION))
    envelope = element(SOAP, "Envelope", header, element(SOAP, "Body", inside))
    return bytes(etree.tostring(envelope, xml_declaration=True, encoding="utf-8"))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Schemas:
    """The schemas of a directory, to check what goes over the wire with."""

    def __init__(self, directory: Path) -> None:
        self._schema = etree.XMLSchema(etree.parse(str(directory / "messages.fixed.xsd")))

    def complaints(self, data: bytes) -> list[str]:
        """Return what is wrong with an envelope: its body, and each header that the schemas know."""
        try:
            root = etree.fromstring(data, etree.XMLParser(huge_tree=True))
        except etree.XMLSyntaxError as error:
            return [f"no XML: {error}"]
        parts = find_all(root, "s:Header/*") + find_all(root, "s:Body/*")
        found: list[str] = []
        for part in parts:
            if etree.QName(part).namespace in {TYPES, MESSAGES} and not self._schema.validate(part):
                found += [f"{local(part)}: {error.message}" for error in self._schema.error_log]
        return found
