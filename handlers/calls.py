"""What a request asks for: checked where it is read, and each refusal names its field."""

import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import azure.functions as func
import msgspec

from shared import logs
from shared.app import App
from shared.callers import Caller
from shared.contract import misfit
from shared.errors import InvalidRequest

MAX_BODY = 60_000_000
"""Octets: the largest mail as base64, and its JSON."""
MAX_FORM = 4096
LONGEST_TEXT = 2000
LONGEST_NUMBER = 9
FIRST_YEAR, LAST_YEAR = 1900, 9999
"""What comes of a time, a day before it or a little after, must still be one."""
_UNWANTED = re.compile(r"(?:^|;)\s*q\s*=\s*0(?:\.0*)?\s*(?:;|$)")
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{8,64}")


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter of a route, for reading it and for OpenAPI; `default` and `most` are a number's."""

    name: str
    purpose: str
    type: type = str
    default: int = 0
    most: int = 0


def limit(default: int, most: int = 100) -> Query:
    """Return the parameter for how much one page holds."""
    return Query("limit", "How many at most.", int, default, most)


@dataclass(frozen=True)
class Call[B]:
    """One request, checked: the caller from its token, the body in its shape."""

    app: App
    caller: Caller
    body: B
    request: func.HttpRequest

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.route_params[name])

    def text(self, name: str) -> str | None:
        """Return a query parameter, or None."""
        value: str | None = self.request.params.get(name)
        if value is not None and not (value.isprintable() and len(value) <= LONGEST_TEXT):
            raise InvalidRequest(
                f"This must be printable text, at most {LONGEST_TEXT} characters.", field=name
            )
        return value

    def form(self) -> Mapping[str, str]:
        """Return what a form of our own pages sends. Raises InvalidRequest."""
        kind, content = media_type(self.request), self.request.get_body()
        if kind != "application/x-www-form-urlencoded" or len(content) > MAX_FORM:
            raise InvalidRequest(
                "This is not the form of our page.", field="body", fix="Start again in Zalion."
            )
        return dict(parse_qsl(content.decode("ascii", "replace")))

    def number(self, query: Query) -> int:
        """Return a whole number from the query, 1 or more. Raises InvalidRequest."""
        number = whole(self.request.params.get(query.name, str(query.default)))
        if number is None or not 1 <= number <= query.most:
            raise InvalidRequest(f"This must be a whole number from 1 to {query.most}.", field=query.name)
        return number

    def time(self, name: str) -> datetime | None:
        """Return an RFC 3339 time with zone from the query, or None. Raises InvalidRequest."""
        value = self.request.params.get(name)
        if value is None:
            return None
        try:
            time = datetime.fromisoformat(value.replace(" ", "+"))  # a bare + in a URL arrives as a blank
            utc = time.astimezone(UTC) if time.tzinfo else None
        except (ValueError, OverflowError):
            utc = None
        if utc is None or not FIRST_YEAR <= utc.year < LAST_YEAR:
            raise InvalidRequest("This must be a time such as 2026-11-24T08:00:00Z.", field=name)
        return utc

    def flag(self, name: str) -> bool | None:
        """Return true or false from the query, or None. Raises InvalidRequest."""
        value = self.request.params.get(name)
        if value not in {None, "true", "false"}:
            raise InvalidRequest("This must be true or false.", field=name)
        return None if value is None else value == "true"


def whole(text: str) -> int | None:
    """Read a whole number of at most nine digits, or None: `int` itself refuses very long ones."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else None


def media_type(req: func.HttpRequest) -> str:
    """Return the type of a request's body, without parameters."""
    return (req.headers.get("content-type") or "").partition(";")[0].strip().lower()


def accepts(req: func.HttpRequest, media: str) -> bool:
    """Whether a request asks for a media type by name (RFC 9110 section 12.5.1), in capitals or not."""
    ranges = (one.partition(";") for one in (req.headers.get("accept") or "").lower().split(","))
    return any(name.strip() == media and not _UNWANTED.search(rest) for name, _, rest in ranges)


def body_of(req: func.HttpRequest, shape: type | None) -> Any:
    """Decode the body into its shape; what does not fit is named by its place."""
    if shape is None:
        return None
    content = req.get_body()
    if len(content) > MAX_BODY:
        raise InvalidRequest(f"The body is larger than {MAX_BODY // 1_000_000} MB.", field="body")
    kind = media_type(req)
    if kind != "application/json":
        raise InvalidRequest("The body must be JSON.", field="Content-Type", fix="Send application/json.")
    try:
        return msgspec.json.decode(content, type=shape)
    except msgspec.ValidationError as error:
        detail, place = misfit(error)
        raise InvalidRequest(detail, field=place or "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("The body is not valid JSON.", field="body") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", field="body") from None


def refuse_unknown(req: func.HttpRequest, known: Collection[str]) -> None:
    """Refuse a parameter that we do not know: a filter with a typo would filter nothing."""
    unknown = sorted(req.params.keys() - set(known))
    if unknown:
        fix = f"Known here: {', '.join(sorted(known))}." if known else "Leave it out; there are none here."
        raise InvalidRequest("There is no such query parameter here.", field=unknown[0][:100], fix=fix)


def correlation(req: func.HttpRequest) -> str:
    """Return the caller's correlation id, or a new one; the same for one request."""
    given = req.headers.get("x-correlation-id") or ""
    return given if _CORRELATION.fullmatch(given) else logs.correlation_id() or secrets.token_hex(8)
