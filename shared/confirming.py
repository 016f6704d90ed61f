"""Filing at a human's word, where no rule decides: a mail that was held or is linked, and what it answers."""

from contextlib import suppress

from shared import mime
from shared.comparing import proof_of
from shared.conversations import Decision, Identity, as_proven, identify
from shared.errors import Conflict, Raced
from shared.filing import Filer
from shared.holding import is_dismissed
from shared.knowing import find, find_by_id
from shared.model import Alias, Conversation, Envelope, Evidence, Message
from shared.storage.base import Stored
from shared.storing import TRIES


def by_hand(
    filer: Filer, envelope: Envelope, evidence: Evidence, conversation: Stored[Conversation], raw: bytes
) -> Message:
    """File what a human decided about; a mail that is filed there already is seen once more.

    Returns the message, never one of another case: raises Conflict where nothing else can be had.
    """
    envelope = as_proven(envelope, filer.mailbox.address)
    for _ in range(2):
        identity = identify(envelope, filer.knowledge)
        decision, known = _decided(filer, envelope, evidence, conversation.value, identity), identity.copy_of
        with suppress(Raced):  # filed, or seen once more, at this very moment: the index tells
            if known:  # what is filed keeps its bytes, whatever looks like it
                _again(filer, envelope, known, decision, conversation, raw)
            else:
                filer.store(envelope, decision, conversation, raw)
            break
    name = (envelope.message_id if decision.trusted_id else None) or mime.synthetic_id(envelope)
    found = find_by_id(filer.app, filer.org_id, known.message_id if known else name)
    if found is None:
        raise Raced
    fact = proof_of(found.value, filer.mailbox.id)
    apart = find_by_id(filer.app, filer.org_id, fact.variant) if fact and fact.variant else None
    message = (apart or found).value
    if message.case_id != conversation.value.case_id:  # its members only read there
        raise Conflict("This mail belongs to another case.", fix="Move it from there.")
    return message


def _again(
    filer: Filer,
    envelope: Envelope,
    known: Alias,
    decision: Decision,
    conversation: Stored[Conversation],
    raw: bytes,
) -> None:
    """Take what has the headers of a mail that is filed already, here or in another conversation."""
    first = find(filer.app, filer.org_id, known.conversation_id, known.email_id)
    here = conversation.value.id == known.conversation_id
    if first and not _is_taken(filer, first.value, here=here):
        filer.beside(envelope, known, first, decision, conversation, raw)
    else:
        filer.seen_again(envelope, known, first)


def _is_taken(filer: Filer, message: Message, *, here: bool) -> bool:
    """Whether nothing is left to compare: this mailbox has the mail, there or here, or it is an own one here.

    What only a colleague's mailbox has elsewhere is no answer to what a human says of a mail in this one.
    """
    proven = proof_of(message, filer.mailbox.id) is not None
    return proven or message.origin == "case" or (here and filer.is_by_its_owner(message))


def along(filer: Filer, envelope: Envelope, conversation: Stored[Conversation]) -> bool:
    """File a mail that one linked by hand answers, or hold it where it cannot be had.

    What its owner dismissed stays out: nobody has named this very mail. Returns whether it was filed just
    now. Raises Conflict where the conversation was moved to another case meanwhile.
    """
    if is_dismissed(filer.app, filer.org_id, filer.mailbox.id, envelope):
        return False
    envelope = as_proven(envelope, filer.mailbox.address)
    for _ in range(TRIES):
        with suppress(Raced):  # filed, or the conversation moved, at this very moment: both are read anew
            return _came_along(filer, envelope, conversation)
        latest = filer.app.records.get(filer.org_id, Conversation, conversation.value.id)
        if latest.value.case_id != conversation.value.case_id:  # others read there: it was not said of that
            raise Conflict("This conversation was moved to another case.", fix="Link its other mails there.")
        conversation = latest
    raise Raced


def _came_along(filer: Filer, envelope: Envelope, conversation: Stored[Conversation]) -> bool:
    """Do that once. Raises Raced where what it is based on has changed."""
    evidence = Evidence("manual", envelope.message_id)
    identity = identify(envelope, filer.knowledge)
    decision, known = _decided(filer, envelope, evidence, conversation.value, identity), identity.copy_of
    if known is None:
        return filer.file(envelope, decision, conversation) == "file"
    first = find(filer.app, filer.org_id, known.conversation_id, known.email_id)
    here = conversation.value.id == known.conversation_id
    if first and not here and not _is_taken(filer, first.value, here=here):
        return filer.read(envelope, known, first, decision, conversation) == "file"
    return False


def _decided(
    filer: Filer, envelope: Envelope, evidence: Evidence, conversation: Conversation, identity: Identity
) -> Decision:
    """Make the decision that a human took."""
    sender = envelope.sender.address if envelope.sender else ""
    kind = mime.classify(envelope)
    return Decision(
        "file",
        evidence,
        conversation,
        kind=kind,
        new_participant=kind == "mail" and not filer.knowledge.knows(conversation.id, sender),
        trusted_id=not identity.taken,
    )
