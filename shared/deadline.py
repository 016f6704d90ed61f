"""When the job or the request at hand has to be over: nothing waits for a far side any longer than that.

A connection has its own longest time (`providers.sockets`), but one job may need many, one after the other:
SMTP and then the copy over IMAP, or a new one for each page of a list. Every socket asks here, so no provider
has to know.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

JOB = 540.0
"""Seconds: after 600 (functionTimeout in host.json) the host ends the worker with everybody's jobs."""

REQUEST = 200.0
"""Seconds: after 230 Azure's load balancer hangs up, and whoever asked is told nothing.

https://learn.microsoft.com/azure/azure-functions/functions-scale#timeout
"""

_over_at: ContextVar[float] = ContextVar("zalion_deadline", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Have what is done in here be over in so many seconds, or earlier where that was said before."""
    token = _over_at.set(min(_over_at.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _over_at.reset(token)


def left() -> float:
    """Return the seconds that are left: none or less once it is over, infinite where nobody set a time."""
    return _over_at.get() - time.monotonic()
