"""/cases: members, sending, the timeline and its e-mails."""

from handlers.answers import Answer
from handlers.calls import Call, whole
from handlers.http import Reply, Routes
from handlers.mailboxes import LIMIT, PAGE
from shared import casework, drafting, drafts, mime, reviewing, sending, views
from shared import contract as c
from shared.errors import InvalidRequest

bp = Routes()


@bp.endpoint("PUT", "cases/{caseId}", who="platform or admin", body=c.PutCase, answer=c.CaseResource)
def put_case(call: Call[c.PutCase]) -> Answer:
    """Create a case, or replace its title and members."""
    case_id = drafts.case_id(call.path("caseId"))
    members = drafts.members(call.body.members)
    case = casework.put_case(call.app, call.caller, case_id, call.body.title, members)
    return Answer(views.case(case))


@bp.endpoint(
    "POST",
    "cases/{caseId}/emails",
    who="member of the case who owns the mailbox",
    body=c.SendEmail,
    answer=c.EmailResource,
    status=202,
    headers=("Idempotency-Key",),
)
def send_email(call: Call[c.SendEmail]) -> Answer:
    """Send from the case; the same Idempotency-Key and body give the same promise, for ever."""
    key = drafts.idempotency_key(call.request.headers.get("idempotency-key"))
    draft = drafts.checked(call.body)
    message = sending.accept(call.app, call.caller, call.path("caseId"), draft, key)
    return Answer(views.email(message), status=202)


@bp.endpoint(
    "POST",
    "cases/{caseId}/drafts",
    who="member of the case who owns the mailbox",
    body=c.SendEmail,
    answer=c.DraftResource,
    status=201,
)
def put_draft(call: Call[c.SendEmail]) -> Answer:
    """Put a mail of the case into the caller's own drafts; once it is sent there, it is in the case."""
    draft = drafts.checked(call.body)
    message, receipt = drafting.put(call.app, call.caller, call.path("caseId"), draft)
    return Answer(views.draft(message, receipt.ref), status=201)


@bp.endpoint(
    "POST",
    "cases/{caseId}/drafts/{draftId}/send",
    who="member of the case who owns the mailbox",
    answer=c.EmailResource,
    status=202,
    headers=("Idempotency-Key",),
)
def send_draft(call: Call[None]) -> Answer:
    """Send a draft of the case as its owner left it in the mailbox; repeatable as sending is."""
    key = drafts.idempotency_key(call.request.headers.get("idempotency-key"))
    message = drafting.send(call.app, call.caller, call.path("caseId"), call.path("draftId"), key)
    return Answer(views.email(message), status=202)


@bp.endpoint("GET", "cases/{caseId}/emails", who="member of the case", answer=c.Timeline, query=PAGE)
def list_emails(call: Call[None]) -> Answer:
    """The case's e-mails, oldest first; long ones make a page shorter than its `limit`."""
    limit = call.number(LIMIT)
    page, cursor = casework.timeline(
        call.app, call.caller, call.path("caseId"), limit=limit, cursor=call.text("cursor")
    )
    return Answer(c.Timeline(items=[views.email(message) for message in page], next_cursor=cursor))


@bp.endpoint("GET", "cases/{caseId}/emails/{emailId}", who="member of the case", answer=c.EmailResource)
def get_email(call: Call[None]) -> Answer:
    """One e-mail of the case."""
    message = casework.email(call.app, call.caller, call.path("caseId"), call.path("emailId"))
    return Answer(views.email(message))


@bp.endpoint("GET", "cases/{caseId}/emails/{emailId}/raw", who="member of the case", answer=bytes)
def get_raw(call: Call[None]) -> Answer:
    """The e-mail's bytes, as received or sent."""
    raw = casework.raw(call.app, call.caller, call.path("caseId"), call.path("emailId"))
    return Answer(raw, headers=mime.raw_headers(call.path("emailId")))


@bp.endpoint(
    "GET",
    "cases/{caseId}/emails/{emailId}/attachments/{attachmentId}",
    who="member of the case",
    answer=bytes,
    also=(Reply(200, "*/*", bytes),),
)
def get_attachment(call: Call[None]) -> Answer:
    """One attachment, with headers that keep a browser from running it."""
    index = whole(call.path("attachmentId"))
    if index is None:
        raise InvalidRequest("Attachments are numbered.", field="attachmentId")
    part, content = casework.attachment(
        call.app, call.caller, call.path("caseId"), call.path("emailId"), index
    )
    return Answer(content, headers=mime.download_headers(part))


@bp.endpoint(
    "POST",
    "cases/{caseId}/emails/{emailId}/move",
    who="member of the case who owns the mailbox",
    body=c.MoveEmail,
    answer=c.EmailResource,
)
def move_email(call: Call[c.MoveEmail]) -> Answer:
    """Move the e-mail's conversation to another case; future replies follow. Moving back undoes it."""
    message = casework.move(
        call.app, call.caller, call.path("caseId"), call.path("emailId"), call.body.case_id
    )
    return Answer(views.email(message))


@bp.endpoint(
    "POST",
    "cases/{caseId}/links",
    who="member of the case who owns the mailbox",
    body=c.LinkEmail,
    answer=c.Linked,
    status=201,
)
def link_email(call: Call[c.LinkEmail]) -> Answer:
    """File a mail of the caller's mailbox, and its conversation, into the case."""
    message, others = reviewing.link(
        call.app, call.caller, call.path("caseId"), call.body.mailbox_id, call.body.ref
    )
    return Answer(c.Linked(email=views.email(message), also_filed=others), status=201)
