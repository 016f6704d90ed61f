"""Promising a mail: once per case and Idempotency-Key, for ever. Handing it over is `delivering`'s work.

Order: bytes, then promise, message, Message-ID, outbox and audit in one transaction, then the nudge.
A crash before the transaction promised nothing; after it, the organisation's watch delivers (`scheduling`).
"""

from collections.abc import Callable
from functools import partial

from shared import audit, jobs, logs, relaying, scheduling
from shared.app import App
from shared.callers import Caller
from shared.casework import member_case, whole
from shared.drafts import Draft
from shared.errors import Conflict, Raced, Temporary, ZalionError
from shared.jobs import Job
from shared.keeping import pack, participants
from shared.knowing import find
from shared.model import Message, OutboxItem, Promise, digest
from shared.preparing import Outgoing, prepare
from shared.storage.base import Add, Save


def accept(app: App, caller: Caller, case_id: str, draft: Draft, key: str) -> Message:
    """Promise to send `draft` from the case; the same key and body give the same promise, for ever.

    Raises InvalidRequest, NotAllowed, NotFound, ConsentRequired, Unsupported or AgainstRules with
    nothing promised; Conflict when the key was used for another body.
    """
    return promised(
        app, caller, case_id, draft.fingerprint, key, lambda: prepare(app, caller, case_id, draft, key)
    )


def promised(
    app: App, caller: Caller, case_id: str, fingerprint: str, key: str, make: Callable[[], Outgoing]
) -> Message:
    """Promise what `make` makes, unless that was promised before; `fingerprint` tells what is asked.

    Raises as `accept` and `make` do.
    """
    for tries in range(relaying.TURNS):
        try:
            outgoing = make()
        except ZalionError:
            kept = _kept(app, caller, case_id, fingerprint, key)  # a promise outlives what has changed since
            if kept is None:
                raise
            return kept
        try:
            _promise(app, caller, outgoing)
        except ZalionError as error:
            if outgoing.events:  # what was read for it was read all the same
                app.records.commit(caller.org_id, *(Save(event.record) for event in outgoing.events))
            kept = _kept(app, caller, case_id, fingerprint, key)  # by another request, or its answer was lost
            if kept:
                return kept
            if not isinstance(error, Raced):
                raise
            relaying.wait_a_turn(tries)
        else:
            return outgoing.message
    raise Raced("Too many mails were sent at the same moment.")


def _promise(app: App, caller: Caller, outgoing: Outgoing) -> None:
    """Put the bytes and write the promise. Raises Raced where there is one already."""
    org_id, message = caller.org_id, outgoing.message
    packed = pack(message, outgoing.raw)
    packed.put(app, org_id)
    item = OutboxItem.of(message, message.received_at + scheduling.GRACE)
    people = [message.sender.address if message.sender else "", *message.envelope_to]
    writes = [
        outgoing.place.thread,
        *outgoing.events,
        Add(outgoing.promise_),
        *packed.writes,
        Add(outgoing.alias),
        Add(item),
        *participants(message.conversation_id, people),
        audit.entry(
            app,
            "message.queued",
            actor=caller.email,
            mailbox_id=message.mailbox_id,
            case_id=message.case_id,
            email_id=message.id,
        ),
    ]
    again = partial(relaying.count, app, org_id, outgoing.place.mailbox, message.received_at)
    relaying.in_turn(
        app,
        org_id,
        outgoing.counted,
        again,
        lambda counting: app.records.commit(org_id, *writes, *counting.writes)[-1],
    )
    nudge(app, org_id, message)


def nudge(app: App, org_id: str, message: Message) -> None:
    """Have a promise looked at now. A lost nudge is made good by the watch, so it fails nobody's request."""
    try:
        job = Job(
            "deliver",
            org_id,
            message.id,
            case_id=message.case_id,
            conversation_id=message.conversation_id,
        )
        jobs.put(app, job)
    except Temporary as error:
        logs.log("nudge.lost", email_id=message.id, code=error.code)


def _kept(app: App, caller: Caller, case_id: str, fingerprint: str, key: str) -> Message | None:
    """Return what was promised under this key; Conflict when the body was another one."""
    member_case(app, caller, case_id)
    stored = app.records.find(caller.org_id, Promise, f"{case_id}!{digest(key)}")
    if stored is None:
        return None
    promise = stored.value
    if promise.fingerprint != fingerprint:
        raise Conflict("This Idempotency-Key was used for another e-mail.", field="Idempotency-Key")
    found = find(app, caller.org_id, promise.conversation_id, promise.email_id)
    if found is None:
        return None
    if found.value.state == "queued" and not found.value.attempts:
        nudge(app, caller.org_id, found.value)  # whoever asks again may have got no answer, and it no nudge
    return whole(app, caller.org_id, found.value)
