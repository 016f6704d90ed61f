"""Filing at a human's word, where no rule decides: a mail that was held or is linked, and what it answers."""

from contextlib import suppress

from shared import mime
from shared.conversations import Decision, as_proven
from shared.errors import Raced
from shared.filing import Filer
from shared.knowing import find_by_id
from shared.model import Conversation, Envelope, Evidence, Message
from shared.storage.base import Stored


def by_hand(
    filer: Filer, envelope: Envelope, evidence: Evidence, conversation: Stored[Conversation], raw: bytes
) -> Message:
    """File what a human decided about; a mail that is filed already is seen once more."""
    envelope = as_proven(envelope, filer.mailbox.address)
    decision = _decided(filer, envelope, evidence, conversation.value)
    name = (envelope.message_id if decision.trusted_id else None) or mime.synthetic_id(envelope)
    known = filer.knowledge.alias(name)
    with suppress(Raced):  # filed at this very moment: the index tells
        if known:  # what is filed keeps its bytes, whatever looks like it
            filer.confirm(envelope, known)
        else:
            filer.store(envelope, decision, conversation, raw)
    found = find_by_id(filer.app, filer.org_id, name)
    if found is None:
        raise Raced
    return found.value


def along(filer: Filer, envelope: Envelope, conversation: Stored[Conversation]) -> bool:
    """File a mail that one linked by hand answers, or hold it where it cannot be had.

    Returns whether it was filed just now.
    """
    envelope = as_proven(envelope, filer.mailbox.address)
    evidence = Evidence("manual", envelope.message_id)
    decision = _decided(filer, envelope, evidence, conversation.value)
    if filer.knowledge.alias(envelope.message_id or mime.synthetic_id(envelope)):
        return False
    with suppress(Raced):  # filed at this very moment
        return filer.file(envelope, decision, conversation) == "file"
    return False


def _decided(filer: Filer, envelope: Envelope, evidence: Evidence, conversation: Conversation) -> Decision:
    """Make the decision that a human took."""
    own = filer.knowledge.alias(envelope.message_id or mime.synthetic_id(envelope))
    sender = envelope.sender.address if envelope.sender else ""
    kind = mime.classify(envelope)
    return Decision(
        "file",
        evidence,
        conversation,
        kind=kind,
        new_participant=kind == "mail" and not filer.knowledge.knows(conversation.id, sender),
        trusted_id=own is None or own.fingerprint == mime.fingerprint(envelope),
    )
