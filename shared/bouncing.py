"""What a bounce does to the mail that it is about, whichever of the two is read first."""

from contextlib import suppress

from shared import mime
from shared.app import App
from shared.bounces import bounced
from shared.errors import NotFound
from shared.keeping import bytes_of
from shared.knowing import find, find_by_id
from shared.matching import RETURNED
from shared.model import Bounced, Message, digest
from shared.storage.base import Move, Save, Stored, Write

MOST_NAMED = 5
"""Ids by which a mail that we do not have is marked later: a report names one, and what it was sent as."""

MOST_BOUNCES = 20
"""Of a mail that we did not have when they came: one for each recipient."""


def marks(app: App, org_id: str, bounce: Message, raw: bytes) -> list[Write]:
    """Make the writes by which a bounce that is filed marks its mail, now or when that comes into Sent."""
    report = mime.report(raw)
    if report is None:
        return []
    about = _about(app, org_id, bounce, report)
    if about and about.value.direction == "out":
        new = bounced(about.value, report)
        return [Move(about, new)] if new else []
    named = report.message_ids[:MOST_NAMED]
    return [Save(Bounced(bounce.conversation_id, digest(id_), bounce.id)) for id_ in named]


def _about(app: App, org_id: str, bounce: Message, report: mime.Report) -> Stored[Message] | None:
    """Find the mail that a bounce was filed by: one of those that it names, if it names any.

    What the bounce itself answers or follows may be an older mail of its conversation, which arrived.
    """
    matched = bounce.evidence.matched
    if matched is None or bounce.evidence.rule == RETURNED:
        return None
    if report.message_ids and matched not in report.message_ids:
        return None
    return find_by_id(app, org_id, matched)


def as_marked(app: App, org_id: str, message: Message) -> Message:
    """Return an own mail, newly seen in Sent, as bounces tell of it that its conversation has already."""
    if message.message_id is None:
        return message
    prefix = Bounced(message.conversation_id, digest(message.message_id), "").key
    for row in app.records.range(org_id, Bounced, prefix=prefix, limit=MOST_BOUNCES):
        bounce = find(app, org_id, message.conversation_id, row.value.email_id)
        if bounce is None:
            continue
        with suppress(NotFound):  # erased since: it tells nothing any more
            report = mime.report(bytes_of(app, org_id, bounce.value))
            message = (bounced(message, report) if report else None) or message
    return message
