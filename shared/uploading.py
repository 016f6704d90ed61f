"""Blobs that a later transaction will name: noted first, so that nothing of a dead worker stays behind.

A blob and the record that names it cannot be written in one step. Whoever is about to promise a large
mail notes the blobs, puts them, and strikes the note out in the promise's own transaction. A note that
outlives its time is condemned first, which no promise survives, and only then are its blobs removed.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from shared.app import App
from shared.errors import Raced
from shared.model import Upload
from shared.storage.base import Add, Move, Remove, Stored, Write

TIME = timedelta(minutes=15)
"""How long a worker may take from its note to its transaction; longer than a request lives."""


def put(app: App, org_id: str, blobs: Mapping[str, bytes]) -> list[Write]:
    """Put the blobs (octets by name); returns what the transaction that names them must write, too.

    That transaction is Raced where it comes after `TIME`: the blobs may be gone.
    """
    if not blobs:
        return []
    upload = Upload(secrets.token_hex(8), tuple(blobs), app.clock() + TIME)
    [etag] = app.records.commit(org_id, Add(upload))
    for name, data in blobs.items():
        app.blobs.put(org_id, name, data)
    return [Remove(upload, etag)]


def sweep(app: App, org_id: str, now: datetime) -> list[datetime]:
    """Remove the blobs of transactions that never came; returns when the others' time is over."""
    waiting = []
    for stored in app.records.range(org_id, Upload):
        if stored.value.until > now:
            waiting.append(stored.value.until)
        else:
            _clear(app, org_id, stored)
    return waiting


def _clear(app: App, org_id: str, stored: Stored[Upload]) -> None:
    upload = stored.value
    if not upload.condemned:
        try:
            app.records.commit(org_id, Move(stored, replace(upload, condemned=True)))
        except Raced:
            return  # its transaction came after all, or another sweep is at it and the next one looks again
    for name in upload.names:
        app.blobs.remove(org_id, name)
    app.records.commit(org_id, Remove(upload))
