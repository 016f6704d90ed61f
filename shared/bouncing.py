"""What a bounce does to the mail that it is about, whichever of the two is read first."""

from shared import identity, mime
from shared.app import App
from shared.bounces import MOST_TOLD, bounced, undelivered
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
    told = undelivered(report) if report else ()
    if report is None or not told:
        return []
    about = _about(app, org_id, bounce, report)
    if about and about.value.direction == "out":
        new = bounced(about.value, told)
        return [Move(about, new)] if new else []
    named = report.message_ids[:MOST_NAMED]
    return [Save(Bounced(bounce.conversation_id, digest(id_), bounce.id, told[:MOST_TOLD])) for id_ in named]


def _about(app: App, org_id: str, bounce: Message, report: mime.Report) -> Stored[Message] | None:
    """Find the mail that a bounce was filed by: one of those that it names, if it names any.

    What the bounce itself answers or follows may be an older mail of its conversation, which arrived. And a
    colleague's copy with another text may be known by the id: the own mail lies beside it then.
    """
    matched = bounce.evidence.matched
    if matched is None or bounce.evidence.rule == RETURNED:
        return None
    if report.message_ids and matched not in report.message_ids:
        return None
    ours = identity.read(app.keys.signing(org_id), org_id, matched)  # a relay may have changed its case
    found = (
        find(app, org_id, ours.conversation_id, ours.email_id) if ours else find_by_id(app, org_id, matched)
    )
    if found is None or found.value.direction == "out":
        return found
    variants = (find_by_id(app, org_id, fact.variant) for fact in found.value.deliveries if fact.variant)
    return next((one for one in variants if one and one.value.direction == "out"), found)


def as_marked(app: App, org_id: str, message: Message) -> Message:
    """Return an own mail, newly seen in Sent, as bounces tell of it that its conversation has already."""
    if message.message_id is None:
        return message
    prefix = Bounced(message.conversation_id, digest(message.message_id), "").key
    for row in app.records.range(org_id, Bounced, prefix=prefix, limit=MOST_BOUNCES):
        message = bounced(message, row.value.told) or message
    return message
