"""Blobs of a promise still to come: named by their day, so that nothing of a dead worker stays behind.

A blob and the record that names it cannot be written in one step: whoever promises a large mail puts its
blobs first. When a day is over, and any function that lived in it, too (host.json), the organisation's
watch (`scheduling`) has a job list what was put on that day, and remove what no promise names.
"""

import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from shared.app import App
from shared.keeping import BLOB
from shared.knowing import find

DAY, _DAY = timedelta(days=1), "%Y%m%d"

TIME = timedelta(minutes=15)
"""Longer than `functionTimeout`: by then whoever put the blobs has promised, or never will."""


def name_of(conversation_id: str, email_id: str, now: datetime) -> str:
    """Name the bytes of one attempt to promise a mail."""
    return f"{now:{_DAY}}.{conversation_id}.{email_id}.{secrets.token_hex(8)}"


def settled(after: datetime, until: datetime) -> Iterator[str]:
    """Yield the days that can be settled since `after`, and at `until`: `TIME` after their end."""
    end = (after - TIME).replace(hour=0, minute=0, second=0, microsecond=0)
    while (end := end + DAY) + TIME <= until:
        yield f"{end - DAY:{_DAY}}"


def settle(app: App, org_id: str, day: str) -> None:
    """Remove what was put on a day and nobody promised. Safe to repeat."""
    for name in app.blobs.names(org_id, f"{BLOB}{day}."):
        if not _is_promised(app, org_id, name):
            app.blobs.remove(org_id, name)


def _is_promised(app: App, org_id: str, name: str) -> bool:
    _, conversation_id, email_id, _ = name.partition("/")[2].split(".")
    found = find(app, org_id, conversation_id, email_id)
    return found is not None and name == found.value.raw
