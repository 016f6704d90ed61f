"""Provider names and where they live.

Each module is imported when it is first asked for: docs/decisions/002-lazy-imports.md.
"""

from functools import cache
from importlib import import_module

from shared.errors import InvalidRequest
from shared.providers.base import Provider

_MODULES = {
    "microsoft": "shared.providers.microsoft",
    "google": "shared.providers.google",
    "ews": "shared.providers.ews",
    "imap": "shared.providers.imap",
    "pop3": "shared.providers.pop3",
    "smtp": "shared.providers.smtp",
}


def names() -> tuple[str, ...]:
    """Return the known names, what is proposed first before the others; loads nothing."""
    return tuple(_MODULES)


def provider(name: str, *, field: str = "provider") -> Provider:
    """Return the provider of this name.

    Args:
        name: one of `names()`.
        field: what the caller called it, for the error.

    Raises InvalidRequest for any other name.
    """
    if name not in _MODULES:
        raise InvalidRequest(
            "There is no such provider.", field=field, fix=f"Known providers: {', '.join(_MODULES)}."
        )
    return _load(_MODULES[name])


@cache
def _load(module: str) -> Provider:
    found = import_module(module).PROVIDER
    if not isinstance(found, Provider):
        raise TypeError(f"{module}.PROVIDER is no Provider")
    return found
