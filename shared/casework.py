"""Cases: their members, their timeline, and moving a conversation from one to another."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from shared import audit, jobs, mime, sealing
from shared.app import App
from shared.callers import Caller
from shared.comparing import held_by
from shared.errors import InvalidRequest, NotAllowed, NotFound, Raced
from shared.jobs import Job
from shared.keeping import bytes_of, texts_of
from shared.model import Attachment, Case, Conversation, Mailbox, Message
from shared.storage.base import Move, Remove, Save, Stored, Write, every

LARGEST_PAGE = 4_000_000
"""Octets of JSON after which a page of the timeline ends: anybody may write long mails, and many of them."""

CARRIED_AT_ONCE = 40
"""Two writes a message, and a transaction takes 100."""

CARRIED_OCTETS = 2_000_000
"""A transaction takes 4 MiB (https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions)."""

TRIES = 30
"""Whoever loses a race reads again: each of them brought somebody else a step further."""

CARRY_DELAY = 2
"""Seconds: longer than the write that follows takes."""


def put_case(app: App, caller: Caller, case_id: str, title: str, members: Sequence[str]) -> Case:
    """Create a case or replace its title and members."""
    caller.need("platform", "admin")
    case = Case(case_id, title, tuple(dict.fromkeys(members)))
    event = audit.entry(app, "case.saved", actor=caller.email or "platform", case_id=case_id)
    app.records.commit(caller.org_id, Save(case), event)
    return case


def member_case(app: App, caller: Caller, case_id: str) -> Case:
    """Return the case if the caller is one of its members. Raises NotFound or NotAllowed.

    The address alone is not enough: what IT or a service is called may be a member's, too.
    """
    case = app.records.get(caller.org_id, Case, case_id, field="caseId").value
    caller.need("member")
    if not caller.email or caller.email not in case.members:
        raise NotAllowed("Only members of the case may do this.")
    return case


def timeline(
    app: App, caller: Caller, case_id: str, *, limit: int, cursor: str | None
) -> tuple[list[Message], str | None]:
    """Return one page of a case's mail, oldest first, and the cursor of the next one or None.

    Long mails make it shorter than `limit`.
    """
    member_case(app, caller, case_id)
    key = app.keys.cursors(caller.org_id)
    after = sealing.unpack_cursor(key, "timeline", caller.org_id, cursor).get("after", "") if cursor else ""
    prefix = f"{case_id}!"
    if after and not after.startswith(prefix):
        raise InvalidRequest("This cursor belongs to another case.", field="cursor")
    rows = app.records.range(caller.org_id, Message, prefix=prefix, after=after, limit=limit + 1)
    page = _as_many_as_fit(whole(app, caller.org_id, row.value) for row in rows[:limit])
    more = len(rows) > len(page)
    following = sealing.pack_cursor(key, "timeline", caller.org_id, {"after": page[-1].key}) if more else None
    _read(app, caller, "case.read", case_id)
    return page, following


def _as_many_as_fit(messages: Iterator[Message]) -> list[Message]:
    """Take messages, one at least, until they are too much; the bodies of further ones are never read."""
    page, weight = list[Message](), 0
    for message in messages:
        page.append(message)
        weight += len(msgspec.json.encode(message))
        if message.body == message.raw:  # read from the bytes, its files included
            weight += sum(file.size for file in message.attachments)
        if weight > LARGEST_PAGE:
            break
    return page


def email(app: App, caller: Caller, case_id: str, email_id: str) -> Message:
    """Return one e-mail of the case, its body included."""
    message = _message(app, caller, case_id, email_id).value
    _read(app, caller, "message.read", case_id, message)
    return whole(app, caller.org_id, message)


def raw(app: App, caller: Caller, case_id: str, email_id: str) -> bytes:
    """Return the e-mail's bytes as they were received or sent."""
    message = _message(app, caller, case_id, email_id).value
    _read(app, caller, "message.downloaded", case_id, message)
    return bytes_of(app, caller.org_id, message)


def attachment(app: App, caller: Caller, case_id: str, email_id: str, index: int) -> tuple[Attachment, bytes]:
    """Return one attachment, decoded. Raises NotFound."""
    message = _message(app, caller, case_id, email_id).value
    found = mime.attachment(bytes_of(app, caller.org_id, message), index)
    if found is None:
        raise NotFound("This e-mail has no such attachment.", field="attachmentId")
    _read(app, caller, "attachment.downloaded", case_id, message)
    return found


def whole(app: App, org_id: str, message: Message) -> Message:
    """Fill in a body that was too large for the record."""
    text, html = texts_of(app, org_id, message)
    return replace(message, text=text, html=html)


def move(app: App, caller: Caller, case_id: str, email_id: str, target: str) -> Message:
    """Move a mail's conversation to another case; replies follow. Moving back undoes it.

    An earlier move that broke off is finished first.
    """
    message = _message(app, caller, case_id, email_id).value
    member_case(app, caller, target)
    _own(app, caller, message)
    moved = replace(message, case_id=target)
    for _ in range(TRIES):
        conversation = carry(app, caller.org_id, message.conversation_id)
        if conversation.value.case_id == target:
            _read(app, caller, "message.read", target, moved)  # no move tells that it was shown
            break
        with suppress(Raced):  # somebody moves it too, perhaps by the same request
            _begin(app, caller, conversation, target, email_id)
            carry(app, caller.org_id, conversation.value.id)
            break
    else:
        raise Raced
    return whole(app, caller.org_id, moved)


def _begin(app: App, caller: Caller, conversation: Stored[Conversation], target: str, email_id: str) -> None:
    """Have the conversation's further mail go to the target; what it has is to be carried there.

    It leaves the case it is in by now, which may be another one than its mail was seen in. Raises Raced.
    """
    source = member_case(app, caller, conversation.value.case_id).id
    # enqueued first: should we die half-way, the job carries on; had nothing happened, it does nothing
    jobs.put(app, Job("carry", caller.org_id, conversation.value.id), delay=CARRY_DELAY)
    new = replace(conversation.value, case_id=target, moved_from=source)
    events = (
        audit.entry(app, event, actor=caller.email, case_id=where, email_id=email_id, detail=other)
        for event, where, other in (
            ("conversation.moved_away", source, target),
            ("conversation.moved", target, source),
        )
    )
    app.records.commit(caller.org_id, Move(conversation, new), *events)


def carry(app: App, org_id: str, conversation_id: str) -> Stored[Conversation]:
    """Bring the records of a moved conversation to its case; safe to repeat, from any point.

    Returns the conversation with nothing left behind. Raises Raced where that does not come to an end.
    """
    for _ in range(TRIES):
        stored = app.records.get(org_id, Conversation, conversation_id)
        if stored.value.moved_from is None:
            return stored
        with suppress(Raced):  # a mail was filed or delivered, or somebody else carries too: look again
            return _carry(app, org_id, stored, stored.value.moved_from)
    raise Raced


def _carry(app: App, org_id: str, stored: Stored[Conversation], source: str) -> Stored[Conversation]:
    """Each message is in one case or the other, never in both or neither.

    Every step insists on the conversation as it was read: whoever fell asleep while it was moved on, or
    back, carries nothing to where it was to go then. Raises Raced.
    """
    conversation = stored.value
    left = _left_behind(app, org_id, source, conversation.id) if source != conversation.case_id else ()
    for batch in _batches(left):
        writes: list[Write] = [Move(stored, conversation)]
        for message in batch:
            moved = replace(message.value, case_id=conversation.case_id)
            writes += [Remove(message.value, message.etag), Save(moved)]
        stored = Stored(conversation, app.records.commit(org_id, *writes)[0])
    done = replace(conversation, moved_from=None)
    return Stored(done, app.records.commit(org_id, Move(stored, done))[0])


def _batches(messages: Sequence[Stored[Message]]) -> Iterator[list[Stored[Message]]]:
    """As many at a time as one transaction takes, by number and by what they weigh on the wire.

    The client writes them as ASCII: six octets for each letter of another alphabet.
    """
    batch, octets = list[Stored[Message]](), 0
    for message in messages:
        weight = len(json.dumps(msgspec.json.encode(message.value).decode()))
        if batch and (len(batch) == CARRIED_AT_ONCE or octets + weight > CARRIED_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(message)
        octets += weight
    if batch:
        yield batch


def _left_behind(app: App, org_id: str, case_id: str, conversation_id: str) -> list[Stored[Message]]:
    rows = every(app.records, org_id, Message, prefix=f"{case_id}!")
    return [row for row in rows if row.value.conversation_id == conversation_id]


def _message(app: App, caller: Caller, case_id: str, email_id: str) -> Stored[Message]:
    member_case(app, caller, case_id)
    found = app.records.find(caller.org_id, Message, f"{case_id}!{email_id}")
    if found is None:
        raise NotFound("This case has no such e-mail.", field="emailId")
    return found


def _own(app: App, caller: Caller, message: Message) -> None:
    for mailbox_id in filter(None, {message.mailbox_id, *held_by(message)}):
        mailbox = app.records.find(caller.org_id, Mailbox, mailbox_id)
        if mailbox and mailbox.value.owner == caller.email:
            return
    raise NotAllowed("Only the owner of a mailbox that holds this mail may move it.")


def _read(app: App, caller: Caller, event: str, case_id: str, message: Message | None = None) -> None:
    email_id = message.id if message else None
    entry = audit.entry(app, event, actor=caller.email, case_id=case_id, email_id=email_id)
    audit.commit(app, caller.org_id, entry)
