"""Sending: mail as JSON or MIME, drafts, and answers that Exchange threads by itself.

https://learn.microsoft.com/graph/api/user-sendmail, https://learn.microsoft.com/graph/api/message-reply
"""

import email
import email.policy
from collections.abc import Callable, Mapping
from email.utils import getaddresses
from typing import Any

from sandbox.graph.call import Call
from sandbox.graph.composing import compose
from sandbox.graph.mailbox import Item
from sandbox.graph.messages import check_headers, is_json, properties, written
from sandbox.graph.paging import selected
from sandbox.graph.permissions import SEND, WRITE
from sandbox.graph.problems import GraphError
from sandbox.graph.showing import QUOTED, plain
from sandbox.web import Reply


def send_mail(call: Call) -> Reply:
    """Send a mail."""
    call.allow(SEND)
    body = call.request.json if is_json(call.request) else {}
    raw = written(call, body.get("message") or body.get("Message") or {})
    return _sent(call, raw, keep=bool(body.get("saveToSentItems", body.get("SaveToSentItems", True))))


def send_draft(call: Call, message: str) -> Reply:
    """Send a draft; its immutable id stays."""
    item = call.item(message)
    call.allow(SEND)
    if not item.draft:
        raise GraphError(400, "ErrorInvalidOperation", "The message is not a draft.")
    return _sent(call, item.raw, item)


def answering(how: str) -> Callable[[Call, str], Reply]:
    """Make the action `reply`, `replyAll` or `forward`."""

    def act(call: Call, message: str) -> Reply:
        item = call.item(message)
        call.allow(SEND)
        return _sent(call, _answer(call, item, how))

    return act


def drafting(how: str) -> Callable[[Call, str], Reply]:
    """Make the action `createReply`, `createReplyAll` or `createForward`."""

    def act(call: Call, message: str) -> Reply:
        item = call.item(message)
        call.allow(WRITE)
        draft = call.mailbox.add(_answer(call, item, how), "drafts", draft=True)
        return Reply(201, selected(call, call.shown(draft), {}))

    return act


def _answer(call: Call, item: Item, how: str) -> bytes:
    """Compose an answer as Exchange does: with threading headers and Reply-To honoured."""
    if not is_json(call.request):
        return written(call, {})
    body = call.request.json
    asked = dict(body.get("message") or body.get("Message") or {})
    comment = body.get("comment") or body.get("Comment") or ""
    if comment and asked.get("body"):
        raise GraphError(400, "ErrorInvalidRequest", "Specify either comment or the message's body.")
    check_headers(asked)
    shown = call.shown(item)
    subject, prefix = shown["subject"], "FW: " if how == "forward" else "RE: "
    asked.setdefault("subject", subject if subject.upper().startswith(prefix) else prefix + subject)
    quoted = f"From: {(shown['from'] or {}).get('emailAddress', {}).get('address', '')}\r\n\r\n"
    text = shown["body"]["content"]
    text = plain(text) if shown["body"]["contentType"] == "html" else text
    asked.setdefault("body", {"contentType": "text", "content": f"{comment}{QUOTED}{quoted}{text}"})
    for key, people in _addressed(call, shown, how, body).items():
        asked.setdefault(key, people)
    message = compose(call.mailbox.address, asked)
    parent = str(item.message.get("Message-ID", ""))
    message["In-Reply-To"] = parent
    message["References"] = " ".join([*str(item.message.get("References", "")).split(), parent])
    return message.as_bytes()


def _addressed(
    call: Call, shown: Mapping[str, Any], how: str, body: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Return whom an answer goes to; not to oneself."""
    if how == "forward":
        return {"toRecipients": body.get("toRecipients") or body.get("ToRecipients") or []}
    to = shown["replyTo"] or ([shown["from"]] if shown["from"] else [])
    if how == "reply":
        return {"toRecipients": to}
    known = {one["emailAddress"]["address"].lower() for one in to} | {call.mailbox.address}
    others = {
        key: [one for one in shown[key] if one["emailAddress"]["address"].lower() not in known]
        for key in ("toRecipients", "ccRecipients")
    }
    return {"toRecipients": [*to, *others["toRecipients"]], "ccRecipients": others["ccRecipients"]}


def _sent(call: Call, raw: bytes, draft: Item | None = None, *, keep: bool = True) -> Reply:
    """Hand a mail over; the answer may get lost before or after."""
    faults = call.graph.faults
    sender = _check_sender(call, raw)
    if call.mailbox.address in faults.sendless:
        raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
    if faults.lost_before > 0:
        faults.lost_before -= 1
        raise ConnectionAbortedError
    call.graph.submit(call.mailbox, raw, sender, draft=draft, keep=keep, extended=properties(call.request))
    if faults.lost_answers > 0:
        faults.lost_answers -= 1
        raise ConnectionAbortedError
    if faults.late_answers > 0:
        faults.late_answers -= 1
        raise GraphError(504, "GatewayTimeout", "The request timed out.")
    return Reply(202)


def _check_sender(call: Call, raw: bytes) -> str:
    """Return whom the mail is from; somebody else must have allowed it. Raises GraphError."""
    found = getaddresses([str(email.message_from_bytes(raw, policy=email.policy.default).get("From", ""))])
    sender = (found[0][1] if found else "").lower() or call.mailbox.address
    if call.access.app_only:
        return sender  # the app may send as everybody it reaches
    for address in {sender, call.mailbox.address} - {call.access.address}:
        mailbox = call.graph.find_mailbox(address)
        rights = mailbox.access.get(call.access.address, set()) if mailbox else set()
        shared = "Mail.Send.Shared" in call.access.permissions
        if not shared or not {"send_as", "send_on_behalf"} & rights:
            words = "The user account does not have the right to send as this."
            raise GraphError(403, "ErrorSendAsDenied", words)
    return sender
