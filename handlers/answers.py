"""What a request is answered: a resource, bytes, or a problem in the form of RFC 9457."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import azure.functions as func
import msgspec

from shared.contract import ProblemResource
from shared.errors import RateLimited, Temporary, ZalionError

LONGEST_DETAIL, LONGEST_FIELD = 1000, 100
"""Characters: both may repeat names that the caller gave, of any length."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler gives back: a resource to encode, or bytes with their own headers."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(error: ZalionError, correlation_id: str) -> func.HttpResponse:
    """Show an error as RFC 9457 problem details."""
    resource = ProblemResource(
        title=error.title,
        status=error.status,
        detail=_cut(error.detail, LONGEST_DETAIL),
        code=error.code,
        correlation_id=correlation_id,
        field=error.field and _cut(error.field, LONGEST_FIELD),
        fix=error.fix,
    )
    headers = {"X-Correlation-Id": correlation_id}
    if isinstance(error, (Temporary, RateLimited)):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:  # noqa: PLR2004 - RFC 9110 section 15.5.2
        headers["WWW-Authenticate"] = "Bearer"
    return func.HttpResponse(
        msgspec.json.encode(resource),
        status_code=error.status,
        headers=headers,
        mimetype="application/problem+json",
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def encoded(answer: Answer, correlation_id: str) -> func.HttpResponse:
    """Show what a handler gave back."""
    headers = {"X-Correlation-Id": correlation_id, "Cache-Control": "no-store", **answer.headers}
    if isinstance(answer.body, bytes):
        headers = {"Content-Type": "application/octet-stream", **headers}
        return func.HttpResponse(answer.body, status_code=answer.status, headers=headers)
    content = b"" if answer.body is None else msgspec.json.encode(answer.body)
    return func.HttpResponse(content, status_code=answer.status, headers=headers, mimetype="application/json")
