"""Lists of messages: $filter, $search, $orderby.

https://learn.microsoft.com/graph/api/user-list-messages
"""

from collections.abc import Mapping
from typing import Any

from sandbox.graph import odata
from sandbox.graph.call import Call
from sandbox.graph.paging import page, selected, top
from sandbox.graph.permissions import BASIC, READ
from sandbox.graph.problems import GraphError
from sandbox.graph.search import matches
from sandbox.graph.showing import CONTENT
from sandbox.web import Reply

MOST_FOUND = 1000
HEAVY = CONTENT | {"internetMessageHeaders"}


def messages(call: Call, folder: str = "") -> Reply:
    """List the messages of a folder, or of the whole mailbox; newest first unless told otherwise."""
    items = _matching(call, folder)
    query = call.request.query
    asked = {*odata.names(query.get("$select", ""))}
    if (not asked or asked & HEAVY) and top(call) > call.graph.faults.heavy_page:
        raise GraphError(504, "GatewayTimeout", "The request timed out.")
    if "$orderby" in query:
        items.sort(key=lambda one: one["_item"].arrived)
        items = odata.order(query["$orderby"], query.get("$filter", ""))(items)
    elif "$search" in query:
        items = sorted(items, key=lambda one: str(one["sentDateTime"]), reverse=True)[:MOST_FOUND]
    else:
        items.sort(key=lambda one: (one["receivedDateTime"], one["_item"].arrived), reverse=True)
    return page(call, items, lambda one: selected(call, one))


def count(call: Call, folder: str = "") -> Reply:
    """Say how many there are, as plain text."""
    return Reply(200, str(len(_matching(call, folder))).encode(), {"Content-Type": "text/plain"})


def _matching(call: Call, folder: str) -> list[Mapping[str, Any]]:
    place = call.folder(folder).id if folder else None
    call.allow(BASIC)
    query = call.request.query
    odata.names(query.get("$select", ""))
    if "$search" in query and {"$filter", "$orderby", "$count"} & {*query}:
        raise GraphError(400, "SearchWithFilter", "The query parameter is not supported with $search.")
    if "$search" in query or "singleValueExtendedProperties" in query.get("$filter", ""):
        call.allow(READ)
    wanted = odata.predicate(query["$filter"]) if "$filter" in query else lambda _: True
    items: list[Mapping[str, Any]] = [call.shown(item) for item in call.mailbox.listed(place)]
    items = [one for one in items if wanted(one)]
    return [one for one in items if matches(one, query["$search"])] if "$search" in query else items
