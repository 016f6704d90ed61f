"""A write arrives, its answer is lost, and the store refuses the repeat (`Records.commit`): that is no race."""

from dataclasses import dataclass

import pytest

from shared import audit, connecting, disconnecting, reviewing
from shared.contract import PatchMailbox
from shared.errors import Busy, Raced
from shared.leasing import Lease
from shared.model import AuditRecord, DecidedReview, Mailbox, SyncState
from shared.settings import load
from shared.storage import tables
from shared.storage.base import Add
from tests.doors import Guard, guarded
from tests.scenes import caller, connect, someone


@dataclass
class Losing(Guard):
    """Loses the answer to the k-th commit, which is sent again, as the store's client does."""

    def around(self, name, call):
        if not name.endswith("records.commit"):
            return call()
        self.calls.append(name)
        if len(self.calls) == self.fail_at:
            call()
        return call()


def each_lost(act):
    """Carry out `act(app's guard)` once for every commit in it, whose answer is lost; returns how many."""
    k = 0
    while True:
        k += 1
        guard = Losing(k)
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
        Lease.take(guarded(scene.app, Losing(1)), scene.org_id, scene.mailbox.id)


def test_what_a_look_tells_with_its_cursor_is_told_once(scene):
    lease = Lease.take(guarded(scene.app, Losing(2)), scene.org_id, scene.mailbox.id)
    event = audit.entry(scene.app, "mailbox.restarted", actor="system")
    lease.save(event, cursor="7")
    lease.give_back()
    assert events(scene, "mailbox.restarted") == ["done"]
    assert scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value.cursor == "7"


def test_the_log_tells_of_what_is_committed_once_and_of_nothing_else(scene, world, caplog):
    def lines():
        return caplog.text.count('"event": "mailbox.restarted"')

    caplog.set_level("INFO", "zalion")
    event = audit.entry(scene.app, "mailbox.restarted", actor="system")
    with pytest.raises(Raced):
        scene.app.records.commit(scene.org_id, event, Add(scene.mailbox))
    assert lines() == 0
    scene.app.records.commit(scene.org_id, event)
    assert lines() == 1
    unheard = audit.entry(scene.app, "mailbox.restarted", actor="system")
    tables.AzureRecords(tables.connect(load(world.environment()).storage)).commit(scene.org_id, unheard)
    assert lines() == 1
    audit.commit(scene.app, scene.org_id, unheard)
    assert lines() == 2


def test_a_mailbox_is_connected_changed_and_disconnected_whichever_answer_is_lost(scene):
    def life(guard):
        app = guarded(scene.app, guard)
        mailbox = connect(scene.world, app, scene.org_id, someone(scene.world, "dora", "imap.example"))
        owner = caller(scene.org_id, mailbox.owner)
        assert connecting.change(app, owner, mailbox.id, PatchMailbox(paused=True)).state == "paused"
        assert disconnecting.disconnect(app, owner, mailbox.id).state == "disconnected"
        assert scene.app.records.get(scene.org_id, Mailbox, mailbox.id).value.state == "disconnected"

    times = each_lost(life)
    assert times >= 4
    for event in ("mailbox.connected", "mailbox.changed", "mailbox.disconnected"):
        assert len(events(scene, event)) == times + 1 + (event == "mailbox.connected")
    assert len(events(scene, "mailbox.secrets_destroyed")) == 2 * (times + 1)


def test_a_mailbox_is_connected_anew_whichever_answer_is_lost(scene):
    def again(guard):
        disconnecting.disconnect(scene.app, scene.caller, scene.mailbox.id)
        mailbox = connect(scene.world, guarded(scene.app, guard), scene.org_id, scene.alice)
        assert scene.app.records.get(scene.org_id, Mailbox, mailbox.id).value.state == "active"

    assert each_lost(again) >= 2


@pytest.mark.parametrize("action", ["file", "dismiss"])
def test_a_held_mail_is_decided_about_whichever_answer_is_lost(scene, action):
    answered = scene.held().evidence.matched

    def decide(guard):
        stranger = someone(scene.world, "stranger", "supplier.example")
        stranger.send(scene.alice.address, "Re: Offer", **{"In-Reply-To": answered})
        scene.sync()
        *_, held = scene.reviews()
        reviewing.decide(guarded(scene.app, guard), scene.caller, scene.mailbox.id, held.id, action)
        decision = scene.app.records.get(scene.org_id, DecidedReview, held.key).value.decision
        assert decision == {"file": "filed", "dismiss": "dismissed"}[action]
        assert held not in scene.reviews()

    assert each_lost(decide) >= 1
