"""Gmail's methods that read: profile, messages, threads, labels, history. https://developers.google.com/workspace/gmail/api/reference/rest."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.google.call import Call
from sandbox.google.directory import SCOPE
from sandbox.google.mailbox import CATEGORIES, SYSTEM, Change, Item, Mailbox
from sandbox.google.problems import Problem, invalid, not_found, withheld
from sandbox.google.search import names_place, predicate
from sandbox.google.shapes import attachment, shown

METADATA = f"{SCOPE}gmail.metadata"
HIDDEN = {"SPAM", "TRASH"}


def profile(call: Call) -> dict[str, Any]:
    """users.getProfile."""
    box = call.mailbox
    items = box.listed()
    counts = {"messagesTotal": len(items), "threadsTotal": len({item.thread for item in items})}
    return {"emailAddress": box.address, **counts, "historyId": str(box.history_id)}


def list_messages(call: Call) -> dict[str, Any]:
    """users.messages.list: newest first, ids only."""
    found, more = call.page(_found(call), _moment)
    body: dict[str, Any] = {"resultSizeEstimate": len(found), **more}
    if found:
        body["messages"] = [{"id": item.id, "threadId": item.thread} for item in found]
    return body


def get_message(call: Call) -> dict[str, Any]:
    """users.messages.get."""
    how = call.one("format", "full")
    _check_format(call, how)
    item, faults = call.item(), call.gmail.faults
    if item.id in faults.bad_mails and how in (faults.bad_formats or {how}):
        raise withheld(faults.bad_status)
    return shown(call.mailbox, item, how, call.query.get("metadataHeaders", ()), call.one("fields"))


def get_attachment(call: Call) -> dict[str, Any]:
    """users.messages.attachments.get."""
    return attachment(call.mailbox, call.item(call.method.path["messageId"]), call.id)


def list_threads(call: Call) -> dict[str, Any]:
    """users.threads.list."""
    newest = {item.thread: item for item in reversed(_found(call))}
    ordered = sorted(newest.values(), key=_moment, reverse=True)
    found, more = call.page(ordered, _moment)
    body: dict[str, Any] = {"resultSizeEstimate": len(found), **more}
    if found:
        body["threads"] = [_thread(call.mailbox, item) for item in found]
    return body


def get_thread(call: Call) -> dict[str, Any]:
    """users.threads.get."""
    how = call.one("format", "full")
    _check_format(call, how)
    items = call.mailbox.in_thread(call.id)
    if not items:
        raise not_found()
    if call.id in call.gmail.faults.bad_threads:
        raise withheld(call.gmail.faults.bad_status)
    names = call.query.get("metadataHeaders", ())
    latest = call.mailbox.threads[call.id]
    messages = [shown(call.mailbox, item, how, names) for item in items]
    return {"id": call.id, "historyId": str(latest), "messages": messages}


def list_drafts(call: Call) -> dict[str, Any]:
    """users.drafts.list."""
    wanted = predicate(call.mailbox, call.one("q"))
    with call.mailbox.lock:
        drafts = [(draft, call.mailbox.items[id_]) for draft, id_ in call.mailbox.drafts.items()]
    drafts = sorted((one for one in drafts if wanted(one[1])), key=lambda one: _moment(one[1]), reverse=True)
    found, more = call.page(drafts, lambda one: _moment(one[1]))
    body: dict[str, Any] = {"resultSizeEstimate": len(found), **more}
    if found:
        body["drafts"] = [{"id": d, "message": {"id": i.id, "threadId": i.thread}} for d, i in found]
    return body


def list_labels(call: Call) -> dict[str, Any]:
    """users.labels.list."""
    return {"labels": [_label(id_, name) for id_, name in call.mailbox.labels.items()]}


def get_label(call: Call) -> dict[str, Any]:
    """users.labels.get."""
    if call.id not in call.mailbox.labels:
        raise not_found()
    items = call.mailbox.listed(call.id)
    unread = [item for item in items if "UNREAD" in item.labels]
    counts = {"messagesTotal": len(items), "messagesUnread": len(unread)}
    counts |= {
        "threadsTotal": len({i.thread for i in items}),
        "threadsUnread": len({i.thread for i in unread}),
    }
    return _label(call.id, call.mailbox.labels[call.id]) | counts


def create_label(call: Call) -> dict[str, Any]:
    """users.labels.create."""
    name = str(call.body.get("name", "")).strip()
    if not name or name.upper() in call.mailbox.labels:
        raise invalid("Invalid label name")
    if any(shown.lower() == name.lower() for shown in call.mailbox.labels.values()):
        raise Problem(409, "aborted", "Label name exists or conflicts")
    return _label(call.mailbox.add_label(name), name)


def history(call: Call) -> dict[str, Any]:
    """users.history.list: what changed since an id, oldest first; 404 where that is too long ago."""
    box, faults = call.mailbox, call.gmail.faults
    if not call.one("startHistoryId"):
        raise invalid("Missing/invalid parameter: startHistoryId")
    start = int(call.one("startHistoryId"))
    if faults.expired_histories[box.address] > 0:
        faults.expired_histories[box.address] -= 1
        raise not_found()
    if start < box.oldest_history or (start > box.history_id and not faults.deaf_histories):
        raise not_found()
    if faults.late_history > 0:
        faults.late_history -= 1
        return {"historyId": str(box.history_id)}
    kinds, label = set(call.query.get("historyTypes", ())), call.one("labelId")
    with box.lock:
        latest = box.history_id
        found = [
            (place, change)
            for place, change in enumerate(box.changes)
            if change.id > start
            and (not kinds or change.kind in kinds)
            and (not label or label in {*change.labels, *change.all_labels})
        ]
    changes, more = call.page(found, lambda one: (-one[1].id, -one[0]))
    body: dict[str, Any] = {"historyId": str(latest), **more}
    if changes:
        body["history"] = [_change(change) for _, change in changes]
    return body


def list_send_as(call: Call) -> dict[str, Any]:
    """users.settings.sendAs.list."""
    box = call.mailbox
    aliases = call.gmail.directory.users[box.address].aliases
    primary = {"sendAsEmail": box.address, "isPrimary": True, "isDefault": True}
    others = [{"sendAsEmail": one, "verificationStatus": "accepted"} for one in sorted(aliases)]
    return {"sendAs": [primary, *others]}


def _found(call: Call) -> list[Item]:
    """Return what a list finds, newest first."""
    query, labels = call.one("q"), set(call.query.get("labelIds", ()))
    if "q" in call.query and METADATA in call.access.scopes:
        raise Problem(403, "forbidden", "Metadata scope does not support 'q' parameter")
    if labels - set(call.mailbox.labels):
        raise invalid(f"Invalid label: {min(labels - set(call.mailbox.labels))}")
    everywhere = call.flag("includeSpamTrash") or names_place(query) or bool(labels & HIDDEN)
    wanted, newest = predicate(call.mailbox, query), datetime.max.replace(tzinfo=UTC)
    if query and call.gmail.faults.late_search > 0:
        call.gmail.faults.late_search -= 1
        newest = datetime.now(UTC) - timedelta(minutes=1)
    found = [
        item
        for item in call.mailbox.listed()
        if labels <= item.labels
        and (everywhere or not item.labels & HIDDEN)
        and item.received_at < newest
        and wanted(item)
    ]
    return sorted(found, key=_moment, reverse=True)


def _check_format(call: Call, how: str) -> None:
    if how in {"full", "raw"} and METADATA in call.access.scopes:
        raise Problem(403, "forbidden", f"Metadata scope doesn't allow format {how.upper()}")


def _moment(item: Item) -> tuple[float, float]:
    return item.received_at.timestamp(), item.arrived


def _thread(box: Mailbox, newest: Item) -> dict[str, Any]:
    return {"id": newest.thread, "snippet": "", "historyId": str(box.threads[newest.thread])}


def _label(id_: str, name: str) -> dict[str, Any]:
    if id_ in {*SYSTEM, *CATEGORIES}:
        return {"id": id_, "name": name, "type": "system"}
    looks = {"messageListVisibility": "show", "labelListVisibility": "labelShow"}
    return {"id": id_, "name": name, "type": "user", **looks}


def _change(change: Change) -> dict[str, Any]:
    ids = {"id": change.item, "threadId": change.thread}
    message = {**ids, "labelIds": list(change.all_labels)}
    body: dict[str, Any] = {"id": str(change.id), "messages": [ids]}
    match change.kind:
        case "messageAdded":
            body["messagesAdded"] = [{"message": message}]
        case "messageDeleted":
            body["messagesDeleted"] = [{"message": message}]
        case kind:
            name = "labelsAdded" if kind == "labelAdded" else "labelsRemoved"
            body[name] = [{"message": message, "labelIds": list(change.labels)}]
    return body
