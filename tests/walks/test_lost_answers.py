"""A write arrives, its answer is lost, and the store refuses the repeat (`Records.commit`): that is no race."""

import pytest

from shared import audit
from shared.errors import Busy, Raced
from shared.leasing import Lease
from shared.model import AuditRecord, SyncState
from tests.doors import Guard, guarded


def losing(k):
    """Lose the answer to the k-th commit."""
    return Guard(fail_at=k, how="lost", error=lambda _: Raced(), only="records.commit")


def each_lost(act):
    """Carry out `act(app's guard)` once for every commit in it, whose answer is lost; returns how many."""
    k = 0
    while True:
        k += 1
        guard = losing(k)
        act(guard)
        if len(guard.calls) < k:
            return k - 1


def events(scene, name):
    rows = scene.app.records.range(scene.org_id, AuditRecord)
    return [row.value.outcome for row in rows if row.value.event == name]


def test_a_look_is_done_and_on_record_once_whichever_of_its_answers_is_lost(scene):
    scene.sent()
    scene.sync()
    [ours] = scene.supplier.inbox()

    def look(guard):
        scene.supplier.reply(ours)
        before = len(events(scene, "mailbox.read")), len(scene.timeline())
        scene.sync(app=guarded(scene.app, guard))
        assert (len(events(scene, "mailbox.read")), len(scene.timeline())) == (before[0] + 1, before[1] + 1)
        state = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value
        assert (state.holder, state.problem) == ("", None)

    assert each_lost(look) >= 4
    assert set(events(scene, "mailbox.read")) == {"done"}


def test_whoever_marked_a_lease_without_hearing_so_comes_back_for_it(scene):
    assert Lease.take(scene.app, scene.org_id, scene.mailbox.id)
    with pytest.raises(Busy):
        Lease.take(guarded(scene.app, losing(1)), scene.org_id, scene.mailbox.id)


def test_what_a_look_tells_with_its_cursor_is_told_once(scene):
    lease = Lease.take(guarded(scene.app, losing(2)), scene.org_id, scene.mailbox.id)
    event = audit.entry(scene.app, "mailbox.restarted", actor="system")
    lease.save(event, cursor="7")
    lease.give_back()
    assert events(scene, "mailbox.restarted") == ["done"]
    assert scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value.cursor == "7"
