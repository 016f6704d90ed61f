"""The wire in front of the mail server through imapclient and poplib."""

import poplib

import imapclient
import pytest
from imapclient.exceptions import IMAPClientError

from sandbox.wire import Wire
from tests.sandbox.conftest import mail


@pytest.fixture
def client(ann, wire):
    client = ann.imap(wire.port)
    client.select_folder("INBOX")
    yield client
    client.shutdown()


def test_it_counts_the_bodies_that_are_fetched(world, ann, wire, client):
    for _ in range(3):
        world.dovecot.deliver("x@parts.example", ann.address, mail("x@parts.example", "long\r\n" * 20_000))
    client.noop()
    wire.reset()
    found = client.fetch(client.search(), ["BODY.PEEK[HEADER]"])
    assert wire.lines(r"BODY\.PEEK\[\]") == []
    body = client.fetch([min(found)], ["BODY.PEEK[]"])[min(found)][b"BODY[]"]
    assert len(body) > 120_000
    assert len(wire.lines(r"BODY\.PEEK\[\]")) == 1


def test_it_passes_literals_and_notes_only_their_size(ann, wire, client):
    wire.reset()
    raw = mail(ann.address, "this stays between us\r\n" * 10_000)
    client.append("Sent", raw)
    assert client.select_folder("Sent")[b"EXISTS"] == 1
    assert wire.lines("APPEND")[0].endswith(f"{{{len(raw)}}}")
    assert wire.lines("between us") == []


def test_connections_are_told_apart(ann, wire):
    wire.reset()
    ann.imap(wire.port).logout()
    ann.imap(wire.port).logout()
    assert wire.connections == 2
    assert len({line.connection for line in wire.said}) == 2


def test_it_upgrades_imap_by_starttls(world, ann):
    with Wire(world.authority, world.ports["imap"], starttls=True) as wire:
        with imapclient.IMAPClient("localhost", wire.port, ssl=False) as client:
            client.starttls(ann.context)
            client.login(ann.address, ann.password)
        assert len(wire.lines("LOGIN")) == 1


def test_it_upgrades_pop3_by_stls(world, ann):
    with Wire(world.authority, world.ports["pop3"], starttls=True) as wire:
        client = poplib.POP3("localhost", wire.port)
        client.stls(ann.context)
        client.user(ann.address)
        client.pass_(ann.password)
        wire.cut("^STAT", passed=True)
        with pytest.raises((poplib.error_proto, OSError)):
            client.stat()
        client.close()


@pytest.mark.parametrize("passed", [True, False])
def test_it_can_lose_an_answer_after_or_before_the_server_acted(ann, wire, client, passed):
    wire.cut("APPEND", passed=passed)
    with pytest.raises((IMAPClientError, OSError)):
        client.append("Sent", mail(ann.address))
    with ann.imap(wire.port) as again:
        assert again.select_folder("Sent")[b"EXISTS"] == int(passed)


def test_it_can_close_after_some_lines(ann, wire, client):
    wire.close_after(2)
    client.noop()
    client.noop()
    with pytest.raises((IMAPClientError, OSError)):
        client.noop()
    wire.heal()
    ann.imap(wire.port).logout()


def test_it_can_refuse_hang_and_drop(ann, wire, client):
    wire.faults.refusing = True
    with pytest.raises((IMAPClientError, OSError)):
        ann.imap(wire.port)
    wire.heal()
    client.socket().settimeout(0.2)
    wire.faults.hanging = True
    with pytest.raises(TimeoutError):
        client.noop()
    wire.heal()
    wire.drop()
    with pytest.raises((IMAPClientError, OSError)):
        client.noop()


def test_a_server_that_is_down_looks_like_a_closed_connection(world, ann, wire):
    world.dovecot.stop()
    try:
        with pytest.raises((IMAPClientError, OSError)):
            ann.imap(wire.port)
    finally:
        world.dovecot.start()
