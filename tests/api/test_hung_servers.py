"""More mailboxes than the app has threads lie on servers that accept and say nothing: nobody else waits for them."""

import contextlib
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared import jobs
from shared.jobs import Job
from shared.model import Grant, Mailbox, SyncState
from shared.shares import JOBS
from shared.storage.base import Add, Remove
from tests.api.conftest import draft, key, open_office

MAILBOXES = 33
"""One more than PYTHON_THREADPOOL_THREAD_COUNT."""
AT_LEAST = JOBS.most
"""So many an organisation has under way at once before anything is known of it."""

IN_VAIN = 32
"""Seconds: those wait 10 for a word, and nobody after them; who was put back meanwhile comes after 13."""


@contextlib.contextmanager
def silent():
    """A server that accepts and says nothing; yields its port and what it accepted."""
    accepted = []

    def accept(server):
        with contextlib.suppress(OSError):
            while True:
                accepted.append(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield server.getsockname()[1], accepted
        server.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        connection.close()


@pytest.fixture
def hung(api, world, app):
    """An organisation with many mailboxes there, all of which are being looked at right now."""
    office = open_office(api, world)
    box = app.records.get(office.org_id, Mailbox, office.mailbox_id).value
    grant = app.records.get(office.org_id, Grant, f"{box.id}!imap").value
    with silent() as (port, accepted):
        place = {**box.settings["imap"], "port": port}
        boxes = [
            replace(box, id=f"{number:016x}", settings={**box.settings, "imap": place})
            for number in range(MAILBOXES)
        ]
        grants = [replace(grant, mailbox_id=each.id) for each in boxes]
        app.records.commit(office.org_id, *map(Add, [*boxes, *grants]))
        for each in boxes:
            jobs.put(app, Job("sync", office.org_id, each.id))
        deadline = time.monotonic() + 30
        while len(accepted) < AT_LEAST:
            assert time.monotonic() < deadline, len(accepted)
            time.sleep(0.05)
        yield office
        app.records.commit(office.org_id, *map(Remove, [*boxes, *grants]))


def test_a_send_leaves_and_a_caller_is_answered_all_the_same(hung):
    assert hung.alice_("GET", "/mailboxes", timeout=5).ok
    answer = hung.alice_("POST", "/cases/C-1/emails", draft(hung), headers=key(), timeout=5)
    assert answer.status_code == 202
    deadline = time.monotonic() + 8
    while hung.alice_("GET", "/cases/C-1/emails", timeout=5).json()["items"][0]["state"] != "sent":
        assert time.monotonic() < deadline, "it waits for the hung ones"
        time.sleep(0.1)


@pytest.mark.long
def test_another_mailbox_is_looked_into_as_soon_as_the_first_ones_have_waited_in_vain(hung, app):
    def seen_at():
        found = app.records.find(hung.org_id, SyncState, hung.mailbox_id)
        return found.value.synced_at if found else None

    deadline = time.monotonic() + IN_VAIN
    while seen_at() is None:  # its first look may have begun before the others
        assert time.monotonic() < deadline
        time.sleep(0.1)
    asked = datetime.now(UTC)
    assert hung.alice_("POST", f"/mailboxes/{hung.mailbox_id}/sync", timeout=5).status_code == 202
    deadline = time.monotonic() + IN_VAIN
    while seen_at() < asked:
        assert time.monotonic() < deadline, "it waits for the hung ones"
        time.sleep(0.1)
