"""What only a mailbox's owner may decide: held mails, and linking a mail that is already there."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from shared import audit, jobs, mime, sealing
from shared.app import App
from shared.callers import Caller
from shared.casework import member_case, whole
from shared.comparing import proof_of
from shared.confirming import along, by_hand
from shared.conversations import STRANGER, as_linked, identify
from shared.errors import Conflict, NotFound, Raced, ZalionError
from shared.fetching import fetch_with_headers
from shared.filing import Filer
from shared.holding import GONE
from shared.jobs import Job
from shared.knowing import Knowledge, find, find_by_id
from shared.model import (
    Alias,
    Conversation,
    DecidedReview,
    Envelope,
    Evidence,
    Mailbox,
    Message,
    Participant,
    Review,
    digest,
)
from shared.naming import is_known_as
from shared.owning import own
from shared.providers.base import Receiver, given
from shared.seeing import Seen
from shared.storage.base import Add, Remove, Stored, written

MOST_REFERENCES = 20

FILING = timedelta(minutes=15)
"""Longer than any worker lives (host.json): what is not filed by then is not being filed."""


def held(
    app: App, caller: Caller, mailbox_id: str, *, limit: int, cursor: str | None
) -> tuple[list[tuple[Review, str | None]], str | None]:
    """Return one page of the mailbox's open reviews, oldest mail first, and the next one's cursor or None.

    Each comes with the case it would go to. What has come to a case meanwhile is closed and left out.
    Raises InvalidRequest for a cursor that is not ours.
    """
    own(app, caller, mailbox_id, admin=False)
    key, purpose = app.keys.cursors(caller.org_id), f"reviews!{mailbox_id}"
    after = sealing.unpack_cursor(key, purpose, caller.org_id, cursor)["after"] if cursor else ""
    rows = app.records.range(caller.org_id, Review, prefix=f"{mailbox_id}!", after=after, limit=limit + 1)
    page, more = rows[:limit], len(rows) > limit
    event = audit.entry(app, "reviews.read", actor=caller.email, mailbox_id=mailbox_id)
    audit.commit(app, caller.org_id, event)
    following = (
        sealing.pack_cursor(key, purpose, caller.org_id, {"after": page[-1].value.key}) if more else None
    )
    waiting = list[Review]()
    for row in page:
        if _came_to(app, caller.org_id, row.value):
            _end(app, caller.org_id, row, "system")
        else:
            waiting.append(row.value)
    return [(review, _case_of(app, caller, review)) for review in waiting], following


def decide(app: App, caller: Caller, mailbox_id: str, review_id: str, action: str) -> Message | None:
    """File a held mail into its conversation, or dismiss it for good; its body is read only now.

    Returns the filed message. Raises Conflict where it was decided already, or is at this moment;
    NotFound where the mail is gone.
    """
    mailbox = own(app, caller, mailbox_id, admin=False).value
    decided = app.records.find(caller.org_id, DecidedReview, f"{mailbox_id}!{review_id}")
    if decided:
        raise Conflict(f"This mail was {decided.value.decision} already.")
    review = app.records.get(caller.org_id, Review, f"{mailbox_id}!{review_id}", field="reviewId")
    if action == "dismiss":
        _not_being_filed(app, review.value)
    place = _came_to(app, caller.org_id, review.value)
    if place and (action == "dismiss" or place != review.value.conversation_id):
        _end(app, caller.org_id, review, "system")
        raise Conflict("This mail was filed already.", fix="You find it in its case.")
    if action == "file":
        return _file(app, caller, mailbox, review)
    with _alone():
        _close(app, caller.org_id, review, "dismissed", caller.email)
    return None


def _not_being_filed(app: App, review: Review) -> None:
    """Raise Conflict for a mail that is being filed at this moment."""
    if review.opened_at is not None and app.clock() < review.opened_at + FILING:
        fix = "Should it still be here in a quarter of an hour, decide again."
        raise Conflict("This mail is being filed.", fix=fix)


def _came_to(app: App, org_id: str, review: Review) -> str | None:
    """Name the conversation that a held mail is in without its owner's decision here, if it is in any.

    That is wherever its own mailbox has it by now, or another text in its place. A colleague's copy decides
    nothing elsewhere. Where this one would go it does if its sender is known by now, for then the look that
    follows compares the two, or if there is none to compare. What has no Message-ID is not recognised.
    """
    alias = app.records.find(org_id, Alias, digest(review.message_id)) if review.message_id else None
    if alias is None or not is_known_as(alias.value, review):
        return None
    here = alias.value.conversation_id == review.conversation_id
    if here and (_would_be_filed(app, org_id, review) or _is_gone(review)):
        return review.conversation_id
    found = find(app, org_id, alias.value.conversation_id, alias.value.email_id)
    fact = proof_of(found.value, review.mailbox_id) if found else None
    if fact and fact.variant:
        alias = app.records.find(org_id, Alias, digest(fact.variant))
    return alias.value.conversation_id if alias and fact else None


def _would_be_filed(app: App, org_id: str, review: Review) -> bool:
    """Whether what it was held for is no longer so: its sender takes part by now."""
    sender = review.sender.address if review.sender else ""
    key = Participant(review.conversation_id, sender).key
    return review.reason == STRANGER and app.records.find(org_id, Participant, key) is not None


def _is_gone(review: Review) -> bool:
    """Whether a mail that belongs to the case by itself could not be had."""
    return review.reason == GONE and review.evidence.rule != "manual"


@contextmanager
def _alone() -> Iterator[None]:
    try:
        yield
    except Raced as raced:
        raise Conflict("This mail was decided about at the same time.", fix="Look again.") from raced


def _file(app: App, caller: Caller, mailbox: Mailbox, review: Stored[Review]) -> Message:
    """File a held mail. It is opened before it is read: from then on nobody dismisses it.

    Until it may have been filed, what breaks leaves it as it was.
    """
    with _alone():
        opened, unread = _set_opened(app, caller.org_id, review, app.clock()), True
    try:
        conversation = app.records.get(caller.org_id, Conversation, review.value.conversation_id)
        known = review.value.evidence
        evidence = replace(known, notes=(*known.notes, "confirmed by the mailbox's owner"))
        case_id = conversation.value.case_id
        told = audit.recorded(app, caller, "review.opened", mailbox_id=mailbox.id, case_id=case_id)
        with told, app.receiving(caller.org_id, mailbox) as receiver:
            envelope, raw = fetch_with_headers(receiver, review.value.ref, review.value)
            unread = False
            filer = Filer(app, caller.org_id, mailbox, receiver, caller.email)
            message = by_hand(filer, envelope, evidence, conversation, raw)
    except ZalionError as error:
        if unread and (isinstance(error, NotFound) or review.value.opened_at is None):
            with suppress(Raced):  # somebody else files it
                _set_opened(app, caller.org_id, opened, None)
        raise
    _end(app, caller.org_id, opened, caller.email)
    return whole(app, caller.org_id, message)


def _set_opened(app: App, org_id: str, review: Stored[Review], at: datetime | None) -> Stored[Review]:
    return written(app.records, org_id, replace(review.value, opened_at=at), review)


def link(app: App, caller: Caller, case_id: str, mailbox_id: str, ref: str) -> tuple[Message, int]:
    """File a mail of the caller's mailbox into a case, and what else of its conversation lies there.

    Returns the message and how many others followed it. Raises NotFound naming what is not there, Conflict
    where it belongs to another case already.
    """
    case = member_case(app, caller, case_id)
    mailbox = own(app, caller, mailbox_id, admin=False).value
    told = audit.recorded(app, caller, "mailbox.linked", mailbox_id=mailbox_id, case_id=case_id)
    with told, app.receiving(caller.org_id, mailbox) as receiver:
        envelope, raw = _named(receiver, ref)
        filer = Filer(app, caller.org_id, mailbox, receiver, caller.email, seen=Seen.everything())
        envelope = as_linked(envelope, mailbox.address, filer.believed)
        conversation = _conversation(app, caller, case.id, mailbox_id, envelope)
        message = by_hand(filer, envelope, Evidence("manual", envelope.message_id), conversation, raw)
        others = _follow(filer, receiver, envelope, conversation)
    return whole(app, caller.org_id, message), others


def _named(receiver: Receiver, ref: str) -> tuple[Envelope, bytes]:
    """Fetch the mail that the caller names."""
    try:
        return fetch_with_headers(receiver, ref)
    except NotFound as error:
        raise NotFound(error.detail, field="ref", fix=error.fix) from error


def _follow(filer: Filer, receiver: Receiver, envelope: Envelope, conversation: Stored[Conversation]) -> int:
    """File the rest of the conversation: what the mail answers at its owner's word, as the mail itself.

    What answers one of them goes through the same decision as new mail.
    """
    named = envelope.references[-MOST_REFERENCES:]
    ids = [*named, *([envelope.message_id] if envelope.message_id else [])]
    found = sorted(
        given(receiver.look(ids)), key=lambda other: other.sent_at.timestamp() if other.sent_at else 0
    )
    before = [other for other in found if other.message_id in named and _among(envelope, other)]
    count = sum(along(filer, other, conversation) for other in before)
    return count + sum(filer.handle(other) == "file" for other in found if other not in before)


def _among(envelope: Envelope, other: Envelope) -> bool:
    """Whether two mails share somebody besides their reader; References alone can name anything."""
    people = [
        {person.address for person in (*mail.recipients, mail.sender) if person} for mail in (envelope, other)
    ]
    return len(people[0] & people[1]) > 1


def _conversation(
    app: App, caller: Caller, case_id: str, mailbox_id: str, envelope: Envelope
) -> Stored[Conversation]:
    """The conversation the mail is in, or answers in this case; else a new one.

    That is made of the mail, so a retry and a colleague find it; where it was moved to another case
    meanwhile, of the mailbox, too. Raises Conflict for a mail of another case.
    """
    own_id = envelope.message_id or mime.synthetic_id(envelope)
    known = _had(app, caller.org_id, mailbox_id, case_id, envelope) or _answered(
        app, caller.org_id, case_id, envelope
    )
    made = [digest(case_id, own_id)[:16], digest(case_id, own_id, mailbox_id)[:16]]
    for conversation_id in [known.value.conversation_id] if known else made:
        stored = app.records.find(caller.org_id, Conversation, conversation_id)
        if stored is None:
            new = Conversation(conversation_id, case_id, mime.base_subject(envelope.subject))
            event = audit.entry(app, "conversation.linked", actor=caller.email, case_id=case_id)
            app.records.commit(caller.org_id, Add(new), event)
            return app.records.get(caller.org_id, Conversation, conversation_id)
        if stored.value.case_id == case_id:
            return stored
    raise Conflict("This mail belongs to another case.", field="ref", fix="Move it from there.")


def _had(app: App, org_id: str, mailbox_id: str, case_id: str, envelope: Envelope) -> Stored[Message] | None:
    """Find what the mail is filed as: in this case, wherever its mailbox has it, or as one of ours.

    What only bears its Message-ID is another mail; a colleague's copy in another case decides nothing.
    """
    alias = identify(envelope, Knowledge(app, org_id, mailbox_id)).copy_of
    found = find(app, org_id, alias.conversation_id, alias.email_id) if alias else None
    fact = proof_of(found.value, mailbox_id) if found else None
    if found is None or (fact and fact.variant):
        return find_by_id(app, org_id, fact.variant) if fact else None
    is_had = fact is not None or found.value.origin == "case"
    return found if is_had or found.value.case_id == case_id else None


def _answered(app: App, org_id: str, case_id: str, envelope: Envelope) -> Stored[Message] | None:
    for message_id in reversed(envelope.references[-MOST_REFERENCES:]):
        found = find_by_id(app, org_id, message_id)
        if found and found.value.case_id == case_id:
            return found
    return None


def _end(app: App, org_id: str, review: Stored[Review], actor: str) -> None:
    """Close what was filed; the mailbox is looked into for it, and for what was passed over meanwhile."""
    mailbox_id, message_id = review.value.mailbox_id, review.value.message_id
    if message_id:
        jobs.put(app, Job("sync", org_id, mailbox_id, look=(message_id,), actor=actor))
    with suppress(Raced):  # filed once more at the same time
        _close(app, org_id, review, "filed", actor)


def _close(
    app: App, org_id: str, review: Stored[Review], decision: Literal["filed", "dismissed"], actor: str
) -> None:
    """Forget the headers, remember the decision. Raises Raced where another one was taken."""
    mailbox_id, id_ = review.value.mailbox_id, review.value.id
    event = audit.entry(app, f"review.{decision}", actor=actor, mailbox_id=mailbox_id, email_id=id_)
    closed = DecidedReview(mailbox_id, id_, decision)
    audit.commit(app, org_id, Remove(review.value, review.etag), Add(closed), event)


def _case_of(app: App, caller: Caller, review: Review) -> str | None:
    found = app.records.find(caller.org_id, Conversation, review.conversation_id)
    return found.value.case_id if found else None
