"""Which function answers which path of a mailbox; a star stands for an id."""

from collections.abc import Callable

from sandbox.graph import attachments, delta, folders, listing, messages, sending
from sandbox.graph.call import Call
from sandbox.graph.problems import GraphError
from sandbox.web import Reply

Action = Callable[..., Reply]

ROUTES: tuple[tuple[str, str, Action], ...] = (
    ("GET", "", folders.user),
    ("GET", "mailFolders", folders.top),
    ("POST", "mailFolders", folders.create),
    ("GET", "mailFolders/*", folders.one),
    ("GET", "mailFolders/*/childFolders", folders.children),
    ("POST", "mailFolders/*/childFolders", folders.create),
    ("GET", "mailFolders/*/messages", listing.messages),
    ("GET", "mailFolders/*/messages/$count", listing.count),
    ("GET", "mailFolders/*/messages/delta", delta.changes),
    ("POST", "mailFolders/*/messages", messages.draft),
    ("GET", "messages", listing.messages),
    ("GET", "messages/$count", listing.count),
    ("POST", "messages", messages.draft),
    ("GET", "messages/*", messages.one),
    ("PATCH", "messages/*", messages.patch),
    ("DELETE", "messages/*", messages.delete),
    ("GET", "messages/*/$value", messages.content),
    ("POST", "messages/*/move", messages.move),
    ("GET", "messages/*/attachments", attachments.listed),
    ("POST", "messages/*/attachments", attachments.add),
    ("POST", "messages/*/attachments/createUploadSession", attachments.create_upload),
    ("GET", "messages/*/attachments/*", attachments.one),
    ("GET", "messages/*/attachments/*/$value", attachments.content),
    ("POST", "sendMail", sending.send_mail),
    ("POST", "messages/*/send", sending.send_draft),
    ("POST", "messages/*/reply", sending.answering("reply")),
    ("POST", "messages/*/replyAll", sending.answering("replyAll")),
    ("POST", "messages/*/forward", sending.answering("forward")),
    ("POST", "messages/*/createReply", sending.drafting("reply")),
    ("POST", "messages/*/createReplyAll", sending.drafting("replyAll")),
    ("POST", "messages/*/createForward", sending.drafting("forward")),
)


OPTIONS = {
    f"${name}"
    for name in [
        "select",
        "filter",
        "orderby",
        "expand",
        "top",
        "skip",
        "count",
        "search",
        "skiptoken",
        "deltatoken",
        "format",
    ]
}


def routed(method: str, path: list[str]) -> tuple[str, Action, list[str]]:
    """Return the pattern that a path follows, its function, and the ids in it. Raises GraphError."""
    for verb, pattern, action in ROUTES:
        parts = pattern.split("/") if pattern else []
        if verb == method and len(parts) == len(path):
            pairs = list(zip(parts, path, strict=True))
            if all(part in {"*", given} for part, given in pairs):
                return pattern, action, [given for part, given in pairs if part == "*"]
    raise GraphError(400, "BadRequest", "Resource not found for the segment.")


def answer(call: Call, path: list[str]) -> Reply:
    """Answer a request; a message may be addressed through its folder. Raises GraphError."""
    unknown = {name for name in call.request.query if name[0] == "$"} - OPTIONS
    if unknown:
        raise GraphError(400, "BadRequest", f"The query option '{min(unknown)}' is not known.")
    match path:
        case ["mailFolders", folder, "messages", id_, *rest] if id_ not in {"delta", "$count"}:
            call.folder(folder)
            path = ["messages", id_, *rest]
    _, action, ids = routed(call.request.method, path)
    return action(call, *ids)
