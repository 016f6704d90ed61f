"""What came, changed or went in a folder since a token was given out.

https://learn.microsoft.com/graph/delta-query-messages
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.graph import odata
from sandbox.graph.call import Call, wants_immutable
from sandbox.graph.mailbox import Change
from sandbox.graph.paging import link, packed, selected, top, unpacked
from sandbox.graph.permissions import BASIC
from sandbox.graph.problems import GraphError
from sandbox.web import Reply

KINDS = {"created", "updated", "deleted"}
MOST_FILTERED = 5000
_FILTER = re.compile(r"receivedDateTime (?:ge|gt) \S+")


def changes(call: Call, folder: str) -> Reply:
    """Answer with a page of changes, and a link to the next page or to the next time."""
    place = call.folder(folder).id
    call.allow(BASIC)
    _play_expiry(call)
    query = call.request.query
    given = query.get("$skiptoken") or query.get("$deltatoken")
    if given:
        state = unpacked(given)
    else:
        _check(query)
        state = {"since": 0, "upto": 0, "given": 0, "first": True, "options": dict(query)}
    if "$skiptoken" not in query:
        state["upto"] = max((change.number for change in call.mailbox.changes), default=0)
        state["given"] = state["since"]
    found = [one for one in _found(call, place, state) if one[0] > state["given"]]
    size = top(call, state["options"])
    body: dict[str, Any] = {"value": [shown for _, shown in found[:size]]}
    if len(found) > size:
        rest = {**state, "given": found[size - 1][0]}
        body["@odata.nextLink"] = link(call, {"$skiptoken": packed(rest)})
    else:
        rest = {**state, "since": state["upto"], "first": False}
        body["@odata.deltaLink"] = link(call, {"$deltatoken": packed(rest)})
    return Reply(body=body)


def _play_expiry(call: Call) -> None:
    if not call.graph.faults.expired_deltas:
        return
    code = call.graph.faults.expired_deltas.pop(0)
    if code == "410":
        raise GraphError(410, "syncStateNotFound", Location=link(call, {"$deltatoken": "latest"}))
    raise GraphError(400, code)


def _check(query: Mapping[str, str]) -> None:
    """Raise GraphError for an option that delta does not have."""
    odata.names(query.get("$select", ""))
    kinds = {*query.get("changeType", "created").split(",")}
    if "$search" in query:
        raise GraphError(400, "ErrorInvalidUrlQuery", "$search is not supported by delta.")
    if "$filter" in query and not _FILTER.fullmatch(query["$filter"]):
        raise GraphError(400, "ErrorInvalidUrlQueryFilter", "Only receivedDateTime ge or gt is supported.")
    if query.get("$orderby", "receivedDateTime desc") != "receivedDateTime desc":
        raise GraphError(400, "ErrorInvalidUrlQuery", "Only receivedDateTime desc is supported.")
    if not kinds <= KINDS:
        raise GraphError(400, "ErrorInvalidUrlQuery", "changeType is not valid.")


def _found(call: Call, folder: str, state: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return (number, what is shown), oldest first. A filter holds back what came in, never what went."""
    options: Mapping[str, str] = state["options"]
    wanted = odata.predicate(options["$filter"]) if "$filter" in options else lambda _: True
    kinds = {*options["changeType"].split(",")} if "changeType" in options else KINDS
    found, most = list[tuple[int, dict[str, Any]]](), 0
    for kind, change in _last(call, folder, state):
        item = call.mailbox.items.get(change.item)
        if kind == "removed":
            if "deleted" in kinds and not state["first"]:
                id_ = change.item if wants_immutable(call.request) else change.moving_id
                found.append((change.number, {"id": id_, "@removed": {"reason": change.kind}}))
        elif item and kind in kinds and wanted(call.shown(item)):
            most += 1
            found.append((change.number, selected(call, call.shown(item), options)))
    return found[most - MOST_FILTERED :] if "$filter" in options and most > MOST_FILTERED else found


def _last(call: Call, folder: str, state: Mapping[str, Any]) -> Iterator[tuple[str, Change]]:
    """Yield what became of each item; one that came and was changed is still one that came."""
    became: dict[str, tuple[str, Change]] = {}
    for change in list(call.mailbox.changes):
        if change.folder != folder or not state["since"] < change.number <= state["upto"]:
            continue
        kind = "removed" if change.kind in {"deleted", "changed"} else change.kind
        known = became.pop(change.item, None)
        came = kind == "updated" and known is not None and known[0] == "created"
        became[change.item] = ("created" if came else kind, change)
    return iter(became.values())
