"""The calls under /subscriptions.

https://learn.microsoft.com/graph/api/resources/subscription
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sandbox.graph.call import wants_immutable
from sandbox.graph.permissions import BASIC, allow
from sandbox.graph.problems import GraphError
from sandbox.graph.subscriptions import Invalid, Subscription
from sandbox.web import Reply, Request

if TYPE_CHECKING:
    from sandbox.graph.server import Graph

_RESOURCE = re.compile(r"/?(?:(me)|users/([^/]+))/(?:mailFolders[^/]*/[^/]*/?)?messages.*")


def answer(graph: "Graph", request: Request, access: Any, rest: list[str]) -> Reply:
    """Answer a call about subscriptions: an app sees its own, a user those made for her."""
    mine = _of(graph, access)
    if not rest:
        if request.method == "POST":
            return _create(graph, request, access)
        seen = [one for one in mine.values() if access.app_only or one.address == access.address]
        return Reply(body={"value": [one.shown() for one in seen]})
    found = mine.get(rest[0])
    if found is None:
        raise GraphError(404, "ResourceNotFound", "The object was not found.")
    graph.admission.check(found.address)
    if request.method == "DELETE":
        del graph.notifier.subscriptions[found.id]
        return Reply(204)
    if rest[1:] == ["reauthorize"]:
        found.reauthorized += 1
        return Reply(204)
    if request.method == "PATCH":
        _valid(lambda: graph.notifier.prolong(found, request.json["expirationDateTime"]))
    return Reply(body=found.shown())


def _of(graph: "Graph", access: Any) -> dict[str, Subscription]:
    now, whose = datetime.now(UTC), (access.client_id, access.tenant_id)
    return {
        one.id: one
        for one in graph.notifier.subscriptions.values()
        if (one.client_id, one.tenant_id) == whose and one.until > now
    }


def _create(graph: "Graph", request: Request, access: Any) -> Reply:
    body = request.json
    allow(access, BASIC, own=True)
    match = _RESOURCE.fullmatch(body["resource"])
    key = access.address if match and match[1] else unquote(match[2]) if match else ""
    user = graph.identities.find_user(access.tenant_id, key)
    if user is None or not graph.find_mailbox(user.address):
        raise GraphError(400, "ExtensionError", "The resource is not valid.")
    foreign = not access.app_only and user.address != access.address
    if foreign and not graph.faults.silent_shared:
        raise GraphError(403, "ExtensionError", "Access to other mailboxes is not supported.")
    graph.check_restriction(access, user.address)
    known = {
        "address": user.address,
        "tenant_id": access.tenant_id,
        "client_id": access.client_id,
        "immutable": wants_immutable(request),
        "silent": foreign,
    }
    made = _valid(lambda: graph.notifier.create(body, **known))
    return Reply(201, made.shown(secret=True))


def _valid[T](act: Callable[[], T]) -> T:
    try:
        return act()
    except (Invalid, KeyError, ValueError) as error:
        raise GraphError(400, "ValidationError", str(error)) from error
