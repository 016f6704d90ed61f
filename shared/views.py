"""How the domain's records are shown to callers. Pure; HTML is sanitised here, on the way out."""

from collections.abc import Callable, Sequence
from typing import Literal

from shared import contract as c
from shared import mime, powers, rules
from shared.comparing import held_by
from shared.model import (
    Address,
    AuditRecord,
    Case,
    DomainProof,
    Envelope,
    Evidence,
    Integration,
    Mailbox,
    Message,
    Problem,
    Review,
    SyncState,
)
from shared.providers.base import Delegation, Provider


def email(message: Message) -> c.EmailResource:
    """Show one e-mail; remote images are blocked and active content is gone."""
    return c.EmailResource(
        id=message.id,
        case_id=message.case_id,
        conversation_id=message.conversation_id,
        kind=message.mail_kind,
        direction=message.direction,
        origin=message.origin,
        state=message.state,
        sender=_person(message.sender),
        to=people(message.to),
        cc=people(message.cc),
        bcc=people(message.bcc),
        subject=message.subject,
        sent_at=message.sent_at,
        received_at=message.received_at,
        snippet=message.snippet,
        text=message.text,
        html=mime.sanitise(message.html) if message.html else None,
        attachments=[
            c.AttachmentResource(
                id=part.index,
                name=part.name,
                content_type=part.content_type,
                size=part.size,
                inline=part.inline,
                content_id=part.content_id,
            )
            for part in message.attachments
        ],
        message_id=message.message_id,
        mailbox_ids=list(dict.fromkeys(filter(None, [message.mailbox_id, *held_by(message)]))),
        evidence=_evidence(message.evidence),
        new_participant=message.new_participant,
        error=_problem(message.error),
    )


def case(record: Case) -> c.CaseResource:
    """Show a case."""
    return c.CaseResource(id=record.id, title=record.title, members=list(record.members))


def mailbox(
    provider: Callable[[str], Provider],
    record: Mailbox,
    state: SyncState | None,
    authorize_url: str | None = None,
) -> c.MailboxResource:
    """Show a mailbox with what the last look at it found, and what its providers (by name) make of it."""
    able = powers.of_mailbox(record, provider)
    problem = record.problem or (state.problem if state else None) or _silence(record, provider)
    return c.MailboxResource(
        id=record.id,
        address=record.address,
        name=record.name,
        owner=record.owner,
        receives_with=record.receives_with,
        sends_with=record.sends_with,
        state=record.state,
        can=list(able.can),
        limits=[
            c.LimitResource(power=limit.power, detail=limit.detail, fix=limit.fix) for limit in able.limits
        ],
        settings={name: dict(values) for name, values in record.settings.items()},
        folders=list(record.folders),
        poll_seconds=record.poll_seconds,
        since=record.since,
        created_at=record.created_at,
        authserv_id=record.authserv_id,
        synced_at=state.synced_at if state else None,
        push=_push(record),
        push_until=record.push.until if record.push and not record.push.silent else None,
        authorize_url=authorize_url,
        problem=_problem(problem),
    )


def _push(record: Mailbox) -> Literal["none", "live", "silent"]:
    if record.push is None or record.state != "active":
        return "none"
    return "silent" if record.push.silent else "live"


def _silence(record: Mailbox, provider: Callable[[str], Provider]) -> Problem | None:
    """A plain word about push that is none."""
    if _push(record) != "silent" or not record.receives_with:
        return None
    told, minutes = provider(record.receives_with).silence, max(1, record.poll_seconds // 60)
    return Problem("push_silent", f"{told.why} It is looked for every {minutes} minutes.", told.fix)


def integration(
    record: Integration, provider: Provider, redirect_uri: str | None, delegation: Delegation | None
) -> c.IntegrationResource:
    """Show an integration, with the form its settings are checked against."""
    return c.IntegrationResource(
        provider=provider.name,
        title=provider.title,
        state=record.state,
        settings=dict(record.settings),
        domains=list(record.domains),
        form=[
            c.FieldResource(
                name=field.name,
                purpose=field.purpose,
                type=field.type,
                required=field.required,
                default=field.default,
                choices=list(field.choices),
            )
            for field in rules.form(provider)
        ],
        receives=provider.receiver is not None,
        sends=provider.sender is not None,
        redirect_uri=redirect_uri,
        tenant=record.tenant or None,
        delegation=_delegation(delegation),
        problem=_problem(record.problem),
        updated_at=record.updated_at,
    )


def _delegation(found: Delegation | None) -> c.DelegationResource | None:
    return c.DelegationResource(client_id=found.client_id, scopes=list(found.scopes)) if found else None


def domain(proof: DomainProof) -> c.DomainResource:
    """Show a domain, and the record that proves it."""
    return c.DomainResource(
        domain=proof.domain,
        state=proof.state,
        record=c.DnsRecord(name=proof.name, type="TXT", value=proof.text),
        proven_at=proof.proven_at,
        checked_at=proof.checked_at,
    )


def draft(message: Message, ref: str | None) -> c.DraftResource:
    """Show a draft that lies in the user's mailbox."""
    return c.DraftResource(
        id=message.id,
        ref=ref,
        mailbox_id=message.mailbox_id or "",
        case_id=message.case_id,
        conversation_id=message.conversation_id,
        message_id=message.message_id,
    )


def decided(message: Message | None) -> c.Decided:
    """Show what the owner's decision came to."""
    if message is None:
        return c.Decided(state="dismissed")
    return c.Decided(state="filed", email=email(message))


def review(record: Review, case_id: str | None) -> c.ReviewResource:
    """Show a held mail: headers and reason."""
    return c.ReviewResource(
        id=record.id,
        mailbox_id=record.mailbox_id,
        case_id=case_id,
        conversation_id=record.conversation_id,
        sender=_person(record.sender),
        to=people(record.recipients),
        subject=record.subject,
        sent_at=record.sent_at,
        reason=record.reason,
        evidence=_evidence(record.evidence),
    )


def audit(record: AuditRecord) -> c.AuditResource:
    """Show an audit record."""
    return c.AuditResource(
        at=record.at,
        id=record.id,
        event=record.event,
        actor=record.actor,
        outcome=record.outcome,
        correlation_id=record.correlation_id,
        mailbox_id=record.mailbox_id,
        case_id=record.case_id,
        email_id=record.email_id,
        counts=dict(record.counts),
        detail=record.detail,
    )


def people(addresses: Sequence[Address]) -> list[c.Person]:
    """Show addresses."""
    return [c.Person(address=person.shown, name=person.name) for person in addresses]


def _person(address: Address | None) -> c.Person | None:
    return c.Person(address=address.shown, name=address.name) if address else None


def _evidence(evidence: Evidence) -> c.EvidenceResource:
    return c.EvidenceResource(
        rule=evidence.rule,
        matched=evidence.matched,
        confidence=evidence.confidence,
        notes=list(evidence.notes),
    )


def _problem(problem: Problem | None) -> c.ProblemDetail | None:
    return c.ProblemDetail(code=problem.code, detail=problem.detail, fix=problem.fix) if problem else None


def hit(envelope: Envelope) -> c.SearchHit:
    """Show a mail found in the owner's mailbox."""
    return c.SearchHit(
        ref=envelope.ref,
        folder=envelope.folder,
        sender=_person(envelope.sender),
        to=people(envelope.recipients),
        subject=envelope.subject,
        sent_at=envelope.sent_at,
        message_id=envelope.message_id,
        size=envelope.size,
    )
