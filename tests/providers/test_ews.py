"""The EWS provider against the Exchange simulator, whose every answer is held against the schemas."""

import secrets
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.ca import Authority
from sandbox.exchange import Exchange
from sandbox.web import Reply, WebServer
from shared.errors import (
    ConsentRequired,
    CursorExpired,
    InvalidRequest,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
)
from shared.providers.base import Bearer, Connection, Password, Query
from shared.providers.ews.reading import EwsMailbox
from shared.providers.ews.searching import EwsSearcher
from shared.providers.ews.sending import EwsSender
from shared.providers.network import TIMEOUTS, Timeouts
from tests.providers.parts import id_of, mail

PASSWORD = "correct horse"
SINCE = datetime.now(UTC) - timedelta(hours=1)
HASTY = Timeouts(connect=2, read=0.3, session=0.6)


class Box:
    """A mailbox, and how it is connected to."""

    def __init__(self, exchange, name="alice"):
        self.exchange = exchange
        self.address = f"{name}.{secrets.token_hex(4)}@exchange.example"
        self.mailbox = exchange.add_user(self.address, PASSWORD)

    def connection(self, *, credential=None, hosts=("localhost",), **settings):
        place = {"host": "localhost", "port": self.exchange.port, "auth": "basic", **settings}
        given = credential or Password(self.address, PASSWORD)
        return Connection(self.address, place, lambda: given, frozenset(hosts))

    @contextmanager
    def opened(self, power=EwsMailbox, timeouts=TIMEOUTS, **options):
        session = power(self.connection(**options), timeouts)
        try:
            yield session
        finally:
            session.close()

    def check(self, timeouts=TIMEOUTS, **options):
        with self.opened(EwsMailbox, timeouts, **options) as receiver:
            receiver.check()

    def read(self, cursor=None, since=SINCE, **options):
        with self.opened(**options) as receiver:
            pages = list(receiver.pages(cursor, since))
        return [e for page in pages for e in page.envelopes], pages[-1].cursor

    def send(self, raw=None, to=("somebody@imap.example",), commit=lambda: None, timeouts=TIMEOUTS):
        with self.opened(EwsSender, timeouts) as sender:
            return sender.send(raw or mail(From=self.address), self.address, to, commit)

    @contextmanager
    def asked(self):
        """The operations that are asked for in here, and the POSTs it takes."""
        operations, before, posts = [], len(self.exchange.requests), self.exchange.calls.total()
        yield operations
        operations += [name for name, _ in self.exchange.requests[before:]]
        operations.append(self.exchange.calls.total() - posts)


@pytest.fixture
def exchange(server):
    return server.exchange


@pytest.fixture
def box(exchange):
    return Box(exchange)


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


class TestPatience:
    def test_a_busy_server_says_how_long(self, box):
        box.exchange.faults.throttled[box.address] = 1
        with box.asked() as asked, pytest.raises(RateLimited) as caught:
            box.check()
        assert caught.value.retry_after == 1.5
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


class TestReading:
    def test_an_idle_look_costs_three_requests(self, box):
        _, cursor = box.read()
        with box.asked() as asked:
            assert box.read(cursor)[0] == []
        assert asked == ["FindFolder", "SyncFolderItems", "SyncFolderItems", 3]

    def test_a_large_mailbox_is_begun_without_reading_it_and_its_cursor_is_small(self, box):
        long_ago = SINCE - timedelta(days=30)
        for _ in range(600):
            box.mailbox.add(OLD, at=long_ago)
        box.mailbox.add(mail("New"))
        with box.asked() as asked:
            found, cursor = box.read()
        assert [e.subject for e in found] == ["New"]
        assert asked.count("SyncFolderItems") == 1 + 2
        assert asked.count("GetItem") == 1
        assert len(cursor) < 4096

    def test_no_body_is_asked_for_but_by_fetch(self, box):
        raw = mail("Hello")
        box.mailbox.add(raw)
        box.mailbox.add(mail("Mine"), "sentitems", sent=True)
        asked = box.exchange.mime_asked.total()
        [_, found], _ = box.read()
        with box.opened() as receiver, box.opened(EwsSearcher) as searcher:
            list(receiver.look([id_of(raw)]))
            receiver.find_sent(id_of(raw))
            searcher.search(Query(text="Hello"))
            assert box.mailbox.bodies_read.total() == 0
            assert box.exchange.mime_asked.total() == asked
            assert receiver.fetch(found.ref) == raw
        assert box.exchange.mime_asked.total() == asked + 1

    @pytest.mark.parametrize("bare", [False, True])
    def test_a_lost_sync_state_is_an_expired_cursor(self, box, bare):
        box.mailbox.add(mail("One"))
        _, cursor = box.read()
        box.mailbox.lose_sync_states()
        box.exchange.faults.bare_errors = bare
        with pytest.raises(CursorExpired):
            box.read(cursor)

    def test_a_cursor_of_another_kind_is_expired(self, box):
        with pytest.raises(CursorExpired):
            box.read("nonsense")

    def test_sent_mail_has_no_headers_and_its_envelope_comes_from_its_properties(self, box):
        raw = mail(
            "=?utf-8?q?kept?= as it is", In_Reply_To="<a@x.example>", References="<z@x.example> <a@x.example>"
        )
        box.mailbox.add(raw, "sentitems", sent=True)
        [found], _ = box.read()
        assert found.message_id == id_of(raw)
        assert found.references == ("<z@x.example>", "<a@x.example>")
        assert (found.in_reply_to, found.sender.address) == ("<a@x.example>", "supplier@supplier.example")
        assert [one.address for one in found.recipients] == ["alice@imap.example"]
        assert found.is_sent

    def test_chosen_folders_are_followed_by_their_paths_and_may_go_away(self, box):
        projects = box.mailbox.add_folder("Projects")
        inner = box.mailbox.add_folder("2026", parent=projects.id)
        box.mailbox.add(mail("Inside"), inner.id)
        found, cursor = box.read(folders=["Projects/2026"])
        assert [(e.subject, e.folder) for e in found] == [("Inside", "Projects/2026")]
        box.mailbox.add(mail("Next"), inner.id)
        found, cursor = box.read(cursor, folders=["Projects/2026"])
        assert [e.subject for e in found] == ["Next"]
        del box.mailbox.folders[inner.id]
        assert box.read(cursor, folders=["Projects/2026"])[0] == []
        with pytest.raises(InvalidRequest) as caught:
            box.check(folders=["Projects/2026"])
        assert caught.value.field == "folders"

    def test_what_a_rule_moved_elsewhere_is_found_once_and_trash_and_drafts_never(self, box):
        _, cursor = box.read()
        trash = box.mailbox.folder("deleteditems")
        box.mailbox.add(mail("By a rule"), box.mailbox.add_folder("Suppliers").id)
        box.mailbox.add(mail("Deleted"), box.mailbox.add_folder("Old", parent=trash.id).id)
        box.mailbox.add(mail("Draft"), "drafts", draft=True)
        box.mailbox.add(mail("Draft elsewhere"), "Suppliers", draft=True)
        found, cursor = box.read(cursor)
        assert [(e.subject, e.folder) for e in found] == [("By a rule", "Suppliers")]
        assert box.read(cursor)[0] == []

    def test_search_combines_its_terms_and_keeps_to_the_second(self, box):
        now = datetime.now(UTC).replace(microsecond=0)
        for minutes, subject in ((1, "Offer screws"), (3, "Offer nuts"), (9, "Invoice screws")):
            box.mailbox.add(mail(subject), at=now - timedelta(minutes=minutes))
        with box.opened(EwsSearcher) as searcher:
            after = searcher.search(Query(subject="Offer", after=now - timedelta(minutes=2)))
            before = searcher.search(Query(text='"screws"', before=now - timedelta(minutes=2)))
            sender = searcher.search(Query(sender="supplier@supplier.example", has_attachment=False))
            with pytest.raises(InvalidRequest):
                searcher.search(Query(text="two\nlines"))
        assert [e.subject for e in after] == ["Offer screws"]
        assert [e.subject for e in before] == ["Invoice screws"]
        assert len(sender) == 3


OLD = mail("Old")


class TestSending:
    def test_hidden_recipients_get_it_and_nobody_sees_them(self, box, server):
        shown, hidden = server.account("shown"), server.account("hidden")
        raw = mail(From=box.address, To=shown.address)
        box.send(raw, (shown.address, hidden.address))
        for account in (shown, hidden):
            [(arrived, _)] = account.read("INBOX")
            assert id_of(arrived) == id_of(raw)
            assert b"hidden" not in arrived.partition(b"From: ")[2]

    @pytest.mark.parametrize("rewriting", [False, True])
    def test_the_copy_is_found_although_exchange_may_rename_it(self, box, server, rewriting):
        box.exchange.faults.rewrite_message_id = rewriting
        ours = "<ours@exchange.example>"
        raw = mail(From=box.address, To=server.account().address, Message_ID=ours, References=ours)
        with box.opened() as receiver:
            assert receiver.find_sent(ours) is None
            box.send(raw, (server.account().address,))
            found = receiver.find_sent(ours)
            assert receiver.fetch(found.ref).partition(b"\r\n\r\n")[2] == raw.partition(b"\r\n\r\n")[2]
        assert (found.message_id == ours) is not rewriting

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("ErrorServerBusy", RateLimited),
            ("ErrorSubmissionQuotaExceeded", RateLimited),
            ("ErrorMailboxMoveInProgress", Temporary),
            ("ErrorSendAsDenied", Rejected),
            ("ErrorMessageSizeExceeded", Rejected),
            ("ErrorQuotaExceeded", Rejected),
            ("ErrorInternalServerError", OutcomeUnknown),
            ("ErrorInternalServerTransientError", OutcomeUnknown),
            ("ErrorTimeoutExpired", OutcomeUnknown),
        ],
    )
    def test_what_exchange_refuses_is_certain_unless_it_broke_itself(self, box, code, error):
        box.exchange.faults.errors["CreateItem"] = [code]
        commits = []
        with box.asked() as asked, pytest.raises(error):
            box.send(commit=lambda: commits.append(1))
        assert commits == [1]
        assert asked == ["GetFolder", "CreateItem", 2]

    def test_sending_as_somebody_else_is_rejected(self, box):
        other = Box(box.exchange, "other")
        with pytest.raises(Rejected, match="send as"):
            box.send(mail(From=other.address))

    def test_a_connection_that_ended_meanwhile_is_noticed_before_commit(self, box, server):
        with box.opened(EwsSender) as sender:
            sender.check()
            box.exchange.faults.half_closed = 1
            commits = []
            with pytest.raises(Temporary):
                sender.send(
                    mail(From=box.address), box.address, ["x@imap.example"], lambda: commits.append(1)
                )
        assert commits == []


class TestContainment:
    def test_the_librarys_process_wide_settings_stay_as_they_are(self, box):
        from exchangelib.protocol import BaseProtocol, CachingProtocol
        from requests.adapters import HTTPAdapter

        box.check()
        assert BaseProtocol.TIMEOUT == 120
        assert BaseProtocol.HTTP_ADAPTER_CLS is HTTPAdapter
        assert "Zalion" not in str(BaseProtocol.USERAGENT)
        assert not CachingProtocol._protocol_cache

    def test_nothing_of_a_mail_or_a_password_is_logged_whatever_breaks(self, box, caplog):
        box.exchange.faults.errors["CreateItem"] = ["ErrorInternalServerError"]
        with caplog.at_level("DEBUG"):
            for options in ({"auth": "ntlm"}, {"port": 1}):
                with pytest.raises((Temporary, OutcomeUnknown)), box.opened(EwsSender, **options) as sender:
                    sender.send(
                        mail("Secret words", "Secret words"), box.address, ["x@imap.example"], lambda: None
                    )
        assert "Secret words" not in caplog.text
        assert PASSWORD not in caplog.text


@pytest.mark.fast
def test_the_provider_is_described_without_loading_its_library():
    code = (
        "import sys; from shared.providers.registry import provider; provider('ews');"
        "sys.exit('exchangelib' in sys.modules or 'lxml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
