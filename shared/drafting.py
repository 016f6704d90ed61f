"""Mails of a case as drafts in their owner's own mailbox: put there, changed there, sent there or by us.

Putting one promises nothing: the owner may throw it away. It carries our signed id like every mail of ours,
and its thread is known: if it is sent in the mailbox, whatever became of its text, the copy in Sent is filed
into the case, also where the mail program gave it a Message-ID of its own (if its subject stayed).

Sending one promises it as it is then, like every mail that is sent from the case. It leaves the mailbox as
that very draft, so that its owner's own click on "send" and ours can never send it twice; and one that was
changed since it was promised does not leave.
"""

import secrets
from dataclasses import replace

from shared import audit, drafts, preparing, sending
from shared.app import App
from shared.callers import Caller
from shared.casework import member_case
from shared.delivering import DRAFT_GONE
from shared.drafts import Draft
from shared.errors import NotFound
from shared.model import Conversation, Mailbox, MailboxDraft, Message, ThreadHint, digest
from shared.preparing import Outgoing, Place
from shared.providers.base import Receipt
from shared.storage.base import Add, Move, Save


def put(app: App, caller: Caller, case_id: str, draft: Draft) -> tuple[Message, Receipt]:
    """Put `draft` into the mailbox's drafts; returns the mail as composed, and what the provider told.

    Raises Unsupported for a provider that cannot, and what `preparing.prepare` raises.
    """
    outgoing = preparing.prepare(app, caller, case_id, draft, secrets.token_hex(16), counts=False)
    message, place = outgoing.message, outgoing.place
    mailbox = place.mailbox
    done = list[Add]()
    with app.drafting(caller.org_id, mailbox) as drafter:
        app.records.commit(caller.org_id, place.thread)  # first: a copy must find its conversation
        with audit.recorded(
            app,
            caller,
            "draft.put",
            mailbox_id=mailbox.id,
            case_id=case_id,
            email_id=message.id,
            riding=done,
        ):
            receipt = drafter.put(outgoing.raw, message.leaves_to)
    ref, thread = receipt.ref or "", place.conversation_id
    kept = MailboxDraft(message.id, mailbox.id, ref, thread, place.answers, place.references)
    hint = [Save(ThreadHint(mailbox.id, receipt.thread, kept.conversation_id))] if receipt.thread else []
    audit.commit(app, caller.org_id, Save(kept), *hint, *done)
    return message, receipt


def send(app: App, caller: Caller, case_id: str, draft_id: str, key: str) -> Message:
    """Promise to send a draft of the case as it lies in the mailbox now; returns the promised mail.

    Raises NotFound for one that is no more in the mailbox, InvalidRequest naming the header that keeps it
    from being sent, and whatever `sending.accept` raises.
    """
    asked = digest("draft", draft_id)

    def make() -> Outgoing:
        kept, place = _found(app, caller, case_id, draft_id)
        read = list[Add]()
        with audit.recorded(
            app, caller, "draft.read", mailbox_id=kept.mailbox_id, case_id=case_id, riding=read
        ):
            raw, ref = _as_it_is(app, caller, place.mailbox, kept.ref)
        try:
            draft = drafts.resumed(replace(kept, ref=ref), place.mailbox.address, raw, asked)
            return replace(preparing.compose(app, caller, place, draft, key), events=tuple(read))
        except Exception:
            app.records.commit(caller.org_id, *read)
            raise

    return sending.promised(app, caller, case_id, asked, key, make)


def _found(app: App, caller: Caller, case_id: str, draft_id: str) -> tuple[MailboxDraft, Place]:
    """Return what we know of a draft, and its place: it goes where its conversation goes."""
    unknown = NotFound("There is no such draft in this case.", field="draftId")
    case = member_case(app, caller, case_id)
    stored = app.records.find(caller.org_id, MailboxDraft, draft_id)
    if stored is None:
        raise unknown
    kept = stored.value
    thread = app.records.get(caller.org_id, Conversation, kept.conversation_id)
    if thread.value.case_id != case.id:
        raise unknown
    unchanged = Move(thread, thread.value)
    mailbox = preparing.sendable(app, caller, kept.mailbox_id)
    return kept, Place(case.id, mailbox, kept.conversation_id, unchanged, kept.answers, kept.references)


def _as_it_is(app: App, caller: Caller, mailbox: Mailbox, ref: str) -> tuple[bytes, str]:
    with app.drafting(caller.org_id, mailbox) as drafter:
        try:
            return drafter.fetch(ref)
        except NotFound as error:
            raise NotFound(DRAFT_GONE.detail, field="draftId", fix=DRAFT_GONE.fix) from error
