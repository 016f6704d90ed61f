"""Lists of messages, and delta: what changed in a folder.

https://learn.microsoft.com/graph/api/user-list-messages, https://learn.microsoft.com/graph/delta-query-messages
"""

from collections.abc import Mapping
from typing import Any

from sandbox.graph import odata
from sandbox.graph.call import Call
from sandbox.graph.paging import here, packed, page, selected, unpacked
from sandbox.graph.permissions import BASIC
from sandbox.graph.problems import GraphError
from sandbox.graph.search import matches
from sandbox.web import Reply


def messages(call: Call, folder: str = "") -> Reply:
    """List the messages of a folder, or of the whole mailbox; newest first unless told otherwise."""
    place = call.folder(folder).id if folder else None
    call.allow(BASIC)
    query = call.request.query
    if "$search" in query and ("$filter" in query or "$orderby" in query):
        raise GraphError(400, "SearchWithFilter", "The query parameter is not supported with $search.")
    items: list[Mapping[str, Any]] = [call.shown(item) for item in call.mailbox.listed(place)]
    if "$filter" in query:
        wanted = odata.predicate(query["$filter"])
        items = [one for one in items if wanted(one)]
    if "$search" in query:
        items = [one for one in items if matches(one, query["$search"])]
    items.sort(key=lambda one: (one["receivedDateTime"], one["_item"].arrived), reverse=True)
    if "$orderby" in query:
        items.sort(key=lambda one: one["_item"].arrived)
        items = odata.order(query["$orderby"], query.get("$filter", ""))(items)
    return page(call, items, lambda one: selected(call, one))


def delta(call: Call, folder: str) -> Reply:
    """Tell what came, changed or went since the token was given out."""
    place = call.folder(folder).id
    call.allow(BASIC)
    if call.graph.faults.expired_deltas:
        code = call.graph.faults.expired_deltas.pop(0)
        raise GraphError(410 if code == "410" else 400, "syncStateNotFound" if code == "410" else code)
    query = call.request.query
    token = unpacked(query["$deltatoken"]) if "$deltatoken" in query else None
    options = token["options"] if token else {k: v for k, v in query.items() if not k.endswith("token")}
    since = token["since"] if token else 0
    found = _changed(call, place, options, since, again=token is not None)
    latest = max((c.number for c in call.mailbox.changes), default=0)
    link = packed({"since": max(latest, since), "options": options})
    return Reply(body={"value": found, "@odata.deltaLink": f"{here(call)}?$deltatoken={link}"})


def _changed(
    call: Call, folder: str, options: Mapping[str, str], since: int, *, again: bool
) -> list[dict[str, Any]]:
    wanted = odata.predicate(options["$filter"]) if "$filter" in options else lambda _: True
    seen = dict[str, dict[str, Any]]()
    for change in [c for c in call.mailbox.changes if c.folder == folder and c.number > since]:
        item = call.mailbox.items.get(change.item)
        seen.pop(change.item, None)
        if change.kind == "removed" or item is None or item.folder != folder:
            if again:
                seen[change.item] = {"id": change.item, "@removed": {"reason": "deleted"}}
        elif wanted(call.shown(item)):
            seen[change.item] = selected(call, call.shown(item), options)
    return list(seen.values())
