"""The calls under /subscriptions.

https://learn.microsoft.com/graph/api/resources/subscription
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sandbox.graph.call import wants_immutable
from sandbox.graph.permissions import BASIC, allow
from sandbox.graph.problems import GraphError
from sandbox.graph.subscriptions import Invalid, Subscription, Target, end
from sandbox.web import Reply, Request

if TYPE_CHECKING:
    from sandbox.graph.server import Graph

CHANGEABLE = {"expirationDateTime", "notificationUrl", "encryptionCertificate", "encryptionCertificateId"}


def answer(graph: "Graph", request: Request, access: Any, rest: list[str]) -> Reply:
    """Answer a call: an app sees its own subscriptions, a user those made for her. Raises GraphError."""
    try:
        return _answer(graph, request, access, rest)
    except (Invalid, KeyError, ValueError) as error:
        raise GraphError(400, "ValidationError", str(error)) from error


def _answer(graph: "Graph", request: Request, access: Any, rest: list[str]) -> Reply:
    mine = _of(graph, access)
    match [request.method, *rest]:
        case ["GET"]:
            return Reply(body={"value": [one.shown() for one in mine.values()]})
        case ["POST"]:
            return _create(graph, request, access)
        case [_, id_, *_] if id_ not in mine:
            raise GraphError(404, "ResourceNotFound", "The object was not found.")
    found = mine[rest[0]]
    graph.admission.check(found.address)
    match [request.method, *rest[1:]]:
        case ["GET"]:
            return Reply(body=found.shown())
        case ["DELETE"]:
            del graph.notifier.subscriptions[found.id]
            return Reply(204)
        case ["POST", "reauthorize"]:
            found.reauthorized += 1
            return Reply(204)
        case ["PATCH"]:
            return _change(found, request.json)
    raise GraphError(400, "BadRequest", "Resource not found for the segment.")


def _of(graph: "Graph", access: Any) -> dict[str, Subscription]:
    now, whose = datetime.now(UTC), (access.client_id, access.tenant_id)
    return {
        one.id: one
        for one in graph.notifier.subscriptions.values()
        if (one.client_id, one.tenant_id) == whose
        and one.until > now
        and (access.app_only or one.creator == access.oid)
    }


def _change(found: Subscription, body: dict[str, Any]) -> Reply:
    """Renew, which also gives the subscription a fresh token."""
    if not {*body} <= CHANGEABLE:
        raise Invalid(f"{min({*body} - CHANGEABLE)} cannot be changed.")
    if "expirationDateTime" in body:
        found.until = end(body["expirationDateTime"])
        found.reauthorized += 1
    found.url = body.get("notificationUrl", found.url)
    return Reply(body=found.shown())


def _create(graph: "Graph", request: Request, access: Any) -> Reply:
    body = request.json
    target = Target.of(body.get("resource") or "")
    user = graph.identities.find_user(access.tenant_id, target.user or access.address or "")
    allow(graph.with_roles(access, user.address) if user else access, BASIC, own=True)
    if user is None or not graph.find_mailbox(user.address):
        raise GraphError(400, "ExtensionError", "The resource is not valid.")
    foreign = not access.app_only and user.address != access.address
    if foreign and not graph.faults.silent_shared:
        raise GraphError(403, "ExtensionError", "Access to other mailboxes is not supported.")
    graph.check_restriction(access, user.address)
    graph.admission.check(user.address)
    made = Subscription.of(
        body,
        address=user.address,
        folder=target.folder,
        tenant_id=access.tenant_id,
        client_id=access.client_id,
        creator=access.oid or access.client_id,
        immutable=wants_immutable(request),
        silent=foreign,
    )
    _check_number(graph, made)
    graph.notifier.add(made)
    return Reply(201, made.shown(secret=True))


def _check_number(graph: "Graph", made: Subscription) -> None:
    now = datetime.now(UTC)
    active = [one for one in graph.notifier.subscriptions.values() if one.until > now]
    if any(one.subject == made.subject for one in active):
        raise GraphError(409, "Conflict", "There is a subscription to the same resource already.")
    if sum(one.address == made.address for one in active) >= graph.faults.subscriptions:
        raise GraphError(403, "ExtensionError", "The mailbox has too many subscriptions.")
