"""The edge of every HTTP route: who calls, what they send, what they get, and problems in RFC 9457 form.

`Routes.endpoint` turns a handler `(Call) -> Answer` into a function of the app and keeps what
OpenAPI needs to know about it. The wrapper has the exact signature that the worker demands and no
`__wrapped__`, because the worker reads the signature of whatever that names.
"""

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

import azure.functions as func
import msgspec

from handlers import browser
from shared import bootstrap, deadline, logs, pages
from shared.app import App
from shared.callers import Caller
from shared.contract import ProblemResource, misfit
from shared.errors import InvalidRequest, RateLimited, Temporary, ZalionError
from shared.shares import REQUESTS

Who = Literal["anyone", "member", "admin", "platform", "owner", "browser", "provider"]
ANONYMOUS = {"anyone", "browser", "provider"}
"""Who brings no token of ours: proven otherwise, or in need of no proof."""

MAX_BODY = 60_000_000
"""Octets: the largest mail as base64, and its JSON."""
MAX_FORM = 4096
LONGEST_TEXT = 2000
LONGEST_NUMBER = 9
FIRST_YEAR, LAST_YEAR = 1900, 9999
"""What comes of a time, a day before it or a little after, must still be one."""
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{8,64}")


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter of a route, for reading it and for OpenAPI."""

    name: str
    purpose: str
    type: type = str


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a route, for OpenAPI; without a media type it has no content."""

    status: int
    media: str = ""
    shape: Any = None
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What OpenAPI needs to know about a route."""

    method: str
    path: str
    name: str
    summary: str
    who: Who
    body: type | None
    answer: Any
    status: int
    query: tuple[Query, ...]
    headers: tuple[str, ...]
    also: tuple[Reply, ...]
    form: tuple[Query, ...]


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

    def number(self, name: str, *, default: int, least: int = 1, most: int = 100) -> int:
        """Return a whole number from the query. Raises InvalidRequest."""
        value = self.request.params.get(name, str(default))
        number = whole(value)
        if number is None or not least <= number <= most:
            raise InvalidRequest(f"This must be a whole number from {least} to {most}.", field=name)
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


def media_type(req: func.HttpRequest) -> str:
    """Return the type of a request's body, without parameters."""
    return (req.headers.get("content-type") or "").partition(";")[0].strip().lower()


def whole(text: str) -> int | None:
    """Read a whole number of at most nine digits, or None: `int` itself refuses very long ones."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler gives back: a resource to encode, or bytes with their own headers."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


ENDPOINTS: list[Endpoint] = []
"""Every route of the app, in the order of registration: the source of openapi.json."""


class Routes(func.Blueprint):
    """A blueprint whose routes check their callers and answer problems."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def endpoint(
        self,
        method: str,
        path: str,
        *,
        who: Who,
        answer: Any = None,
        body: type | None = None,
        status: int = 200,
        query: tuple[Query, ...] = (),
        headers: tuple[str, ...] = (),
        also: tuple[Reply, ...] = (),
        form: tuple[Query, ...] = (),
    ) -> Callable[[Callable[[Call[Any]], Answer]], Callable[[func.HttpRequest], func.HttpResponse]]:
        """Register a handler. Its docstring's first line is the summary in OpenAPI.

        Args:
            also: what it answers besides `answer`.
            form: the fields of the HTML form that it takes.
        """

        def register(
            handler: Callable[[Call[Any]], Answer],
        ) -> Callable[[func.HttpRequest], func.HttpResponse]:
            summary = (handler.__doc__ or "").partition("\n")[0]
            name = handler.__name__
            ENDPOINTS.append(
                Endpoint(method, path, name, summary, who, body, answer, status, query, headers, also, form)
            )

            def run(req: func.HttpRequest) -> func.HttpResponse:
                return respond(req, handler, who, body, frozenset(parameter.name for parameter in query))

            run.__name__ = run.__qualname__ = name
            run.__doc__ = handler.__doc__
            self.function_name(name)(
                self.route(route=path, methods=[method], auth_level=func.AuthLevel.ANONYMOUS)(run)
            )
            return run

        return register


def respond(
    req: func.HttpRequest,
    handler: Callable[[Call[Any]], Answer],
    who: Who,
    body: type | None,
    query: frozenset[str] = frozenset(),
) -> func.HttpResponse:
    """Run a handler between its caller's check and its answer."""
    correlation_id = correlation(req)
    with logs.bind(correlation_id=correlation_id):
        try:
            caller = (
                NOBODY if who in ANONYMOUS else bootstrap.tokens().caller(req.headers.get("authorization"))
            )
            app = bootstrap.app()
            in_time = deadline.within(app.longest_request)
            with logs.bind(org_id=caller.org_id), _fairly(app, caller), in_time:
                _only_known(req, who, query)
                return _answer(handler(Call(app, caller, _body(req, body), req)), correlation_id)
        except ZalionError as error:
            logs.log("request.refused", code=error.code, route=handler.__name__)
            return _told(req, who, error, correlation_id)
        except Exception as error:  # noqa: BLE001 - the last edge: a bug is logged and answered in our form
            logs.log("request.failed", level=logging.ERROR, error=error, route=handler.__name__)
            bug = ZalionError("An error on our side; we have been told.", fix="Try again in a moment.")
            return _told(req, who, bug, correlation_id)


NOBODY = Caller("-", "", frozenset())


def _fairly(app: App, caller: Caller) -> AbstractContextManager[None]:
    """Leave workers to the others: whoever calls without a token asks none of the customers' mail servers."""
    if caller is NOBODY:
        return nullcontext()
    return app.shares.taken(caller.org_id, "http", REQUESTS, app.clock)


def _only_known(req: func.HttpRequest, who: Who, query: frozenset[str]) -> None:
    """Refuse a parameter that we do not know: a filter with a typo would filter nothing.

    Providers and browsers bring along what they like.
    """
    unknown = sorted(req.params.keys() - query)
    if unknown and who not in ANONYMOUS:
        fix = f"Known here: {', '.join(sorted(query))}." if query else "Leave it out; there are none here."
        raise InvalidRequest("There is no such query parameter here.", field=unknown[0][:100], fix=fix)


def _told(req: func.HttpRequest, who: Who, error: ZalionError, correlation_id: str) -> func.HttpResponse:
    """Tell a person in a browser by a page, everybody else by a problem."""
    if who != "browser":
        return problem(error, correlation_id)
    answer = Answer(browser.refusal(req, error), status=error.status, headers=pages.HEADERS)
    return _answer(answer, correlation_id)


def problem(error: ZalionError, correlation_id: str) -> func.HttpResponse:
    """Show an error as RFC 9457 problem details."""
    resource = ProblemResource(
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        correlation_id=correlation_id,
        field=error.field,
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


def _answer(answer: Answer, correlation_id: str) -> func.HttpResponse:
    headers = {"X-Correlation-Id": correlation_id, "Cache-Control": "no-store", **answer.headers}
    if isinstance(answer.body, bytes):
        headers = {"Content-Type": "application/octet-stream", **headers}
        return func.HttpResponse(answer.body, status_code=answer.status, headers=headers)
    content = b"" if answer.body is None else msgspec.json.encode(answer.body)
    return func.HttpResponse(content, status_code=answer.status, headers=headers, mimetype="application/json")


def _body(req: func.HttpRequest, shape: type | None) -> Any:
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


def correlation(req: func.HttpRequest) -> str:
    """Return the caller's correlation id, or a new one; the same for one request."""
    given = req.headers.get("x-correlation-id") or ""
    return given if _CORRELATION.fullmatch(given) else logs.correlation_id() or secrets.token_hex(8)
