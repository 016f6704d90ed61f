"""A crash, and a failing call, at every single I/O boundary of a sync and of a send, for every k.

The end state must be the same as without it: filed once, sent once. A hand-over that died between
`commit` and the written-down answer may end as `uncertain`, and then nothing is ever sent again.
"""

from datetime import timedelta

import pytest

from shared import connecting, scheduling, uploading, working
from shared.contract import NewAttachment, PatchMailbox
from shared.errors import OutcomeUnknown, Temporary, ZalionError
from shared.keeping import BLOB
from shared.model import AuditRecord, OutboxItem
from tests.doors import Guard, dying, guarded
from tests.scenes import parsed

pytestmark = [pytest.mark.every_provider, pytest.mark.usefixtures("unmetered")]


SENDING = {"message.sent", "message.queued"}

DAY = timedelta(days=1)


def failing(how, only=""):
    return Guard(how=how, error=lambda name: broken(name, how), only=only)


def broken(name, how):
    """What a broken wire looks like; a sender that cannot know must say so (providers/base.py)."""
    if name.endswith(("sender.send", "drafter.send")) and how == "lost":
        return OutcomeUnknown("The connection broke after the message.")
    return Temporary("The wire broke.", retry_after=0)


def attempt(call):
    """One try of a job as the host makes it: errors of ours bring the job back, a crash loses the worker."""
    with dying():
        try:
            call()
        except ZalionError:
            return


def settle(scene):
    """What timers and queues do in the hours after: leases run out, sweeps and polls come by."""
    for _ in range(4):
        scene.clock.advance(minutes=20)
        scheduling.tick(scene.app)
        scene.work()


def keep_promises(scene):
    """Let as much of that come by as keeps every promise; what comes later must find nothing left to do."""
    for _ in range(4):
        scene.clock.advance(minutes=20)
        scheduling.tick(scene.app)
        scene.work()
        if not scene.app.records.range(scene.org_id, OutboxItem):
            return


def rarely_polled(scene):
    """What becomes of a promise may not depend on a poll that happens to come by."""
    connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(poll_seconds=86_400))


@pytest.mark.long
def test_a_sync_ends_the_same_wherever_it_breaks(scene, how, broken_calls):
    scene.sent()
    scene.sync()
    [raw] = scene.supplier.inbox()
    k = 0
    while True:
        k += 1
        before = len(scene.timeline())
        answer = scene.supplier.reply(raw, f"Answer {k}")
        guard = failing(how, broken_calls)
        guard.fail_at = k
        attempt(lambda: scene.sync(app=guarded(scene.app, guard)))
        scene.clock.advance(minutes=10)
        scene.sync()
        scene.sync()
        messages = scene.timeline()
        assert len(messages) == before + 1, f"call {k}: {guard.calls}"
        assert [m.message_id for m in messages].count(answer["Message-ID"]) == 1
        assert scene.reviews() == []
        if len(guard.calls) < k:
            break
    assert k > (2 if broken_calls else 10)


@pytest.mark.only("imap")  # a promise is made without a word to any provider
def test_an_accepted_send_ends_the_same_wherever_it_breaks(scene, how):
    rarely_polled(scene)
    k = 0
    while True:
        k += 1
        guard = failing(how)
        guard.fail_at = k
        attempt(lambda: scene.send(app=guarded(scene.app, guard), key=f"key-{k}"))
        promised = scene.send(key=f"key-{k}")  # the caller repeats what it got no answer to
        scene.work()
        keep_promises(scene)
        assert scene.email(promised.id).state == "sent", f"call {k}: {guard.calls}"
        assert len(scene.timeline()) == k
        assert len(scene.supplier.inbox()) == k
        assert len(scene.alice.inbox("Sent")) == k * scene.copies
        if len(guard.calls) < k:
            break
    assert k > 5
    settle(scene)
    assert len(scene.supplier.inbox()) == k


@pytest.mark.only("imap")
def test_a_large_mail_leaves_no_bytes_behind_wherever_its_acceptance_breaks(scene, how):
    """Its bytes are a blob, put before the promise that names it."""
    rarely_polled(scene)
    file = NewAttachment(
        name="plan.bin", content_type="application/octet-stream", content_base64="QUJD" * 90_000
    )
    k = 0
    while True:
        k += 1
        guard = failing(how)
        guard.fail_at = k
        attempt(
            lambda: scene.send(
                app=guarded(scene.app, guard), text="A long line.\n" * 30_000, attachments=[file]
            )
        )
        settle(scene)  # nobody repeats the request
        scene.clock.advance(days=1)  # what it left behind is seen to after its day
        settle(scene)
        promised = scene.timeline()
        assert all(message.state == "sent" for message in promised), f"call {k}: {guard.calls}"
        assert scene.blobs() == {message.raw for message in promised}, f"call {k}: {guard.calls}"
        if len(guard.calls) < k:
            break
    assert guard.calls.count("blobs.put") == 1


@pytest.mark.only("imap")
def test_bytes_that_nobody_promised_are_removed_wherever_that_breaks(scene, how):
    def settled(app):
        """The timer, and the host, from whose queue a job goes only when it has ended."""
        scheduling.tick(app)
        taken.extend(scene.waiting())
        for text in [*taken]:
            working.run(app, text)

    connecting.change(scene.app, scene.caller, scene.mailbox.id, PatchMailbox(paused=True))  # no polls
    k, taken = 0, []
    while True:
        k += 1
        scene.clock.ahead += DAY - timedelta(
            seconds=scene.clock().timestamp() % 86_400 + 60
        )  # a minute to go
        for who in ("nobody", "nobody-else"):
            name = uploading.name_of(who, "1763943000123-nobodys-mail", scene.clock())
            scene.app.blobs.put(scene.org_id, BLOB + name, b"1")
        scene.clock.advance(minutes=14)
        settled(scene.app)
        assert len(scene.blobs()) == 2, "its promise may still come"
        scene.clock.advance(minutes=7)
        taken.clear()
        guard = failing(how)
        guard.fail_at = k
        attempt(lambda: settled(guarded(scene.app, guard)))
        settled(scene.app)
        assert scene.blobs() == set(), f"call {k}: {guard.calls}"
        if len(guard.calls) < k:
            break
    assert guard.calls.count("blobs.remove") == 2


@pytest.mark.only("imap")
def test_bytes_that_nobody_promised_are_removed_after_days_without_a_timer(scene):
    scene.app.blobs.put(scene.org_id, BLOB + uploading.name_of("nobody", "1-x", scene.clock()), b"1")
    scene.send(text="A long line.\n" * 30_000)
    scene.clock.advance(days=3)
    scheduling.tick(scene.app)
    scene.work()
    [promised] = scene.timeline()
    assert scene.blobs() == {promised.raw}


def test_a_delivery_sends_at_most_once_and_exactly_once_but_for_the_unknowable_window(
    scene, how, broken_calls
):
    rarely_polled(scene)
    k = 0
    while True:
        k += 1
        promised = scene.send()
        list(scene.waiting())  # this worker took the job
        guard = failing(how, broken_calls)
        guard.fail_at = k
        attempt(lambda: scene.deliver(promised, app=guarded(scene.app, guard)))
        keep_promises(scene)
        message = scene.email(promised.id)
        arrived = [raw for raw in scene.supplier.inbox() if promised.message_id.encode() in raw]
        copies = [raw for raw in scene.alice.inbox("Sent") if promised.message_id.encode() in raw]
        broke_at = guard.calls[k - 1] if len(guard.calls) >= k else "nothing"
        assert len(arrived) <= 1, f"sent twice: call {k} {broke_at}"
        if message.state == "uncertain":
            assert in_the_window(guard.calls, k, how), f"needlessly uncertain: call {k} {guard.calls}"
        else:
            assert message.state == "sent", f"call {k} {broke_at}: {message.state} {message.error}"
            assert len(arrived) == 1, f"call {k} {broke_at}"
            assert len(copies) == scene.copies, f"call {k} {broke_at}"
        assert scene.app.records.range(scene.org_id, OutboxItem) == []
        if len(guard.calls) < k:
            break
    assert k > (1 if broken_calls else 6)
    settle(scene)
    for mails in (scene.supplier.inbox(), scene.alice.inbox("Sent")):
        ids = [parsed(raw)["Message-ID"] for raw in mails]
        assert len(ids) == len(set(ids)), "something came later, and did it again"


def in_the_window(calls, k, how) -> bool:
    """Whether it broke after the hand-over was committed and before its outcome was written down."""
    names = calls[:k]
    if not any(name.startswith("records.") for name in names):
        return names[-1].endswith(".sender.send")  # only the provider's calls are seen
    committed = any(name.endswith(".sender.send") for name in names)
    written = names.count("records.commit") - (
        1 if how in {"before", "error"} and names[-1] == "records.commit" else 0
    )
    return committed and written < 3


def test_the_audit_tells_of_every_step_once(scene):
    message = scene.sent()
    events = [row.value.event for row in scene.app.records.range(scene.org_id, AuditRecord)]
    assert [event for event in events if event in SENDING] == ["message.queued", "message.sent"]
    assert message.state == "sent"
