"""Putting a mail of a case into its owner's own drafts, to be changed and sent from there.

Nothing is promised: the owner may throw it away. It carries our signed id like every mail of ours, and its
thread is known: whenever it is sent, whatever became of its text, the copy in Sent is filed into the case,
also where the mail program gave it a Message-ID of its own (the subject must then have stayed).
"""

import secrets

from shared import audit, sending
from shared.app import App
from shared.callers import Caller
from shared.drafts import Draft
from shared.model import Mailbox, Message, ThreadHint
from shared.providers.base import Receipt
from shared.storage.base import Save


def put(app: App, caller: Caller, case_id: str, draft: Draft) -> tuple[Message, Receipt]:
    """Put `draft` into the mailbox's drafts; returns the mail as composed, and what the provider told.

    Raises Unsupported for a provider that cannot, and what `sending.accept` raises before it promises.
    """
    outgoing = sending.prepare(app, caller, case_id, draft, secrets.token_hex(16))
    message = outgoing.message
    mailbox = app.records.get(caller.org_id, Mailbox, draft.mailbox_id).value
    with app.drafting(caller.org_id, mailbox) as drafter:
        event = audit.entry(
            app, "draft.put", actor=caller.email, mailbox_id=mailbox.id, case_id=case_id, email_id=message.id
        )
        app.records.commit(caller.org_id, outgoing.thread, event)  # first: a copy must find its conversation
        receipt = drafter.put(outgoing.raw, message.envelope_to)
    if receipt.thread:
        hint = ThreadHint(mailbox.id, receipt.thread, message.conversation_id)
        app.records.commit(caller.org_id, Save(hint))
    return message, receipt
