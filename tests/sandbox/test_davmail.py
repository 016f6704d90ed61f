"""DavMail, a Java client of Exchange that we did not write, reads and sends through the simulator."""

import email.policy
import imaplib
import smtplib

import pytest

from sandbox.davmail import DavMail
from sandbox.processes import StartError
from tests import exchange
from tests.sandbox.conftest import mail
from tests.scenes import write


@pytest.fixture(scope="module")
def davmail(world):
    try:
        program = DavMail(world.authority, f"{world.exchange.url}/EWS/Exchange.asmx")
    except StartError as error:
        pytest.skip(str(error))
    with program:
        yield program


def test_it_reads_answers_moves_and_sends(davmail, world, ann):
    world.add_exchange_domain("davmail.example")
    alice = exchange.person(world, "alice", "davmail.example")
    with ann.smtp() as smtp:
        raw = mail(
            ann.address, "Good day\r\n.\r\nGrüße", To=alice.address, Content_Type="text/plain; charset=utf-8"
        )
        smtp.sendmail(ann.address, [alice.address], raw)
    [arrived] = alice.inbox()

    with imaplib.IMAP4("127.0.0.1", davmail.imap, timeout=20) as program:
        program.login(alice.address, exchange.PASSWORD)
        assert program.select("INBOX") == ("OK", [b"1"])
        assert program.fetch("1", "(BODY.PEEK[])")[1][0][1] == arrived
        assert b"\\Seen" in program.store("1", "+FLAGS", "\\Seen")[1][0]
        assert program.uid("MOVE", program.uid("SEARCH", "ALL")[1][0].decode(), "Archive")[0] == "OK"
        assert program.select("INBOX") == ("OK", [b"0"])

        answer = write(alice.address, ann.address, "Re: Offer", "Here it is", In_Reply_To="<a@b.example>")
        with smtplib.SMTP("127.0.0.1", davmail.smtp, timeout=20) as smtp:
            smtp.login(alice.address, exchange.PASSWORD)
            smtp.send_message(answer)
        [received] = ann.inbox()
        assert program.select("Sent") == ("OK", [b"1"])
        copy = program.fetch("1", "(BODY.PEEK[HEADER])")[1][0][1]

    for found in (received, copy):
        seen = email.message_from_bytes(found, policy=email.policy.default)
        assert (seen["Message-ID"], seen["In-Reply-To"]) == (answer["Message-ID"], "<a@b.example>")
    assert alice.inbox("archive") == [arrived]
