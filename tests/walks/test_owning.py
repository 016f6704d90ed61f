"""The list of mailboxes, which may be thousands: page by page, in few reads, each caller's own."""

from dataclasses import replace

import pytest

from shared import owning
from shared.model import SyncState
from shared.storage.base import Save
from tests.scenes import caller


@pytest.fixture
def boxes(scene):
    """Ninety mailboxes that Alice and Bob own by turns, each looked at once."""
    owners = (scene.alice.address, "bob@imap.example")
    made = [replace(scene.mailbox, id=f"{n:03d}", owner=owners[n % 2]) for n in range(90)]
    for kept in (made, [SyncState(box.id, synced_at=scene.clock()) for box in made]):
        scene.app.records.commit(scene.org_id, *map(Save, kept))
    return made


def pages(app, who, limit):
    cursor = None
    while True:
        page, cursor = owning.visible(app, who, limit=limit, cursor=cursor)
        assert all(state.mailbox_id == box.id for box, state in page if state)
        yield page
        if cursor is None:
            return


def test_an_administrator_gets_every_mailbox_in_two_reads_a_page(scene, boxes, watched, guard):
    it = caller(scene.org_id, "it@imap.example", "admin")
    found = list(pages(watched, it, 40))
    assert [len(page) for page in found] == [40, 40, 11]
    assert guard.count("records.range") == 6
    assert guard.count("records.find") <= 1, "the key of cursors"
    everything = [pair for page in found for pair in page]
    assert {box.id for box, _ in everything} == {scene.mailbox.id, *(box.id for box in boxes)}
    assert all(state and state.synced_at for box, state in everything if box in boxes)


def test_everybody_else_gets_the_own_ones(scene, boxes):
    found = list(pages(scene.app, caller(scene.org_id, "bob@imap.example"), 30))
    assert [len(page) for page in found] == [30, 15]
    assert [box.id for page in found for box, _ in page] == [box.id for box in boxes[1::2]]
    assert all(state and state.synced_at for page in found for _, state in page)
    assert list(pages(scene.app, caller(scene.org_id, "carol@imap.example"), 30)) == [[]]
