"""Case mail that is not filed by itself: its headers wait for the mailbox's owner; its body is not kept."""

from dataclasses import replace

from shared import audit
from shared.app import App
from shared.conversations import Decision
from shared.keeping import first
from shared.model import Conversation, DecidedReview, Envelope, Review
from shared.naming import review_id
from shared.storage.base import Add, Move

GONE = "This mail of the case was deleted or could not be fetched; confirm to try again."


def is_dismissed(app: App, org_id: str, mailbox_id: str, envelope: Envelope) -> bool:
    """Whether the mailbox's owner has decided that this mail is none of a case."""
    decided = app.records.find(org_id, DecidedReview, f"{mailbox_id}!{review_id(envelope)}")
    return decided is not None and decided.value.decision == "dismissed"


def hold(
    app: App,
    org_id: str,
    mailbox_id: str,
    envelope: Envelope,
    decision: Decision,
    conversation: Conversation,
    *,
    actor: str,
    reason: str = "",
) -> None:
    """Keep the headers for the owner's decision; a mail already held or dismissed stays as it is.

    Where it has no Message-ID, the place where it was seen last is kept. Raises Raced where it is being
    decided about at this moment.

    Args:
        reason: one sentence for the owner; without it the decision's.
    """
    review = Review(
        mailbox_id=mailbox_id,
        id=review_id(envelope),
        conversation_id=conversation.id,
        reason=reason or decision.reason,
        evidence=decision.evidence,
        ref=envelope.ref,
        message_id=envelope.message_id,
        sender=envelope.sender,
        recipients=first(envelope.recipients),
        subject=envelope.subject,
        sent_at=envelope.sent_at,
    )
    if app.records.find(org_id, DecidedReview, review.key):
        return
    if held := app.records.find(org_id, Review, review.key):
        if held.value.ref != review.ref and not (review.message_id or held.value.opened_at):
            # moved: unlike by a Message-ID, it would not be found there when its owner decides
            app.records.commit(org_id, Move(held, replace(held.value, ref=review.ref)))
        return
    event = audit.entry(
        app,
        "message.held",
        actor=actor,
        mailbox_id=mailbox_id,
        case_id=conversation.case_id,
        email_id=review.id,
        detail=decision.evidence.rule,
    )
    app.records.commit(org_id, Add(review), event)
