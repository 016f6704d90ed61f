"""Exchange's schemas, which lie beside the checkout in CI; a test in which they were not followed fails."""

import warnings
from functools import cache
from pathlib import Path

from sandbox.exchange import Exchange
from sandbox.exchange.soap import Schemas

DIRECTORY = Path(__file__).parents[2] / "shared" / "ews"


@cache
def schemas() -> Schemas | None:
    """Load them once; None, with a word at the end of the run, where they are missing."""
    if DIRECTORY.exists():
        return Schemas(DIRECTORY)
    warnings.warn(f"no {DIRECTORY}: what Exchange was asked and answered was not checked", stacklevel=2)
    return None


def install(exchange: Exchange) -> None:
    """Hold an Exchange's requests and answers against the schemas."""
    exchange.schemas = schemas()


def check(exchange: Exchange) -> None:
    """Fail where the schemas were not followed, and forget it."""
    found, exchange.violations[:] = list(dict.fromkeys(exchange.violations)), []
    assert not found, "\n".join(["not as Exchange's schemas say:", *found])
