"""A provider's settings form, applied: what a user or admin typed, checked field by field. Pure."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from shared.errors import InvalidRequest, NotAllowed
from shared.providers.base import Field

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "strings": list,
    "date": str,
}
_LONGEST = 500
_LONGEST_LIST = 40_000
"""Characters of a list, with what stands between its entries: a record holds several, and has an end."""

_LONGEST_DOMAIN = 254
"""What a name with letters beyond ASCII may become when it is written in A-labels."""


def check(
    form: Sequence[Field],
    given: Mapping[str, Any],
    *,
    path: str,
    partial: bool = False,
    decided: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the settings with defaults filled in.

    Args:
        form: what the provider asks for.
        given: what was typed.
        path: where it stood in the request, for the error's `field`.
        partial: an integration's shared settings may leave out what each mailbox adds.
        decided: the integration's settings where a mailbox's are checked: its defaults, and what IT alone
            decides. None where the integration's own are.

    Raises InvalidRequest naming the field that is unknown, missing or of the wrong kind, NotAllowed for
    one that IT has not allowed.
    """
    fields = {field.name: field for field in form}
    own = {name: field for name, field in fields.items() if decided is None or field.level == "mailbox"}
    for name in given:
        if name not in own:
            known = ", ".join(own)
            raise InvalidRequest("There is no such setting.", field=f"{path}.{name}", fix=f"Known: {known}.")
    checked: dict[str, Any] = {}
    for name, field in fields.items():
        if decided is not None and field.level == "integration":
            continue
        value = given.get(name)
        if value is None:  # as null it takes back what was given
            value = (decided or {}).get(name)
        if value is not None:
            checked[name] = _value(field, value, f"{path}.{name}")
            _allow(field, value, decided, f"{path}.{name}")
        elif not partial:
            if field.required:
                raise InvalidRequest(f"Missing: {field.purpose}", field=f"{path}.{name}")
            if field.default is not None:
                checked[name] = field.default
    return checked


def _allow(field: Field, value: Any, decided: Mapping[str, Any] | None, path: str) -> None:
    if decided is None or not field.allowed_by or value == field.default or decided.get(field.allowed_by):
        return
    fix = f"Ask your administrator to switch on {field.allowed_by} for this provider."
    raise NotAllowed("Your IT has not allowed this.", field=path, fix=fix)


def _value(field: Field, value: Any, path: str) -> Any:
    if not isinstance(value, _TYPES[field.type]) or (field.type == "integer" and isinstance(value, bool)):
        raise InvalidRequest(f"This must be a {field.type}.", field=path)
    if field.choices and value not in field.choices:
        raise InvalidRequest(f"This must be one of {', '.join(field.choices)}.", field=path)
    if field.type == "integer" and isinstance(value, int) and not field.least <= value <= field.most:
        raise InvalidRequest(f"This must be a number from {field.least} to {field.most}.", field=path)
    texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    for text in texts:
        if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= _LONGEST:
            raise InvalidRequest("This must be a line of 1 to 500 printable characters.", field=path)
    if isinstance(value, list) and sum(map(_weight, value)) > _LONGEST_LIST:
        raise InvalidRequest(f"This list may have {_LONGEST_LIST} characters in all.", field=path)
    if isinstance(value, str):
        check = _date if field.type == "date" else field.check
        check(value, path)
    return value


def _weight(entry: str) -> int:
    return 3 + (len(entry) if entry.isascii() else max(len(entry), _LONGEST_DOMAIN))


def _date(text: str, path: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest("This must be a day such as 2027-05-31.", field=path) from None
