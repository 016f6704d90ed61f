"""The EWS provider's way to an Exchange: signing in, whose mailbox, where to, and how long it waits."""

import socket
import threading
from dataclasses import replace

import pytest

from sandbox.ca import Authority
from sandbox.exchange import Exchange
from sandbox.web import Reply, WebServer
from shared.errors import ConsentRequired, InvalidRequest, RateLimited, Rejected, Temporary
from shared.providers.base import Bearer, Password
from shared.providers.ews.reading import EwsMailbox
from shared.providers.ews.refusals import BUSY_PAUSE
from shared.providers.ews.wire import MOST_MARKS, SHORT
from shared.providers.network import Timeouts
from tests.providers.exchange_parts import PASSWORD, Box
from tests.providers.parts import mail

HASTY = Timeouts(connect=2, read=0.3, session=0.6)


@pytest.fixture
def box(server):
    return Box(server.exchange)


class TestSignIn:
    @pytest.mark.parametrize("netbios", [False, True])
    def test_ntlm_takes_an_address_or_a_domain_and_a_name(self, box, netbios):
        name = "EXCHANGE\\" + box.address.partition("@")[0] if netbios else box.address
        with box.asked() as asked, box.opened(auth="ntlm", credential=Password(name, PASSWORD)) as receiver:
            receiver.check()
            receiver.check()  # the connection is proven, not the request
        assert asked == ["GetFolder", "GetFolder", 4]

    def test_basic_takes_one_request(self, box):
        with box.asked() as asked:
            box.check()
        assert asked == ["GetFolder", 1]

    @pytest.mark.parametrize("auth", ["basic", "ntlm"])
    def test_a_password_may_have_any_letters(self, box, auth):
        box.exchange.accounts.add(box.address, "schlüssel 5€")
        box.check(auth=auth, credential=Password(box.address, "schlüssel 5€"))

    @pytest.mark.parametrize(
        ("name", "password", "field"),
        [
            ("EX:alice", PASSWORD, "username"),
            ("alice", "a\r\nb", "password"),
            ("\ud800", PASSWORD, "username"),
        ],
    )
    def test_what_basic_cannot_carry_is_named(self, box, name, password, field):
        with box.asked() as asked, pytest.raises(InvalidRequest) as caught:
            box.check(credential=Password(name, password))
        assert (caught.value.field, asked) == (field, [0])

    @pytest.mark.parametrize(("auth", "posts"), [("basic", 1), ("ntlm", 3)])
    def test_a_wrong_password_is_asked_for_once(self, box, auth, posts):
        with box.asked() as asked, pytest.raises(ConsentRequired) as caught:
            box.check(auth=auth, credential=Password(box.address, "wrong"))
        assert caught.value.fix
        assert asked == [posts]

    def test_a_way_that_is_not_offered_is_named_and_the_password_stays_here(self, box, monkeypatch):
        monkeypatch.setattr(box.exchange.accounts, "schemes", ("Basic",))
        before = dict(box.exchange.accounts.attempts)
        with pytest.raises(InvalidRequest) as caught:
            box.check(auth="ntlm")
        assert caught.value.field == "auth"
        assert box.exchange.accounts.attempts == before

    def test_of_a_refusal_no_more_is_read_than_a_refusal_has(self, box):
        box.exchange.faults.flooding, before = 1, box.exchange.flooded
        with pytest.raises(Rejected, match="KB"):
            box.check(auth="ntlm")
        assert box.exchange.flooded - before < 16 * 2**20
        box.exchange.faults.clear()
        box.check(auth="ntlm")

    def test_a_token_is_no_password(self, box):
        with pytest.raises(ConsentRequired):
            box.check(credential=Bearer(box.address, "token"))

    def test_ntlm_is_bound_to_the_tls_connection(self, server, tmp_path):
        """Extended Protection: who terminates TLS in between with another certificate breaks it."""
        other = Authority(tmp_path / "ca").certificate
        exchange = Exchange(tls=server.authority.server_context(), mx=("127.0.0.1", 1), certificate=other)
        try:
            with pytest.raises(ConsentRequired):
                Box(exchange).check(auth="ntlm")
        finally:
            exchange.stop()


class TestAccess:
    def test_a_colleague_with_full_access_opens_the_mailbox(self, box):
        bob = Box(box.exchange, "bob")
        mine = Password(bob.address, PASSWORD)
        with pytest.raises(ConsentRequired, match="may not open"):
            box.check(credential=mine)
        box.mailbox.grant_access(bob.address, "full_access")
        box.mailbox.add(mail("For Alice"))
        bob.mailbox.add(mail("For Bob"))
        assert [e.subject for e in box.read(credential=mine)[0]] == ["For Alice"]

    def test_impersonation_needs_its_role(self, box):
        service = Box(box.exchange, "service")
        options = {"access": "impersonation", "credential": Password(service.address, PASSWORD)}
        with pytest.raises(ConsentRequired) as caught:
            box.check(**options)
        assert "ApplicationImpersonation" in caught.value.fix
        box.exchange.impersonators.add(service.address)
        box.mailbox.add(mail("For Alice"))
        assert [e.subject for e in box.read(**options)[0]] == ["For Alice"]

    def test_an_address_without_a_mailbox_is_named(self, box):
        stranger = replace(box.connection(), address="nobody@exchange.example")
        receiver = EwsMailbox(stranger)
        with pytest.raises(InvalidRequest) as caught:
            receiver.check()
        receiver.close()
        assert caught.value.field == "address"
        assert "Microsoft 365" in caught.value.fix

    def test_a_disabled_account_needs_consent(self, box):
        box.exchange.faults.disabled.add(box.address)
        with pytest.raises(ConsentRequired, match="disabled"):
            box.check()


class TestWayOut:
    @pytest.mark.parametrize("host", ["outlook.office365.com", "Outlook.Office.com.", "eu.outlook.com"])
    def test_exchange_online_is_refused_with_the_way_to_graph(self, box, host):
        with pytest.raises(InvalidRequest) as caught:
            box.check(host=host)
        assert caught.value.field == "host"
        assert "Microsoft 365" in caught.value.fix

    def test_a_private_address_is_refused_where_it_is_not_allowed(self, box):
        with box.asked() as asked, pytest.raises(InvalidRequest) as caught:
            box.check(hosts=(), port=443)
        assert caught.value.field == "host"
        assert asked == [0]

    def test_another_port_than_443_is_refused_where_the_host_is_not_allowed(self, box):
        with pytest.raises(InvalidRequest) as caught:
            box.check(hosts=(), host="mail.example.com", port=993)
        assert caught.value.field == "port"

    def test_a_strangers_certificate_is_refused_before_anything_is_said(self, box, tmp_path):
        stranger = Exchange(tls=Authority(tmp_path / "ca").server_context(), mx=("127.0.0.1", 1))
        try:
            with pytest.raises(InvalidRequest, match="certificate") as caught:
                box.check(port=stranger.port)
            assert caught.value.field == "host"
            assert stranger.calls.total() == 0
        finally:
            stranger.stop()

    def test_a_redirect_to_an_internal_address_is_not_followed(self, box, authority):
        class Inside(WebServer):
            def answer(self, request):
                return Reply(200)

        inside = Inside(tls=authority.server_context())
        try:
            box.exchange.faults.redirect = f"{inside.url}/EWS/Exchange.asmx"
            with pytest.raises(InvalidRequest) as caught:
                box.check()
            assert caught.value.field == "host"
            assert inside.calls.total() == 0
        finally:
            inside.stop()

    def test_a_server_without_ews_is_named(self, box, issuer_like):
        with pytest.raises(InvalidRequest) as caught:
            box.check(port=issuer_like)
        assert caught.value.field == "host"


@pytest.fixture
def issuer_like(authority):
    """A web server that knows nothing of Exchange."""

    class Other(WebServer):
        def answer(self, request):
            return Reply(404, b"<html>no</html>")

    other = Other(tls=authority.server_context())
    yield int(other.url.rpartition(":")[2])
    other.stop()


class TestLargeAnswers:
    """A customer's own server may answer whatever it likes, and its XML takes many times its size in memory."""

    @pytest.fixture
    def answering(self, authority, request, box):
        """A server that answers everything with these octets."""

        def start(body):
            class Large(WebServer):
                def answer(self, request):
                    return Reply(200, body, {"Content-Type": "text/xml; charset=utf-8"})

            large = Large(tls=authority.server_context())
            request.addfinalizer(large.stop)
            return box.opened(port=int(large.url.rpartition(":")[2]))

        return start

    def test_only_a_whole_mail_may_be_large(self, answering):
        with answering(b"<a>" + b" " * SHORT + b"</a>") as receiver:
            for ask in (receiver.check, lambda: list(receiver.look(["<a@x>"])), receiver.layout):
                with pytest.raises(Temporary, match="cannot be read"):
                    receiver.fetch("id")  # it was taken in, and says nothing
                with pytest.raises(Rejected, match="more than 16 MB"):
                    ask()

    @pytest.mark.parametrize("piece", [b"<b/>", b"<b c='' d=''/>", b'"'])
    def test_no_answer_may_be_markup_alone(self, answering, piece):
        opened = answering(b"<a>" + piece * (MOST_MARKS + 1) + b"</a>")
        with opened as receiver, pytest.raises(Rejected, match="too large"):
            receiver.fetch("id")

    def test_a_large_mail_is_read_all_the_same(self, box):
        box.mailbox.add(mail("Large", "x" * 76 + "\r\n") + (b"x" * 76 + b"\r\n") * (SHORT // 76))
        [envelope], _ = box.read()
        with box.opened() as receiver:
            assert len(receiver.fetch(envelope.ref)) > SHORT


class TestPatience:
    @pytest.mark.parametrize("whole", [True, False])
    @pytest.mark.parametrize(("said", "pause"), [(1500, 1.5), (0, BUSY_PAUSE)])
    def test_a_busy_server_says_how_long_or_gets_a_minute(self, box, said, pause, whole):
        faults = box.exchange.faults
        faults.back_off = said
        if whole:
            faults.throttled[box.address] = 1
        else:
            faults.errors["GetFolder"] = ["ErrorServerBusy"]
        with box.asked() as asked, pytest.raises(RateLimited) as caught:
            box.check()
        assert caught.value.retry_after == pause
        assert asked[-1] == 1

    def test_a_proxy_in_front_says_how_long_too(self, box):
        box.exchange.faults.unavailable[box.address] = 1
        with pytest.raises(RateLimited) as caught:
            box.check()
        assert caught.value.retry_after == 7

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("ErrorExceededConnectionCount", RateLimited),
            ("ErrorMailboxMoveInProgress", Temporary),
            ("ErrorMailboxStoreUnavailable", Temporary),
            ("ErrorInternalServerError", Temporary),
            ("ErrorPasswordExpired", ConsentRequired),
        ],
    )
    def test_each_refusal_means_something_and_is_not_asked_twice(self, box, code, error):
        box.exchange.faults.errors["GetFolder"] = [code]
        with box.asked() as asked, pytest.raises(error):
            box.check()
        assert asked[-1] == 1

    def test_a_hanging_server_ends_in_time_and_holds_up_no_other_mailbox(self, box):
        other = Box(box.exchange, "bob")
        box.exchange.faults.hanging.add(box.address)
        failed = []

        def wait():
            with pytest.raises(Temporary) as caught:
                box.check(Timeouts(connect=2, read=1))
            failed.append(caught.value)

        hanging = threading.Thread(target=wait)
        hanging.start()
        other.check()
        assert not failed
        hanging.join()
        assert failed

    def test_a_server_that_answers_byte_by_byte_ends_in_time(self, box):
        box.exchange.faults.trickling = 1
        with pytest.raises(Temporary):
            box.check(HASTY)

    def test_a_server_that_is_silent_before_tls_ends_in_time(self, box):
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Temporary):
            box.check(HASTY, port=silent.getsockname()[1])

    def test_a_half_closed_connection_is_temporary_and_the_next_look_works(self, box):
        with box.opened() as receiver:
            receiver.check()
            box.exchange.faults.half_closed = 1
            with pytest.raises(Temporary):
                receiver.check()
            receiver.check()

    def test_nobody_there_is_temporary(self, box):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(Temporary):
            box.check(port=port)
