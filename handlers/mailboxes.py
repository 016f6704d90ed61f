"""/mailboxes: connecting, changing, disconnecting, looking into, and deciding about held mail."""

from datetime import datetime

from handlers.answers import Answer
from handlers.calls import Call, Query, limit
from handlers.http import Routes
from shared import (
    authorizing,
    checking,
    connecting,
    detecting,
    disconnecting,
    looking,
    owning,
    reviewing,
    views,
)
from shared import contract as c
from shared.providers import base

bp = Routes()

CURSOR = Query("cursor", "`nextCursor` of the page before.")
LIMIT, HITS = limit(50), limit(25)
PAGE = (LIMIT, CURSOR)
DOCTOR = (Query("dkimSelector", "DKIM selector to look at; else the one in the mailbox's mail to itself."),)
SEARCH = (
    Query("q", "Words anywhere in the mail."),
    Query("from", "Sender."),
    Query("to", "Recipient."),
    Query("subject", "Words of the subject."),
    Query("after", "Received at or after this RFC 3339 time.", datetime),
    Query("before", "Received before this RFC 3339 time.", datetime),
    Query("hasAttachment", "true or false.", bool),
    HITS,
    CURSOR,
)


@bp.endpoint(
    "POST", "mailboxes", who="member or admin", body=c.ConnectMailbox, answer=c.MailboxResource, status=201
)
def connect_mailbox(call: Call[c.ConnectMailbox]) -> Answer:
    """Connect a mailbox; its sign-in is tried before the answer, or waits for its user at `authorizeUrl`."""
    mailbox, authorize_url = authorizing.connect(call.app, call.caller, call.body)
    return Answer(views.mailbox(call.app.provider, mailbox, None, authorize_url), status=201)


@bp.endpoint("POST", "mailboxes/autodetect", who="member or admin", body=c.AskServers, answer=c.Detected)
def detect_servers(call: Call[c.AskServers]) -> Answer:
    """Propose providers and servers for an address by what its domain publishes; nothing is tried or kept."""
    return Answer(detecting.detect(call.app, call.caller, call.body.address))


@bp.endpoint("GET", "mailboxes", who="member or admin", answer=c.Items[c.MailboxResource], query=PAGE)
def list_mailboxes(call: Call[None]) -> Answer:
    """The caller's mailboxes; for an administrator all of the organisation."""
    limit = call.number(LIMIT)
    shown, cursor = owning.visible(call.app, call.caller, limit=limit, cursor=call.text("cursor"))
    items = [views.mailbox(call.app.provider, *pair) for pair in shown]
    return Answer(c.Items(items=items, next_cursor=cursor))


@bp.endpoint("GET", "mailboxes/{mailboxId}", who="owner of the mailbox, or admin", answer=c.MailboxResource)
def get_mailbox(call: Call[None]) -> Answer:
    """One mailbox, its state and what the last look at it found."""
    shown = owning.show(call.app, call.caller, call.path("mailboxId"))
    return Answer(views.mailbox(call.app.provider, *shown))


@bp.endpoint(
    "PATCH",
    "mailboxes/{mailboxId}",
    who="owner of the mailbox, or admin",
    body=c.PatchMailbox,
    answer=c.MailboxResource,
)
def patch_mailbox(call: Call[c.PatchMailbox]) -> Answer:
    """Change what is given; a new secret reconnects a mailbox that needs consent."""
    mailbox = connecting.change(call.app, call.caller, call.path("mailboxId"), call.body)
    return Answer(views.mailbox(call.app.provider, *owning.show(call.app, call.caller, mailbox.id)))


@bp.endpoint(
    "DELETE", "mailboxes/{mailboxId}", who="owner of the mailbox, or admin", answer=c.DisconnectReceipt
)
def delete_mailbox(call: Call[None]) -> Answer:
    """Disconnect: end all access, destroy the secrets, and say what was destroyed."""
    return Answer(disconnecting.disconnect(call.app, call.caller, call.path("mailboxId")))


@bp.endpoint(
    "POST", "mailboxes/{mailboxId}/sync", who="owner of the mailbox, or admin", answer=c.Accepted, status=202
)
def sync_mailbox(call: Call[None]) -> Answer:
    """Look into the mailbox now."""
    looking.soon(call.app, call.caller, call.path("mailboxId"))
    return Answer(c.Accepted(), status=202)


@bp.endpoint(
    "POST", "mailboxes/{mailboxId}/test", who="owner of the mailbox, or admin", answer=c.Checks, query=DOCTOR
)
def check_mailbox(call: Call[None]) -> Answer:
    """The doctor: sign-in, reading, a mail to itself, Sent, SPF, DKIM, DMARC; each failure with its fix.

    A mailbox that stopped goes on where nobody has to sign in for it in a browser and the sign-in works.
    """
    selector = call.text("dkimSelector")
    checks = checking.doctor(call.app, call.caller, call.path("mailboxId"), selector)
    return Answer(c.Checks(checks=checks))


@bp.endpoint(
    "GET", "mailboxes/{mailboxId}/folders", who="owner of the mailbox", answer=c.Items[c.FolderResource]
)
def list_folders(call: Call[None]) -> Answer:
    """The folders that can be chosen besides Inbox and Sent, live."""
    found = looking.folders(call.app, call.caller, call.path("mailboxId"))
    return Answer(c.Items(items=[c.FolderResource(name=f.name, role=f.role) for f in found]))


@bp.endpoint(
    "GET",
    "mailboxes/{mailboxId}/search",
    who="owner of the mailbox",
    answer=c.Items[c.SearchHit],
    query=SEARCH,
)
def search_mailbox(call: Call[None]) -> Answer:
    """Search the own mailbox, live; nothing of it is kept."""
    query = base.Query(
        text=call.text("q"),
        sender=call.text("from"),
        to=call.text("to"),
        subject=call.text("subject"),
        after=call.time("after"),
        before=call.time("before"),
        has_attachment=call.flag("hasAttachment"),
        limit=call.number(HITS),
    )
    found, cursor = looking.search(call.app, call.caller, call.path("mailboxId"), query, call.text("cursor"))
    return Answer(c.Items(items=[views.hit(envelope) for envelope in found], next_cursor=cursor))


@bp.endpoint(
    "GET",
    "mailboxes/{mailboxId}/reviews",
    who="owner of the mailbox",
    answer=c.Items[c.ReviewResource],
    query=PAGE,
)
def list_reviews(call: Call[None]) -> Answer:
    """Mails with strong evidence that failed the gate: headers and reason only."""
    limit = call.number(LIMIT)
    shown, cursor = reviewing.held(
        call.app, call.caller, call.path("mailboxId"), limit=limit, cursor=call.text("cursor")
    )
    return Answer(c.Items(items=[views.review(*pair) for pair in shown], next_cursor=cursor))


@bp.endpoint(
    "POST",
    "mailboxes/{mailboxId}/reviews/{reviewId}",
    who="owner of the mailbox",
    body=c.DecideReview,
    answer=c.Decided,
)
def decide_review(call: Call[c.DecideReview]) -> Answer:
    """File a held mail into its case (its body is read only now), or dismiss it."""
    message = reviewing.decide(
        call.app, call.caller, call.path("mailboxId"), call.path("reviewId"), call.body.action
    )
    return Answer(views.decided(message))
