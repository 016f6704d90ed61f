"""Blobs of a promise still to come: named by their hour, so that nothing of a dead worker stays behind.

A blob and the record that names it cannot be written in one step: whoever promises a large mail puts its
blobs first. When an hour is over, and any function that lived in it, too (host.json), the organisation's
watch (`scheduling`) has a job list what was put in that hour, and remove what no promise names.
"""

import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from shared.app import App
from shared.keeping import BLOB, BODY, body_of
from shared.knowing import find

HOUR, _HOUR = timedelta(hours=1), "%Y%m%d%H"

TIME = timedelta(minutes=15)
"""Longer than `functionTimeout`: by then whoever put the blobs has promised, or never will."""


def name_of(conversation_id: str, email_id: str, now: datetime) -> str:
    """Name the bytes of one attempt to promise a mail."""
    return f"{now:{_HOUR}}.{conversation_id}.{email_id}.{secrets.token_hex(8)}"


def settled(after: datetime, until: datetime) -> Iterator[str]:
    """Yield the hours that can be settled since `after`, and at `until`: `TIME` after their end."""
    end = (after - TIME).replace(minute=0, second=0, microsecond=0)
    while (end := end + HOUR) + TIME <= until:
        yield f"{end - HOUR:{_HOUR}}"


def settle(app: App, org_id: str, hour: str) -> None:
    """Remove what was put in an hour and nobody promised. Safe to repeat."""
    for kind in (BLOB, BODY):
        for name in app.blobs.names(org_id, f"{kind}{hour}."):
            if not _is_promised(app, org_id, name):
                app.blobs.remove(org_id, name)


def _is_promised(app: App, org_id: str, name: str) -> bool:
    _, conversation_id, email_id, _ = name.partition("/")[2].split(".")
    found = find(app, org_id, conversation_id, email_id)
    return found is not None and name in {found.value.raw, body_of(found.value.raw)}
