"""POP3 against Dovecot: what the contract does not say. Odd servers are scripted."""

from datetime import UTC, datetime, timedelta

import pytest

from sandbox.wire import Wire
from shared.errors import ConsentRequired, CursorExpired, InvalidRequest, RateLimited, Temporary, Unsupported
from shared.providers.base import Bearer, Cursor
from shared.providers.network import Timeouts
from shared.providers.pop3 import Pop3Receiver, _changed, _cursor, _sums
from tests.providers.parts import connection, mail
from tests.providers.scripted import CLOSE, HANG, Scripted

SINCE = datetime.now(UTC) - timedelta(hours=1)


def open_at(account, port="pop3s", **options):
    security = "tls" if port == "pop3s" else "starttls"
    return Pop3Receiver(account.connection(account.server.dovecot.ports[port], security, **options))


def read(receiver, cursor=None, since=SINCE):
    pages = list(receiver.pages(cursor, since))
    return [e.subject for page in pages for e in page.envelopes], pages[-1].cursor


@pytest.mark.parametrize("port", ["pop3s", "pop3"])
def test_it_signs_in_over_tls_and_over_stls(alice, port):
    receiver = open_at(alice, port)
    receiver.check()
    receiver.close()


@pytest.mark.parametrize(("who", "good"), [("alice", True), ("bob", False)])
def test_an_access_token_signs_in_and_another_users_does_not(alice, who, good):
    address = alice.address if who == "alice" else "bob@x.example"
    token = alice.server.issuer.access_token(address)
    receiver = open_at(alice, credential=lambda: Bearer(alice.address, token))
    if good:
        receiver.check()
    else:
        with pytest.raises(ConsentRequired):
            receiver.check()
    receiver.close()


def test_headers_are_read_by_top_and_a_mail_stays_on_the_server(alice):
    alice.put(mail("Offer", "Private words"))
    with Wire(alice.server.authority, alice.server.dovecot.ports["pop3"]) as wire:
        receiver = Pop3Receiver(alice.connection(wire.port))
        [envelope] = next(iter(receiver.pages(None, SINCE))).envelopes
        assert not wire.lines("^(RETR|DELE)")
        assert wire.lines("^TOP 1 0")
        assert b"Private words" in receiver.fetch(envelope.ref)
        receiver.close()
        assert not wire.lines("^DELE")
    assert len(alice.read("INBOX")) == 1


def test_a_line_of_100_000_characters_is_read(alice):
    alice.put(mail("Long", "x").replace(b"x\r\n", b"x" * 100_000 + b"\r\n"))
    receiver = open_at(alice)
    [envelope] = next(iter(receiver.pages(None, SINCE))).envelopes
    assert len(receiver.fetch(envelope.ref)) > 100_000
    receiver.close()


class TestCursor:
    NAMES = tuple(f"{number:08x}" for number in range(50_000))

    def test_it_stays_small_with_50_000_mails(self):
        assert len(_cursor(_sums(self.NAMES))) < 3000

    def test_one_new_mail_among_50_000_is_the_only_one_looked_at(self):
        assert _changed([*self.NAMES, "new"], _sums(self.NAMES)) == ["new"]

    def test_nothing_new_is_nothing_to_look_at(self):
        assert _changed(self.NAMES, _sums(self.NAMES)) == []

    def test_a_mail_deleted_meanwhile_has_only_its_group_looked_at_again(self):
        left = self.NAMES[:7] + self.NAMES[8:]
        assert 0 < len(_changed(left, _sums(self.NAMES))) < 400

    def test_a_new_mail_is_found_wherever_the_server_lists_it_and_whatever_else_was_deleted(self):
        shuffled = [*self.NAMES[:100], "new", *self.NAMES[101:]]
        assert "new" in _changed(shuffled, _sums(self.NAMES))

    def test_a_cursor_of_another_kind_starts_over(self, alice):
        receiver = open_at(alice)
        for cursor in ("nonsense", "AAAA"):
            with pytest.raises(CursorExpired):
                list(receiver.pages(Cursor(cursor), SINCE))
        receiver.close()

    def test_many_new_mails_come_in_pages_whose_cursor_waits_for_the_last(self, alice):
        receiver = open_at(alice)
        _, cursor = read(receiver)
        for number in range(120):
            alice.put(mail(str(number)))
        pages = list(receiver.pages(cursor, SINCE))
        assert [len(page.envelopes) for page in pages] == [100, 20]
        assert pages[0].cursor == cursor
        receiver.close()


class ScriptedPop3(Scripted):
    """Answers commands by their first word; the rest as a server with one mail would."""

    def __init__(self, tls, replies, greeting="+OK ready"):
        self.replies = {
            "CAPA": "+OK\nUSER\nUIDL\nTOP\n.",
            "UIDL": "+OK\n1 one\n.",
            "TOP": "+OK\nSubject: Hello\n\n.",
            **replies,
        }
        super().__init__(tls, greeting)

    def answer(self, line):
        return self.replies.get(line.split()[0].upper(), "+OK")


@pytest.fixture
def odd(authority, request):
    def start(replies, **options):
        server = ScriptedPop3(authority.server_context(), replies, **options)
        request.addfinalizer(server.close)
        return Pop3Receiver(connection(server.port), Timeouts(2, 1, 1))

    return start


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ({"PASS": "-ERR [AUTH] Authentication failed."}, ConsentRequired),
        ({"PASS": "-ERR invalid credentials"}, ConsentRequired),
        ({"PASS": "-ERR [IN-USE] Do you have another POP session running?"}, Temporary),
        ({"PASS": "-ERR [LOGIN-DELAY] minimum time between mail checks violation"}, Temporary),
        ({"PASS": "-ERR maildrop already locked"}, Temporary),
        ({"PASS": "-ERR [SYS/TEMP] try again later, too many connections"}, RateLimited),
        ({"UIDL": "-ERR unknown command"}, Unsupported),
        ({"CAPA": "+OK\nUSER\nUIDL\n."}, Unsupported),
        ({"UIDL": CLOSE}, Temporary),
        ({"UIDL": HANG}, Temporary),
        ({"USER": HANG}, Temporary),
    ],
)
def test_what_a_server_says_or_does_becomes_the_error_it_means(odd, replies, error):
    receiver = odd(replies)
    with pytest.raises(error) as caught:
        receiver.check()
    assert type(caught.value) is error
    receiver.close()


def test_a_server_without_capa_is_served_as_long_as_it_knows_uidl_and_top(odd):
    receiver = odd({"CAPA": "-ERR unknown command"})
    receiver.check()
    assert read(receiver)[0] == []  # no date: nothing says that it is new enough
    receiver.close()


def test_a_server_that_is_not_ready_is_temporary(odd):
    receiver = odd({}, greeting="-ERR [SYS/TEMP] shutting down")
    with pytest.raises(Temporary):
        receiver.check()


def test_without_stls_nothing_is_sent_in_plain_text(authority, request):
    server = ScriptedPop3(None, {})
    request.addfinalizer(server.close)
    receiver = Pop3Receiver(connection(server.port, "starttls"), Timeouts(2, 1, 1))
    with pytest.raises(InvalidRequest) as caught:
        receiver.check()
    assert caught.value.field == "security"
    assert not [line for line in server.said if line.startswith(("USER", "PASS", "AUTH"))]
