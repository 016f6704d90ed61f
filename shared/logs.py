"""One JSON line an event, of fields that are known to be harmless: ids, counts, outcomes, times.

The line is the log message itself, because the Functions worker formats records its own way; and no
exception is ever handed to `logging`, because foreign ones quote what they were given.
"""

import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

from shared.errors import ZalionError

NOISY = ("azure", "urllib3", "msal", "imapclient", "google", "googleapiclient", "exchangelib", "httpx")
"""Libraries that log addresses, URLs with codes, or protocol lines below WARNING."""

_ADDRESS = re.compile(r"[^\s<>()\[\]\"',;:@]+@[^\s<>()\[\]\"',;:@]+")
"""In the words of a mail server, which our errors repeat to the mailbox's owner: `450 4.2.0 <anna@...>`."""

MOST_CAUSES = 5
MOST_FRAMES = 30


class Fields(TypedDict, total=False):
    """What may be logged. To log something new, add it here, where a reviewer sees it."""

    attempt: int
    case_id: str | None
    code: str | None
    conversation_id: str | None
    count: int
    due: int
    email_id: str | None
    field: str | None
    file: int
    found: int
    ignore: int
    kind: str
    known: int
    late: bool
    learnt: int
    lost: int
    mailbox_id: str | None
    method: str
    org_id: str | None
    outcome: str | None
    part: str
    provider: str | None
    retry_after: float
    review: int
    route: str
    rule: str
    size: int
    state: str
    status: int
    uid: int


_logger = logging.getLogger("zalion")
_bound: ContextVar[Mapping[str, str]] = ContextVar("zalion_log_context", default={})  # noqa: B039 - never changed


def configure(level: str) -> None:
    """Set our own level (`DEBUG` ... `ERROR`) and quieten the libraries."""
    logging.basicConfig(format="%(message)s")  # does nothing where the host has put its own handler
    _logger.setLevel(level)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def log(
    event: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: Unpack[Fields]
) -> None:
    """Log an event (past tense, e.g. `message.sent`) with the bound context.

    `error` is told by class, causes and stack; in words, but for addresses, only if it is one of our ten.
    Raises TypeError for a field that is not in `Fields`.
    """
    unknown = fields.keys() - Fields.__annotations__.keys()
    if unknown:
        raise TypeError(f"These fields may not be logged: {', '.join(sorted(unknown))}")
    if not _logger.isEnabledFor(level):
        return
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": logging.getLevelName(level),
        "event": event,
        **_bound.get(),
        **{name: value for name, value in fields.items() if value is not None},
    }
    if error is not None:
        line["error"] = _described(error)
    _logger.log(level, "%s", json.dumps(line))


@contextmanager
def bind(
    *,
    correlation_id: str | None = None,
    org_id: str | None = None,
    mailbox_id: str | None = None,
    job: str | None = None,
) -> Iterator[None]:
    """Put these into every line logged inside; what is None stays as it was outside."""
    given = {"correlation_id": correlation_id, "org_id": org_id, "mailbox_id": mailbox_id, "job": job}
    token = _bound.set(
        {**_bound.get(), **{name: value for name, value in given.items() if value is not None}}
    )
    try:
        yield
    finally:
        _bound.reset(token)


@contextmanager
def telling(event: str) -> Iterator[None]:
    """Log what ends this, and raise it for the host without a bug's words: the host logs what it is raised.

    Raises RuntimeError in place of anything but our own errors, which say nothing that they should not.
    """
    try:
        yield
    except Exception as error:
        log(event, level=logging.ERROR, error=error)
        if isinstance(error, ZalionError):
            raise
        raise RuntimeError(f"A bug on our side; our log has it under {correlation_id()}.") from None


def correlation_id() -> str:
    """Return the bound correlation id, or an empty string outside of any request or job."""
    return _bound.get().get("correlation_id", "")


def _described(error: BaseException) -> dict[str, Any]:
    """Tell an exception without its words, which may quote a mail, an address or a token."""
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    described: dict[str, Any] = {
        "class": _class(error),
        "causes": [_class(cause) for cause in _causes(error)],
        "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, ZalionError):
        described |= {"code": error.code, "detail": _ADDRESS.sub("(address)", str(error))}
    return described


def _causes(error: BaseException) -> Iterator[BaseException]:
    for _ in range(MOST_CAUSES):
        cause = error.__cause__ or error.__context__
        if cause is None:
            return
        yield cause
        error = cause


def _class(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
