"""Searching: restrictions, query strings (AQS), order and paging of FindItem and FindFolder."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sandbox.exchange.mailbox import Mailbox
from sandbox.exchange.properties import PROPERTIES, instant, people, value_of, view_of
from sandbox.exchange.soap import Element, EwsError, find, find_all, local, m, t
from sandbox.graph.mailbox import Item

Matches = Callable[[Item], bool]

_READERS = {name: make for name, _, make in PROPERTIES if name != "extended"}
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "IsEqualTo": lambda a, b: a == b,
    "IsNotEqualTo": lambda a, b: a != b,
    "IsGreaterThan": lambda a, b: bool(a) and a > b,
    "IsGreaterThanOrEqualTo": lambda a, b: bool(a) and a >= b,
    "IsLessThan": lambda a, b: bool(a) and a < b,
    "IsLessThanOrEqualTo": lambda a, b: bool(a) and a <= b,
}


def restriction(mailbox: Mailbox, body: Element) -> Matches:
    """Read a request's Restriction and QueryString. Raises EwsError for what the simulator cannot say."""
    asked, words = find(body, "m:Restriction"), find(body, "m:QueryString")
    if asked is not None and words is not None:
        raise EwsError("ErrorInvalidOperation", "A restriction and a query string exclude each other.")
    if words is not None:
        return _query(mailbox, words.text or "")
    return _expression(mailbox, asked[0]) if asked is not None else lambda _: True


def named(body: Element, name: str) -> bool:
    """Whether a folder has the name that a request's Restriction asks for. Raises EwsError for other ones."""
    asked = find(body, "m:Restriction")
    if asked is None:
        return True
    path, constant = asked.find(".//{*}FieldURI"), asked.find(".//{*}Constant")
    is_name = path is not None and path.get("FieldURI") == "folder:DisplayName"
    if constant is None or not is_name or local(asked[0]) != "IsEqualTo":
        raise EwsError("ErrorUnsupportedPathForQuery", "Folders are found by their names only.")
    return bool(name == constant.get("Value"))


def _expression(mailbox: Mailbox, one: Element) -> Matches:
    name = local(one)
    if name in {"And", "Or"}:
        parts = [_expression(mailbox, child) for child in one]
        combine = all if name == "And" else any
        return lambda item: combine(part(item) for part in parts)
    if name == "Not":
        inner = _expression(mailbox, one[0])
        return lambda item: not inner(item)
    if name == "Exists":
        return lambda item: bool(_field(mailbox, item, one[0]))
    constant = one.find(".//{*}Constant")
    if constant is None or name not in {*_COMPARE, "Contains"}:
        raise EwsError("ErrorUnsupportedPathForQuery", f"{name} is not understood.")
    wanted = _comparable(str(constant.get("Value")))
    if name == "Contains":
        return lambda item: _contains(one, _field(mailbox, item, one[0]), wanted)
    return lambda item: _COMPARE[name](*_typed(_field(mailbox, item, one[0]), wanted))


def _contains(one: Element, value: str, wanted: str) -> bool:
    if "IgnoreCase" in str(one.get("ContainmentComparison")):
        value, wanted = value.lower(), wanted.lower()
    match one.get("ContainmentMode"):
        case "FullString":
            return value == wanted
        case "Prefixed":
            return value.startswith(wanted)
    return wanted in value


def _field(mailbox: Mailbox, item: Item, path: Element) -> str:
    view = view_of(mailbox, item)
    if local(path) == "ExtendedFieldURI":
        return value_of(view, path)
    uri = str(path.get("FieldURI"))
    if uri not in _READERS:
        raise EwsError("ErrorUnsupportedPathForQuery", f"{uri} cannot be searched.")
    shown = _READERS[uri](view)
    return "" if shown is None else " ".join(shown.itertext()) or str(shown.get("Id", ""))


def _comparable(value: str) -> str:
    """Write times alike."""
    try:
        return instant(datetime.fromisoformat(value)) if re.match(r"\d{4}-\d\d-\d\dT", value) else value
    except ValueError:
        return value


def _typed(value: str, wanted: str) -> tuple[str, str]:
    if value.isdecimal() and wanted.isdecimal():
        return value.zfill(20), wanted.zfill(20)
    return value, wanted


_TERM = re.compile(r'(?:(\w+):)?(?:([<>]=?)([^\s"]+)|"([^"]*)"|([^\s"]+))')


def _query(mailbox: Mailbox, text: str) -> Matches:
    """Read AQS as far as mail clients write it: terms that must all match; times are whole days."""
    terms = [match.groups() for match in _TERM.finditer(re.sub(r"\bAND\b", " ", text))]

    def matches(item: Item) -> bool:
        return all(
            _term(mailbox, item, key or "", op, day, quoted or word or "")
            for key, op, day, quoted, word in terms
        )

    return matches


def _term(mailbox: Mailbox, item: Item, key: str, operator: str | None, day: str | None, word: str) -> bool:
    view, word = view_of(mailbox, item), word.lower()
    message = view.message
    match key.lower():
        case "subject":
            return word in view.header("Subject").lower()
        case "from" | "to":
            return word in " ".join(f"{who} {address}" for who, address in people(message, key)).lower()
        case "hasattachment" | "hasattachments":
            return (word == "true") == bool(view.attachments() is not None)
        case "received":
            return _on(item.received_at, operator or "", day or word)
        case "":
            return word in f"{view.header('Subject')} {view.header('From')} {view.body().text}".lower()
    raise EwsError("ErrorInvalidOperation", f"{key} is not understood.")


def _on(at: datetime, operator: str, day: str) -> bool:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    end = start + timedelta(days=1)
    return {">=": at >= start, ">": at >= end, "<": at < start, "<=": at < end}.get(
        operator, start <= at < end
    )


def ordered(mailbox: Mailbox, body: Element, items: list[Item]) -> list[Item]:
    """Sort as a request's SortOrder says, else newest first as Exchange does."""
    orders = find_all(body, "m:SortOrder/t:FieldOrder")
    if not orders:
        return sorted(items, key=lambda item: item.received_at, reverse=True)
    for order in reversed(orders):
        descending = order.get("Order") == "Descending"
        items = sorted(
            items, key=lambda item: _typed(_field(mailbox, item, order[0]), "0")[0], reverse=descending
        )
    return items


def paged(view: Element | None, found: list[Element], inside: str, most: int = 1000) -> Element:
    """Return the RootFolder of a find operation: one page of what was found."""
    offset = int(view.get("Offset", "0")) if view is not None else 0
    size = min(int(view.get("MaxEntriesReturned") or most), most) if view is not None else most
    page, end = found[offset : offset + size], offset + size >= len(found)
    attributes = {
        "IndexedPagingOffset": str(min(offset + size, len(found))),
        "TotalItemsInView": str(len(found)),
        "IncludesLastItemInRange": "true" if end else "false",
    }
    return m("RootFolder", t(inside, *page), **attributes)
