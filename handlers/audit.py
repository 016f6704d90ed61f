"""GET /audit: who did what, for administrators; JSON pages or an NDJSON export."""

from datetime import datetime

import msgspec

from handlers.answers import Answer
from handlers.calls import Call, Query, accepts, limit
from handlers.http import Reply, Routes
from handlers.mailboxes import CURSOR
from shared import audit, views
from shared.contract import AuditResource, Items

bp = Routes()

LIMIT = limit(100, audit.EXPORT_PAGE)
FILTERS = (
    Query(
        "from",
        "Not before this RFC 3339 time. A record may appear some minutes after its time: whoever fetches "
        "regularly begins a quarter of an hour before the last one, and knows by `id` what is known.",
        datetime,
    ),
    Query("to", "Before this RFC 3339 time.", datetime),
    Query("mailboxId", "Only this mailbox."),
    Query("caseId", "Only this case."),
    LIMIT,
    CURSOR,
)

LINES = Reply(200, "application/x-ndjson", str, headers=("X-Next-Cursor",))


@bp.endpoint("GET", "audit", who="admin", answer=Items[AuditResource], query=FILTERS, also=(LINES,))
def list_audit(call: Call[None]) -> Answer:
    """Audit records, oldest first; `Accept: application/x-ndjson` gives one record a line."""
    call.caller.need("admin")
    records, cursor = audit.query(
        call.app,
        call.caller.org_id,
        since=call.time("from"),
        until=call.time("to"),
        mailbox_id=call.text("mailboxId"),
        case_id=call.text("caseId"),
        cursor=call.text("cursor"),
        limit=call.number(LIMIT),
    )
    shown = [views.audit(record) for record in records]
    if not accepts(call.request, LINES.media):
        return Answer(Items(items=shown, next_cursor=cursor))
    lines = msgspec.json.Encoder().encode_lines(shown)
    following = {"X-Next-Cursor": cursor} if cursor else {}
    return Answer(lines, headers={"Content-Type": LINES.media, **following})
