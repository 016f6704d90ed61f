"""Gmail's search operators, as far as a client of the API needs them. Words match whole words, dates are PST.

https://support.google.com/mail/answer/7190 and https://developers.google.com/workspace/gmail/api/guides/filtering
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import Message
from zoneinfo import ZoneInfo

from sandbox.google.headers import decoded
from sandbox.google.mailbox import Item, Mailbox

PACIFIC = ZoneInfo("America/Los_Angeles")
TOKEN = re.compile(r'(-?)(?:([a-zA-Z0-9_]+):)?(?:"([^"]*)"|\(([^()]*)\)|([^\s(){}"]+))|([{}])')
PLACES = {
    "inbox": "INBOX",
    "sent": "SENT",
    "draft": "DRAFT",
    "drafts": "DRAFT",
    "trash": "TRASH",
    "spam": "SPAM",
    "unread": "UNREAD",
    "starred": "STARRED",
    "important": "IMPORTANT",
}
HEADERS = {
    "from": "From",
    "to": "To",
    "cc": "Cc",
    "bcc": "Bcc",
    "subject": "Subject",
    "deliveredto": "Delivered-To",
    "list": "List-Id",
}
TIMES = {"after": "date", "before": "date", "newer": "date", "older": "date"}
TIMES |= {"newer_than": "span", "older_than": "span"}
UNITS = {"d": 1, "m": 30, "y": 365}
SIZES = {"": 1, "k": 1024, "m": 1024 * 1024}

Test = Callable[[Item], bool]


def predicate(mailbox: Mailbox, query: str) -> Test:
    """Return what decides whether a message is found."""
    alternatives: list[list[Test]] = [[]]
    group: list[Test] | None = None
    joined = False
    for match in TOKEN.finditer(query):
        minus, name, quoted, bracket, plain, brace = match.groups()
        if brace == "{":
            group = []
            continue
        if brace == "}":
            alternatives.append([_any(group or [])])
            group = None
            continue
        if plain == "OR" and not name:
            joined = True
            continue
        one = _term(mailbox, (name or "").lower(), quoted if quoted is not None else plain or "", bracket)
        test = _not(one) if minus else one
        if group is not None:
            group.append(test)
        elif joined and alternatives[-1]:
            alternatives[-1].append(test)
        else:
            alternatives.append([test])
        joined = False
    return lambda item: all(_any(tests)(item) for tests in alternatives if tests)


def names_place(query: str) -> bool:
    """Whether the query itself asks for spam or trash."""
    return bool(re.search(r"\b(?:in|label|is):(?:anywhere|spam|trash)\b", query, re.IGNORECASE))


def _term(mailbox: Mailbox, name: str, value: str, bracket: str | None) -> Test:
    """Return the test of one operator; in brackets are several values, all of which have to be there."""
    if bracket is not None:
        if not name:
            return predicate(mailbox, bracket)
        parts = [_term(mailbox, name, one, None) for one in bracket.split()]
        return lambda item: all(part(item) for part in parts)
    simple = value.strip("<>").lower()
    if name in {"in", "label", "is"}:
        return _placed(mailbox, simple)
    return _operator(name, simple, value)


def _operator(name: str, simple: str, value: str) -> Test:
    if name in HEADERS:
        return lambda item: _contains(_header(item.head, HEADERS[name]), value)
    if name in TIMES:
        return _timed(name, value)
    if name in OPERATORS:
        return OPERATORS[name](simple)
    phrase = f"{name}:{value}" if name else value
    return lambda item: _contains(_everything(item), phrase)


OPERATORS: dict[str, Callable[[str], Test]] = {
    "rfc822msgid": lambda value: lambda item: item.message_id.strip("<>").lower() == value,
    "has": lambda value: lambda item: value == "attachment" and bool(item.filenames),
    "filename": lambda value: lambda item: any(value in one.lower() for one in item.filenames),
    "larger": lambda value: lambda item: len(item.raw) >= _size(value),
    "size": lambda value: lambda item: len(item.raw) >= _size(value),
    "smaller": lambda value: lambda item: len(item.raw) < _size(value),
}


def _timed(name: str, value: str) -> Test:
    moment = _date(value) if TIMES[name] == "date" else datetime.now(UTC) - _span(value)
    if name in {"after", "newer", "newer_than"}:
        return lambda item: item.received_at >= moment
    return lambda item: item.received_at < moment


def _span(value: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([dmy])", value.lower())
    return timedelta(days=int(match[1]) * UNITS[match[2]]) if match else timedelta()


def _placed(mailbox: Mailbox, name: str) -> Test:
    if name == "anywhere":
        return lambda _item: True
    if name == "read":
        return lambda item: "UNREAD" not in item.labels
    # Labels are written with dashes for spaces and slashes.
    wanted = PLACES.get(name) or next(
        (
            id_
            for id_, shown in mailbox.labels.items()
            if name in {id_.lower(), _dashed(shown), shown.lower()}
        ),
        name,
    )
    return lambda item: wanted in item.labels


def _dashed(name: str) -> str:
    return re.sub(r"[\s/]", "-", name.lower())


def _date(value: str) -> datetime:
    if re.fullmatch(r"\d{6,}", value):
        return datetime.fromtimestamp(int(value), UTC)
    year, month, day = (int(part) for part in re.split(r"[/-]", value))
    return datetime(year, month, day, tzinfo=PACIFIC)


def _size(value: str) -> int:
    match = re.fullmatch(r"(\d+)([km]?)b?", value)
    return int(match[1]) * SIZES[match[2]] if match else 0


def _header(message: Message, name: str) -> str:
    return " ".join(decoded(value) for value in message.get_all(name, []))


def _everything(item: Item) -> str:
    return " ".join([*(_header(item.head, name) for name in HEADERS.values()), item.text])


def _contains(text: str, phrase: str) -> bool:
    """Whether the phrase's words stand in the text one after the other."""
    words = " ".join(re.findall(r"\w+", phrase.lower()))
    return f" {words} " in f" {' '.join(re.findall(r'\w+', text.lower()))} "


def _any(tests: list[Test]) -> Test:
    return lambda item: any(test(item) for test in tests)


def _not(test: Test) -> Test:
    return lambda item: not test(item)
