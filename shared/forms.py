"""A provider's settings form, applied: what a user or admin typed, checked field by field. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import InvalidRequest
from shared.providers.base import Field

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "strings": list,
}
_LONGEST = 500


def check(
    form: Sequence[Field], given: Mapping[str, Any], *, path: str, partial: bool = False
) -> dict[str, Any]:
    """Return the settings with defaults filled in.

    Args:
        form: what the provider asks for.
        given: what was typed.
        path: where it stood in the request, for the error's `field`.
        partial: an integration's shared settings may leave out what each mailbox adds.

    Raises InvalidRequest naming the field that is unknown, missing or of the wrong kind.
    """
    fields = {field.name: field for field in form if not field.secret}
    for name in given:
        if name not in fields:
            known = ", ".join(fields)
            raise InvalidRequest("There is no such setting.", field=f"{path}.{name}", fix=f"Known: {known}.")
    checked: dict[str, Any] = {}
    for name, field in fields.items():
        value = given.get(name)
        if value is not None:
            checked[name] = _value(field, value, f"{path}.{name}")
        elif not partial:
            if field.required:
                raise InvalidRequest(f"Missing: {field.purpose}", field=f"{path}.{name}")
            if field.default is not None:
                checked[name] = field.default
    return checked


def _value(field: Field, value: Any, path: str) -> Any:
    if not isinstance(value, _TYPES[field.type]) or (field.type == "integer" and isinstance(value, bool)):
        raise InvalidRequest(f"This must be a {field.type}.", field=path)
    if field.choices and value not in field.choices:
        raise InvalidRequest(f"This must be one of {', '.join(field.choices)}.", field=path)
    texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    for text in texts:
        if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= _LONGEST:
            raise InvalidRequest("This must be a line of 1 to 500 printable characters.", field=path)
    return value
