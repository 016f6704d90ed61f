"""What becomes of a job: done, later, poison; one mailbox's trouble is its own; one id through everything."""

import json
import logging
import secrets
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueServiceClient

from sandbox.wire import Wire
from shared import connecting, jobs, logs, scheduling, working
from shared.app import SYNC
from shared.contract import PatchMailbox
from shared.errors import Temporary
from shared.jobs import Job
from shared.model import AuditRecord, SyncState
from shared.shares import JOBS, Shares
from shared.storage.base import Due, Move, Save
from tests.doors import Guard, guarded
from tests.scenes import build, build_behind, encoded, health
from tests.walks.test_relaying import Queued


def job(scene, **changes):
    return encoded(Job("sync", scene.org_id, scene.mailbox.id, **changes))


def broken(scene, retry_after=5):
    """The scene's app, whose mail server answers nothing but `try later`."""
    guard = Guard(how="error", error=lambda _: Temporary("Busy.", retry_after=retry_after))
    app = guarded(scene.app, guard)
    guard.fail_at = next_read(scene, app, guard)
    return app, guard


def next_read(scene, app, guard):
    scene.sync(app=app)
    place = guard.calls.index("imap.receiver.pages") + 1
    guard.calls.clear()
    return place


def told(caplog):
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "zalion"]


def in_queue(scene, name):
    service = QueueServiceClient.from_connection_string(scene.world.environment()["STORAGE"])
    try:
        return service.get_queue_client(name).get_queue_properties().approximate_message_count
    except ResourceNotFoundError:
        return 0


def test_what_should_be_tried_later_goes_back_as_a_new_message(scene):
    list(scene.waiting())
    app, _ = broken(scene, retry_after=0)
    working.run(app, job(scene))
    [again] = list(scene.waiting())
    assert jobs.read(again).attempt == 1
    assert jobs.read(again).id == scene.mailbox.id


def test_after_five_attempts_it_is_poison_and_health_and_a_quiet_log_show_it(scene, caplog):
    before = health(scene.app).poison.get("deliver-poison", 0)
    app = guarded(scene.app, Guard(fail_at=1, how="error", error=lambda _: Temporary("Busy.")))
    with caplog.at_level(logging.ERROR, logger="zalion"):
        working.run(app, encoded(Job("carry", scene.org_id, "c" * 16, attempt=4)))
    [line] = [line for line in told(caplog) if line["event"] == "job.poisoned"]
    assert line["error"]["detail"] == "Busy."
    scene.clock.advance(seconds=10)
    found = health(scene.app)
    assert found.poison["deliver-poison"] == before + 1
    assert found.status == "degraded"
    assert in_queue(scene, "deliver-poison") == before + 1


def test_what_keeps_a_job_from_its_end_is_in_a_quiet_log_with_its_mailbox_and_the_store(scene, caplog):
    ended = replace(scene.mailbox, state="disconnected", schedule="-")
    scene.app.records.commit(scene.org_id, Save(ended))
    scene.world.vault.forbidden = True
    try:
        with caplog.at_level(logging.INFO, logger="zalion"):
            for attempt in (0, 4):
                working.run(
                    scene.app, encoded(Job("disconnect", scene.org_id, scene.mailbox.id, attempt=attempt))
                )
    finally:
        scene.world.vault.forbidden = False
    lines = [line for line in told(caplog) if line["event"] in {"job.postponed", "job.poisoned"}]
    assert [line["event"] for line in lines] == ["job.postponed", "job.poisoned"]
    for line in lines:
        assert line["mailbox_id"] == scene.mailbox.id
        assert line["error"]["detail"] == "Key Vault does not let the app in."
        assert any("shared/storage/vault.py" in frame for frame in line["error"]["stack"])


def test_a_customers_server_that_is_down_all_day_poisons_nothing_and_its_polls_go_on(world, app, clock):
    with Wire(world.authority, world.ports["imap"]) as wire:
        scene = build_behind(wire, world, app, clock)
        scene.work()
        before = in_queue(scene, "sync-poison")
        wire.faults.refusing = True
        for _ in range(3):
            clock.advance(minutes=11)
            scheduling.tick(app)
            found = [jobs.read(text) for text in scene.waiting()]
            [poll] = [
                one for one in found if one.type == "sync"
            ]  # shortly after midnight a watch comes by, too
            assert poll.token
            working.run(app, encoded(msgspec.structs.replace(poll, attempt=4)))
        working.run(app, job(scene, attempt=4))  # nor does somebody's wish to look now
        assert synced(scene).problem.code == "temporary"
        assert in_queue(scene, "sync-poison") == before
        wire.heal()
        clock.advance(minutes=11)
        scheduling.tick(app)
        scene.work()
        assert synced(scene).problem is None


def synced(scene):
    return scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value


@pytest.mark.parametrize(
    "text", ["no json", '{"type": "of a newer version", "org_id": "o", "id": "private"}']
)
def test_a_job_that_cannot_be_read_is_in_our_log_and_raised_so_that_the_host_retries_and_poisons(
    scene, text, caplog
):
    with caplog.at_level(logging.ERROR, logger="zalion"), pytest.raises(RuntimeError) as caught:
        working.run(scene.app, text)
    [line] = told(caplog)
    assert (line["event"], line["level"]) == ("job.failed", "ERROR")
    assert line["correlation_id"] in str(caught.value)
    assert "version" not in str(line)


def test_a_job_that_cannot_even_be_put_back_is_an_error_in_our_log(scene, caplog):
    class ShutOut(Guard):
        def around(self, name, call):
            raise Temporary("The store does not let the app in.")

    with caplog.at_level(logging.ERROR, logger="zalion"), pytest.raises(Temporary):
        working.run(guarded(scene.app, ShutOut()), job(scene))
    assert '"event": "job.failed"' in caplog.text


def test_a_bug_is_in_our_log_under_its_correlation_id_and_the_host_hears_no_word_of_it(scene, caplog):
    def quoting(_name):
        return ValueError("could not read: private words of a mail")

    app = guarded(scene.app, Guard(fail_at=3, how="error", error=quoting))
    text = encoded(Job("sync", scene.org_id, scene.mailbox.id, correlation_id="test-correlation"))
    with caplog.at_level(logging.ERROR, logger="zalion"), pytest.raises(RuntimeError) as caught:
        working.run(app, text)
    told = "".join(traceback.format_exception(caught.value))
    assert "private" not in told + caplog.text
    assert "test-correlation" in told
    assert '"event": "job.failed"' in caplog.text
    assert "builtins.ValueError" in caplog.text


def test_an_organisation_whose_servers_are_slow_waits_with_its_further_looks_and_nobody_else_does(
    scene, world, clock
):
    other = build(world, scene.app, clock)
    list(scene.waiting())
    message = scene.send()
    [nudge], before = list(scene.waiting()), seen(scene)
    with ExitStack() as slow:
        for _ in range(JOBS.most):
            slow.enter_context(scene.app.shares.taken(scene.org_id, SYNC, JOBS, clock))
        clock.advance(seconds=61)
        queued = Queued(scene.app.queues)
        working.run(replace(scene.app, queues=queued), job(scene, attempt=3))
        assert seen(scene) == before, "not begun"
        working.run(scene.app, nudge)
        assert scene.email(message.id).state == "sent", "sending is another matter"
        working.run(scene.app, encoded(Job("sync", other.org_id, other.mailbox.id)))
        assert seen(other) == 1
    [(again, _)] = queued.jobs
    working.run(scene.app, again)
    assert seen(scene) == before + 1
    assert jobs.read(again).attempt == 3, "nobody failed"


def test_a_job_ends_in_time_however_many_servers_it_needs_and_what_is_left_is_done_by_another(
    world, app, clock
):
    """SMTP takes the mail, then the IMAP server that is to take the copy says nothing."""
    with Wire(world.authority, world.ports["imap"]) as wire:
        scene = build_behind(wire, world, app, clock)
        scene.work()
        message = scene.send()
        [nudge] = list(scene.waiting())
        wire.faults.hanging = True
        began = time.monotonic()
        working.run(replace(app, longest_job=2), nudge)
        assert time.monotonic() - began < 5
        assert scene.email(message.id).state == "sent"
        wire.heal()
        clock.advance(minutes=30)
        scheduling.tick(app)
        scene.work()
        assert len(scene.alice.inbox("Sent")) == 1


def test_a_burst_of_mails_leaves_without_a_job_being_put_back(scene):
    """An organisation of which the process knows nothing yet, and as many jobs at once as the host begins."""
    list(scene.waiting())
    messages = [scene.send() for _ in range(24)]
    nudges, queued = list(scene.waiting()), Queued(scene.app.queues)
    app = replace(scene.app, queues=queued, shares=Shares())
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda nudge: working.run(app, nudge), nudges))
    assert [jobs.read(text).type for text, _ in queued.jobs] == []
    assert {scene.email(message.id).state for message in messages} == {"sent"}


def test_of_many_jobs_for_one_mailbox_that_rests_one_waits(scene, clock):
    scene.work()
    state = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id)
    resting = replace(state.value, rest_until=clock() + timedelta(minutes=40))
    scene.app.records.commit(scene.org_id, Move(state, resting))
    queued = Queued(scene.app.queues)
    app = replace(scene.app, queues=queued)
    for minute in range(30):
        poll = job(scene, token=scene.mailbox.schedule, every=60, next=f"2026-11-26T10:{minute:02}:00+00:00")
        working.run(app, poll)
        clock.advance(minutes=1)
    assert 1 <= len(queued.jobs) <= 3, "put back for a quarter of an hour each time"


class Failing:
    """The tables, of which one organisation's cannot be listed."""

    def __init__(self, records, org_id, error):
        self.records, self.org_id, self.error = records, org_id, error

    def __getattr__(self, name):
        return getattr(self.records, name)

    def range(self, org_id, *args, **options):
        if org_id == self.org_id:
            raise self.error
        return self.records.range(org_id, *args, **options)


@pytest.mark.parametrize("error", [Temporary("Throttled."), ValueError("cannot be read")])
def test_one_organisations_trouble_with_the_store_delays_nobody_elses_polls(scene, world, clock, error):
    other = build(world, scene.app, clock)
    other.also = (scene.org_id,)
    scene.send()
    list(scene.waiting())
    clock.advance(minutes=11)
    app = replace(scene.app, records=Failing(scene.app.records, scene.org_id, error))
    scheduling.tick(app)
    polls = {jobs.read(text).org_id for text in other.waiting() if jobs.read(text).type == "sync"}
    assert polls == {scene.org_id, other.org_id}
    scheduling.tick(scene.app)
    [nudge] = [text for text in scene.waiting() if jobs.read(text).type == "deliver"]
    assert jobs.read(nudge).org_id == scene.org_id


def test_a_timer_that_gets_nowhere_says_so(scene, clock):
    for number in range(scheduling.MOST_IN_A_ROW):
        scene.app.schedule.put(Due(clock(), "outbox", f"{scene.org_id}-{number}", "-"))

    def broken(*_args, **_options):
        raise Temporary("The store is away.")

    app = replace(scene.app, records=SimpleNamespace(range=broken))
    with pytest.raises(Temporary):
        scheduling.tick(app)
    scheduling.tick(scene.app)


def seen(scene):
    events = (row.value.event for row in scene.app.records.range(scene.org_id, AuditRecord))
    return sum(event == "mailbox.read" for event in events)


def test_a_mailbox_whose_server_hangs_delays_no_other(scene, world):
    """One mailbox points at a server that accepts and says nothing; the next one is looked at meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        box = scene.app.records.get(scene.org_id, type(scene.mailbox), scene.mailbox.id)
        imap_ = {**box.value.settings["imap"], "port": silent.getsockname()[1]}
        hung = replace(box.value, settings={**box.value.settings, "imap": imap_})
        scene.app.records.commit(scene.org_id, Move(box, hung))
        _, other = scene.colleague()
        ended = []
        thread = threading.Thread(target=lambda: ended.append(attempt(scene)), daemon=True)
        thread.start()
        scene.sync(other)
        assert ended == []
    thread.join(timeout=90)
    assert isinstance(ended[0], Temporary)


def attempt(scene):
    try:
        scene.sync()
    except Temporary as error:
        return error
    return None


def test_one_correlation_id_goes_from_the_request_through_the_queue_into_the_audit_and_the_logs(
    scene, caplog
):
    mine = f"walk-{secrets.token_hex(4)}"
    with caplog.at_level(logging.INFO, logger="zalion"):
        with logs.bind(correlation_id=mine):
            message = scene.send()
        texts = list(scene.waiting())
        for text in texts:
            working.run(scene.app, text)
    assert mine in {jobs.read(text).correlation_id for text in texts}
    told = {
        row.value.event
        for row in scene.app.records.range(scene.org_id, AuditRecord)
        if row.value.correlation_id == mine
    }
    assert {"message.queued", "message.sent"} <= told
    lines = [record.getMessage() for record in caplog.records if mine in record.getMessage()]
    assert any("message.sent" in line and message.id in line for line in lines)


def test_no_log_line_holds_an_address_a_subject_or_a_body(scene, caplog):
    with caplog.at_level(logging.DEBUG):
        scene.sent(subject="Very private subject", text="Very private words")
        scene.supplier.reply(scene.supplier.inbox()[0], "Private answer")
        scene.sync()
    for needle in ("rivate", scene.alice.address, scene.supplier.address, "correct horse"):
        assert needle not in caplog.text


def test_a_moved_conversation_whose_worker_died_is_carried_over_by_its_job(scene):
    from shared import casework
    from tests.doors import Crash
    from tests.scenes import caller

    scene.sent()
    for number in range(2):
        scene.supplier.reply(scene.supplier.inbox()[0], f"Answer {number}")
    scene.sync()
    casework.put_case(scene.app, caller(scene.org_id, "", "platform"), "C-2", "Two", [scene.alice.address])
    first = scene.timeline()[0]
    for k in range(1, 30):
        source, target = ("C-1", "C-2") if scene.timeline("C-1") else ("C-2", "C-1")
        guard = Guard(fail_at=k)
        try:
            casework.move(guarded(scene.app, guard), scene.caller, source, first.id, target)
        except Crash:
            pass
        if guard.dead and "queues.put" in guard.calls[:-1]:  # the job comes out of the queue after a while
            carry = Job("carry", scene.org_id, first.conversation_id)
            working.run(scene.app, encoded(carry))
        here, there = scene.timeline(source), scene.timeline(target)
        assert sorted([len(here), len(there)]) == [0, 3], f"call {k}: {guard.calls}"
        if len(guard.calls) < k:
            break


def test_the_tick_counts_what_was_due(scene):
    connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(poll_seconds=60))
    scene.clock.advance(minutes=3)
    assert scheduling.tick(scene.app) >= 1
