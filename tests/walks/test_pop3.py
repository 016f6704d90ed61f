"""The foundation's promises on a mailbox that is read by POP3: what its far side alone can break."""

import email.policy
import hashlib
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from sandbox.wire import Wire
from shared import checking, syncing
from shared.errors import Temporary
from shared.model import SyncState
from shared.storage.base import Save
from tests.providers.scripted import CLOSE, HANG, Scripted, ScriptedPop3
from tests.scenes import build_pop3, caller, connect, someone, write


@pytest.fixture
def row():
    return "pop3"


@pytest.fixture
def wire(world):
    with Wire(world.authority, world.ports["pop3"]) as wire:
        yield wire


@pytest.fixture
def wired(world, app, clock, wire):
    """A scene whose POP3 server is behind a wire."""
    place = {"host": "localhost", "port": wire.port, "security": "tls"}
    smtp = {"host": "localhost", "port": world.ports["smtp"], "security": "starttls"}
    scene = build_pop3(world, app, clock, settings={"pop3": place, "smtp": smtp})
    scene.sent()
    scene.sync()
    wire.reset()
    return scene


def reply(scene, text="An answer"):
    return scene.supplier.reply(scene.supplier.inbox()[0], text)["Message-ID"]


def replies(scene):
    return [message.message_id for message in scene.timeline() if message.direction == "in"]


def unrelated(scene, count):
    return [
        write(f"a{n}@elsewhere.example", scene.alice.address, f"Private {n}", "Private words").as_bytes(
            policy=email.policy.SMTP
        )
        for n in range(count)
    ]


def test_of_unrelated_mail_only_headers_are_asked_for_and_nothing_is_ever_deleted(wired, wire):
    wired.alice.receive(*unrelated(wired, 60))
    wanted = reply(wired)
    counts = wired.sync()
    assert (counts["ignore"], counts["file"]) == (60, 1)
    assert replies(wired) == [wanted]
    assert len(wire.lines("^TOP [0-9]+ 0$")) == 61
    assert len(wire.lines("^RETR")) == 1
    assert not wire.lines("^DELE")
    assert len(wired.alice.inbox()) == 61
    wire.reset()
    wired.sync()
    assert [line.split()[0] for line in wire.lines()] == ["USER", "PASS", "UIDL", "QUIT"]


def test_wherever_the_connection_breaks_the_mail_is_filed_once(wired, wire):
    wanted, lines = [], 0
    while True:
        lines += 1
        wanted.append(reply(wired, f"Answer {lines}"))
        wire.close_after(lines)
        try:
            wired.sync()
        except Temporary:
            wire.heal()
            wired.sync()
        else:
            break
        assert replies(wired) == wanted
    assert replies(wired) == wanted
    assert lines > 5


def test_a_maildrop_that_was_emptied_and_filled_again_files_nothing_twice(wired):
    wanted = [reply(wired)]
    wired.sync()
    everything = wired.alice.inbox()
    wired.alice.delete_all()
    wired.sync()
    wired.alice.receive(*everything)  # under other names
    wanted.append(reply(wired, "Second"))
    wired.sync()
    assert replies(wired) == wanted


def test_a_lost_cursor_files_nothing_twice(scene):
    scene.sent()
    wanted = [reply(scene)]
    scene.sync()
    state = scene.app.records.get(scene.org_id, SyncState, scene.mailbox.id).value
    scene.app.records.commit(scene.org_id, Save(replace(state, cursor="nonsense")))
    wanted.append(reply(scene, "Second"))
    scene.sync()
    assert replies(scene) == wanted


def test_a_mail_answered_from_another_program_is_not_seen_but_what_answers_it_is(scene):
    """The limit that `limits` of the mailbox tells: no Sent folder."""
    scene.sent()
    reply(scene)
    scene.sync()
    own = scene.alice.reply(scene.raw(scene.timeline()[-1]), "Thank you.", to=scene.supplier.address)
    scene.sync()
    assert own["Message-ID"] not in [message.message_id for message in scene.timeline()]
    answer = scene.supplier.reply(own, "Welcome.")
    scene.sync()
    assert scene.timeline()[-1].message_id == answer["Message-ID"]


class Delaying(ScriptedPop3):
    """Shows somebody's inbox as it was at the sign-in, and lets nobody in again so soon (RFC 2449 §6.5)."""

    def __init__(self, tls, person, delay):
        self.person, self.delay, self.let_in, self.mails = person, delay, 0.0, []
        super().__init__(tls, {"CAPA": f"+OK\nUIDL\nTOP\nLOGIN-DELAY {delay}\n."})

    def answer(self, line):
        command, *numbers = line.split()
        if command == "PASS":
            if time.monotonic() - self.let_in < self.delay:
                return "-ERR [LOGIN-DELAY] minimum time between mail checks violation"
            self.let_in = time.monotonic()
            self.mails = [raw.decode().replace("\r\n", "\n") for raw in self.person.inbox()]
        if command == "UIDL":
            names = (f"{n} {uidl(mail)}" for n, mail in enumerate(self.mails, 1))
            return "\n".join(["+OK", *names, "."])
        if command in {"TOP", "RETR"}:
            mail = self.mails[int(numbers[0]) - 1]
            return f"+OK\n{mail.partition('\n\n')[0] + '\n' if command == 'TOP' else mail}\n."
        return super().answer(line)


def uidl(mail):
    return hashlib.sha256(mail.encode()).hexdigest()


def test_the_doctor_leaves_a_server_alone_that_asks_for_it(world, app, clock):
    alice = someone(world, "alice", "imap.example")
    with Delaying(world.authority.server_context(), alice, 2) as server:
        scene = build_pop3(world, app, clock)
        place = {"host": "localhost", "port": server.port, "security": "tls"}
        smtp = {"host": "localhost", "port": world.ports["smtp"], "security": "starttls"}
        box = connect(world, app, scene.org_id, alice, "pop3", settings={"pop3": place, "smtp": smtp})
        checks = checking.doctor(app, caller(scene.org_id, alice.address), box.id)
    told = {check.name: check.status for check in checks}
    assert (told["sign_in_receiving"], told["round_trip"]) == ("ok", "ok")
    assert len(server.asked("PASS")) < 10


class Dying(Delaying):
    """Hangs up when it is asked for one mail, and keeps the maildrop locked for as long as `locked`."""

    def __init__(self, tls, person):
        self.locked = False
        super().__init__(tls, person, 0)

    def answer(self, line):
        if line.startswith("PASS") and self.locked:
            return "-ERR [IN-USE] maildrop already locked"
        told = super().answer(line)
        if line.startswith("TOP") and "Subject: Deadly" in told:
            self.locked = True
            return CLOSE
        return told


def test_late_answers_are_found_while_a_mail_that_ends_each_session_waits(scene):
    late, deadly = (
        write("a@elsewhere.example", scene.alice.address, subject, "Words") for subject in ("Late", "Deadly")
    )
    scene.sync()
    scene.alice.receive(*(mail.as_bytes(policy=email.policy.SMTP) for mail in (late, deadly)))
    with Dying(scene.world.authority.server_context(), scene.alice) as server:
        place = {"host": "localhost", "port": server.port, "security": "tls"}
        box = replace(scene.mailbox, settings={**scene.mailbox.settings, "pop3": place})
        scene.app.records.commit(scene.org_id, Save(box))
        wanted, found = str(late["Message-ID"]), 0
        for _ in range(3):
            server.locked = False
            with suppress(Temporary):
                counts = syncing.sync(scene.app, scene.org_id, box.id, look=[wanted])
                found += counts["ignore"]
    assert found >= 1
    state = scene.app.records.get(scene.org_id, SyncState, box.id).value
    assert state.look == (wanted,)  # what was kept back may answer it, too
    assert state.problem
    assert state.problem.code == "mail_refused"


class Silent(Scripted):
    """Takes connections and says nothing."""

    def __init__(self, tls):
        super().__init__(tls, HANG)


@pytest.mark.parametrize("hanging", ["pop3", "smtp"])
def test_a_hanging_server_does_not_hold_up_another_mailbox(scene, hanging):
    """Its own worker waits until a deadline of the provider (tests/providers); everybody else goes on."""
    errors = []
    with Silent(scene.world.authority.server_context()) as server:
        stuck = colleague_at(scene, hanging, server.port)
        message = send_from(scene, stuck) if hanging == "smtp" else None
        act = (lambda: scene.deliver(message)) if message else (lambda: errors_of(scene.sync, stuck, errors))
        thread = threading.Thread(target=act)
        thread.start()
        scene.sent()
        wanted = reply(scene)
        scene.sync()
        assert replies(scene) == [wanted]
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    if message:
        waiting = scene.email(message.id)
        assert (waiting.state, waiting.error.code) == ("queued", "temporary")
    else:
        assert [type(error) for error in errors] == [Temporary]


def colleague_at(scene, hanging, port):
    """Alice's second address, whose server has moved to this port since."""
    person = someone(scene.world, "stuck", "imap.example")
    box = connect(scene.world, scene.app, scene.org_id, person, "pop3")
    moved = {"host": "localhost", "port": port, "security": "tls"}
    box = replace(box, owner=scene.alice.address, settings={**box.settings, hanging: moved})
    scene.app.records.commit(scene.org_id, Save(box))
    return box


def send_from(scene, box):
    mine, scene.mailbox = scene.mailbox, box
    try:
        return scene.send()
    finally:
        scene.mailbox = mine
        list(scene.waiting())


def errors_of(act, box, errors):
    try:
        act(box)
    except Temporary as error:
        errors.append(error)
