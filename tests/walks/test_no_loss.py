"""Doubled notices, racing workers, changed folders, servers that go away: nothing lost, nothing double."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes

import pytest

from sandbox.wire import Wire
from shared import connecting, scheduling
from shared.contract import PatchMailbox
from shared.errors import Busy, Temporary, ZalionError
from shared.model import SyncState
from shared.storage.base import Save
from tests.doors import Acting, Guard, guarded
from tests.scenes import build_behind, imap
from tests.walks.conftest import ROWS
from tests.walks.test_privacy_and_budgets import fill


@pytest.fixture
def arrived(scene):
    scene.sent()
    scene.sync()
    return scene.supplier.inbox()[0]


def reply(scene, arrived, text="An answer"):
    return scene.supplier.reply(arrived, text)["Message-ID"]


def ids(scene):
    return [message.message_id for message in scene.timeline()]


@pytest.mark.every_provider
def test_the_same_notice_ten_times_files_once(scene, arrived):
    wanted = reply(scene, arrived)
    for _ in range(10):
        scene.sync()
    assert ids(scene).count(wanted) == 1
    assert len(ids(scene)) == 2


@pytest.mark.parametrize("charset", ["unicode-escape", "raw_unicode_escape"])
def test_a_charset_that_makes_half_characters_stops_no_mailbox(scene, arrived, charset):
    raw = (
        f"From: =?{charset}?q?=5Cud800?= <{scene.supplier.address}>\r\nTo: {scene.alice.address}\r\n"
        f"Subject: =?{charset}?q?Re:_Offer=5Cud800?=\r\nDate: Thu, 26 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <half@supplier.example>\r\nIn-Reply-To: {message_from_bytes(arrived)['Message-ID']}\r\n"
        f"Content-Type: text/plain; charset={charset}\r\n\r\nHi \\ud800\r\n"
    )
    scene.alice.receive(raw.encode())
    behind = reply(scene, arrived)
    scene.sync()
    assert {"<half@supplier.example>", behind} <= {*ids(scene)}


@pytest.mark.every_provider
def test_the_same_delivery_ten_times_sends_once(scene):
    message = scene.send()
    for _ in range(10):
        scene.deliver(message)
    assert len(scene.supplier.inbox()) == 1
    assert len(scene.alice.inbox("Sent")) == scene.copies


def together(count, act):
    errors = []

    def run():
        try:
            act()
        except ZalionError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.every_provider
def test_two_workers_at_once_on_one_mailbox_file_once(scene, arrived):
    wanted = [reply(scene, arrived, f"Answer {number}") for number in range(5)]
    together(4, scene.sync)
    scene.sync()
    assert sorted(ids(scene)[1:]) == sorted(wanted)


def test_while_one_worker_reads_a_mailbox_no_other_does(scene, arrived):
    wanted, other = reply(scene, arrived), Guard()

    def then(name, _):
        if name.startswith(scene.receiver) and not other.calls:
            together(1, lambda: scene.sync(app=guarded(scene.app, other)))

    scene.sync(app=guarded(scene.app, Acting(then=then)))
    assert other.calls
    assert other.count(scene.receiver) == 0
    assert ids(scene)[1:] == [wanted]


@pytest.mark.every_provider
def test_several_workers_at_once_on_one_promise_send_once(scene):
    message = scene.send()
    together(4, lambda: scene.deliver(message))
    together(4, lambda: scene.deliver(message))
    scene.work()
    assert len(scene.supplier.inbox()) == 1
    assert len(scene.alice.inbox("Sent")) == scene.copies
    assert scene.email(message.id).state == "sent"


@pytest.mark.every_provider
def test_colleagues_mailboxes_synced_at_once_give_one_message(scene, arrived):
    _, carols = scene.colleague()
    mail = scene.supplier.reply(arrived)
    scene.supplier.submit(mail.as_bytes(), [carols.address])
    together(1, scene.sync)
    boxes = [scene.mailbox, carols]
    assert together(2, lambda: scene.sync(boxes.pop())) == []
    assert ids(scene).count(mail["Message-ID"]) == 1
    assert len(scene.timeline()[-1].deliveries) == 2


def test_who_asks_while_another_looks_is_served_by_that_look(scene, arrived):
    state = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value
    held = replace(state, holder="somebody", until=scene.clock.__call__().replace(year=2030))
    scene.app.records.commit(scene.org_id, Save(held))
    with pytest.raises(Busy):
        scene.sync()
    assert scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value.again


def test_a_changed_uidvalidity_starts_over_and_files_nothing_twice(scene, arrived):
    first = reply(scene, arrived)
    scene.alice.move_all("Projects")
    scene.mailbox = follow(scene, scene.mailbox, "Projects")
    scene.sync()
    assert ids(scene)[1:] == [first]
    again = scene.alice.inbox("Projects")
    with imap(scene.world, scene.alice.address) as client:
        client.delete_folder("Projects")
    second = reply(scene, arrived, "Second")
    scene.alice.move_all("Projects")  # made anew: the mail has the number that the first one had
    scene.alice.receive(*again, folder="Projects")
    scene.sync()
    scene.sync()
    assert ids(scene)[1:] == [first, second]


def follow(scene, mailbox, *folders):
    return connecting.change(scene.app, scene.caller, mailbox.id, PatchMailbox(folders=list(folders)))


@pytest.mark.every_provider
def test_an_unreadable_cursor_starts_over(scene, arrived):
    state = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value
    scene.app.records.commit(scene.org_id, Save(replace(state, cursor='{"v":0}')))
    wanted = reply(scene, arrived)
    scene.sync()
    assert ids(scene)[1:] == [wanted]


@pytest.mark.every_provider
@pytest.mark.needs("sent_folder")
def test_a_mail_moved_before_we_look_is_found(scene, arrived):
    wanted = reply(scene, arrived)
    scene.alice.move_all("Later")
    scene.sync()
    assert ids(scene)[1:] == [wanted]


CHANGES = {
    "imap": [{"sentFolder": "Sent"}],
    "ews": [{"otherFolders": "never"}, {"otherFolders": "search"}],
}
"""Settings that are changed, and lose nothing that lies anywhere."""


def moved(row, world, app, clock):
    """A scene with a reply that a rule moved, and its Message-ID."""
    scene = ROWS[row].build(world, app, clock, since=clock() - timedelta(hours=1))
    scene.sent()
    scene.sync()
    wanted = reply(scene, scene.supplier.inbox()[0])
    scene.alice.move_all("Later")
    return scene, wanted


@pytest.mark.every_provider
@pytest.mark.only(*CHANGES)
def test_a_mail_moved_before_we_look_is_found_although_a_setting_is_changed(row, world, app, clock):
    scene, wanted = moved(row, world, app, clock)
    for values in CHANGES[row]:
        body = PatchMailbox(settings={row: values})
        scene.mailbox = connecting.change(app, scene.caller, scene.mailbox.id, body)
    scene.sync()
    assert ids(scene).count(wanted) == 1


@pytest.mark.every_provider
@pytest.mark.only("ews")
def test_a_mail_moved_before_we_look_is_found_although_the_cursor_is_lost(row, world, app, clock):
    scene, wanted = moved(row, world, app, clock)
    [there] = scene.alice.listed("Later")
    there.received_at = clock() - timedelta(minutes=20)  # it looks ten minutes behind a look anyway
    state = app.records.get(scene.org_id, SyncState, scene.mailbox.id).value
    app.records.commit(scene.org_id, Save(replace(state, cursor='{"v":0}')))
    scene.sync()
    assert ids(scene).count(wanted) == 1


@pytest.mark.every_provider
def test_a_mail_deleted_before_we_fetch_it_stops_nothing(scene, arrived):
    reply(scene, arrived)
    scene.alice.delete_all()
    wanted = reply(scene, arrived, "Second")
    scene.sync()
    assert ids(scene)[1:] == [wanted]


def test_the_mail_server_stopped_and_started_in_the_middle_loses_nothing(scene, arrived):
    wanted = reply(scene, arrived)
    scene.world.dovecot.stop()
    try:
        with pytest.raises(Temporary):
            scene.sync()
    finally:
        scene.world.dovecot.start()
    assert ids(scene)[1:] == []
    scene.sync()
    assert ids(scene)[1:] == [wanted]


@pytest.mark.parametrize(
    ("read", "times", "filed"), [("pages", 1, 0), ("fetch", 1, 1), ("pages", 2, 1), ("fetch", 2, 2)]
)
def test_the_mail_server_that_goes_away_in_the_middle_of_a_look_loses_and_doubles_nothing(
    scene, arrived, read, times, filed
):
    """After the headers of a page, and after a mail: of the first page, and of the second one."""
    wanted = {reply(scene, arrived)}
    fill(scene, 250)
    wanted |= {reply(scene, arrived, text) for text in ("Second", "Third")}

    def then(name, number):
        if (name, number) == (f"{scene.receiver}.{read}", times):
            scene.world.dovecot.stop()

    try:
        with pytest.raises(Temporary):
            scene.sync(app=guarded(scene.app, Acting(then=then)))
    finally:
        scene.world.dovecot.start()
    assert len(ids(scene)[1:]) == filed
    scene.sync()
    assert sorted(ids(scene)[1:]) == sorted(wanted)
    assert scene.reviews() == []


@pytest.fixture
def wired(world, app, clock):
    """A scene whose IMAP server is behind a wire."""
    with Wire(world.authority, world.ports["imap"]) as wire:
        scene = build_behind(wire, world, app, clock)
        yield scene, wire


def test_a_wire_cut_in_the_middle_of_a_look_loses_and_doubles_nothing(wired):
    """While headers are listed, and while a body comes; the server got the command, or never did.

    Headers are asked for again within the look: the mail itself may be what ends the session.
    """
    scene, wire = wired
    scene.sent()
    scene.sync()
    [raw] = scene.supplier.inbox()
    wanted = []
    again, ends = nullcontext(), pytest.raises(Temporary)
    for pattern, look in ((r"FETCH .*BODY\.PEEK\[HEADER", again), (r"FETCH .*BODY\.PEEK\[\]", ends)):
        for passed in (True, False):
            wanted += [reply(scene, raw, f"Answer {n}") for n in range(2)]
            wire.cut(pattern, passed=passed)
            with look:
                scene.sync()
            assert wire.faults.cut_times == 0
            wire.heal()
            scene.sync()
            assert sorted(ids(scene)[1:]) == sorted(wanted)
    assert scene.reviews() == []


def test_a_mail_moved_between_listing_and_fetching_is_fetched_where_it_lies(scene, arrived):
    class Moving(Guard):
        def around(self, name, call):
            if name == f"{scene.receiver}.fetch" and not self.calls:
                self.calls.append(name)
                scene.alice.move_all("Later")
            return call()

    wanted, guard = reply(scene, arrived), Moving()
    assert scene.sync(app=guarded(scene.app, guard))["file"] == 1
    assert (ids(scene)[1:], scene.reviews(), len(guard.calls)) == ([wanted], [], 1)


def test_a_send_while_the_mail_server_is_away_goes_out_later(scene):
    message = scene.send()
    scene.world.post.stop()
    try:
        scene.work()
        waiting = scene.email(message.id)
        assert (waiting.state, waiting.error is not None) == ("queued", True)
    finally:
        scene.world.post.start()
    scene.clock.advance(minutes=5)
    scheduling.tick(scene.app)
    scene.work()
    assert scene.email(message.id).state == "sent"
    assert len(scene.supplier.inbox()) == 1


def leaving(scene, act):
    """The scene's app; `act` happens in the middle of a hand-over: its recipients were taken, its text not yet."""

    def then(name, times):
        if (name, times) == ("records.commit", 1):
            [message] = scene.timeline()
            assert message.state == "sending"
            act()

    return guarded(scene.app, Acting(then=then))


def back(scene):
    """The mail server is back, and what waits is tried again."""
    scene.clock.advance(minutes=20)
    scheduling.tick(scene.app)
    scene.work()


def test_a_mail_server_that_goes_away_after_it_took_the_recipients_gets_the_mail_once_when_it_is_back(scene):
    promised, parts = scene.send(), (scene.world.post, scene.world.dovecot)
    list(scene.waiting())
    try:
        scene.deliver(promised, app=leaving(scene, lambda: [part.stop() for part in parts]))
    finally:
        for part in parts:
            part.start()
    waiting = scene.email(promised.id)
    assert (waiting.state, waiting.error is not None) == ("queued", True)
    assert scene.supplier.inbox() == []
    back(scene)
    assert scene.email(promised.id).state == "sent"
    assert (len(scene.supplier.inbox()), len(scene.alice.inbox("Sent"))) == (1, 1)


@pytest.mark.parametrize(
    ("delivered", "copied", "state"),
    [(True, False, "uncertain"), (False, False, "uncertain"), (True, True, "sent")],
)
def test_a_mail_server_that_is_gone_after_the_final_dot_is_asked_when_it_is_back_and_gets_nothing_twice(
    wired, delivered, copied, state
):
    scene, wire = wired
    promised, post = scene.send(), scene.world.post
    list(scene.waiting())

    def gone():
        """The answer to the dot is lost, and from then on nobody gets in, by SMTP or IMAP."""
        post.faults.drop_after_dot(delivered=delivered)
        post.faults.refusing = wire.faults.refusing = True

    scene.deliver(promised, app=leaving(scene, gone))
    back(scene)
    assert scene.email(promised.id).state == "sending", "nobody can tell yet"
    post.faults.clear()
    wire.heal()
    if copied:  # by the mail server itself, as Gmail and Exchange do
        scene.alice.keep(scene.raw(promised))
    for _ in range(3):
        back(scene)
        assert scene.email(promised.id).state == state
    assert len(scene.supplier.inbox()) == delivered
    assert len(scene.alice.inbox("Sent")) == copied


@pytest.mark.every_provider
def test_a_mail_of_broken_structure_is_filed_with_a_note_and_stops_nothing(scene, arrived):
    ours = message_from_bytes(arrived)["Message-ID"]
    raw = (
        f"From: {scene.supplier.address}\r\nReferences: {ours}\r\nMessage-ID: <broken@x>\r\n"
        "Subject: Re: Offer 4711\r\n"
        'Content-Type: multipart/mixed; boundary="never"\r\n\r\nno parts at all\xff\r\n'
    ).encode("latin-1")
    scene.alice.receive(raw)
    wanted = reply(scene, arrived)
    scene.sync()
    assert wanted in ids(scene)
    broken = next(message for message in scene.timeline() if message.message_id == "<broken@x>")
    assert "no boundary found: shown as one text" in broken.evidence.notes
    assert scene.raw(broken).startswith(b"From: ")
