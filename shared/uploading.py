"""Blobs of a promise still to come: named by their hour, so that nothing of a dead worker stays behind.

A blob and the record that names it cannot be written in one step: whoever promises a large mail puts its
blobs first. When an hour is over, and any function that lived in it, too (host.json), the organisation's
watch (`scheduling`) lists what was put in that hour and removes what no promise names.
"""

import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from shared.app import App
from shared.keeping import BLOB, BODY, body_of
from shared.knowing import find

HOUR = timedelta(hours=1)

TIME = timedelta(minutes=15)
"""Longer than `functionTimeout`: by then whoever put the blobs has promised, or never will."""


def name_of(conversation_id: str, email_id: str, now: datetime) -> str:
    """Name the bytes of one attempt to promise a mail."""
    return f"{now:%Y%m%d%H}.{conversation_id}.{email_id}.{secrets.token_hex(8)}"


def settle(app: App, org_id: str, after: datetime, until: datetime) -> None:
    """Remove what nobody promised, of the hours whose time for it is after `after`, and not after `until`."""
    for hour in _settled(after, until):
        for kind in (BLOB, BODY):
            for name in app.blobs.names(org_id, f"{kind}{hour:%Y%m%d%H}."):
                if not _is_promised(app, org_id, name):
                    app.blobs.remove(org_id, name)


def _settled(after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the hours that have ended `TIME` ago, by their beginning."""
    hour = (after - TIME).replace(minute=0, second=0, microsecond=0)
    while (hour := hour + HOUR) + TIME <= until:
        if hour + TIME > after:
            yield hour - HOUR


def _is_promised(app: App, org_id: str, name: str) -> bool:
    _, conversation_id, email_id, _ = name.partition("/")[2].split(".")
    found = find(app, org_id, conversation_id, email_id)
    return found is not None and name in {found.value.raw, body_of(found.value.raw)}
