"""Blobs of a promise still to come: noted first, so that nothing of a dead worker stays behind.

A blob and the record that names it cannot be written in one step. Whoever is about to promise a large
mail notes it in the schedule, which also has the outbox looked at, and puts the blobs. When the note
comes due twice without a promise, later than any function lives (host.json), the blobs are removed.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from shared.app import App
from shared.keeping import BLOB, body_of
from shared.knowing import find
from shared.model import Message
from shared.storage.base import Due

KIND, LAST = "upload", "upload-last"
"""What a note is called, before and after it came due for the first time."""

TIME = timedelta(minutes=15)
"""Longer than `functionTimeout`: by then whoever put the blobs has promised, or never will."""


def put(app: App, org_id: str, message: Message, blobs: Mapping[str, bytes], at: datetime) -> None:
    """Note the mail for `at`, then put its blobs (octets by name)."""
    place = f"{message.conversation_id}.{message.id}"
    app.schedule.put(Due(at, KIND, org_id, place, token=message.raw.removeprefix(BLOB)))
    for name, data in blobs.items():
        app.blobs.put(org_id, name, data)


def settle(app: App, due: Due, now: datetime) -> None:
    """Keep the blobs of a promise; without one, come back later, and then remove them. Safe to repeat."""
    conversation_id, _, email_id = due.id.partition(".")
    found = find(app, due.org_id, conversation_id, email_id)
    if found and found.value.raw.removeprefix(BLOB) == due.token:
        return
    if due.kind == KIND:
        app.schedule.put(replace(due, kind=LAST, at=now + TIME))
        return
    for name in (BLOB + due.token, body_of(due.token)):
        app.blobs.remove(due.org_id, name)
