"""Gmail's methods that write: send, drafts, labels on messages, watch.

A mail joins the thread that is asked for only where its references and its subject fit:
https://developers.google.com/workspace/gmail/api/guides/threads
"""

import itertools
import re
import secrets
from email.utils import formataddr, getaddresses, parseaddr
from typing import Any

from sandbox.google.call import Call
from sandbox.google.directory import User
from sandbox.google.headers import base_subject, ids, unb64
from sandbox.google.mailbox import Item, Mailbox, Watch
from sandbox.google.problems import Problem, invalid, not_found, precondition, withheld
from sandbox.google.shapes import shown
from sandbox.mail import date_822, head, recipients, replaced, trace, without

MOST_RECIPIENTS = 500
_DRAFTS = itertools.count(7_000_000_000_000_000_001, 1_000_003)


def send(call: Call) -> dict[str, Any]:
    """users.messages.send."""
    raw, thread = _mail(call, call.body)
    return _handed_over(call, raw, _joined(call.mailbox, raw, thread))


def create_draft(call: Call) -> dict[str, Any]:
    """users.drafts.create."""
    raw, thread = _mail(call, call.body.get("message") or {})
    draft = f"r{next(_DRAFTS)}"
    return _draft(draft, _put_draft(call, draft, raw, _joined(call.mailbox, raw, thread)))


def get_draft(call: Call) -> dict[str, Any]:
    """users.drafts.get."""
    return {
        "id": call.id,
        "message": shown(call.mailbox, _drafted(call, call.id), call.one("format", "full")),
    }


def update_draft(call: Call) -> dict[str, Any]:
    """users.drafts.update: the draft keeps its id, the message in it is a new one."""
    old = _drafted(call, call.id)
    raw, thread = _mail(call, call.body.get("message") or {})
    joined = _joined(call.mailbox, raw, thread) if thread else old.thread
    call.mailbox.remove(old)
    return _draft(call.id, _put_draft(call, call.id, raw, joined))


def delete_draft(call: Call) -> None:
    """users.drafts.delete."""
    call.mailbox.remove(_drafted(call, call.id))


def send_draft(call: Call) -> dict[str, Any]:
    """users.drafts.send: the draft is gone, and a new message lies in SENT.

    With a new text it joins a thread as every mail does, by what others there say: the draft is none of them.
    """
    draft = str(call.body.get("id", ""))
    old = _drafted(call, draft)
    raw, joined = old.raw, old.thread
    if call.media is not None or (call.body.get("message") or {}).get("raw"):
        raw, thread = _mail(call, call.body.get("message") or {})
        joined = _joined(call.mailbox, raw, thread, besides=old)
    return _handed_over(call, raw, joined, old)


def modify(call: Call) -> dict[str, Any]:
    """users.messages.modify."""
    adding, removing = call.body.get("addLabelIds", []), call.body.get("removeLabelIds", [])
    for label in (*adding, *removing):
        if label not in call.mailbox.labels:
            raise invalid(f"Invalid label: {label}")
    item = call.item()
    call.mailbox.label(item, add=adding, remove=removing)
    return _ids(item)


def trash(call: Call) -> dict[str, Any]:
    """users.messages.trash."""
    item = call.item()
    call.mailbox.label(item, add=["TRASH"], remove=["INBOX"])
    return _ids(item)


def untrash(call: Call) -> dict[str, Any]:
    """users.messages.untrash."""
    item = call.item()
    call.mailbox.label(item, remove=["TRASH"])
    return _ids(item)


def delete(call: Call) -> None:
    """users.messages.delete."""
    call.mailbox.remove(call.item())


def watch(call: Call) -> dict[str, Any]:
    """users.watch: for some days, and one push at once."""
    box, topic, project = call.mailbox, str(call.body.get("topicName", "")), call.access.project
    if not re.fullmatch(r"projects/[^/]+/topics/[^/]+", topic):
        raise invalid("Invalid topicName")
    if topic.split("/")[1] != project:
        raise invalid(f"Invalid topicName does not match projects/{project}/topics/*")
    found = call.gmail.pubsub.topics.get(topic)
    if found is None:
        raise Problem(404, "notFound", f"Resource not found (resource={topic.rpartition('/')[2]}).")
    if not found.publisher:
        words = "User not authorized to perform this action."
        raise Problem(403, "forbidden", f"Error sending test message to Cloud PubSub {topic} : {words}")
    running = box.watches.get(project)
    if running and running.topic != topic and running.until > call.gmail.now():
        words = "Only one user push notification client allowed per developer (call /stop then try again)"
        raise precondition(words)
    until = call.gmail.now() + call.gmail.faults.watch_seconds
    exclude = "exclude" in {call.body.get("labelFilterBehavior"), call.body.get("labelFilterAction")}
    box.watches[project] = Watch(topic, frozenset(call.body.get("labelIds", ())), exclude, until)
    call.gmail.publish(box, box.watches[project])
    return {"historyId": str(box.history_id), "expiration": str(int(until * 1000))}


def stop(call: Call) -> None:
    """users.stop."""
    call.mailbox.watches.pop(call.access.project, None)


# A mail on its way


def _mail(call: Call, message: dict[str, Any]) -> tuple[bytes, str]:
    """Return the mail, and the thread that is asked for. Raises Problem."""
    thread = str(message.get("threadId", ""))
    if thread and not re.fullmatch(r"[0-9a-f]{1,16}", thread):
        raise invalid("Invalid thread_id value")
    if thread and not call.mailbox.in_thread(thread):
        raise not_found()
    raw = call.media if call.media is not None else _unpacked(str(message.get("raw", "")))
    return re.sub(rb"\r\n|\r|\n", b"\r\n", raw), thread


def _unpacked(text: str) -> bytes:
    if not text:
        raise invalid("'raw' RFC822 payload message string or uploading message via /upload/* URL required")
    try:
        return unb64(text)
    except ValueError as error:
        raise invalid("Invalid value at 'message.raw' (TYPE_BYTES), Base64 decoding failed") from error


def _handed_over(call: Call, raw: bytes, joined: str, draft: Item | None = None) -> dict[str, Any]:
    gmail, box = call.gmail, call.mailbox
    if gmail.faults.lost_before > 0:
        gmail.faults.lost_before -= 1
        raise ConnectionAbortedError
    if gmail.faults.bad_sends > 0:
        gmail.faults.bad_sends -= 1
        raise withheld(gmail.faults.bad_status)
    message = head(raw)
    for name in ("To", "Cc", "Bcc"):
        if any("@" not in address for _, address in getaddresses([str(message.get(name) or "x@x")])):
            raise invalid(f"Invalid {name} header")
    to = recipients(message)
    if not to:
        raise invalid("Recipient address required")
    if len(to) > MOST_RECIPIENTS:
        raise invalid("Too many recipients")
    final = _signed(raw, gmail.directory.users[box.address], rewrite=gmail.faults.rewrite_message_id)
    if draft:
        box.remove(draft)
    item = box.add(final, "SENT", thread=joined or "new")
    box.tell({"SENT"})
    gmail.transport(box.address, without(final, "Bcc"), to)
    if gmail.faults.lost_answers > 0:
        gmail.faults.lost_answers -= 1
        raise ConnectionAbortedError
    return _ids(item)


def _signed(raw: bytes, user: User, *, rewrite: bool) -> bytes:
    """Return the mail as Gmail sends it: From is the account or its alias, Date and Message-ID are there."""
    message = head(raw)
    name, address = parseaddr(str(message.get("From", "")))
    if address.lower() not in {user.address, *user.aliases}:
        raw = replaced(raw, "From", formataddr((name, user.address)))
    if not message.get("Date"):
        raw = replaced(raw, "Date", date_822())
    if rewrite or not re.fullmatch(r"\s*<[^<>@\s]+@[^<>@\s]+>\s*", str(message.get("Message-ID", ""))):
        raw = replaced(raw, "Message-ID", f"<CA{secrets.token_urlsafe(36)}@mail.gmail.com>")
    return trace("gmailapi.google.com with HTTPREST") + raw


def _joined(box: Mailbox, raw: bytes, thread: str, *, besides: Item | None = None) -> str:
    """Return the thread if references and subject fit, else an empty string: it begins a new one."""
    if not thread:
        return ""
    message, others = head(raw), [one for one in box.in_thread(thread) if one is not besides]
    mentioned = {one for name in ("In-Reply-To", "References") for one in ids(message.get(name))}
    fits = any(base_subject(one.head) == base_subject(message) for one in others)
    return thread if fits and mentioned & {one.message_id for one in others} else ""


def _put_draft(call: Call, draft: str, raw: bytes, thread: str) -> Item:
    item = call.mailbox.add(raw, "DRAFT", thread=thread or "new")
    call.mailbox.drafts[draft] = item.id
    call.mailbox.tell({"DRAFT"})
    return item


def _drafted(call: Call, draft: str) -> Item:
    found = call.mailbox.find(call.mailbox.drafts.get(draft, ""))
    if found is None:
        raise not_found()
    return found


def _draft(draft: str, item: Item) -> dict[str, Any]:
    return {"id": draft, "message": _ids(item)}


def _ids(item: Item) -> dict[str, Any]:
    return {"id": item.id, "threadId": item.thread, "labelIds": sorted(item.labels)}
