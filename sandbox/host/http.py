"""HTTP triggers and the host's own endpoints, as an ASGI app.

Routing is case-insensitive and the most specific route wins; the route is found first, then the key
is checked; a method no function takes is 404, as on the real host.
"""

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from azure.functions.meta import Datum

from sandbox.host.config import Config, ConfigError
from sandbox.host.invocations import InvocationError, Invocations
from sandbox.host.routes import Route, conflicts, route
from sandbox.host.tasks import Tasks
from sandbox.host.worker import Function

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ByHand = Callable[[str], Coroutine[Any, Any, None]]

_NO_BODY = {204, 304}


@dataclass(frozen=True, slots=True)
class Request:
    """What came in. `headers` have lower-case names, repeats joined with a comma, like the query."""

    method: str
    path: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Response:
    """What goes out."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)

    def add_missing(self, headers: Mapping[str, str]) -> None:
        """Add headers that are not there yet."""
        present = {name.lower() for name, _ in self.headers}
        self.headers += [(name, value) for name, value in headers.items() if name.lower() not in present]


class HttpApp:
    """The ASGI app. `by_hand` starts a queue or timer function by name with an input."""

    def __init__(
        self,
        config: Config,
        functions: tuple[Function, ...],
        invocations: Invocations,
        tasks: Tasks,
        by_hand: Mapping[str, ByHand],
    ) -> None:
        triggered = [function for function in functions if function.trigger["type"] == "httpTrigger"]
        self._routes = sorted(
            (route(function, config.route_prefix) for function in triggered),
            key=lambda one: one.template.rank,
        )
        if found := conflicts(self._routes):
            raise ConfigError("; ".join(found))
        self._config = config
        self._functions = functions
        self._invocations = invocations
        self._tasks = tasks
        self._by_hand = by_hand

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; uvicorn runs with lifespan and websockets off."""
        request = await _read(scope, receive)
        response = self._preflight(request) or await self._respond(request)
        self._allow_origin(request, response)
        if response.status not in _NO_BODY:
            response.headers.append(("content-length", str(len(response.body))))
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, request: Request) -> Response:
        if request.path.lower().startswith("/admin/"):
            return self._admin(request)
        for candidate in self._routes:
            params = candidate.match(request.path) if request.method in candidate.methods else None
            if params is not None:
                response = await self._call(candidate, request, params)
                response.add_missing(self._config.custom_headers)
                return response
        return Response(404)

    async def _call(self, target: Route, request: Request, params: Mapping[str, str]) -> Response:
        if target.level != "ANONYMOUS" and not self._has_key(request):
            return Response(401)
        try:
            returned = await self._invocations.run(target.function, _to_datum(request, params))
        except InvocationError:
            return Response(500)
        return _from_datum(returned)

    def _has_key(self, request: Request) -> bool:
        key = self._config.key
        given = request.headers.get("x-functions-key") or request.query.get("code", "")
        return key is None or hmac.compare_digest(given.encode(), key.encode())

    def _admin(self, request: Request) -> Response:
        if not self._has_key(request):
            return Response(401)
        if (request.method, request.path.lower()) == ("GET", "/admin/host/status"):
            names = [function.name for function in self._functions]
            return _json({"id": "sandbox.host", "state": "Running", "functions": names})
        match = re.fullmatch(r"/admin/functions/([^/]+)", request.path, re.IGNORECASE)
        if request.method != "POST" or not match or match[1].lower() not in self._by_hand:
            return Response(404)
        try:
            given = json.loads(request.body or b"{}").get("input", "")
        except (ValueError, AttributeError):
            return Response(400)
        text = given if isinstance(given, str) else json.dumps(given)
        self._tasks.spawn(self._by_hand[match[1].lower()](text), f"{match[1]}, run by hand")
        return Response(202)

    def _preflight(self, request: Request) -> Response | None:
        asked = request.headers.get("access-control-request-method")
        if request.method != "OPTIONS" or not asked or not self._allows(request):
            return None
        wanted = request.headers.get("access-control-request-headers")
        response = Response(204, headers=[("access-control-allow-methods", asked)])
        response.headers += [("access-control-allow-headers", wanted)] if wanted else []
        return response

    def _allow_origin(self, request: Request, response: Response) -> None:
        if self._allows(request):
            response.headers += [
                ("access-control-allow-origin", request.headers["origin"]),
                ("vary", "Origin"),
            ]
            if self._config.cors_credentials:
                response.headers.append(("access-control-allow-credentials", "true"))

    def _allows(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        return origin is not None and ("*" in self._config.cors or origin in self._config.cors)


async def _read(scope: MutableMapping[str, Any], receive: Receive) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    body, more = bytearray(), True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    if body and "content-length" not in headers:
        log.warning("A request without Content-Length reaches the function without its body, as in Azure")
        body.clear()
    query: dict[str, str] = {}
    for name, value in parse_qsl(
        scope["query_string"].decode("latin-1")
    ):  # drops empty values, as Azure does
        query[name] = f"{query[name]},{value}" if name in query else value
    raw_path = scope["raw_path"].decode("latin-1")
    question = scope["query_string"].decode("latin-1")
    url = f"{scope['scheme']}://{headers.get('host', '')}{raw_path}" + (f"?{question}" if question else "")
    # Kestrel decodes everything but an encoded slash, so that it stays within one route parameter.
    path = unquote(re.sub("%(2f)", r"%25\1", raw_path, flags=re.IGNORECASE))
    return Request(scope["method"], path, url, headers, query, bytes(body))


def _to_datum(request: Request, params: Mapping[str, str]) -> Datum:
    def strings(values: Mapping[str, str]) -> dict[str, Datum]:
        return {name: Datum(value, "string") for name, value in values.items()}

    value = {
        "method": Datum(request.method, "string"),
        "url": Datum(request.url, "string"),
        "headers": strings(request.headers),
        "query": strings(request.query),
        "params": strings(params),
        "body": Datum(request.body, "bytes"),
    }
    return Datum(value, "http")


def _from_datum(datum: Datum | None) -> Response:
    if datum is None or datum.type is None:
        return Response(204)
    if datum.type == "string":
        return Response(200, datum.value.encode(), [("content-type", "text/plain; charset=utf-8")])
    value = datum.value
    headers = [
        (name, one.value) for name, one in value["headers"].items() if name.lower() != "content-length"
    ]
    for cookie in value["cookies"] or ():
        headers += [("set-cookie", morsel.OutputString()) for morsel in cookie.values()]
    return Response(int(value["status_code"].value), value["body"].value or b"", headers)


def _json(value: object) -> Response:
    return Response(200, json.dumps(value).encode(), [("content-type", "application/json")])
