"""The edge of every HTTP route: who may call it, and what becomes of whatever its handler says.

`Routes.endpoint` turns a handler `(Call) -> Answer` into a function of the app and keeps what
OpenAPI needs to know about it. The wrapper has the exact signature that the worker demands and no
`__wrapped__`, because the worker reads the signature of whatever that names.
"""

import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import azure.functions as func

from handlers import browser
from handlers.answers import Answer, encoded, problem
from handlers.calls import Call, Query, body_of, correlation, refuse_unknown
from shared import bootstrap, deadline, logs, pages
from shared.app import App
from shared.callers import Caller
from shared.errors import OutcomeUnknown, Temporary, ZalionError
from shared.shares import REQUESTS

Who = Literal[
    "anyone",
    "browser",
    "provider",
    "admin",
    "platform or admin",
    "member or admin",
    "member of the case",
    "member of the case who owns the mailbox",
    "owner of the mailbox",
    "owner of the mailbox, or admin",
]
"""`admin`, `member` and `platform` are roles of the token. Use cases check it; this only tells."""

ANONYMOUS = {"anyone", "browser", "provider"}
"""Who brings no token of ours: proven otherwise, or in need of no proof."""


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
    details: str
    who: Who
    body: type | None
    answer: Any
    status: int
    query: tuple[Query, ...]
    headers: tuple[str, ...]
    also: tuple[Reply, ...]
    form: tuple[Query, ...]


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
        """Register a handler. Its docstring is its summary and description in OpenAPI.

        Args:
            also: what it answers besides `answer`.
            form: the fields of the HTML form that it takes.
        """

        def register(
            handler: Callable[[Call[Any]], Answer],
        ) -> Callable[[func.HttpRequest], func.HttpResponse]:
            summary, _, details = (inspect.getdoc(handler) or "").partition("\n\n")
            name, told = handler.__name__, (who, body, answer, status, query, headers, also, form)
            ENDPOINTS.append(Endpoint(method, path, name, summary, details, *told))

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
                if who not in ANONYMOUS:  # providers and browsers bring along what they like
                    refuse_unknown(req, query)
                return encoded(handler(Call(app, caller, body_of(req, body), req)), correlation_id)
        except ZalionError as error:
            # what is the caller's to mend is told the caller in full; why we could not, whoever runs this
            ours = error if isinstance(error, Temporary | OutcomeUnknown) else None
            logs.log("request.refused", code=error.code, error=ours, route=handler.__name__)
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


def _told(req: func.HttpRequest, who: Who, error: ZalionError, correlation_id: str) -> func.HttpResponse:
    """Tell a person in a browser by a page, everybody else by a problem."""
    if who != "browser":
        return problem(error, correlation_id)
    answer = Answer(browser.refusal(req, error), status=error.status, headers=pages.HEADERS)
    return encoded(answer, correlation_id)
