"""What only a mailbox's owner may decide: held mails, and linking a mail that is already there."""

from dataclasses import replace

from shared import audit, mime
from shared.app import App
from shared.callers import Caller
from shared.casework import member_case
from shared.connecting import own
from shared.errors import Conflict, InvalidRequest, NotFound, Raced
from shared.filing import Filer, manual
from shared.knowing import find_by_id
from shared.model import Conversation, Envelope, Message, Review, digest
from shared.providers.base import Receiver
from shared.storage.base import Add, Move, Stored

MOST_REFERENCES = 20


def held(app: App, caller: Caller, mailbox_id: str) -> list[tuple[Review, str | None]]:
    """Return the open reviews of the caller's mailbox, each with the case it would go to."""
    own(app, caller, mailbox_id, admin=False)
    rows = app.records.range(caller.org_id, Review, prefix=f"{mailbox_id}!")
    event = audit.entry(app, "reviews.read", actor=caller.email, mailbox_id=mailbox_id)
    app.records.commit(caller.org_id, event)
    return [(row.value, _case_of(app, caller, row.value)) for row in rows if row.value.state == "open"]


def decide(app: App, caller: Caller, mailbox_id: str, review_id: str, action: str) -> Message | None:
    """File a held mail into its conversation, or dismiss it for good; its body is read only now.

    Returns the filed message. Raises Conflict where it was decided already, NotFound where the mail is gone.
    """
    mailbox = own(app, caller, mailbox_id, admin=False).value
    review = app.records.get(caller.org_id, Review, f"{mailbox_id}!{review_id}")
    if review.value.state != "open":
        raise Conflict(f"This mail was {review.value.state} already.")
    if action == "dismiss":
        _close(app, caller, review, "dismissed")
        return None
    with app.receiving(caller.org_id, mailbox) as receiver:
        envelope = _envelope(receiver, review.value)
        conversation = app.records.find(caller.org_id, Conversation, review.value.conversation_id)
        if conversation is None:
            raise NotFound("The conversation of this mail no longer exists.")
        filer = Filer(app, caller.org_id, mailbox, receiver, caller.email)
        message = _file(filer, envelope, conversation)
    _close(app, caller, review, "filed")
    return message


def link(app: App, caller: Caller, case_id: str, mailbox_id: str, ref: str) -> tuple[Message, int]:
    """File a mail of the caller's mailbox into a case, and what else of its conversation lies there.

    Returns the message and how many others followed it. Raises Conflict where it belongs to another
    case already.
    """
    case = member_case(app, caller, case_id)
    mailbox = own(app, caller, mailbox_id, admin=False).value
    with app.receiving(caller.org_id, mailbox) as receiver:
        envelope = mime.envelope(receiver.fetch(ref), ref=ref)
        own_mail = envelope.sender is not None and envelope.sender.address == mailbox.address
        envelope = replace(envelope, is_sent=own_mail)
        conversation = _conversation(app, caller, case.id, envelope)
        filer = Filer(app, caller.org_id, mailbox, receiver, caller.email)
        message = _file(filer, envelope, conversation)
        others = _follow(filer, receiver, envelope)
    return message, others


def _file(filer: Filer, envelope: Envelope, conversation: Stored[Conversation]) -> Message:
    """File by hand; a mail that is filed already is simply returned."""
    app, org_id = filer.app, filer.org_id
    try:
        if filer.file(envelope, manual(conversation.value, envelope), conversation) == "lost":
            raise NotFound("The mail is no longer in the mailbox.")
    except Raced:
        pass  # filed before, or at this very moment: the index below tells
    found = find_by_id(app, org_id, envelope.message_id or mime.synthetic_id(envelope))
    if found is None:
        raise Raced
    return found.value


def _follow(filer: Filer, receiver: Receiver, envelope: Envelope) -> int:
    """The rest of the conversation, by its references; each goes through the same decision as new mail."""
    ids = [*envelope.references[-MOST_REFERENCES:], *([envelope.message_id] if envelope.message_id else [])]
    found = sorted(receiver.look(ids), key=lambda other: other.sent_at.timestamp() if other.sent_at else 0)
    return sum(filer.handle(other) == "file" for other in found)


def _conversation(app: App, caller: Caller, case_id: str, envelope: Envelope) -> Stored[Conversation]:
    """The conversation the mail's references lead to, or a new one; made of the mail, so a retry finds it."""
    known = find_by_id(app, caller.org_id, envelope.message_id or mime.synthetic_id(envelope))
    conversation_id = (
        known.value.conversation_id
        if known
        else digest(case_id, envelope.message_id or mime.synthetic_id(envelope))[:16]
    )
    stored = app.records.find(caller.org_id, Conversation, conversation_id)
    if stored is None:
        new = Conversation(conversation_id, case_id, mime.base_subject(envelope.subject))
        event = audit.entry(app, "conversation.linked", actor=caller.email, case_id=case_id)
        app.records.commit(caller.org_id, Add(new), event)
        return app.records.get(caller.org_id, Conversation, conversation_id)
    if stored.value.case_id != case_id:
        raise Conflict("This mail belongs to another case.", field="ref", fix="Move it from there.")
    return stored


def _envelope(receiver: Receiver, review: Review) -> Envelope:
    """The held mail's envelope, wherever it lies by now."""
    try:
        raw = receiver.fetch(review.ref)
    except NotFound:
        wanted = [review.message_id] if review.message_id else []
        for found in receiver.look(wanted) if wanted else ():
            if found.message_id == review.message_id and found.sender == review.sender:
                return found
        raise
    return mime.envelope(raw, ref=review.ref)


def _close(app: App, caller: Caller, review: Stored[Review], state: str) -> None:
    """Forget the headers, remember the decision: a later look must not hold the mail again."""
    if state not in {"filed", "dismissed"}:
        raise InvalidRequest("A review is filed or dismissed.", field="action")
    closed = Review(
        mailbox_id=review.value.mailbox_id,
        id=review.value.id,
        state="filed" if state == "filed" else "dismissed",
        conversation_id=review.value.conversation_id,
        reason="",
        evidence=replace(review.value.evidence, matched=None),
    )
    event = audit.entry(
        app,
        f"review.{state}",
        actor=caller.email,
        mailbox_id=review.value.mailbox_id,
        email_id=review.value.id,
    )
    app.records.commit(caller.org_id, Move(review, closed), event)


def _case_of(app: App, caller: Caller, review: Review) -> str | None:
    found = app.records.find(caller.org_id, Conversation, review.conversation_id)
    return found.value.case_id if found else None
