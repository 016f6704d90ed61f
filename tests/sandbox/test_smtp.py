"""The post office through smtplib; what arrives is read by IMAP."""

import email
import re
import smtplib
import threading

import pytest

from sandbox.smtp import SIZE
from tests.sandbox.conftest import mail


def test_mail_is_in_the_mailbox_when_the_250_comes(ann, ben):
    with ann.smtp() as client:
        client.sendmail(ann.address, [ben.address], mail(ann.address))
    (raw,) = ben.inbox()
    parsed = email.message_from_bytes(raw)
    assert "by mail.sandbox.example with ESMTPSA" in parsed.get_all("Received")[1]
    assert "dmarc=pass" in parsed["Authentication-Results"]


def test_smtps_takes_mail_too(world, ann, ben):
    with smtplib.SMTP_SSL("localhost", world.ports["smtps"], context=ann.context) as client:
        client.login(ann.address, ann.password)
        client.sendmail(ann.address, [ben.address], mail(ann.address))
    assert len(ben.inbox()) == 1


def test_what_is_replied_is_counted_once_however_many_lines_it_has(world):
    before = world.post.replies
    with smtplib.SMTP("localhost", world.ports["smtp"]) as client:
        assert client.ehlo()[1].count(b"\n") > 1
        client.noop()
    assert world.post.replies - before == len(["greeting", "EHLO", "NOOP", "QUIT"])


def test_nobody_signs_in_before_tls(world, ann):
    with smtplib.SMTP("localhost", world.ports["smtp"]) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AAAA")[0] == 538
        assert client.mail(ann.address)[0] == 530


def test_a_wrong_password_is_535(ann):
    ann.password = "wrong"
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        ann.smtp()
    assert refused.value.smtp_code == 535


def test_a_token_signs_in_its_own_user_only(world, ann, ben):
    token = world.issuer.access_token(ann.address)

    def sign_in(user):
        with smtplib.SMTP_SSL("localhost", world.ports["smtps"], context=ann.context) as client:
            client.ehlo()
            client.user, client.password = user, token
            client.auth(
                "XOAUTH2", lambda challenge=None: "" if challenge else f"user={user}\1auth=Bearer {token}\1\1"
            )

    sign_in(ann.address)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        sign_in(ben.address)


def test_a_sender_that_is_not_the_user_is_553(ann, ben):
    with ann.smtp() as client:
        assert client.mail(ben.address)[0] == 553
        assert client.mail(ann.address.replace("@", "+tag@"))[0] == 250


def test_one_unknown_recipient_is_550_and_the_other_gets_the_mail(ann, ben):
    with ann.smtp() as client:
        refused = client.sendmail(ann.address, ["nobody@parts.example", ben.address], mail(ann.address))
    code, text = refused["nobody@parts.example"]
    assert (code, text[:5]) == (550, b"5.1.1")
    assert len(ben.inbox()) == 1


def test_nothing_leaves_the_sandbox(ann):
    with ann.smtp() as client, pytest.raises(smtplib.SMTPRecipientsRefused, match="Relay access denied"):
        client.sendmail(ann.address, ["someone@elsewhere.example"], mail(ann.address))


def test_a_mail_that_says_it_is_too_big_is_refused_at_once(ann):
    with ann.smtp() as client:
        assert int(client.esmtp_features["size"]) == SIZE
        assert client.mail(ann.address, [f"SIZE={SIZE + 1}"])[0] == 552


def test_a_mail_to_a_bouncing_address_comes_back_as_a_report(ann):
    original = mail(ann.address, References="<a@b>")
    with ann.smtp() as client:
        client.sendmail(ann.address, ["bounces+42@parts.example"], original)
    report = email.message_from_bytes(ann.inbox()[0])
    _, status, returned = report.get_payload()
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    assert report["Return-Path"] == "<>"
    assert status.get_payload()[1]["Final-Recipient"] == "rfc822; bounces+42@parts.example"
    assert status.get_payload()[1]["Action"] == "failed"
    assert returned.get_payload(0)["Message-ID"].encode() in original


def test_the_mx_takes_local_mail_without_a_sign_in_and_marks_a_forger(world, ann, ben):
    with smtplib.SMTP("localhost", world.ports["mx"]) as client:
        client.sendmail("x@elsewhere.example", [ann.address], mail("x@elsewhere.example"))
        client.sendmail("x@elsewhere.example", [ann.address], mail(ben.address))
        assert client.mail("x@elsewhere.example")[0] == 250
        assert client.rcpt("someone@elsewhere.example")[0] == 550
    honest, forged = (email.message_from_bytes(raw)["Authentication-Results"] for raw in ann.inbox())
    assert "dmarc=none" in honest
    assert "dmarc=fail" in forged


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
def test_a_deferred_command_works_the_next_time(world, ann, ben, stage):
    world.post.faults.defer(stage, reply="451 4.7.1 Greylisted")
    with pytest.raises(smtplib.SMTPException), ann.smtp() as client:
        client.sendmail(ann.address, [ben.address], mail(ann.address))
    assert ben.inbox() == []
    with ann.smtp() as client:
        client.sendmail(ann.address, [ben.address], mail(ann.address))
    assert len(ben.inbox()) == 1


@pytest.mark.parametrize("delivered", [True, False])
def test_the_answer_to_the_dot_can_be_lost_with_or_without_the_mail(world, ann, ben, delivered):
    before = len(world.post.transactions)
    world.post.faults.drop_after_dot(delivered=delivered)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        ann.smtp().sendmail(ann.address, [ben.address], mail(ann.address))
    assert len(ben.inbox()) == int(delivered)
    assert len(world.post.transactions) == before + int(delivered)


def test_one_recipient_can_be_refused_while_the_rest_is_taken(world, ann, ben):
    world.post.faults.refuse(ann.address)
    with ann.smtp() as client:
        assert list(client.sendmail(ann.address, [ann.address, ben.address], mail(ann.address))) == [
            ann.address
        ]


@pytest.mark.parametrize("way", ["announced", "silent"])
def test_the_message_id_can_be_rewritten_as_a_relay_does(world, ann, ben, way):
    world.post.faults.rewriting = way
    original = mail(ann.address, text="Message-ID: stays\r\nin the body")
    with ann.smtp() as client:
        client.mail(ann.address)
        client.rcpt(ben.address)
        _, said = client.data(original)
    raw = ben.inbox()[0]
    (new_id,) = email.message_from_bytes(raw).get_all("Message-ID")
    assert new_id.endswith("@relay.sandbox.example>")
    assert (new_id.encode() in said) == (way == "announced")
    assert raw.partition(b"\r\n\r\n")[2] == original.partition(b"\r\n\r\n")[2]


def test_a_hanging_server_goes_on_when_it_is_healed(world, ann, ben):
    world.post.faults.hanging = "DATA"
    threading.Timer(0.3, world.post.faults.clear).start()
    with ann.smtp() as client:
        client.sendmail(ann.address, [ben.address], mail(ann.address))
    with ann.smtp() as client:
        client.sock.settimeout(0.3)
        world.post.faults.hanging = "RCPT"
        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
            client.sendmail(ann.address, [ben.address], mail(ann.address))
    assert len(ben.inbox()) == 1


def test_connections_can_be_refused(world, ann):
    world.post.faults.refusing = True
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        ann.smtp()


def test_accepted_mail_is_on_record_as_it_came(world, ann, ben):
    raw = mail(ann.address)
    with ann.smtp() as client:
        client.sendmail(ann.address, [ben.address, ann.address], raw)
    done = world.post.transactions[-1]
    assert (done.envelope_from, done.envelope_to, done.user) == (
        ann.address,
        (ben.address, ann.address),
        ann.address,
    )
    assert done.raw == raw


def test_mail_for_a_mail_server_that_is_down_is_451(world, ann, ben):
    with ann.smtp() as client:
        world.dovecot.stop()
        try:
            with pytest.raises(smtplib.SMTPDataError, match=re.escape("4.3.0")):
                client.sendmail(ann.address, [ben.address], mail(ann.address))
        finally:
            world.dovecot.start()


def test_it_listens_on_the_same_ports_after_a_restart(world, ann):
    client = ann.smtp()
    world.post.stop()
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()
    with pytest.raises(ConnectionRefusedError):
        ann.smtp()
    world.post.start()
    ann.smtp().quit()
