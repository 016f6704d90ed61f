"""The SMTP provider on the sandbox's post office, and on servers that do what it does not."""

import re
import socket
import ssl
import threading

import pytest
import trustme

from shared.errors import (
    ConsentRequired,
    InvalidRequest,
    OutcomeUnknown,
    Raced,
    RateLimited,
    Rejected,
    Temporary,
    ZalionError,
)
from shared.providers.base import NOBODY, Bearer, Connection, Password
from shared.providers.network import Timeouts
from shared.providers.smtp import SmtpSender
from tests.providers.parts import PASSWORD, connection, mail
from tests.providers.scripted import CLOSE, ENDLESS, HALF, HANG, ScriptedSmtp

FROM, TO = "alice@imap.example", "supplier@supplier.example"
RAW = b"From: alice@imap.example\r\nMessage-ID: <1@imap.example>\r\nSubject: Hi\r\n\r\nText\r\n"
QUICK = Timeouts(1, 0.3, 0.3)
TOKEN = "ya29." + "0123456789abcdefghij" * 40

LONG = "250 " + "x" * 9_000
"""Longer than any answer may be (RFC 5321 section 4.5.3.1.5)."""


class Commit:
    """Counts, and notes what the server had heard by then."""

    def __init__(self, server=None):
        self.times, self.server, self.heard = 0, server, []

    def __call__(self, refused=NOBODY):
        self.times, self.refused = self.times + 1, dict(refused)
        self.heard = [*self.server.said] if self.server else []


@pytest.fixture
def odd(tls):
    """Make a server with other answers, and a sender for it."""
    opened = []

    def make(replies=None, *, security="tls", credential=None, **options):
        server = ScriptedSmtp(tls if security == "tls" else None, replies, **options)
        opened.append(server)
        return server, SmtpSender(connection(server.port, security, credential=credential), QUICK)

    yield make
    for server in opened:
        server.close()


def send(sender, raw=RAW, to=(TO,), commit=None):
    return sender.send(raw, FROM, list(to), commit or Commit())


class TestOnThePostOffice:
    @pytest.fixture(params=["tls", "starttls"])
    def sender(self, request, server, alice):
        port = server.post.ports["smtps" if request.param == "tls" else "smtp"]
        return SmtpSender(alice.connection(port, request.param))

    def test_a_mail_arrives_byte_by_byte(self, server, alice, sender):
        raw = mail("Grüße", "\n.\n..\n.dot\nend", From=alice.address) + b"\r\n.\r\nafter"
        commit = Commit()
        receipt = sender.send(raw, alice.address, [alice.address], commit)
        assert server.post.transactions[-1].raw == raw + b"\r\n"
        assert alice.read("INBOX")[-1][0].endswith(raw + b"\r\n")
        assert commit.times == 1
        assert receipt.refused == {}
        assert not sender.files_copy

    def test_check_signs_in_and_sends_nothing(self, server, sender):
        before = len(server.post.transactions)
        sender.check()
        sender.close()
        assert len(server.post.transactions) == before

    def test_a_wrong_password_needs_consent_before_anything_is_committed(self, server, alice, caplog):
        caplog.set_level("DEBUG")
        wrong = Password(alice.address, "wr0ng")
        sender = SmtpSender(alice.connection(server.post.ports["smtps"], credential=lambda: wrong))
        commit = Commit()
        with pytest.raises(ConsentRequired) as caught:
            send(sender, commit=commit)
        assert caught.value.fix
        assert commit.times == 0
        assert "wr0ng" not in f"{caught.value.detail}{caplog.text}"

    @pytest.mark.parametrize("good", [True, False])
    def test_a_token_signs_in(self, server, alice, good):
        bearer = Bearer(alice.address, server.issuer.access_token(alice.address) if good else "stale")
        sender = SmtpSender(alice.connection(server.post.ports["smtps"], credential=lambda: bearer))
        if good:
            sender.check()
        else:
            with pytest.raises(ConsentRequired):
                sender.check()

    def test_a_refused_recipient_is_told_and_the_others_get_it(self, server, alice, sender):
        nobody = "nobody@imap.example"
        receipt = sender.send(RAW, alice.address, [alice.address, nobody, nobody], Commit())
        assert list(receipt.refused) == [nobody]
        assert receipt.refused[nobody].startswith("550 5.1.1")
        assert server.post.transactions[-1].envelope_to == (alice.address,)

    def test_all_refused_is_rejected_before_anything_is_committed(self, alice, sender):
        commit = Commit()
        with pytest.raises(Rejected, match="User unknown"):
            sender.send(RAW, alice.address, ["a@imap.example", "b@imap.example"], commit)
        assert commit.times == 0

    def test_all_deferred_is_temporary(self, server, alice, sender):
        server.post.faults.refuse(alice.address, "451 4.7.1 Greylisted")
        commit = Commit()
        with pytest.raises(Temporary, match="Greylisted"):
            sender.send(RAW, alice.address, [alice.address, "nobody@imap.example"], commit)
        assert commit.times == 0

    def test_a_sender_address_of_somebody_else_is_rejected(self, alice, sender):
        with pytest.raises(Rejected, match="not owned"):
            sender.send(RAW, "bob@imap.example", [alice.address], Commit())

    @pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
    def test_not_now_is_temporary_at_every_stage(self, server, alice, sender, stage):
        server.post.faults.defer(stage)
        before = len(server.post.transactions)
        with pytest.raises(Temporary, match="Try again later"):
            sender.send(RAW, alice.address, [alice.address], Commit())
        assert len(server.post.transactions) == before

    @pytest.mark.parametrize("delivered", [True, False])
    def test_a_connection_lost_after_the_dot_leaves_the_outcome_unknown(
        self, server, alice, sender, delivered
    ):
        server.post.faults.drop_after_dot(delivered=delivered)
        commit = Commit()
        with pytest.raises(OutcomeUnknown):
            sender.send(RAW, alice.address, [alice.address], commit)
        assert commit.times == 1

    def test_a_replaced_message_id_is_read_from_the_last_answer(self, server, alice, sender):
        server.post.faults.rewriting = "announced"
        receipt = sender.send(mail(From=alice.address), alice.address, [alice.address], Commit())
        assert receipt.message_id.endswith("@relay.sandbox.example>")
        assert receipt.message_id.encode() in alice.read("INBOX")[-1][0]

    def test_what_is_larger_than_the_server_takes_is_not_offered(self, alice, sender):
        commit = Commit()
        with pytest.raises(Rejected, match="MB") as caught:
            sender.send(RAW + b"x" * 36_800_000, alice.address, [alice.address], commit)
        assert caught.value.fix
        assert commit.times == 0

    def test_what_commit_raises_ends_the_attempt_with_nothing_sent(self, server, alice, sender):
        def lost(_refused):
            raise Raced

        before = len(server.post.transactions)
        with pytest.raises(Raced):
            sender.send(RAW, alice.address, [alice.address], lost)
        assert len(server.post.transactions) == before

    def test_a_server_that_closes_every_connection_is_temporary(self, server, sender):
        server.post.faults.refusing = True
        with pytest.raises(Temporary):
            sender.check()


class TestWhatIsCertain:
    """`commit` is called once, after RCPT and before DATA; what a failure means depends on when it came."""

    def test_commit_comes_after_the_recipients_and_before_data(self, odd):
        server, sender = odd()
        commit = Commit(server)
        send(sender, commit=commit)
        assert commit.times == 1
        assert commit.heard[-1].startswith("RCPT")
        assert [line.split()[0].upper() for line in server.said[:5]] == [
            "EHLO",
            "AUTH",
            "MAIL",
            "RCPT",
            "DATA",
        ]

    @pytest.mark.parametrize("stage", ["EHLO", "AUTH", "MAIL", "RCPT"])
    @pytest.mark.parametrize("reply", [CLOSE, HANG, HALF, "421 4.3.2 going down", "gibberish", LONG])
    def test_before_commit_every_trouble_is_temporary(self, odd, stage, reply):
        _, sender = odd({stage: reply})
        commit = Commit()
        with pytest.raises(Temporary):
            send(sender, commit=commit)
        assert commit.times == 0

    @pytest.mark.parametrize("reply", [CLOSE, HANG, HALF, "451 4.3.0 later", "421 bye", "250 what", LONG])
    def test_without_a_go_ahead_nothing_has_left(self, odd, reply):
        server, sender = odd({"DATA": reply})
        commit = Commit()
        with pytest.raises(Temporary):
            send(sender, commit=commit)
        assert commit.times == 1
        assert server.mail == []

    def test_an_answer_without_an_end_is_read_for_a_while_only(self, odd):
        for stage, error in [("EHLO", Temporary), ("RCPT", Temporary), ("dot", OutcomeUnknown)]:
            server, sender = odd({stage: ENDLESS + "250-" + "x" * 100})
            with pytest.raises(error):
                sender.send(RAW, FROM, [TO], Commit())
            assert server.told < 16_000_000

    def test_a_no_to_data_is_certain(self, odd):
        _, sender = odd({"DATA": "554 5.7.1 no"})
        with pytest.raises(Rejected):
            send(sender)

    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            ("554 5.7.1 Spam", Rejected),
            ("552 5.3.4 Too big", Rejected),
            ("550 5.7.60 Not allowed to send as", Rejected),
            ("451 4.3.0 later", Temporary),
            ("421 4.3.0 later", Temporary),
            ("452 4.2.2 quota exceeded", RateLimited),
            ("530 5.7.57 not signed in", ConsentRequired),
            (CLOSE, OutcomeUnknown),
            (HANG, OutcomeUnknown),
            (HALF, OutcomeUnknown),
            ("gibberish", OutcomeUnknown),
            ("354 what", OutcomeUnknown),
        ],
    )
    def test_after_the_dot_an_answer_is_certain_and_silence_is_not(self, odd, reply, error):
        _, sender = odd({"dot": reply})
        with pytest.raises(error) as caught:
            send(sender)
        assert type(caught.value) is error

    def test_a_goodbye_that_fails_changes_nothing(self, odd):
        for reply in (CLOSE, HANG, "500 what"):
            server, sender = odd({"QUIT": reply})
            send(sender)
            assert server.mail[-1] == "."

    def test_a_goodbye_is_not_waited_for_as_long_as_for_the_mail_itself(self, odd):
        server, _ = odd({"QUIT": HANG})
        patient = SmtpSender(connection(server.port, "tls"), Timeouts(1, 0.3, 500))
        done = threading.Thread(target=send, args=(patient,), daemon=True)
        done.start()
        done.join(60)
        assert not done.is_alive()

    def test_recipients_refused_for_now_and_for_ever_are_tried_again_together(self, odd):
        _, sender = odd({"RCPT TO:<a": "550 no", "RCPT TO:<b": "450 later"})
        with pytest.raises(Temporary):
            send(sender, to=["a@x.example", "b@x.example"])

    def test_a_server_that_ends_the_session_at_a_recipient_is_temporary(self, odd):
        _, sender = odd({"RCPT TO:<b": "421 enough"})
        with pytest.raises(Temporary):
            send(sender, to=["a@x.example", "b@x.example"])

    def test_recipients_refused_for_good_are_named_where_the_server_ends_the_session_for_them(self, odd):
        """Postfix after twenty errors: a later try ends in the same way."""
        refused = {f"RCPT TO:<{one}": f"550 5.1.1 {one} is unknown" for one in ("b", "c")}
        server, sender = odd({**refused, "RCPT TO:<d": "421 4.7.0 Error: too many errors"})
        commit = Commit()
        with pytest.raises(Rejected) as caught:
            send(sender, to=[f"{one}@x.example" for one in "abcd"], commit=commit)
        assert (
            "b@x.example: 550 5.1.1 b is unknown; c@x.example: 550 5.1.1 c is unknown" in caught.value.detail
        )
        assert "a@x.example" not in caught.value.detail
        assert "Correct" in caught.value.fix
        assert (commit.times, server.mail) == (0, [])

    def test_a_session_that_ends_after_a_recipient_was_refused_for_now_is_temporary(self, odd):
        _, sender = odd({"RCPT TO:<a": "450 4.2.1 later", "RCPT TO:<b": "421 4.7.0 Error: too many errors"})
        with pytest.raises(Temporary):
            send(sender, to=["a@x.example", "b@x.example"])

    def test_no_recipients_are_rejected(self, odd):
        _, sender = odd()
        with pytest.raises(Rejected):
            send(sender, to=[])


class TestSigningIn:
    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            ("535 5.7.8 wrong", ConsentRequired),
            ("535 5.7.139 basic authentication is disabled", ConsentRequired),
            ("534 5.7.9 app password", ConsentRequired),
            ("530 5.7.0 must", ConsentRequired),
            ("504 5.5.4 mechanism", ConsentRequired),
            ("334 ", ConsentRequired),
            ("454 4.7.0 directory down", Temporary),
            ("421 4.7.0 Too many attempts", RateLimited),
        ],
    )
    def test_every_no_is_told_by_its_kind(self, odd, reply, error):
        _, sender = odd({"AUTH": reply})
        with pytest.raises(error) as caught:
            sender.check()
        assert type(caught.value) is error

    @pytest.mark.parametrize("credential", [Password("a@x.example", PASSWORD), Bearer("a@x.example", TOKEN)])
    @pytest.mark.parametrize("offers", ["AUTH PLAIN XOAUTH2", "AUTH LOGIN OAUTHBEARER"])
    @pytest.mark.parametrize("code", ["454 4.3.0 cannot", "500 5.3.3 unrecognized command:"])
    def test_a_server_that_repeats_the_command_puts_no_secret_into_the_error(
        self, odd, offers, credential, code
    ):
        server, sender = odd(offers=offers, credential=lambda: credential)
        usual = server.answer

        def repeated(line):
            if line == "AUTH LOGIN":
                return "334 VXNlcm5hbWU6"
            return usual(line) if line[:4].upper() in {"EHLO", "QUIT"} else f"{code} {line}"

        server.answer = repeated
        with pytest.raises(ZalionError, match=code[4:]) as caught:
            sender.check()
        assert "…" in caught.value.detail
        assert not re.search(r"[\w=+/]{12}", caught.value.detail.partition(code[4:])[2])

    @pytest.mark.parametrize(
        ("offers", "credential", "said"),
        [
            ("AUTH LOGIN PLAIN", Password("a", "ü"), ["AUTH PLAIN AGEAw7w="]),
            ("AUTH LOGIN", Password("a", "b"), ["AUTH LOGIN", "YQ==", "Yg=="]),
            ("AUTH XOAUTH2", Bearer("a", "t"), ["AUTH XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHQBAQ==", ""]),
            (
                "AUTH OAUTHBEARER",
                Bearer("a", "t"),
                ["AUTH OAUTHBEARER bixhPWEsAWF1dGg9QmVhcmVyIHQBAQ==", "AQ=="],
            ),
        ],
    )
    def test_each_mechanism_is_spoken_to_its_end(self, odd, offers, credential, said):
        server, sender = odd(
            {"AUTH": "334 ", "[a-zA-Z]*=*$": "334 "}, offers=offers, credential=lambda: credential
        )
        with pytest.raises(ConsentRequired):
            sender.check()
        assert [line for line in server.said if not line.startswith(("ehlo", "quit"))] == said

    def test_no_sign_in_offered_is_a_wrong_port(self, odd):
        server, sender = odd(offers="SIZE 1000")
        with pytest.raises(InvalidRequest) as caught:
            sender.check()
        assert caught.value.field == "port"
        assert server.said[0] == "ehlo [127.0.0.1]"

    @pytest.mark.parametrize(
        ("replies", "offers", "error"),
        [
            (None, "AUTH PLAIN", InvalidRequest),
            ({"STARTTLS": "454 4.7.0 later"}, "STARTTLS\nAUTH PLAIN", Temporary),
            ({"STARTTLS": "220 go"}, "STARTTLS\nAUTH PLAIN", InvalidRequest),
        ],
    )
    def test_nothing_secret_is_said_without_tls(self, odd, replies, offers, error):
        server, sender = odd(replies, offers=offers, security="starttls")
        with pytest.raises(error):
            send(sender)
        assert not any(line.startswith(("AUTH", "MAIL")) for line in server.said)

    @pytest.mark.parametrize(
        ("greeting", "error"),
        [
            ("554 5.7.1 your address is blocked", Temporary),
            ("421 later", Temporary),
            ("* OK IMAP", Temporary),
            (CLOSE, Temporary),
            (HANG, Temporary),
        ],
    )
    def test_a_greeting_that_is_none_ends_it(self, odd, greeting, error):
        _, sender = odd(greeting=greeting)
        with pytest.raises(error):
            sender.check()

    @pytest.mark.parametrize("refused", [{"greeting": "554 5.7.1 %s"}, {"replies": {"EHLO": "550 %s"}}])
    def test_who_begins_no_session_has_refused_no_mail_and_is_quoted(self, odd, refused):
        said = "your address is blocked for an hour"
        greeting = refused.get("greeting", "220 odd").replace("%s", said)
        replies = {name: reply.replace("%s", said) for name, reply in refused.get("replies", {}).items()}
        server, sender = odd(replies, greeting=greeting)
        with pytest.raises(Temporary, match=said):
            send(sender)
        assert not any(line.startswith(("AUTH", "MAIL")) for line in server.said)


class TestEnvelope:
    def said(self, odd, offers, raw=RAW, to=(TO,)):
        server, sender = odd(offers=f"AUTH PLAIN\n{offers}")
        send(sender, raw, to)
        return [line for line in server.said if line.startswith(("MAIL", "RCPT"))]

    def test_nothing_is_asked_of_a_server_that_offers_nothing(self, odd):
        assert self.said(odd, "HELP") == [f"MAIL FROM:<{FROM}>", f"RCPT TO:<{TO}>"]

    @pytest.mark.parametrize("size", ["9" * 5000, "²", "٣", "-5", "0x10", "0"])
    def test_a_size_that_is_none_limits_nothing(self, odd, size):
        assert len(self.said(odd, f"SIZE {size}")) == 2

    def test_reports_are_asked_for_where_they_are_offered(self, odd):
        mail_, rcpt = self.said(odd, "DSN", to=["a+b=c@x.example"])
        assert mail_ == f"MAIL FROM:<{FROM}> RET=HDRS ENVID=1@imap.example"
        assert rcpt == "RCPT TO:<a+b=c@x.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb+3Dc@x.example"

    def test_an_id_that_is_too_long_for_an_envelope_is_left_out(self, odd):
        [mail_, _] = self.said(odd, "DSN", RAW.replace(b"<1@", b"<" + b"1" * 100 + b"@"))
        assert "ENVID" not in mail_

    def test_size_and_8_bit_are_declared(self, odd):
        raw = RAW + "Grüße\r\n".encode()
        assert (
            self.said(odd, "SIZE 100000\n8BITMIME", raw)[0]
            == f"MAIL FROM:<{FROM}> SIZE={len(raw)} BODY=8BITMIME"
        )

    def test_a_size_of_nought_is_no_limit(self, odd):
        assert self.said(odd, "SIZE 0")

    def test_international_addresses_need_a_server_that_takes_them(self, odd):
        assert self.said(odd, "SMTPUTF8", to=["müller@x.example"])[1] == "RCPT TO:<müller@x.example>"
        with pytest.raises(Rejected):
            self.said(odd, "HELP", to=["müller@x.example"])

    @pytest.mark.parametrize(
        "address", ["", "a", "a b@x", "a@x>\r\nDATA", "a@x\nRSET", "<a@x>", "a@x y", "a\x00@x"]
    )
    def test_what_is_no_address_is_never_said(self, odd, address):
        server, sender = odd()
        with pytest.raises(InvalidRequest):
            send(sender, to=[TO, address])
        assert not any(line.startswith(("DATA", "RSET")) for line in server.said)

    @pytest.mark.parametrize("raw", [b"A: b\n\nx\n.\ny", b"A: b\r\rx\r.\ry", b"A: b\r\n\r\nx\r\n.\r\ny\r\n"])
    def test_no_line_ending_can_smuggle_a_second_mail(self, odd, raw):
        server, sender = odd()
        send(sender, raw)
        assert server.mail == ["A: b", "", "x", "..", "y", "."]


class TestLastAnswer:
    @pytest.mark.parametrize(
        ("words", "message_id"),
        [
            ("250 2.0.0 OK <AM0@EUR.prod.outlook.com> [Hostname=AM0.eur]", "<AM0@EUR.prod.outlook.com>"),
            ("250 2.0.0 Ok: queued as 4F1", None),
            ("250 2.0.0 OK  1700000000 a1-2002 - gsmtp", None),
            ("250 OK id=1abc-0000-X", None),
        ],
    )
    def test_it_tells_the_final_message_id_where_a_server_is_known_to(self, odd, words, message_id):
        _, sender = odd({"dot": words})
        assert send(sender).message_id == message_id

    @pytest.mark.parametrize(
        ("host", "domain"),
        [
            ("email-smtp.us-east-1.amazonaws.com", "email.amazonses.com"),
            ("email-smtp.eu-west-1.amazonaws.com", "eu-west-1.amazonses.com"),
        ],
    )
    def test_amazon_tells_it_without_its_domain(self, monkeypatch, tmp_path, host, domain):
        ca = trustme.CA()
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(host).configure_cert(tls)
        place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place])  # the far side: DNS
        id_ = "0100017f-0000-4000-8000-000000000000-000000"
        with ScriptedSmtp(tls, {"dot": f"250 Ok {id_}"}) as server:
            settings = {"host": host, "port": server.port, "security": "tls"}
            there = Connection(FROM, settings, lambda: Password(FROM, "x"), frozenset({host}))
            assert send(SmtpSender(there, QUICK)).message_id == f"<{id_}@{domain}>"

    @pytest.mark.parametrize(
        ("host", "settings", "files"),
        [
            ("smtp.gmail.com", {}, True),
            ("SMTP.Office365.com.", {}, True),
            ("smtp-mail.outlook.com", {}, True),
            ("smtp.mail.me.com", {}, True),
            ("smtp.gmail.com.evil.example", {}, False),
            ("mail.example", {}, False),
            ("smtp.zoho.eu", {"filesCopy": True}, True),
            ("smtp.gmail.com", {"filesCopy": False}, False),
        ],
    )
    def test_who_files_a_copy_is_known_or_said(self, host, settings, files):
        assert SmtpSender(_named(host, 465, **settings)).files_copy is files


def _named(host, port, **settings):
    values = {"host": host, "port": port, "security": "tls", **settings}
    return Connection(FROM, values, lambda: Password(FROM, "x"))
