"""Graph on the wire: who asks, for which mailbox, one by one or in a batch."""

import base64
import json
import re
import secrets
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, override
from urllib.parse import parse_qsl, unquote, urlsplit

import jwt

from sandbox.graph import odata, routing, subscribing
from sandbox.graph.admission import Admission
from sandbox.graph.attachments import MOST, Uploads
from sandbox.graph.call import Call
from sandbox.graph.exchange import Exchange
from sandbox.graph.mailbox import Mailbox
from sandbox.graph.problems import GraphError, problem
from sandbox.web import Reply, Request, WebServer

MOST_TOGETHER = 20
"""Requests of a batch.

https://learn.microsoft.com/graph/json-batching
"""


AT_ONCE = 4
"""Of a batch, whatever mailboxes it is for."""


class Identities(Protocol):
    """What Graph asks Entra."""

    def access(self, bearer: str) -> Any: ...

    def find_user(self, tenant_id: str, key: str) -> Any: ...


class Graph(Exchange, WebServer):
    """One Graph.

    Attributes:
        base: the URL requests begin with.
        requests: (method, path without ids, mailbox, names of query parameters) of every request.
        restricted: client id -> the only mailboxes its app-only tokens reach (an application access policy).
        assigned: client id -> the mailboxes that RBAC for Applications lets the app use, besides what its
            token allows; `roles` is what it may do there.
        contract: what every request and answer is held against, if anything.
    """

    def __init__(
        self,
        identities: Identities,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        *,
        mx: tuple[str, int],
        ca: str,
    ) -> None:
        Exchange.__init__(self, mx, ca)
        self.identities = identities
        self.requests: list[tuple[str, str, str, tuple[str, ...]]] = []
        self.restricted: dict[str, set[str]] = {}
        self.assigned: dict[str, set[str]] = {}
        self.roles: dict[str, frozenset[str]] = {}
        self.admission = Admission(self.faults)
        WebServer.__init__(self, port, tls)
        self.base = f"{self.url}/v1.0"
        self.uploads = Uploads(self.url)

    @override
    def stop(self) -> None:
        self.notifier.stop()
        super().stop()

    @override
    def heal(self) -> None:
        self.faults.clear()
        self.notifier.heal()
        super().heal()

    @override
    def answer(self, request: Request) -> Reply:
        if request.path.startswith("/upload/"):
            return self.uploads.take(request)
        reply = self._answered(request, lambda: self._served(request))
        reply.headers.setdefault("request-id", secrets.token_hex(8))
        return reply

    def check_restriction(self, access: Any, address: str) -> None:
        """Refuse an app that was restricted to other mailboxes. Raises GraphError."""
        allowed = self.restricted.get(access.client_id)
        if access.app_only and allowed is not None and address not in allowed:
            raise GraphError(403, "ErrorAccessDenied", "Access to OData is disabled.")

    def with_roles(self, access: Any, address: str) -> Any:
        """Add what Exchange's own roles give an app in a mailbox: they stand in no token."""
        if not access.app_only or address not in self.assigned.get(access.client_id, ()):
            return access
        roles = self.roles.get(access.client_id, frozenset({"Mail.Read", "Mail.Send"}))
        return replace(access, permissions=access.permissions | roles)

    def _answered(self, request: Request, serve: Callable[[], Reply]) -> Reply:
        try:
            reply = serve()
        except GraphError as error:
            reply = problem(error)
        except odata.BadQuery as error:
            reply = problem(GraphError(400, str(error)))
        if self.contract:
            self.contract.check(request, reply)
        return reply

    def _served(self, request: Request) -> Reply:
        if len(request.body) > MOST:
            raise GraphError(413, "RequestEntityTooLarge", "The request entity is too large.")
        try:
            access = self.identities.access(request.bearer)
        except jwt.PyJWTError as error:
            challenge = 'Bearer realm="", error="invalid_token"'
            raise GraphError(
                401, "InvalidAuthenticationToken", "Access token is invalid.", WWW_Authenticate=challenge
            ) from error
        path = request.path.removeprefix("/v1.0").strip("/")
        return self._batch(request, access) if path == "$batch" else self._dispatch(request, access, path)

    def _batch(self, request: Request, access: Any) -> Reply:
        """Answer up to four at once, unless one depends on another; the answers come in another order."""
        asked = request.json["requests"]
        if len(asked) > MOST_TOGETHER:
            raise GraphError(400, "BadRequest", "Number of batch request steps exceeds the maximum of 20.")
        if len({one["id"] for one in asked}) < len(asked):
            raise GraphError(400, "BadRequest", "Request Id must be unique in a batch.")
        status: dict[str, int] = {}

        def answer(one: dict[str, Any]) -> dict[str, Any]:
            if any(status.get(other, 424) >= 400 for other in one.get("dependsOn") or ()):
                reply = problem(GraphError(424, "FailedDependency", "A request this depends on failed."))
            else:
                inner, path = _inner(request, one)
                reply = self._answered(inner, lambda: self._dispatch(inner, access, path))
            status[one["id"]] = int(reply.status)
            return _answered(one["id"], reply)

        chained = any(one.get("dependsOn") for one in asked)
        with ThreadPoolExecutor(1 if chained else AT_ONCE) as pool:
            return Reply(body={"responses": list(pool.map(answer, asked))[::-1]})

    def _dispatch(self, request: Request, access: Any, path: str) -> Reply:
        path = re.sub(r"\('([^']*)'\)", r"/\1", path)  # mailFolders('inbox') is mailFolders/inbox
        head, *rest = [unquote(part) for part in path.split("/")]
        if head == "subscriptions":
            self.requests.append((request.method, "subscriptions" + "/{id}" * bool(rest), "-", ()))
            return subscribing.answer(self, request, access, rest)
        mailbox, own, rest = self._addressed(access, head, rest)
        template = "/".join("{id}" if len(part) > 24 else part for part in rest)
        self.requests.append((request.method, template, mailbox.address, tuple(sorted(request.query))))
        access = self.with_roles(access, mailbox.address)
        with self.admission.of(mailbox):
            call = Call(self, request, access, mailbox, own)
            self.check_restriction(access, mailbox.address)
            if not (own or access.app_only or "full_access" in call.rights):
                words = "Access is denied. Check credentials and try again."
                raise GraphError(403, "ErrorAccessDenied", words)
            return routing.answer(call, rest)

    def _addressed(self, access: Any, head: str, rest: list[str]) -> tuple[Mailbox, bool, list[str]]:
        """Return the mailbox that /me or /users/{id} means, whether it is the user's own, and the rest."""
        if head == "me" and access.address:
            mailbox, own = self.find_mailbox(access.address), True
        elif head == "users" and rest:
            user = self.identities.find_user(access.tenant_id, rest[0])
            mailbox, rest = self.find_mailbox(user.address) if user else None, rest[1:]
            own = bool(user and user.address == access.address)
        else:
            raise GraphError(400, "BadRequest", "Resource not found for the segment.")
        if mailbox is None:
            raise GraphError(404, "ErrorInvalidUser", "The requested user is invalid.")
        return mailbox, own, rest


def _inner(outer: Request, one: dict[str, Any]) -> tuple[Request, str]:
    """Return one request of a batch, and its path; the batch's own headers hold for it too."""
    url = urlsplit(one["url"])
    headers = {**outer.headers, **{k.lower(): v for k, v in (one.get("headers") or {}).items()}}
    body = one.get("body", b"")
    body = (
        body
        if isinstance(body, bytes)
        else body.encode()
        if isinstance(body, str)
        else json.dumps(body).encode()
    )
    return Request(one["method"], url.path, dict(parse_qsl(url.query)), headers, body), url.path.strip("/")


def _answered(id_: str, reply: Reply) -> dict[str, Any]:
    """Return an answer within a batch; bytes are written as base64."""
    body = base64.b64encode(reply.body).decode() if isinstance(reply.body, bytes) else reply.body
    found = {"id": id_, "status": int(reply.status), "headers": reply.headers}
    return found if body is None else {**found, "body": body}
