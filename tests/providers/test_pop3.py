"""POP3 against Dovecot: what the contract does not say. Odd servers are scripted."""

import itertools
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sandbox.bounces import delivery_report
from sandbox.wire import Wire
from shared.errors import (
    ConsentRequired,
    CursorExpired,
    InvalidRequest,
    NotFound,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
    Withheld,
    ZalionError,
)
from shared.providers.base import Bearer, Cursor, Password
from shared.providers.network import Timeouts
from shared.providers.pop3 import OLD_ENOUGH, Pop3Receiver
from shared.providers.pop3.position import Position
from shared.providers.pop3.session import MOST_LOST, MOST_SILENT, Session
from shared.providers.pop3.wire import LINE, SHORT
from shared.providers.positions import ASKED, WAITED
from shared.providers.reopening import Delayed
from tests.providers.parts import PASSWORD, SINCE, connection, id_of, mail
from tests.providers.scripted import CLOSE, HALF, HANG, ScriptedPop3


def open_at(account, port="pop3s", **options):
    security = "tls" if port == "pop3s" else "starttls"
    return Pop3Receiver(account.connection(account.server.dovecot.ports[port], security, **options))


def headers(subject, came=None, **more):
    """What a server answers to TOP: with a Received of that moment, as nearly every one writes it."""
    lines = [f"Subject: {subject}", *(f"{name}: {value}" for name, value in more.items())]
    if came:
        lines.insert(0, f"Received: from a.example by b.example; {format_datetime(came)}")
    return "\n".join(["+OK", *lines, "", "."])


def looked(receiver, cursor, times):
    """Look so often, whatever ends a look: the subjects, and the last cursor."""
    found = []
    for _ in range(times):
        with suppress(Temporary):
            for page in receiver.pages(cursor, SINCE):
                found += [envelope.subject for envelope in page.envelopes]
                cursor = page.cursor
    return found, cursor


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


def test_of_a_report_no_more_is_read_than_names_the_mail_it_is_about(alice):
    returned = mail("Private", "Private words\n" * 900)
    alice.put(delivery_report(alice.address, "nobody@supplier.example", returned))
    with Wire(alice.server.authority, alice.server.dovecot.ports["pop3"]) as wire:
        receiver = Pop3Receiver(alice.connection(wire.port))
        [envelope] = next(iter(receiver.pages(None, SINCE))).envelopes
        assert id_of(returned).encode() in receiver.returned_headers(envelope.ref)
        receiver.close()
        asked = [int(line.split()[2]) for line in wire.lines("^TOP 1 ")]
    assert max(asked) <= 75


def test_of_a_report_in_words_alone_nothing_is_read(alice):
    alice.put(mail("failure notice", "Private words", **{"X-Failed-Recipients": "nobody@supplier.example"}))
    with Wire(alice.server.authority, alice.server.dovecot.ports["pop3"]) as wire:
        receiver = Pop3Receiver(alice.connection(wire.port))
        [envelope] = next(iter(receiver.pages(None, SINCE))).envelopes
        with pytest.raises(NotFound):
            receiver.returned_headers(envelope.ref)
        receiver.close()
        assert not wire.lines("^TOP 1 [1-9]")


def test_a_line_of_100_000_characters_is_read(alice):
    alice.put(mail("Long", "x").replace(b"x\r\n", b"x" * 100_000 + b"\r\n"))
    receiver = open_at(alice)
    [envelope] = next(iter(receiver.pages(None, SINCE))).envelopes
    assert len(receiver.fetch(envelope.ref)) > 100_000
    receiver.close()


@pytest.mark.parametrize(("octets", "seen"), [(1_100_000, ["Huge", "Good"]), (SHORT, ["Good"])])
def test_a_mail_with_an_endless_header_line_keeps_back_none_behind_it(alice, octets, seen):
    """Dovecot; what is too large even so comes once its server shows less of it."""
    receiver = open_at(alice)
    _, cursor = read(receiver)
    alice.put(mail("Huge", X_Long="long").replace(b"X-Long: long", b"X-Long: " + b"x" * octets))
    alice.put(mail("Good"))
    pages = list(receiver.pages(cursor, SINCE))
    receiver.close()
    assert [envelope.subject for page in pages for envelope in page.envelopes] == seen
    assert sum(page.refused for page in pages) == 2 - len(seen)


class TestCursor:
    NAMES = tuple(f"{number:08x}" for number in range(50_000))

    @staticmethod
    def changed(then, now):
        steps = Position.read(Position.of(then).cursor).steps(now, 100)
        return [uidl for batch, _ in steps for uidl in batch]

    @pytest.mark.parametrize("now", [(*NAMES, "new"), ("new", *NAMES)])
    def test_one_new_mail_among_50_000_is_the_only_one_looked_at_at_either_end(self, now):
        assert self.changed(self.NAMES, now) == ["new"]

    def test_nothing_new_is_nothing_to_look_at(self):
        assert self.changed(self.NAMES, self.NAMES) == []

    def test_a_mail_deleted_meanwhile_has_only_its_group_looked_at_again(self):
        left = self.NAMES[:7] + self.NAMES[8:]
        assert 0 < len(self.changed(self.NAMES, left)) < 400

    def test_a_new_mail_is_found_wherever_the_server_lists_it_and_whatever_else_was_deleted(self):
        shuffled = [*self.NAMES[:100], "new", *self.NAMES[101:]]
        assert "new" in self.changed(self.NAMES, shuffled)

    def test_a_cursor_of_another_kind_starts_over(self, alice):
        receiver = open_at(alice)
        for cursor in ("nonsense", "AAAA"):
            with pytest.raises(CursorExpired):
                list(receiver.pages(Cursor(cursor), SINCE))
        receiver.close()

    @pytest.mark.parametrize("now", [NAMES[100:], (*NAMES[3:], "new"), tuple(name[::-1] for name in NAMES)])
    def test_a_look_over_many_changes_that_ends_early_has_come_as_far_as_it_has(self, now):
        """The 100 oldest are deleted; a few are, and one came; the server has named all anew."""
        position, given, looks = Position.of(self.NAMES), [], 0
        while not given or given[-1]:
            looks += 1
            given.append([])
            for batch, reached in itertools.islice(position.steps(now, 100), 40):
                given[-1] += batch
                position = reached
        assert position.cursor == Position.of(now).cursor
        assert {uidl for look in given for uidl in look} >= {*now} - {*self.NAMES}
        assert looks <= sum(map(len, given)) / 3_500 + 2
        assert sum(map(len, given)) <= 1.1 * len(self.changed(self.NAMES, now)) + 400

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_many_new_ones_are_looked_at_oldest_first_and_once_however_often_that_ends(self, newest_first):
        names = self.NAMES[::-1] if newest_first else self.NAMES
        position, given = Position.of(self.NAMES[:45_000]), []
        while batch := next(position.steps(names, 100), None):
            given += batch[0]
            position = batch[1]
            if len(given) == 1_000:
                break
        assert given == [*self.NAMES[45_000:46_000]]

    def test_many_new_mails_come_in_pages_each_with_its_cursor(self, alice):
        receiver = open_at(alice)
        _, cursor = read(receiver)
        for number in range(120):
            alice.put(mail(str(number)))
        for begin in (cursor, None):
            pages = list(receiver.pages(begin, SINCE))
            assert [[e.subject for e in page.envelopes] for page in pages] == [
                [str(number) for number in range(100)],
                [str(number) for number in range(100, 120)],
            ]
            assert read(receiver, pages[0].cursor)[0] == [str(number) for number in range(100, 120)]
        receiver.close()


@pytest.fixture
def start(authority, request):
    """Start a scripted server, and a receiver for it."""

    def start(replies=(), security="tls", **options):
        tls = authority.server_context() if security == "tls" else None
        server = ScriptedPop3(tls, replies, greeting=options.pop("greeting", "+OK ready"))
        request.addfinalizer(server.close)
        receiver = Pop3Receiver(connection(server.port, security, **options), Timeouts(2, 0.3, 0.3))
        request.addfinalizer(receiver.close)
        return server, receiver

    return start


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ({"PASS": "-ERR [AUTH] Authentication failed."}, ConsentRequired),
        ({"PASS": "-ERR [AUTH] temporarily locked"}, ConsentRequired),
        ({"PASS": "-ERR invalid credentials"}, ConsentRequired),
        ({"PASS": "-ERR account is locked"}, ConsentRequired),
        (
            {"PASS": "-ERR [SYS/PERM] Your account is locked; contact your mailbox provider"},
            ConsentRequired,
        ),
        ({"PASS": "-ERR Unable to lock maildrop: Mailbox is locked by POP server"}, Temporary),
        ({"PASS": "-ERR [IN-USE] Mailbox is locked by another POP3 session"}, Temporary),
        ({"PASS": "-ERR Error in username or password"}, ConsentRequired),
        ({"PASS": "-ERR login user unknown"}, ConsentRequired),
        ({"PASS": "-ERR Authentication failed. Please try again."}, ConsentRequired),
        ({"PASS": "-ERR account temporarily locked"}, ConsentRequired),
        ({"PASS": "-ERR too many failed logins"}, ConsentRequired),
        ({"PASS": "-ERR mailbox in use"}, Temporary),
        ({"PASS": "-ERR cannot lock maildrop"}, Temporary),
        ({"PASS": "-ERR too many connections"}, RateLimited),
        ({"USER": "-ERR who?"}, ConsentRequired),
        ({"PASS": "-ERR [IN-USE] Do you have another POP session running?"}, Temporary),
        ({"PASS": "-ERR [LOGIN-DELAY] minimum time between mail checks violation"}, Delayed),
        ({"PASS": "-ERR maildrop already locked"}, Temporary),
        ({"PASS": "-ERR [SYS/TEMP] try again later, too many connections"}, RateLimited),
        ({"UIDL": "-ERR unknown command", "CAPA": "-ERR what?"}, Unsupported),
        ({"UIDL": "-ERR internal error"}, Temporary),
        ({"UIDL": "+OK\n1\n."}, Temporary),
        ({"UIDL": "+OK\none two\n."}, Temporary),
        ({"CAPA": "+OK\nUSER\nUIDL\n."}, Unsupported),
        ({"CAPA": "+OK\nUIDL\nTOP\nEXPIRE 0\n."}, Unsupported),
        ({"CAPA": "-ERR what?", "TOP": "-ERR unknown command"}, Unsupported),
        ({"CAPA": "-ERR what?", "TOP": "-ERR no such command"}, Unsupported),
        ({"CAPA": "-ERR what?", "TOP": "-ERR command not found"}, Unsupported),
        ({"CAPA": "-ERR what?", "TOP": "-ERR no such thing"}, Unsupported),
        ({"TOP": "-ERR internal error"}, Temporary),
        ({"UIDL": CLOSE}, Temporary),
        ({"UIDL": HANG}, Temporary),
        ({"UIDL": HALF}, Temporary),
        ({"PASS": HALF}, Temporary),
        ({"TOP": HANG}, Temporary),
        ({"CAPA": HANG}, Temporary),
        ({"USER": HANG}, Temporary),
        ({"UIDL": "+OK\n1 one"}, Temporary),
    ],
)
def test_what_a_server_says_or_does_becomes_the_error_it_means(start, replies, error):
    _, receiver = start(replies)
    with pytest.raises(error) as caught:
        receiver.check()
    assert type(caught.value) is error
    if error in {ConsentRequired, Unsupported}:
        assert caught.value.fix


class TestLoginDelay:
    """A server that lets nobody in again so soon (RFC 2449 §6.5)."""

    REFUSAL = "-ERR [LOGIN-DELAY] minimum time between mail checks violation"

    def test_a_look_after_the_pages_signs_in_no_second_time(self, start):
        answers = {"UIDL": "+OK\n1 one\n.", "TOP": headers("Late", **{"Message-ID": "<late@x>"})}
        server, receiver = start(answers)
        assert read(receiver, Position.of([]).cursor)[0] == ["Late"]
        server.replies["PASS"] = self.REFUSAL
        assert [envelope.subject for envelope in receiver.look(["<late@x>"])] == ["Late"]

    @pytest.mark.parametrize(
        "bad", [CLOSE, HANG, f"+OK\n{'x' * (SHORT + 1)}\n\n."], ids=["close", "hang", "large"]
    )
    def test_a_mail_that_ends_the_session_is_put_off_and_the_next_looks_go_on(self, start, bad):
        server, receiver = start({"UIDL": "+OK\n1 one\n2 two\n3 three\n4 four\n."})
        server.replies |= {f"TOP {n} 0": headers(str(n)) for n in (1, 3, 4)} | {"TOP 2 0": bad}
        signed_in = []
        server.answer = lambda line: (
            self.REFUSAL if line.startswith("PASS") and signed_in else ScriptedPop3.answer(server, line)
        )
        usual = server.answer

        def once(line):
            said = usual(line)
            signed_in.extend([line] if line.startswith("PASS") else [])
            return said

        server.answer = once
        cursor, tried, found = Position.of([]).cursor, [], []
        for _ in range(3):
            signed_in.clear()
            some, cursor = looked(receiver, cursor, 1)
            found += some
            tried += Position.read(cursor).tried.values()
        assert found == ["1", "3", "4"]
        assert tried == [1, 2, 2]  # every second look is spared it, and keeps its session
        signed_in.clear()
        server.replies["UIDL"] = "+OK\n1 one\n2 two\n3 three\n4 four\n5 five\n."
        server.replies["TOP 5 0"] = headers("5")
        assert looked(receiver, cursor, 1)[0] == ["5"]

    def test_a_lone_new_one_is_put_off_too_and_is_not_counted_where_the_server_shows_no_other(self, start):
        server, receiver = start({"UIDL": "+OK\n1 one\n2 two\n.", "TOP": CLOSE})
        server.answer = lambda line: (
            self.REFUSAL
            if line.startswith("PASS") and server.asked("TOP")
            else ScriptedPop3.answer(server, line)
        )
        _, cursor = looked(receiver, Position.of(["one"]).cursor, 1)
        assert [*Position.read(cursor).tried.values()] == [1]
        server.said.clear()
        _, cursor = looked(receiver, cursor, 1)
        assert [*Position.read(cursor).tried.values()] == [1]

    @pytest.fixture
    def delayed(self, start):
        """A server with four mails, of which one is bad, that lets nobody in twice within a look."""

        def holds(number, bad):
            def sign_in(line):
                signed_in.append(line)
                return self.REFUSAL if len(signed_in) > 1 else "+OK"

            signed_in = []
            server, receiver = start({"UIDL": "+OK\n1 one\n2 two\n3 three\n4 four\n."})
            tops = {f"TOP {n} 0": headers(str(n), came=datetime.now(UTC)) for n in range(1, 5)}
            server.replies |= tops | {f"TOP {number} 0": bad, "CAPA": "+OK\nUIDL\nTOP\nLOGIN-DELAY 7\n."}
            usual = server.answer
            server.answer = lambda line: sign_in(line) if line.startswith("PASS") else usual(line)
            return receiver, signed_in

        return holds

    @pytest.mark.parametrize("number", range(1, 5))
    @pytest.mark.parametrize(
        "bad", [CLOSE, HANG, f"+OK\n{'x' * (SHORT + 1)}\n\n."], ids=["close", "hang", "large"]
    )
    def test_a_first_look_that_a_mail_ends_says_for_how_long_to_wait_and_the_next_one_gets_further(
        self, delayed, number, bad
    ):
        receiver, signed_in = delayed(number, bad)
        found, cursor, pauses = [], None, []
        for _ in range(3):
            signed_in.clear()
            try:
                for page in receiver.pages(cursor, SINCE):
                    found += [envelope.subject for envelope in page.envelopes]
                    cursor = page.cursor
            except Delayed as delay:
                pauses.append(delay.retry_after)
        assert {*pauses} <= {7}
        assert sorted(found) == [str(n) for n in range(1, 5) if n != number]
        assert len(Position.read(cursor).tried) == 1  # to be asked for again

    def test_a_mailbox_whose_newest_mails_have_one_that_ends_the_session_is_connected(self, delayed):
        receiver, _ = delayed(2, CLOSE)
        receiver.check()

    def test_a_look_alone_signs_in(self, start):
        _, receiver = start({"TOP": headers("Late", **{"Message-ID": "<late@x>"})})
        assert [envelope.subject for envelope in receiver.look(["<late@x>"])] == ["Late"]

    @pytest.mark.parametrize(
        ("capabilities", "pause"),
        [
            ("+OK\nLOGIN-DELAY 300\n.", 300),
            ("+OK\nLOGIN-DELAY 12 USER\n.", 12),
            (f"+OK\nLOGIN-DELAY {'9' * 5000}\n.", 3600),
            ("+OK\nLOGIN-DELAY soon\n.", 60),
            ("+OK\nLOGIN-DELAY\n.", 60),
            ("+OK\nUIDL\n.", 60),
            ("-ERR what?", 60),
            (CLOSE, 60),
            (HANG, 60),
        ],
    )
    def test_it_is_left_alone_for_as_long_as_it_says(self, start, capabilities, pause):
        _, receiver = start({"PASS": self.REFUSAL, "CAPA": capabilities})
        with pytest.raises(RateLimited) as caught:
            receiver.check()
        assert caught.value.retry_after == pause


@pytest.mark.parametrize("greeting", ["-ERR [SYS/TEMP] shutting down", "-ERR no", CLOSE, HANG, "+OK" * SHORT])
def test_a_server_that_is_not_ready_is_temporary_or_rejected(start, greeting):
    _, receiver = start(greeting=greeting)
    with pytest.raises((Temporary, Rejected)):
        receiver.check()


@pytest.mark.parametrize("capabilities", ["-ERR unknown command", "+OK\n\nüSER\nUIDL\ntop\nEXPIRE 30\n."])
def test_a_server_is_served_as_long_as_it_knows_uidl_and_top(start, capabilities):
    _, receiver = start({"CAPA": capabilities})
    receiver.check()
    assert read(receiver)[0] == ["Hello"]


class TestDates:
    """Of a mail that its server wrote no Received into; its Date says when its sender claims to have sent it."""

    OLD = datetime(2015, 1, 1, tzinfo=UTC)

    @pytest.fixture
    def drop(self, start):
        """A server with these mails, oldest first."""

        def holds(*tops):
            listed = "\n".join(f"{n} uidl-{n}" for n in range(1, len(tops) + 1))
            return start(
                {
                    "UIDL": f"+OK\n{listed}\n.",
                    **{f"TOP {n} 0": top for n, top in enumerate(tops, 1)},
                }
            )

        return holds

    @pytest.mark.parametrize("claims", [{}, {"Date": format_datetime(OLD)}, {"Date": "yesterday"}])
    def test_a_new_one_is_seen_whatever_it_claims(self, drop, claims):
        _, receiver = drop(headers("Hello", **claims))
        assert read(receiver, Position.of([]).cursor)[0] == ["Hello"]

    def test_one_that_the_server_took_in_long_ago_is_not_new_whatever_its_name(self, drop):
        _, receiver = drop(headers("Old", self.OLD, Date=format_datetime(datetime.now(UTC))))
        assert read(receiver, Position.of([]).cursor)[0] == []

    def test_a_first_look_sees_it_unless_an_older_one_came_after_it(self, drop):
        claims = {"Date": format_datetime(self.OLD)}
        before = [*[headers("Older", self.OLD)] * 60, headers("Before", **claims), headers("Last", self.OLD)]
        after = [headers(str(n), **claims) for n in range(3)]
        server, receiver = drop(*before, *after)
        found, cursor = read(receiver)
        assert found == ["0", "1", "2"]
        assert len(server.asked("TOP")) < 70
        assert read(receiver, cursor)[0] == []

    def test_a_first_look_sees_those_among_the_new_ones_too(self, drop):
        now = datetime.now(UTC)
        old, odd = [headers("Old", self.OLD)] * 60, headers("Odd", Date=format_datetime(self.OLD))
        _, receiver = drop(*old, headers("First", now), odd, headers("Last", now))
        assert sorted(read(receiver)[0]) == ["First", "Last", "Odd"]

    def test_where_no_mail_has_a_received_a_first_look_does_not_read_all(self, drop):
        claims = {"Date": format_datetime(self.OLD)}
        server, receiver = drop(*[headers(str(n), **claims) for n in range(1000)])
        assert len(read(receiver)[0]) == OLD_ENOUGH
        assert len(server.asked("TOP")) < 4 * OLD_ENOUGH


@pytest.mark.parametrize(
    "words",
    [
        "Message 1 expunged.",
        "no such message",
        "invalid command argument: no such message",
        "[SYS/TEMP] message not found in storage",
    ],
)
class TestSaidToBeGone:
    """A mail that UIDL listed, and that TOP says is gone."""

    @pytest.fixture
    def told(self, start, words):
        """The server after a look that it told so, the receiver, and the cursor."""
        server, receiver = start({"UIDL": "+OK\n1 one\n2 two\n.", "TOP 1 0": f"-ERR {words}"})
        found, cursor = read(receiver, Position.of([]).cursor)
        assert found == ["Hello"]
        return server, receiver, cursor

    def test_it_is_read_once_the_server_shows_it(self, told):
        server, receiver, cursor = told
        server.replies["TOP 1 0"] = headers("The order")
        found, cursor = read(receiver, cursor)
        assert (found, cursor) == (["The order"], Position.of(["one", "two"]).cursor)

    def test_it_is_forgotten_once_it_is_not_listed_any_more(self, told):
        server, receiver, cursor = told
        server.replies["UIDL"] = "+OK\n1 two\n."
        server.said.clear()
        assert read(receiver, cursor) == ([], Position.of(["two"]).cursor)
        assert len(server.asked("TOP")) <= 1

    def test_a_look_for_an_answer_says_that_it_may_be_the_one(self, told):
        _, receiver, _ = told
        with pytest.raises(Withheld):
            list(receiver.look(["<sent@x>"]))


class TestRefused:
    """A mail whose headers the server does not show, while it shows others."""

    WORDS = ("[SYS/TEMP] disk error", "internal error", "message temporarily unavailable, try again")

    @pytest.fixture
    def drop(self, start):
        """A server with three mails, and a cursor that knows none of them."""
        tops = {f"TOP {n} 0": f"+OK\nSubject: {n}\n\n." for n in (1, 2, 3)}
        server, receiver = start({"UIDL": "+OK\n1 one\n2 two\n3 three\n.", **tops})
        return server, receiver, Position.of([]).cursor

    @staticmethod
    def look(receiver, cursor):
        """One look: the subjects, how many are refused and given up, and the cursor."""
        pages = list(receiver.pages(cursor, SINCE))
        found = [envelope.subject for page in pages for envelope in page.envelopes]
        return found, sum(p.refused for p in pages), sum(p.unreadable for p in pages), pages[-1].cursor

    @pytest.mark.parametrize("words", WORDS)
    @pytest.mark.parametrize("capabilities", ["+OK\nUIDL\nTOP\n.", "-ERR what?"])
    def test_one_stops_no_other_and_comes_once_it_is_shown(self, drop, words, capabilities):
        server, receiver, cursor = drop
        server.replies |= {"TOP 2 0": f"-ERR {words}", "CAPA": capabilities}
        *told, cursor = self.look(receiver, cursor)
        assert told == [["1", "3"], 1, 0]
        server.said.clear()
        *told, cursor = self.look(receiver, cursor)
        assert told == [[], 1, 0]
        assert server.asked("TOP") == ["TOP 3 0", "TOP 2 0"]  # the other tells that the server is well
        server.replies["TOP 2 0"] = "+OK\nSubject: 2\n\n."
        *told, cursor = self.look(receiver, cursor)
        assert told == [["2"], 0, 0]
        assert cursor == Position.of(["one", "two", "three"]).cursor

    def test_it_is_asked_for_two_days_and_given_up_on_record_or_gone(self, drop):
        server, receiver, cursor = drop
        server.replies |= {"TOP 2 0": "-ERR no", "TOP 1 0": "-ERR no"}
        *told, cursor = self.look(receiver, cursor)
        assert told == [["3"], 2, 0]
        server.replies["UIDL"] = "+OK\n2 two\n3 three\n."
        position = Position.read(self.look(receiver, cursor)[3])
        [short] = position.refused
        position.refused[short] -= WAITED + 1
        *told, cursor = self.look(receiver, position.cursor)
        assert told == [[], 1, 0]
        position = Position.read(cursor)
        position.tried[short] = ASKED
        *told, cursor = self.look(receiver, position.cursor)
        assert told == [[], 0, 1]
        assert cursor == Position.of(["two", "three"]).cursor

    def test_where_nothing_is_shown_it_is_no_single_mails_fault(self, drop):
        server, receiver, cursor = drop
        server.replies |= {f"TOP {n} 0": "-ERR [SYS/TEMP] disk error" for n in (1, 2, 3)}
        for look in (cursor, None):
            with pytest.raises(Temporary) as caught:
                self.look(receiver, look)
            assert type(caught.value) is Temporary

    @pytest.mark.parametrize(
        ("said", "error"),
        [("-ERR [IN-USE] no", Temporary), ("-ERR too many commands", RateLimited)],
    )
    def test_what_is_about_the_server_ends_the_look(self, drop, said, error):
        server, receiver, cursor = drop
        server.replies["TOP 2 0"] = said
        with pytest.raises(error) as caught:
            self.look(receiver, cursor)
        assert type(caught.value) is error

    def test_one_at_which_the_server_hangs_up_stops_no_other_and_comes_once_it_is_shown(self, drop):
        server, receiver, cursor = drop
        server.replies["TOP 2 0"] = CLOSE
        *told, cursor = self.look(receiver, cursor)
        assert told == [["1", "3"], 1, 0]
        assert len(server.asked("TOP 2 0")) == 2  # it may have been by chance
        server.replies["TOP 2 0"] = "+OK\nSubject: 2\n\n."
        assert self.look(receiver, cursor)[:3] == (["2"], 0, 0)

    def test_one_at_which_the_server_goes_silent_stops_no_other_and_is_counted(self, drop):
        server, receiver, cursor = drop
        server.replies["TOP 2 0"] = HANG
        *told, cursor = self.look(receiver, cursor)
        assert told == [["1", "3"], 1, 0]
        assert len(server.asked("TOP 2 0")) == 1  # it costs the whole time-out
        *told, cursor = self.look(receiver, cursor)
        assert told == [[], 1, 0]
        assert [*Position.read(cursor).tried.values()] == [2]
        *told, _ = self.look(receiver, None)
        assert told == [["1", "3"], 1, 0]  # a first look, which finds where to begin
        server.replies["TOP 2 0"] = "+OK\nSubject: 2\n\n."
        assert self.look(receiver, cursor)[:3] == (["2"], 0, 0)

    def test_several_such_are_got_over_look_by_look_and_each_ends_soon(self, start):
        bad = (1, 2, 3, 5)
        listed = "\n".join(f"{n} {n:08}" for n in range(1, 8))
        shown = {f"TOP {n} 0": HANG if n in bad else f"+OK\nSubject: {n}\n\n." for n in range(1, 8)}
        server, receiver = start({"UIDL": f"+OK\n{listed}\n.", **shown})
        found, cursor = looked(receiver, Position.of(["00000007"]).cursor, 3)
        assert found == ["4", "6"]
        assert sum(server.asked(f"TOP {n} 0") != [] for n in bad) == len(bad)
        assert len(server.asked("PASS")) <= 3 * (MOST_SILENT + 2)
        assert len(Position.read(cursor).refused) == len(bad)

    def test_who_hangs_up_by_chance_keeps_no_mail_back(self, drop):
        server, receiver, cursor = drop
        answers = iter([CLOSE])
        server.answer = lambda line: (
            next(answers, "+OK\nSubject: 2\n\n.") if line == "TOP 2 0" else ScriptedPop3.answer(server, line)
        )
        assert self.look(receiver, cursor)[:3] == (["1", "2", "3"], 0, 0)

    def test_who_hangs_up_at_every_mail_is_left_in_peace_soon(self, start):
        listed = "\n".join(f"{n} {n:08}" for n in range(1, 101))
        server, receiver = start({"UIDL": f"+OK\n{listed}\n.", "TOP": CLOSE})
        with pytest.raises(Temporary) as caught:
            self.look(receiver, Position.of([]).cursor)
        assert type(caught.value) is Temporary
        assert len(server.asked("PASS")) <= MOST_LOST + 1

    def test_headers_that_are_too_large_are_as_refused_and_stop_no_other(self, drop):
        server, receiver, cursor = drop
        for block in ("x" * (SHORT + 1), "x: y\n" * (SHORT // 4)):  # one line, and all of them
            server.replies["TOP 2 0"] = f"+OK\n{block}\n\n."
            assert self.look(receiver, cursor)[:3] == (["1", "3"], 1, 0)

    def test_a_first_look_begins_before_it_and_connecting_goes_on(self, drop):
        server, receiver, _ = drop
        server.replies |= {f"TOP {n} 0": "-ERR no" for n in (1, 3)}
        receiver.check()
        *told, cursor = self.look(receiver, None)
        assert told == [["2"], 2, 0]
        now = format_datetime(datetime.now(UTC))
        server.replies |= {f"TOP {n} 0": f"+OK\nSubject: {n}\nDate: {now}\n\n." for n in (1, 3)}
        assert self.look(receiver, cursor)[0] == ["1", "3"]

    def test_late_evidence_goes_on_without_it(self, drop):
        server, receiver, _ = drop
        server.replies |= {"TOP 2 0": "-ERR no", "TOP 3 0": "+OK\nMessage-ID: <3@x>\n\n."}
        found = receiver.look(["<3@x>"])
        assert next(found).message_id == "<3@x>"
        with pytest.raises(Withheld) as caught:
            next(found)
        assert (caught.value.message_ids, caught.value.mails) == ({"<3@x>"}, 1)

    def test_the_cursor_stays_small_and_says_so_where_it_is_broken(self):
        position = Position.of([])
        names = [f"{n:070}" for n in range(100)]
        position.put_off(names, dict.fromkeys(names, Temporary("no")))
        assert len(position.cursor) < 8000
        assert Position.read(position.cursor).refused == position.refused
        with pytest.raises(CursorExpired):
            Position.read(Cursor(position.cursor[:-1]))


class TestLock:
    """A server that dies of a mail, and keeps the maildrop locked until the look is over."""

    @pytest.fixture
    def drop(self, start):
        """A server with three mails that dies of those in `bad`; `answers` is what it says to a sign-in then.

        Those in `refused` it refuses by words.
        """

        def holds(*bad, answers="-ERR [IN-USE] maildrop already locked", refused=()):
            def answer(line):
                dies = line in {f"TOP {n} 0" for n in bad}
                locked.extend([line] if dies else [])
                if line.startswith("PASS") and locked:
                    return answers
                return CLOSE if dies else usual(line)

            locked = []
            server, receiver = start({"UIDL": "+OK\n1 one\n2 two\n3 three\n."})
            server.replies |= {
                f"TOP {n} 0": headers(str(n), datetime.now(UTC), **{"Message-ID": f"<{n}@x>"})
                for n in (1, 2, 3)
            }
            server.replies |= {f"TOP {n} 0": "-ERR no" for n in refused}
            usual, server.answer = server.answer, answer
            return receiver, locked

        return holds

    @staticmethod
    def look(receiver, locked, cursor):
        """One look, before which the lock is gone: the subjects, how many are given up, the cursor, the end."""
        locked.clear()
        found, given_up, end = [], 0, None
        try:
            for page in receiver.pages(cursor, SINCE):
                found += [envelope.subject for envelope in page.envelopes]
                given_up, cursor = given_up + page.unreadable, page.cursor
        except Temporary as error:
            end = error
        return found, given_up, cursor, end

    @pytest.mark.parametrize("answers", ["-ERR [IN-USE] maildrop already locked", CLOSE])
    @pytest.mark.parametrize("begun", [True, False])
    def test_a_mail_it_dies_of_stops_no_other_and_is_given_up_in_the_end(self, drop, answers, begun):
        receiver, locked = drop(2, answers=answers)
        found, cursor = [], Position.of([]).cursor if begun else None
        for _ in range(3):
            some, _, cursor, _ = self.look(receiver, locked, cursor)
            found += some
        assert sorted(found) == ["1", "3"]
        position = Position.read(cursor)
        [short] = position.refused
        position.refused[short] -= WAITED + 1
        position.tried[short] = ASKED
        assert self.look(receiver, locked, position.cursor)[1] == 1

    @staticmethod
    def late(receiver, message_id):
        """Look for late answers, in what session is left: the subjects, and the end."""
        found = []
        try:
            found.extend(envelope.subject for envelope in receiver.look([message_id]))
        except Temporary as error:
            return found, error
        return found, None

    @pytest.mark.parametrize("answers", ["-ERR [IN-USE] maildrop already locked", "-ERR [LOGIN-DELAY] no"])
    @pytest.mark.parametrize("bad", [(1,), (2,), (3,), (1, 3), (2, 3)])
    def test_late_answers_are_found_within_a_few_looks_while_it_waits(self, drop, bad, answers):
        """Wherever it lies, and it is asked for all the same."""
        receiver, locked = drop(*bad, answers=answers)
        cursor, told = Position.of([]).cursor, []
        [answer, *_] = {1, 2, 3}.difference(bad)
        for _ in range(12):
            *_, cursor, end = self.look(receiver, locked, cursor)
            if not end:
                told.append(self.late(receiver, f"<{answer}@x>"))
        found = [error for subjects, error in told if subjects == [str(answer)]]
        assert len(found) >= 4
        assert [(error.mails, error.message_ids) for error in found[-2:]] == [
            (len(bad), {f"<{answer}@x>"})
        ] * 2
        assert min(Position.read(cursor).tried.values()) >= 3

    def test_a_look_that_spares_it_counts_it_and_once_it_is_shown_nothing_is_spared(self, drop):
        receiver, locked = drop(2)
        cursor, waiting = Position.of([]).cursor, []
        for _ in range(6):
            locked.clear()
            with suppress(Temporary):
                for page in receiver.pages(cursor, SINCE):
                    waiting.append(page.refused)
                    cursor = page.cursor
        assert sum(waiting) == 6
        receiver, _ = drop()
        found, cursor = looked(receiver, cursor, 2)
        assert found == ["2"]
        assert cursor == Position.of(["one", "two", "three"]).cursor
        assert self.late(receiver, "<2@x>") == (["2"], None)

    def test_once_it_is_given_up_it_ends_no_look_any_more(self, drop):
        """Neither one for late answers, nor what tells whether the server is well."""
        receiver, locked = drop(3, refused=[1])
        cursor, given_up = Position.of([]).cursor, 0
        for _ in range(4 * ASKED):
            if not given_up:
                position = Position.read(cursor)
                position.refused |= {short: position.refused[short] - WAITED - 1 for short in position.ended}
                _, given_up, cursor, _ = self.look(receiver, locked, position.cursor)
        assert given_up
        before = sum(Position.read(cursor).tried.values())
        for _ in range(3):
            *_, cursor, end = self.look(receiver, locked, cursor)
            assert (end, locked) == (None, [])
            subjects, error = self.late(receiver, "<2@x>")
            assert (subjects, type(error), locked) == (["2"], Withheld, [])
        assert sum(Position.read(cursor).tried.values()) == before + 3

    def test_what_was_read_before_it_can_be_fetched_by_the_next_look(self, drop):
        receiver, _ = drop(2)
        pages = receiver.pages(Position.of([]).cursor, SINCE)
        noted = next(pages)
        [mail] = next(pages).envelopes
        with pytest.raises(Temporary):
            receiver.fetch(mail.ref)
        receiver, _ = drop(2)
        first, *_ = next(receiver.pages(noted.cursor, SINCE)).envelopes
        assert b"Text" in receiver.fetch(first.ref)

    def test_for_how_long_it_wants_to_be_left_alone_is_heard(self, drop):
        receiver, locked = drop(2, answers="-ERR [SYS/TEMP] too many connections")
        *_, end = self.look(receiver, locked, Position.of([]).cursor)
        assert isinstance(end, RateLimited)
        assert end.retry_after == 300

    def test_a_server_that_is_down_for_days_loses_no_mail(self, drop):
        receiver, locked = drop(1, 2, 3)
        cursor, given_up = Position.of([]).cursor, 0
        for _ in range(4 * ASKED):
            found, some, cursor, end = self.look(receiver, locked, cursor)
            assert (found, end is None) == ([], False)
            position = Position.read(cursor)
            position.refused |= {short: since - WAITED - 1 for short, since in position.refused.items()}
            cursor, given_up = position.cursor, given_up + some
        assert given_up == 0
        receiver, _ = drop()
        assert sorted(self.look(receiver, [], cursor)[0]) == ["1", "2", "3"]


class TestOneUidl:
    """Different mails under one UIDL, whatever RFC 1939 §7 says."""

    @pytest.fixture
    def drop(self, start):
        server, receiver = start()

        def holds(*subjects, size=0):
            receiver.close()
            for number, subject in enumerate(subjects, 1):
                server.replies[f"TOP {number} 0"] = f"+OK\nSubject: {subject}\n\n."
                server.replies[f"RETR {number}"] = f"+OK\n\n{subject}\n."
            server.replies["UIDL"] = "\n".join(
                ["+OK", *(f"{n} same" for n, _ in enumerate(subjects, 1)), "."]
            )
            sizes = (f"{n} {size or 100 + ord(subject)}" for n, subject in enumerate(subjects, 1))
            server.replies["LIST"] = "\n".join(["+OK", *sizes, "."])
            return receiver

        return holds

    def test_each_is_read_whichever_is_deleted(self, drop):
        found, cursor = read(drop("A"), Position.of([]).cursor)
        assert found == ["A"]
        for left, new in (("AB", "B"), ("ABC", "C"), ("BCD", "D"), ("BD", ""), ("DE", "E"), ("EF", "F")):
            found, cursor = read(drop(*left), cursor)
            assert {*new} <= {*found} <= {*left}, left  # what comes once more is known to filing
            assert read(drop(*left), cursor)[0] == []

    def test_each_is_fetched_by_the_name_it_was_given(self, drop):
        [page] = drop("A", "B").pages(Position.of([]).cursor, SINCE)
        refs = {one.subject: one.ref for one in page.envelopes}
        assert drop("B", "C", "D").fetch(refs["B"]).strip() == b"B"

    def test_those_of_one_size_are_told_apart_too(self, drop):
        found, cursor = read(drop("A", "B", "C", size=7), Position.of([]).cursor)
        assert found == ["A", "B", "C"]
        assert read(drop("A", "B", "C", "D", size=7), cursor)[0] == ["D"]


def test_a_mail_is_found_by_its_name_although_its_number_changed(start):
    server, receiver = start(
        {"UIDL": "+OK\n1 one\n2 two\n.", "RETR 1": "+OK\n\nOne\n.", "RETR 2": "+OK\n\nTwo\n."}
    )
    assert b"Two" in receiver.fetch("two")
    receiver.close()
    server.replies |= {"UIDL": "+OK\n1 two\n.", "RETR 1": "+OK\n\nTwo\n."}
    assert b"Two" in receiver.fetch("two")


def test_a_server_that_would_delete_is_not_read_from(start):
    server, receiver = start({"CAPA": "+OK\nUIDL\nTOP\nEXPIRE 0 USER\n."})
    with pytest.raises(Unsupported, match="deletes"):
        receiver.fetch("one")
    assert not server.asked("RETR")


def test_an_endless_line_and_an_endless_answer_are_refused(start):
    _, receiver = start({"RETR": "+OK\n" + "x" * (SHORT + 1) + "\n."})
    with pytest.raises(Rejected, match="too large"):
        receiver.fetch("one")
    server, _ = start({"RETR": "+OK\n" + "x\n" * 1000 + "."})
    session = Session(connection(server.port), Timeouts(2, 0.3, 0.3), largest=1000)
    with pytest.raises(Rejected, match="too large"):
        session.whole("one")
    session.close()


@pytest.mark.parametrize("lines", ["{n} {n:070}", "{n} {n}"])
def test_fifty_thousand_mails_can_be_listed_whatever_they_are_called(start, lines):
    listed = "\n".join(lines.format(n=n) for n in range(1, 50_001))
    _, receiver = start({"UIDL": f"+OK\n{listed}\n."})
    receiver.check()


@pytest.mark.parametrize("command", ["UIDL", "CAPA", "LIST"])
@pytest.mark.parametrize(("line", "times"), [("1 " + "x" * 78, SHORT // 80), ("1 1", SHORT // LINE)])
def test_no_list_is_read_that_takes_a_mail_sized_piece_of_memory(start, command, line, times):
    _, receiver = start({"UIDL": "+OK\n1 same\n2 same\n.", command: f"+OK\n{f'{line}\n' * (times + 2)}."})
    with pytest.raises(Rejected, match="too large") as caught:
        receiver.check()
    assert "IMAP" in caught.value.fix


def test_a_server_that_lists_the_newest_first_is_read_from_there(start):
    now = datetime.now(UTC)
    listed = "\n".join(f"{n} uidl-{n}" for n in range(1, 201))
    tops = {f"TOP {n} 0": headers(str(n), now - timedelta(minutes=n * 25)) for n in range(1, 201)}
    server, receiver = start({"UIDL": f"+OK\n{listed}\n.", **tops})
    assert read(receiver)[0] == ["2", "1"]  # the hour before
    assert len(server.asked("TOP")) < 60


def test_a_token_is_shown_after_the_command_and_its_refusal_is_heard(start):
    def bearer():
        return Bearer("alice@imap.example", "t" * 2000)

    server, receiver = start({"": "+ eyJzdGF0dXMiOiI0MDEifQ==", "AUTH": "+ "}, credential=bearer)
    server.answer = lambda line: {"AUTH XOAUTH2": "+ ", "": "-ERR [AUTH] no"}.get(line, "+ eyJzIjo0MDF9")
    with pytest.raises(ConsentRequired):
        receiver.check()
    assert [len(line) > 2000 for line in server.said] == [False, True, False]


@pytest.mark.parametrize("said", ["-ERR unknown command: ", "-ERR [SYS/TEMP] cannot "])
@pytest.mark.parametrize("secret", [Password("alice", PASSWORD), Bearer("alice", "t0ken" * 100)])
def test_a_server_that_repeats_the_command_puts_no_secret_into_the_error(start, secret, said):
    server, receiver = start(credential=lambda: secret)
    hello = {"USER": "+OK", "AUTH": "+ "}
    server.answer = lambda line: hello.get(line[:4]) or said + line
    with pytest.raises(ZalionError, match=r"unknown command|cannot") as caught:
        receiver.check()
    assert caught.value.detail.endswith(("PASS …", ": …", "cannot …"))


@pytest.mark.parametrize("password", ["a\r\nDELE 1", "a\0b"])
def test_no_command_hides_in_a_password(start, password):
    server, receiver = start(credential=lambda: Password("alice", password))
    with pytest.raises(ConsentRequired, match="control"):
        receiver.check()
    assert server.said == []


def test_without_stls_nothing_is_sent_in_plain_text(start):
    server, receiver = start(security="starttls")
    with pytest.raises(InvalidRequest) as caught:
        receiver.check()
    assert caught.value.field == "security"
    assert server.said == ["CAPA"]


class TestFiftyThousandMails:
    """A maildrop nobody tidies up, on a server that answers as Dovecot does."""

    COUNT = 50_000

    @pytest.fixture
    def drop(self, start):
        listed = "\n".join(f"{n} {n:08x}00000001" for n in range(1, self.COUNT + 1))
        old = datetime.now(UTC) - timedelta(days=100)
        return start({"UIDL": f"+OK\n{listed}\n.", "TOP": headers("Old", old)})

    def test_the_first_look_and_the_next_are_short_and_the_cursor_is_small(self, drop):
        server, receiver = drop
        found, cursor = read(receiver)
        assert found == []
        assert len(cursor) < 3000
        assert len(server.asked("TOP")) <= 53
        new = headers("New", datetime.now(UTC))
        server.replies |= {
            "UIDL": server.replies["UIDL"][:-1] + f"{self.COUNT + 1} new\n.",
            f"TOP {self.COUNT + 1} 0": new,
        }
        server.said.clear()
        found, cursor = read(receiver, cursor)
        assert found == ["New"]
        assert len(cursor) < 3000
        assert len(server.asked("TOP")) == 1
        assert not server.asked("RETR")
        assert not server.asked("DELE")

    @pytest.mark.parametrize("new", [1, 49, 700])
    def test_a_first_look_finds_where_to_begin_without_reading_all(self, drop, new):
        server, receiver = drop
        now = datetime.now(UTC)
        server.replies |= {
            f"TOP {n} 0": headers(str(n), now) for n in range(self.COUNT - new + 1, self.COUNT + 1)
        }
        found, cursor = read(receiver)
        assert found == [str(n) for n in range(self.COUNT - new + 1, self.COUNT + 1)]
        assert len(server.asked("TOP")) < new + 600
        server.said.clear()
        assert read(receiver, cursor)[0] == []
        assert not server.asked("TOP")
