"""The guarded way out: what may not be spoken to, and what is said about it."""

import contextlib
import math
import re
import socket
import ssl
import threading
import time
from datetime import UTC, datetime

import pytest

from shared import deadline
from shared.errors import ConsentRequired, InvalidRequest, OutcomeUnknown, RateLimited, Rejected, Temporary
from shared.providers import hosts, network, wording
from shared.providers.base import Password
from shared.providers.http import Api
from shared.providers.imap import ImapMailbox
from shared.providers.pop3 import Pop3Receiver
from shared.providers.silence import CHECK, IN_A_ROW, PAUSE, SILENCES, Silences
from shared.providers.smtp import SmtpSender
from shared.providers.sockets import Turn, let_in
from tests.providers.parts import connection
from tests.providers.scripted import DRIP, HANG, Scripted, ScriptedImap, ScriptedPop3, ScriptedSmtp

QUICK = network.Timeouts(1, 0.2, 0.2, 0.4)
PATIENT = network.Timeouts(0.4, 0.2, 0.2)
PRIVATE = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "192.88.99.1",
    "::",
    "::1",
    "::10.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "2002:a00:1::1",
    "2001:0:a00:1::1",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "localhost",
    "LOCALHOST.",
]
NO_NAMES = [
    "",
    " ",
    "a b",
    "mail\r\nX: y",
    "mail\x00.example",
    "http://mail.example/",
    "[::1]",
    "fe80::1%eth0",
]
NO_NAMES += [
    "mail..example",
    "-mail.example",
    "a" * 64 + ".example",
    "user@mail.example",
    "\uff41" * 300,
]


def refusal(host, port=993, **kwargs):
    with pytest.raises(InvalidRequest) as caught:
        network.connect(host, port, 1, **kwargs)
    return caught.value.field, caught.value.detail, caught.value.fix


class TestHosts:
    @pytest.mark.parametrize("host", PRIVATE)
    def test_a_host_that_is_not_public_is_refused_however_it_is_written(self, host):
        try:
            assert refusal(host)[0] == "host"
        except Temporary:
            pytest.skip("this machine cannot even resolve it")

    @pytest.mark.parametrize("host", NO_NAMES)
    def test_what_is_no_host_name_is_refused_in_the_same_words(self, host):
        assert refusal(host) == refusal("10.0.0.1")

    @pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "40.99.201.2"])
    def test_public_addresses_are_spoken_to(self, address):
        assert hosts.is_public(address)

    @pytest.mark.parametrize("address", [host for host in PRIVATE if host.count(".") == 3 or "::" in host])
    def test_no_disguise_makes_an_address_public(self, address):
        assert not hosts.is_public(address)

    def test_one_private_address_among_public_ones_is_enough_to_refuse(self, monkeypatch):
        answers = [(socket.AF_INET, 1, 6, "", (address, 993)) for address in ("8.8.8.8", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)  # the far side: DNS
        assert refusal("mail.rebinding.example")[0] == "host"

    def test_a_name_is_resolved_once_and_the_judged_address_is_connected_to(self, monkeypatch):
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        asked = []

        def rebinding(name, *_, **__):
            asked.append(name)
            return [(socket.AF_INET, 1, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.255.255.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)  # the far side: DNS that changes its mind
        with network.connect("mail.example", port, 1, {"mail.example"}) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)
        assert asked == ["mail.example"]
        listener.close()

    def test_a_second_address_is_tried_where_the_first_does_not_answer(self, monkeypatch):
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        places = [(socket.AF_INET, 1, 6, "", (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        network.connect("mail.example", port, 1, {"mail.example"}).close()
        listener.close()

    def test_no_number_of_addresses_of_one_family_hides_the_other(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            sixes = [(socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0))] * network.MOST_PLACES
            places = [*sixes, (socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)  # the far side: DNS
            network.connect("mail.example", port, 1, {"mail.example"}).close()

    def test_a_name_that_does_not_exist_is_refused_in_the_same_words(self, monkeypatch):
        def unknown(*_, **__):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        private = refusal("10.0.0.1")
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        assert refusal("mail.typo.example") == private

    def test_a_name_server_that_does_not_answer_is_temporary(self, monkeypatch):
        def silent(*_, **__):
            raise socket.gaierror(socket.EAI_AGAIN, "try again")

        monkeypatch.setattr(socket, "getaddrinfo", silent)
        with pytest.raises(Temporary):
            network.connect("mail.example", 993, 1)

    def test_a_name_server_that_says_nothing_is_waited_for_as_long_as_there_is_time(self, monkeypatch):
        asked, ended = [], threading.Event()

        def silent(name, *_, **__):
            asked.append(name)
            ended.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")

        monkeypatch.setattr(socket, "getaddrinfo", silent)  # the far side: DNS
        for _ in range(IN_A_ROW + 1):  # that our time is over is no fault of the server's
            began = time.monotonic()
            with deadline.within(0.3), pytest.raises(Temporary):
                network.connect("mail.silent.example", 993, 10)
            assert time.monotonic() - began < 2
        assert len(asked) == IN_A_ROW + 1
        ended.set()

    def test_a_name_server_that_says_nothing_is_waited_for_no_longer_than_is_of_use(self, monkeypatch):
        ended = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(60))  # the far side: DNS
        began = time.monotonic()
        with pytest.raises(Temporary):
            network.Server("mail.silent.example", 993, "tls").open(network.Timeouts(look_up=0.3))
        ended.set()
        assert 0.3 <= time.monotonic() - began < 3


class TestPorts:
    @pytest.mark.parametrize("port", [22, 25, 80, 3306, 10000, 0, -1, 65536, 10**9])
    def test_only_mail_ports_may_be_used(self, port):
        assert refusal("8.8.8.8", port)[0] == "port"

    def test_the_refusal_of_a_port_says_no_more_than_that_of_a_host(self):
        assert refusal("8.8.8.8", 22)[1:] == refusal("10.0.0.1")[1:]

    @pytest.mark.parametrize("port", [0, -1, 65536])
    def test_no_host_has_ports_that_do_not_exist(self, port):
        assert refusal("localhost", port, allowed_hosts={"localhost"})[0] == "port"

    def test_an_allowed_host_may_be_private_and_on_any_port(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            network.connect("LocalHost.", listener.getsockname()[1], 1, {"localhost"}).close()

    def test_only_the_allowed_name_is_allowed_not_its_address(self):
        assert refusal("0x7f.1", 993, allowed_hosts={"127.0.0.1", "localhost"})[0] == "host"


class TestSilence:
    def test_nobody_listening_and_no_answer_sound_the_same_and_name_no_address(self):
        said = set()
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            port = full.getsockname()[1]
            waiting = [socket.socket() for _ in range(3)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            with pytest.raises(Temporary) as caught:
                network.connect("localhost", port, 0.2, {"localhost"})
            said.add(caught.value.detail)
            for sock in waiting:
                sock.close()
        with pytest.raises(Temporary) as caught:
            network.connect("localhost", port, 0.2, {"localhost"})
        said.add(caught.value.detail)
        assert len(said) == 1
        assert "127" not in said.pop()

    @pytest.mark.parametrize("security", ["tls", "starttls"])
    def test_a_server_that_says_nothing_is_left_alone_for_a_while_and_no_other(self, authority, security):
        """Silent in the hand-shake, or where its greeting should come."""

        def tried(port):
            begun = time.monotonic()
            with pytest.raises(Temporary) as caught:
                ImapMailbox(connection(port, security), network.Timeouts(0.2, 0.2, 0.2, 1)).check()
            return time.monotonic() - begun, caught.value.retry_after

        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            first = [tried(port) for _ in range(IN_A_ROW)]
            assert all(took > 0.1 for took, _ in first)
            took, retry_after = tried(port)
            assert took < 0.1
            assert 60 < retry_after <= PAUSE
            with ScriptedImap(authority.server_context()) as other:
                ImapMailbox(connection(other.port), QUICK).check()

    @pytest.mark.parametrize("security", ["tls", "starttls"])
    def test_a_server_that_was_given_no_time_is_not_called_silent(self, security):
        with socket.create_server(("127.0.0.1", 0)) as slow:
            port = slow.getsockname()[1]
            for _ in range(IN_A_ROW + 1):
                begun = time.monotonic()
                with deadline.within(0.1), pytest.raises(Temporary):
                    ImapMailbox(connection(port, security), network.Timeouts(5, 5, 5, 5)).check()
                assert 0.05 < time.monotonic() - begun < 1

    def test_a_server_that_goes_silent_after_the_hand_shake_is_left_alone_too(self, tls):
        def shake_hands(listener, held):
            with contextlib.suppress(OSError):  # closed: the test is over
                while True:
                    held.append(tls.wrap_socket(listener.accept()[0], server_side=True))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            held = []
            threading.Thread(target=shake_hands, args=(listener, held), daemon=True).start()
            port = listener.getsockname()[1]
            for _ in range(IN_A_ROW + 1):
                with pytest.raises(Temporary) as caught:
                    ImapMailbox(connection(port), network.Timeouts(1, 0.1, 0.1, 0.1)).check()
            assert len(held) == IN_A_ROW
            assert 60 < caught.value.retry_after <= PAUSE
            listener.shutdown(socket.SHUT_RDWR)
            for sock in held:
                sock.close()

    def test_a_server_whose_name_servers_do_not_answer_is_left_alone_for_a_while(self, monkeypatch):
        asked = []

        def silent(name, *_, **__):
            asked.append(name)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")

        monkeypatch.setattr(socket, "getaddrinfo", silent)  # the far side: DNS
        for _ in range(IN_A_ROW + 2):
            with pytest.raises(Temporary) as caught:
                network.connect("mail.example", 993, 1)
        assert len(asked) == IN_A_ROW
        assert 60 < caught.value.retry_after <= PAUSE
        with pytest.raises(Temporary):
            network.connect("mail.other.example", 993, 1)
        assert len(asked) == IN_A_ROW + 1

    def test_a_name_that_is_refused_is_no_silent_server(self):
        for _ in range(IN_A_ROW + 1):
            assert refusal("10.0.0.1")[0] == "host"

    def test_a_wrong_choice_of_security_keeps_nobody_from_the_right_one(self, tls):
        with ScriptedImap(tls) as well:
            for _ in range(IN_A_ROW + 1):
                with pytest.raises(Temporary):
                    ImapMailbox(connection(well.port, "starttls"), QUICK).check()
            box = ImapMailbox(connection(well.port), network.TIMEOUTS)
            box.check()
            box.close()

    def test_after_a_pause_one_lost_connection_is_by_chance_again(self):
        silences, place = Silences(pause=0.05), ("mail.example", 993, "tls")
        for _ in range(IN_A_ROW):
            silences.silent(place)
        with pytest.raises(Temporary):
            silences.ask(place)
        time.sleep(0.06)
        silences.silent(place)
        silences.ask(place)

    def test_what_was_silent_long_ago_counts_no_more(self):
        silences, place = Silences(remembered=0.05), ("mail.example", 993, "tls")
        for _ in range(IN_A_ROW - 1):
            silences.silent(place)
        time.sleep(0.06)
        silences.silent(place)
        silences.ask(place)

    def test_only_silence_in_a_row_counts(self):
        silences, place = Silences(), ("mail.example", 993, "tls")
        for _ in range(2):
            for _ in range(IN_A_ROW - 1):
                silences.silent(place)
                silences.ask(place)
            silences.heard(place)
        for _ in range(IN_A_ROW):
            silences.silent(place)
        with pytest.raises(Temporary):
            silences.ask(place)
        silences.ask(("mail.example", 465, "tls"))
        silences.ask(("mail.example", 993, "starttls"))

    def test_all_addresses_of_a_host_share_one_time(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
            port = full.getsockname()[1]
            for _ in range(3):  # what lies in the queue; nobody else is answered at all
                filler = waiting.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place] * 20)  # the far side: DNS
            begun = time.monotonic()
            with pytest.raises(Temporary):
                network.connect("localhost", port, 0.2, {"localhost"})
            assert time.monotonic() - begun < 0.5


@pytest.mark.parametrize("security", ["tls", "starttls"])
class TestSessions:
    """What goes over an open connection, in pieces and in time."""

    @pytest.fixture
    def far(self, tls, security):
        """Make a connection whose far side does what a test says; yields what opens it."""
        with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as open_:

            def serve(does):
                wire = listener.accept()[0]
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)
                wire = tls.wrap_socket(wire, server_side=True) if security == "tls" else wire
                with contextlib.suppress(OSError):  # the client has left
                    does(open_.enter_context(wire))

            def opened(does, timeouts):
                threading.Thread(target=serve, args=(does,), daemon=True).start()
                server = network.Server.of(connection(listener.getsockname()[1], security), 993)
                return open_.enter_context(server.open(timeouts))

            yield opened

    def test_nobody_waits_longer_for_a_word_than_the_session_lasts(self, far):
        begun = time.monotonic()
        sock = far(lambda _: None, network.Timeouts(1, 5, 5, 0.3))
        sock.settimeout(5)
        with pytest.raises(TimeoutError):
            sock.recv_into(bytearray(10))
        assert time.monotonic() - begun < 1

    def test_an_answer_that_does_not_come_is_not_taken_for_a_silent_server(self, far):
        for _ in range(IN_A_ROW + 1):
            sock = far(lambda wire: wire.recv(1), network.Timeouts(1, 0.1, 0.1, 1))
            let_in(sock)
            sock.sendall(b"x")
            sock.settimeout(0.05)
            with pytest.raises((TimeoutError, ssl.SSLEOFError)):
                sock.recv_into(bytearray(10))

    def test_a_large_mail_over_a_slow_line_takes_longer_than_a_word_may(self, far):
        taken, done = [], threading.Event()

        def slowly(wire):
            while sum(taken) < 4_000_000:
                taken.append(len(wire.recv(16384)))
                time.sleep(0.005)
            done.set()

        sock = far(slowly, network.Timeouts(1, 0.25, 0.25, 20))
        sock.settimeout(0.25)
        sock.sendall(bytes(4_000_000))
        assert done.wait(5)

    def test_a_large_mail_that_comes_over_a_slow_line_takes_longer_than_a_word_may(self, far):
        def slowly(wire):
            for _ in range(40):
                wire.sendall(bytes(2000))
                time.sleep(0.05)

        sock = far(slowly, network.Timeouts(1, 0.25, 0.25, 20))
        sock.settimeout(0.25)
        with sock.makefile("rb") as answer:
            assert len(answer.read(80_000)) == 80_000

    def test_who_began_fast_is_left_all_the_same_when_it_gets_on_no_more(self, far):
        def falls_asleep(wire):
            wire.sendall(bytes(100_000))
            while True:
                wire.sendall(b"x")
                time.sleep(0.02)

        begun = time.monotonic()
        sock = far(falls_asleep, network.Timeouts(1, 0.2, 0.2, 20))
        sock.settimeout(0.2)
        with sock.makefile("rb") as answer, pytest.raises(TimeoutError):
            answer.read(200_000)
        assert time.monotonic() - begun < 4

    def test_a_server_that_takes_it_ever_so_slowly_is_left_when_the_session_ends(self, far):
        def drip(wire):
            while wire.recv(1024):
                time.sleep(0.01)

        begun = time.monotonic()
        sock = far(drip, network.Timeouts(1, 5, 5, 0.4))
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(50_000_000))
        assert time.monotonic() - begun < 2


def test_no_answer_lasts_longer_than_anything_may_however_fast_it_gets_on():
    ends = time.monotonic() + 5
    turn = Turn(sends=False, patience=60, ends=ends)
    turn.got_on(1_000_000_000)
    assert turn.until == ends
    assert Turn(sends=False, patience=math.inf, ends=ends).until == ends


class TestTls:
    def test_the_context_verifies_and_speaks_no_old_tls(self):
        context = network.tls_context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2

    def test_a_context_is_made_once_for_each_trust_store(self, monkeypatch, tmp_path):
        first = network.tls_context()
        assert network.tls_context() is first
        monkeypatch.setenv("SSL_CERT_FILE", str(_other(tmp_path).bundle))
        assert network.tls_context() is not first

    def test_a_strangers_certificate_is_refused_with_advice(self, tmp_path):
        with ScriptedImap(_other(tmp_path).server_context()) as odd, pytest.raises(InvalidRequest) as caught:
            network.Server.of(connection(odd.port), 993).open(QUICK)
        assert caught.value.field == "host"
        assert caught.value.fix
        assert odd.said == []

    def test_a_certificate_for_another_name_is_refused(self, tls, monkeypatch):
        places = [(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]
        with ScriptedImap(tls) as odd:
            monkeypatch.setattr(
                socket, "getaddrinfo", lambda _, port, **__: [(*places[0][:4], ("127.0.0.1", port))]
            )
            server = network.Server("mail.other.test", odd.port, "tls", frozenset({"mail.other.test"}))
            with pytest.raises(InvalidRequest, match="certificate"):
                server.open(QUICK)

    def test_tls_1_1_is_refused_with_advice(self, authority):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        old.load_cert_chain(authority.certificate, authority.key)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLS"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with ScriptedImap(old) as odd, pytest.raises(InvalidRequest) as caught:
            network.Server.of(connection(odd.port), 993).open(QUICK)
        assert caught.value.field == "security"
        assert "1.2" in caught.value.detail

    def test_a_server_that_answers_tls_in_plain_text_is_a_wrong_setting(self):
        with ScriptedImap(None) as odd, pytest.raises(InvalidRequest) as caught:
            network.Server.of(connection(odd.port), 993).open(QUICK)
        assert caught.value.field == "security"

    def test_a_server_that_hangs_in_the_handshake_is_temporary(self):
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Temporary):
            network.Server.of(connection(silent.getsockname()[1]), 993).open(QUICK)

    def test_a_server_that_hangs_up_in_the_handshake_is_temporary(self):
        with socket.create_server(("127.0.0.1", 0)) as rude:
            threading.Thread(target=_hang_up, args=(rude,), daemon=True).start()
            with pytest.raises(Temporary):
                network.Server.of(connection(rude.getsockname()[1]), 993).open(QUICK)


class _Dripping(Scripted):
    """Answers as these say, by the first word; else as the third says."""

    def answer(self, line):
        return {"CAPA": "+OK\nSTLS\n.", "EHLO": "250-x\n250-STARTTLS\n250 AUTH PLAIN"}.get(
            line.split()[0].upper(), DRIP
        )


class _DrippingApi(Scripted):
    """Answers any request with a beginning, and drips."""

    def _talk(self, connection):
        while not connection.recv(8192).endswith(b"\r\n\r\n"):
            pass
        connection.sendall(self._greeting.encode())
        self._tell(connection, DRIP)


class _SlowReader(Scripted):
    """Takes its time before it reads what a request brings."""

    def _talk(self, connection):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        time.sleep(0.8)
        left = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while left:
            left -= len(connection.recv(2**20))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def test_an_upload_may_wait_as_long_as_an_answer_for_a_server_that_takes_its_time(tls):
    with _SlowReader(tls, "") as slow:
        place = f"https://localhost:{slow.port}"
        api = Api(place, "Slow", str, lambda _: Rejected("No."), frozenset({"localhost"}), timeout=(0.3, 5))
        assert api.call("PUT", "/", body=bytes(30_000_000)).status == 200
        api.close()


def test_a_server_that_answers_and_forgets_its_goodbye_is_not_silent(tls):
    with ScriptedSmtp(tls, {"AUTH": "535 5.7.8 no", "QUIT": HANG}) as odd:
        place = ("localhost", odd.port, "tls")
        for _ in range(IN_A_ROW - 1):
            SILENCES.silent(place)
        with pytest.raises(ConsentRequired):
            SmtpSender(connection(odd.port), PATIENT).check()
        SILENCES.ask(place)


SESSIONS = {"imap": ImapMailbox, "pop3": Pop3Receiver, "smtp": SmtpSender}
GREETINGS = {"imap": "* OK", "pop3": "+OK", "smtp": "220 x"}


@pytest.mark.parametrize("timeouts", [QUICK, PATIENT], ids=["session", "answer"])
@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize(("name", "greeting"), [*((name, DRIP) for name in SESSIONS), *GREETINGS.items()])
def test_a_server_that_says_one_byte_after_the_other_is_left_in_time(tls, name, greeting, security, timeouts):
    with _Dripping(tls if security == "tls" else None, greeting) as odd:
        session = SESSIONS[name](connection(odd.port, security), timeouts)
        begun = time.monotonic()
        with pytest.raises(Temporary):
            session.check()
        session.close()
        assert time.monotonic() - begun < 4


def test_one_that_does_so_once_we_are_in_is_left_in_time_too(tls):
    with ScriptedImap(tls, {"UID FETCH": DRIP}) as odd:
        box = ImapMailbox(connection(odd.port), PATIENT)
        begun = time.monotonic()
        with pytest.raises(Temporary):
            list(box.pages(None, datetime(2026, 11, 1, tzinfo=UTC)))
        box.close()
        assert time.monotonic() - begun < 4


def test_a_last_answer_to_a_mail_that_drips_leaves_the_outcome_unknown_in_time(tls):
    with ScriptedSmtp(tls, {"dot": DRIP}) as odd:
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            SmtpSender(connection(odd.port), PATIENT).send(
                b"x", "a@x.example", ["b@x.example"], lambda _: None
            )
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("head", ["", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_an_api_that_does_so_is_left_in_time(tls, head):
    with _DrippingApi(tls, head) as odd:
        place = f"https://localhost:{odd.port}"
        api = Api(place, "Odd", str, lambda _: Rejected("Odd."), frozenset({"localhost"}), timeout=(0.2, 0.2))
        begun = time.monotonic()
        with pytest.raises(Temporary):
            api.call("GET", "/")
        api.close()
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("name", SESSIONS)
def test_a_server_that_lets_nobody_in_is_left_alone_for_a_while(tls, name):
    with _Dripping(tls, GREETINGS[name]) as odd:
        for _ in range(IN_A_ROW + 1):
            heard = len(odd.said)
            with pytest.raises(Temporary) as caught:
                SESSIONS[name](connection(odd.port), PATIENT).check()
        assert 60 < caught.value.retry_after <= PAUSE
        assert len(odd.said) == heard > 0


def test_one_that_lets_somebody_in_meanwhile_is_not(tls):
    tries = [*[DRIP] * (IN_A_ROW - 1), "+ "] * 2
    with ScriptedImap(tls, {"AUTHENTICATE": [*tries]}) as odd:
        for one in tries:
            box = ImapMailbox(connection(odd.port), PATIENT)
            with contextlib.nullcontext() if one != DRIP else pytest.raises(Temporary):
                box.check()
            box.close()


class TestWords:
    def test_what_a_server_says_becomes_one_short_printable_line(self):
        assert wording.clean(b"no\r\nway\x00\x1b[31m \xff" + b"x" * 500)[:16] == "no way [31m \ufffdxxx"
        assert len(wording.clean("x" * 500)) == 300

    @pytest.mark.parametrize(
        "words", ["Too many connections", "[OVERQUOTA] full", "rate limited", "throttled"]
    )
    def test_too_often_is_rate_limited(self, words):
        assert isinstance(wording.later(words), RateLimited)

    def test_anything_else_is_just_temporary(self):
        assert not isinstance(wording.later("please operate separately"), RateLimited)


def _hang_up(listener):
    listener.accept()[0].close()


def _other(tmp_path):
    from sandbox.ca import Authority

    return Authority(tmp_path / "stranger")


def test_no_mailbox_waits_for_a_greeting_where_apis_are():
    """Three that did would count everybody's API as silent."""
    assert refusal("93.184.215.14", 443)[0] == "port"


def test_a_password_may_have_any_letters(server):
    """RFC 4616 for AUTH PLAIN, RFC 6856 for POP3: UTF-8."""
    account = server.account(password="schlüssel 5€")
    who = Password(account.address, "schlüssel 5€")
    dovecot, post = server.dovecot.ports, server.post.ports
    ports = {ImapMailbox: dovecot["imaps"], Pop3Receiver: dovecot["pop3s"], SmtpSender: post["smtps"]}
    for power, port in ports.items():
        session = power(account.connection(port, credential=lambda: who))
        session.check()
        session.close()


@pytest.mark.parametrize(
    ("client", "other"),
    [
        (ImapMailbox, ScriptedPop3),
        (ImapMailbox, ScriptedSmtp),
        (Pop3Receiver, ScriptedImap),
        (Pop3Receiver, ScriptedSmtp),
        (SmtpSender, ScriptedImap),
        (SmtpSender, ScriptedPop3),
    ],
)
def test_a_server_that_speaks_something_else_is_told_as_a_wrong_port(tls, client, other):
    with other(tls, {}) as away, pytest.raises(Temporary) as caught:
        client(connection(away.port)).check()
    assert (type(caught.value), caught.value.fix) == (Temporary, CHECK)
    assert not any("secret" in line or "AUTH" in line for line in away.said)
