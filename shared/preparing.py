"""Composing a mail that is sent from a case, with all that its promise is to write; it writes nothing."""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime

from shared import consenting, identity, mime, relaying, uploading
from shared.app import App
from shared.callers import Caller
from shared.casework import member_case
from shared.drafts import Draft
from shared.errors import Conflict, InvalidRequest, NotAllowed, NotFound, Unsupported
from shared.identity import SignedId
from shared.model import (
    Address,
    Alias,
    Attachment,
    Conversation,
    Evidence,
    Mailbox,
    Message,
    Promise,
    digest,
)
from shared.relaying import Counting
from shared.storage.base import Add, Move, Write


@dataclass(frozen=True)
class Place:
    """Where in a case a mail belongs, and where it leaves from, as they were just read.

    Attributes:
        thread: makes the conversation, or insists that it is still this case's.
        answers: the Message-ID that it answers; `references` are those before it, and that.
    """

    case_id: str
    mailbox: Mailbox
    conversation_id: str
    thread: Write
    answers: str | None = None
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outgoing:
    """Everything one promise writes, and the place that it was made for.

    `events` tell of what was read for it.
    """

    place: Place
    raw: bytes
    message: Message
    promise_: Promise
    alias: Alias
    counted: Counting
    events: tuple[Add, ...] = ()


def prepare(
    app: App, caller: Caller, case_id: str, draft: Draft, key: str, *, counts: bool = True
) -> Outgoing:
    """Compose a mail and all that its promise would write. Args as `compose`'s.

    Raises InvalidRequest, NotAllowed, NotFound, Conflict, ConsentRequired, Unsupported or AgainstRules.
    """
    case = member_case(app, caller, case_id)
    mailbox = sendable(app, caller, draft.mailbox_id)
    return compose(
        app, caller, _place(app, caller.org_id, case.id, mailbox, draft), draft, key, counts=counts
    )


def compose(
    app: App, caller: Caller, place: Place, draft: Draft, key: str, *, counts: bool = True
) -> Outgoing:
    """Compose a mail for its place.

    Args:
        counts: whether it is one of the mails that may be sent in an hour.

    Raises InvalidRequest where it is too large, or AgainstRules.
    """
    now = app.clock()
    relaying.admit(app, caller.org_id, place.mailbox, draft)
    counted = relaying.count(app, caller.org_id, place.mailbox, now) if counts else Counting()
    tail = digest(caller.org_id, place.case_id, key)[:12]
    signed = SignedId(place.conversation_id, f"{int(now.timestamp() * 1000):013d}-{tail}")
    outgoing = _outgoing(app, caller.org_id, place, draft, signed, now)
    raw = mime.compose(outgoing)
    limit = _largest(app, place.mailbox)
    if len(raw) > limit:
        raise _too_large(limit)
    _check_text(app, place.mailbox, outgoing, len(raw))
    print_ = mime.fingerprint_of(outgoing.sender.address, outgoing.date, outgoing.subject)
    return Outgoing(
        place,
        raw,
        replace(_message(draft, place, signed, outgoing, raw, now), counted_at=counted.at),
        Promise(place.case_id, key, draft.fingerprint, place.conversation_id, signed.email_id),
        Alias(outgoing.message_id, place.conversation_id, signed.email_id, print_),
        counted,
    )


def _too_large(limit: int) -> InvalidRequest:
    """Tell the limit in the size that files have where they lie: a mail has them as base64 in lines.

    57 octets are 78 there (RFC 2045 section 6.8). Windows means 1,048,576 octets where it says MB.
    """
    files = limit * 57 // 78
    most, on_windows = (f"{files * 10 // mega / 10} MB" for mega in (1_000_000, 1_048_576))
    told = f"Files and text of a mail may have {most} together ({on_windows} as Windows counts)."
    return InvalidRequest(told, field="attachments", fix="Send fewer or smaller files, or a link to them.")


def _check_text(app: App, mailbox: Mailbox, outgoing: mime.Outgoing, size: int) -> None:
    """Raise InvalidRequest where a mail of this size is too large for its provider even without its files."""
    limit = app.provider(mailbox.sends_with or "").largest_text
    if limit is None or size <= limit or len(mime.compose(replace(outgoing, attachments=()))) <= limit:
        return
    field = "html" if len(outgoing.html or "") > len(outgoing.text or "") else "text"
    told = f"The text of a mail, as it is sent, may have {limit // 100_000 / 10} MB here."
    raise InvalidRequest(told, field=field, fix="Shorten the text, or send a part of it as a file.")


def _largest(app: App, mailbox: Mailbox) -> int:
    """Octets that may be promised: our own limit, or the provider's for this mailbox."""
    name = mailbox.sends_with or ""
    largest = app.provider(name).largest
    return min(app.max_mail_bytes, largest(mailbox.settings[name])) if largest else app.max_mail_bytes


def _place(app: App, org_id: str, case_id: str, mailbox: Mailbox, draft: Draft) -> Place:
    """Find where a mail belongs: to the conversation of what it answers, or to a new one."""
    if draft.in_reply_to is None:
        made = Conversation(secrets.token_hex(8), case_id, mime.base_subject(draft.subject))
        return Place(case_id, mailbox, made.id, Add(made))
    parent = app.records.find(org_id, Message, f"{case_id}!{draft.in_reply_to}")
    if parent is None:
        raise InvalidRequest("There is no such e-mail in this case to answer.", field="inReplyTo")
    answered = parent.value
    known = dict.fromkeys(filter(None, (*answered.references, answered.message_id)))
    thread = Move(parent, answered)
    return Place(case_id, mailbox, answered.conversation_id, thread, answered.message_id, tuple(known))


def _outgoing(
    app: App, org_id: str, place: Place, draft: Draft, signed: SignedId, now: datetime
) -> mime.Outgoing:
    sender = Address(place.mailbox.address, place.mailbox.name)
    domain = sender.address.rpartition("@")[2]
    return mime.Outgoing(
        message_id=identity.mint(app.keys.signing(org_id), org_id, signed, domain),
        date=now.replace(microsecond=0),
        sender=sender,
        to=draft.to,
        cc=draft.cc,
        subject=draft.subject,
        text=draft.text,
        html=draft.html,
        in_reply_to=place.answers,
        references=place.references,
        attachments=draft.attachments,
        written=draft.written.raw if draft.written else None,
    )


def _message(
    draft: Draft,
    place: Place,
    signed: SignedId,
    outgoing: mime.Outgoing,
    raw: bytes,
    now: datetime,
) -> Message:
    """Show the caller what was composed, as any reader of the mail will see it."""
    parsed = mime.parse(raw)
    everyone = (*draft.to, *draft.cc, *draft.bcc)
    spelled = {person.address: person.shown for person in reversed(everyone)}
    envelope_to = tuple(dict.fromkeys(person.address for person in everyone))
    spelled_to = tuple(spelled[address] for address in envelope_to)
    return Message(
        id=signed.email_id,
        case_id=place.case_id,
        conversation_id=signed.conversation_id,
        mail_kind="mail",
        direction="out",
        origin="case",
        state="queued",
        sender=outgoing.sender,
        to=draft.to,
        cc=draft.cc,
        bcc=draft.bcc,
        subject=draft.subject,
        received_at=now,
        sent_at=outgoing.date,
        raw=uploading.name_of(signed.conversation_id, signed.email_id, now),
        evidence=Evidence("sent-from-case", outgoing.message_id),
        message_id=outgoing.message_id,
        references=outgoing.references,
        snippet=parsed.snippet,
        text=parsed.text,
        html=parsed.html,
        attachments=tuple[Attachment, ...](parsed.attachments),
        mailbox_id=place.mailbox.id,
        envelope_to=envelope_to,
        spelled_to=spelled_to if spelled_to != envelope_to else (),
        draft=draft.written.ref if draft.written else None,
    )


def sendable(app: App, caller: Caller, mailbox_id: str) -> Mailbox:
    """Return the caller's own mailbox if it can send.

    Raises NotFound, NotAllowed, Conflict, Unsupported or ConsentRequired, naming the field.
    """
    stored = app.records.find(caller.org_id, Mailbox, mailbox_id)
    if stored is None:
        raise NotFound("There is no such mailbox.", field="mailboxId")
    mailbox = stored.value
    if mailbox.owner != caller.email:
        raise NotAllowed("Only its owner may send from this mailbox.", field="mailboxId")
    if mailbox.state == "disconnected":
        fix = "Connect it again with POST /mailboxes."
        raise Conflict("This mailbox is disconnected.", field="mailboxId", fix=fix)
    if mailbox.sends_with is None:
        raise Unsupported(
            "This mailbox cannot send.", field="mailboxId", fix="Choose a sending provider for it."
        )
    consenting.insist(mailbox, "This mailbox has to be connected again before it can send.")
    return mailbox
