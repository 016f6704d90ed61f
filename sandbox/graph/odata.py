"""The part of OData that mail clients use: $filter, $orderby, $select, and the rule about them Graph has.

https://learn.microsoft.com/graph/api/user-list-messages (section "Using filter and orderby")
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z)|(?P<number>\d+)"
    r"|(?P<name>[A-Za-z_][\w/]*)|(?P<sign>[(),:]))"
)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
}
_FUNCTIONS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "startswith": lambda text, part: text.startswith(part),
    "endswith": lambda text, part: text.endswith(part),
}
Predicate = Callable[[Mapping[str, Any]], bool]
NOT_FILTERABLE = {"internetMessageHeaders", "body", "bodyPreview", "uniqueBody"}
PROPERTIES = frozenset(
    """
    id createdDateTime lastModifiedDateTime changeKey categories receivedDateTime sentDateTime hasAttachments
    internetMessageId subject bodyPreview importance parentFolderId conversationId conversationIndex
    isDeliveryReceiptRequested isReadReceiptRequested isRead isDraft webLink inferenceClassification body
    uniqueBody sender from toRecipients ccRecipients bccRecipients replyTo flag internetMessageHeaders
    """.split()  # noqa: SIM905 - a list of so many lines says no more
)
"""Of a message."""


class BadQuery(Exception):
    """A query Graph refuses with 400; the text is its error code."""


def predicate(text: str) -> Predicate:
    """Compile a $filter over a message's JSON, whose extended properties lie under `_extended`."""
    parser = _Parser(text)
    found = parser.either()
    if parser.here:
        raise BadQuery("ErrorInvalidUrlQueryFilter")
    return found


def properties(text: str) -> list[str]:
    """Return the names a $filter uses, in order."""
    return [match[0] for match in re.finditer(r"[A-Za-z][\w/]*(?= (?:eq|ne|ge|gt|le|lt) )", text)]


def names(select: str) -> list[str]:
    """Return the names of a $select. Raises BadQuery."""
    found = [name.strip() for name in select.split(",") if name.strip()]
    if not {*found} <= PROPERTIES:
        raise BadQuery("RequestBroker--ParseUri")
    return found


def order(text: str, filtered: str) -> Callable[[list[Mapping[str, Any]]], list[Mapping[str, Any]]]:
    """Compile an $orderby. With a $filter its properties must come first there, or it is inefficient."""
    wanted = [part.strip().partition(" ")[::2] for part in text.split(",")]
    paths = [path for path, _ in wanted]
    if not {path.partition("/")[0] for path in paths} <= PROPERTIES - NOT_FILTERABLE:
        raise BadQuery("RequestBroker--ParseUri")
    if filtered and list(dict.fromkeys(properties(filtered)))[: len(paths)] != paths:
        raise BadQuery("InefficientFilter")

    def ordered(items: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        for path, direction in reversed(wanted):
            backwards = direction.strip() == "desc"
            items = sorted(items, key=lambda one, path=path: _value(one, path) or "", reverse=backwards)  # type: ignore[misc]
        return items

    return ordered


def _value(item: Mapping[str, Any], path: str) -> Any:
    found: Any = item
    for name in path.split("/"):
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", found):
        return datetime.fromisoformat(found).astimezone(UTC)
    return found


class _Parser:
    """Recursive descent: or, and, not, parentheses, comparisons, functions, Any()."""

    def __init__(self, text: str) -> None:
        self._tokens = self._split(text)
        self.here: tuple[str, str] | None = None
        self._next()

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, str]]:
        place = 0
        while place < len(text.rstrip()):
            match = _TOKEN.match(text, place)
            if not match:
                raise BadQuery("ErrorInvalidUrlQueryFilter")
            place = match.end()
            yield str(match.lastgroup), match[str(match.lastgroup)]

    def _next(self) -> tuple[str, str]:
        found, self.here = self.here, next(self._tokens, None)
        return found or ("", "")

    def _take(self, value: str) -> bool:
        if self.here and self.here[1] == value:
            self._next()
            return True
        return False

    def _need(self, value: str) -> None:
        if not self._take(value):
            raise BadQuery("ErrorInvalidUrlQueryFilter")

    def either(self) -> Predicate:
        left = self._both()
        while self._take("or"):
            left = self._joined(left, self._both(), any)
        return left

    def _both(self) -> Predicate:
        left = self._one()
        while self._take("and"):
            left = self._joined(left, self._one(), all)
        return left

    @staticmethod
    def _joined(left: Predicate, right: Predicate, how: Callable[[Iterator[bool]], bool]) -> Predicate:
        return lambda item: how(part(item) for part in (left, right))

    def _one(self) -> Predicate:
        if self._take("not"):
            inner = self._one()
            return lambda item: not inner(item)
        if self._take("("):
            inner = self.either()
            self._need(")")
            return inner
        kind, name = self._next()
        if kind != "name":
            raise BadQuery("ErrorInvalidUrlQueryFilter")
        if name in _FUNCTIONS:
            return self._function(name)
        if name.lower() == "singlevalueextendedproperties/any":
            return self._extended()
        if name.split("/")[0] not in PROPERTIES - NOT_FILTERABLE:
            raise BadQuery("ErrorInvalidProperty")
        compare, wanted = self._comparison()
        return lambda item: (found := _value(item, name)) is not None and compare(found, wanted)

    def _comparison(self) -> tuple[Callable[[Any, Any], bool], Any]:
        _, operator = self._next()
        if operator not in _COMPARE:
            raise BadQuery("ErrorInvalidUrlQueryFilter")
        return _COMPARE[operator], self._literal()

    def _literal(self) -> Any:
        kind, text = self._next()
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "time":
            return datetime.fromisoformat(text).astimezone(UTC)
        if kind == "number":
            return int(text)
        if text in {"true", "false"}:
            return text == "true"
        raise BadQuery("ErrorInvalidUrlQueryFilter")

    def _function(self, name: str) -> Predicate:
        self._need("(")
        _, path = self._next()
        self._need(",")
        wanted = str(self._literal())
        self._need(")")
        return lambda item: _FUNCTIONS[name](str(_value(item, path) or ""), wanted)

    def _extended(self) -> Predicate:
        """`Any(ep: ep/id eq '…' and ep/value eq '…')`: the value is compared without regard to case."""
        self._need("(")
        self._next()
        self._need(":")
        wanted: dict[str, str] = {}
        while True:
            if self.here and self.here[1] == "contains":
                raise BadQuery("ErrorInvalidUrlQueryFilter")
            _, path = self._next()
            self._need("eq")
            wanted[path.rpartition("/")[2]] = str(self._literal())
            if not self._take("and"):
                break
        self._need(")")
        id_, value = wanted.get("id", ""), wanted.get("value", "")
        return lambda item: str(item["_extended"].get(id_.lower(), "")).lower() == value.lower()
