"""Sending: mail as JSON or MIME, drafts, and answers that Exchange threads by itself.

https://learn.microsoft.com/graph/api/user-sendmail, https://learn.microsoft.com/graph/api/message-reply
"""

from collections.abc import Callable, Mapping
from email.message import EmailMessage
from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.composing import compose
from sandbox.graph.mailbox import Item
from sandbox.graph.messages import is_json, properties, written
from sandbox.graph.paging import selected
from sandbox.graph.permissions import SEND, WRITE
from sandbox.graph.problems import GraphError
from sandbox.web import Reply


def send_mail(call: Call) -> Reply:
    """Send a mail."""
    call.allow(SEND)
    _may_send_as(call)
    return _sent(call, written(call, call.request.json["message"] if is_json(call.request) else {}))


def send_draft(call: Call, message: str) -> Reply:
    """Send a draft; its immutable id stays."""
    item = call.item(message)
    call.allow(SEND)
    _may_send_as(call)
    if not item.draft:
        raise GraphError(400, "ErrorInvalidOperation", "The message is not a draft.")
    return _sent(call, item.raw, item)


def answering(how: str) -> Callable[[Call, str], Reply]:
    """Make the action `reply`, `replyAll` or `forward`."""

    def act(call: Call, message: str) -> Reply:
        item = call.item(message)
        call.allow(SEND)
        body = call.request.json if call.request.body else {}
        if body.get("comment") and (body.get("message") or {}).get("body"):
            raise GraphError(400, "ErrorInvalidRequest", "Specify either comment or the message's body.")
        return _sent(call, _answer(call, item, how, body).as_bytes())

    return act


def drafting(how: str) -> Callable[[Call, str], Reply]:
    """Make the action `createReply`, `createReplyAll` or `createForward`."""

    def act(call: Call, message: str) -> Reply:
        item = call.item(message)
        call.allow(WRITE)
        body = call.request.json if call.request.body else {}
        draft = call.mailbox.add(_answer(call, item, how, body).as_bytes(), "drafts", draft=True)
        return Reply(201, selected(call, call.shown(draft), {}))

    return act


def _answer(call: Call, item: Item, how: str, body: Mapping[str, Any]) -> EmailMessage:
    """Compose an answer as Exchange does: with threading headers and Reply-To honoured."""
    old, asked = item.message, dict(body.get("message") or {})
    shown = call.shown(item)
    subject, prefix = str(old.get("Subject", "")), "FW: " if how == "forward" else "RE: "
    asked.setdefault("subject", subject if subject.upper().startswith(prefix) else prefix + subject)
    asked.setdefault("body", {"contentType": "text", "content": body.get("comment", "")})
    if how == "forward":
        asked["toRecipients"] = body.get("toRecipients", [])
    else:
        asked.setdefault("toRecipients", shown["replyTo"] or [shown["from"]])
        if how == "replyAll":
            asked.setdefault("ccRecipients", shown["ccRecipients"])
    message = compose(call.mailbox.address, asked)
    parent = str(old.get("Message-ID", ""))
    message["In-Reply-To"] = parent
    message["References"] = " ".join([*str(old.get("References", "")).split(), parent])
    return message


def _sent(call: Call, raw: bytes, draft: Item | None = None) -> Reply:
    faults = call.graph.faults
    if faults.lost_before > 0:
        faults.lost_before -= 1
        raise ConnectionAbortedError
    copy = call.graph.submit(call.mailbox, raw)
    copy.extended |= properties(call.request)
    if draft:
        call.mailbox.replace(draft, copy)
    if faults.lost_answers > 0:
        faults.lost_answers -= 1
        raise ConnectionAbortedError
    return Reply(202)


def _may_send_as(call: Call) -> None:
    if not (call.own or call.access.app_only or {"send_as", "send_on_behalf"} & call.rights):
        raise GraphError(
            403, "ErrorSendAsDenied", "The user account does not have the right to send as this."
        )
