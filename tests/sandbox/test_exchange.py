"""exchangelib, used as its manual says, and bare HTTP against the Exchange simulator."""

import secrets

import pytest
import requests
from exchangelib import DELEGATE, NTLM, UTC, Account, Configuration, Credentials, FileAttachment, Message
from exchangelib.errors import ErrorItemNotFound, ErrorServerBusy
from exchangelib.protocol import BaseProtocol, CachingProtocol
from exchangelib.version import EXCHANGE_2016, Version

from tests import exchange
from tests.providers.parts import mail


@pytest.fixture
def outlook(world, monkeypatch):
    """Somebody's account; the library's process-wide adapter is put back afterwards."""

    class Trusting(requests.adapters.HTTPAdapter):
        def cert_verify(self, conn, url, verify, cert):
            super().cert_verify(conn, url, str(world.authority.pem), cert)

        def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
            return super().get_connection_with_tls_context(request, str(world.authority.pem), proxies, cert)

    monkeypatch.setattr(BaseProtocol, "HTTP_ADAPTER_CLS", Trusting)
    world.add_exchange_domain("outlook.example")
    person = exchange.person(world, "ann", "outlook.example")
    config = Configuration(
        service_endpoint=f"{world.exchange.url}/EWS/Exchange.asmx",
        credentials=Credentials(person.address, exchange.PASSWORD),
        auth_type=NTLM,
        version=Version(EXCHANGE_2016),
    )
    yield Account(
        person.address, config=config, autodiscover=False, access_type=DELEGATE, default_timezone=UTC
    )
    CachingProtocol.clear_cache()


def test_a_draft_with_an_attachment_is_written_sent_and_filed(outlook, ann):
    message = Message(
        account=outlook,
        folder=outlook.drafts,
        subject="Offer",
        body="Words",
        to_recipients=[ann.address],
        bcc_recipients=["hidden@outlook.example"],
        message_id=f"<{secrets.token_hex(8)}@outlook.example>",
    )
    message.save()
    message.attach(FileAttachment(name="list.bin", content=b"\x00\x01"))
    outlook.drafts.refresh()
    assert outlook.drafts.total_count == 1
    message.send()
    [arrived] = ann.inbox()
    assert message.message_id.encode() in arrived
    assert b"list.bin" in arrived
    assert b"hidden" not in arrived
    copy = outlook.sent.get(subject="Offer")
    assert [one.content for one in copy.attachments] == [b"\x00\x01"]
    assert not outlook.drafts.all().exists()


def test_mail_is_listed_filtered_synced_moved_and_deleted(outlook, world):
    box = world.exchange.mailbox(outlook.primary_smtp_address)
    for subject in ("One", "Two", "Three"):
        box.add(mail(subject))
    assert [m.subject for m in outlook.inbox.all().order_by("subject")] == ["One", "Three", "Two"]
    assert [m.subject for m in outlook.inbox.filter(subject__contains="T")] == ["Three", "Two"]
    assert [(kind, one.subject) for kind, one in outlook.inbox.sync_items(only_fields=["subject"])] == [
        ("create", "One"),
        ("create", "Two"),
        ("create", "Three"),
    ]
    two = outlook.inbox.get(subject="Two")
    two.is_read = True
    two.save(update_fields=["is_read"])
    three = outlook.inbox.get(subject="Three")
    gone = (three.id, three.changekey)
    three.move(outlook.junk)
    outlook.inbox.get(subject="One").delete()
    assert sorted(kind for kind, _ in outlook.inbox.sync_items(only_fields=["subject"])) == [
        "delete",
        "delete",
        "update",
    ]
    assert [type(one) for one in outlook.fetch([gone])] == [ErrorItemNotFound]
    assert [m.subject for m in outlook.junk.all()] == ["Three"]
    assert outlook.inbox.get(subject="Two").is_read


def test_names_are_resolved_and_folders_found(outlook, world):
    world.exchange.mailbox(outlook.primary_smtp_address).add_folder("Projects")
    assert (outlook.msg_folder_root / "Projects").name == "Projects"
    [found] = outlook.protocol.resolve_names([outlook.primary_smtp_address[:6]])[:1]
    assert found.email_address == outlook.primary_smtp_address or "@" in found.email_address


def test_a_busy_server_says_for_how_long(outlook, world):
    world.exchange.faults.throttled[outlook.primary_smtp_address] = 1
    with pytest.raises(ErrorServerBusy) as caught:
        outlook.inbox.refresh()
    assert caught.value.back_off == 1.5


def test_without_a_sign_in_or_off_the_path_nothing_is_told(world):
    ask = {"verify": str(world.authority.pem), "timeout": 10, "data": b"<x/>"}
    refused = requests.post(f"{world.exchange.url}/EWS/Exchange.asmx", **ask)
    assert (refused.status_code, refused.content) == (401, b"")
    assert refused.headers["WWW-Authenticate"] == 'NTLM, Basic realm="localhost"'
    assert requests.post(f"{world.exchange.url}/owa", **ask).status_code == 404


def test_an_operation_it_does_not_know_and_broken_xml_are_soap_faults(world):
    world.add_exchange_domain("outlook.example")
    who = exchange.person(world, "ann", "outlook.example")
    url, trust = f"{world.exchange.url}/EWS/Exchange.asmx", str(world.authority.pem)
    envelope = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{}</s:Body></s:Envelope>'
    )
    for body, code in (
        (envelope.format("<Unknown/>"), "ErrorInvalidRequest"),
        ("<x", "ErrorSchemaValidation"),
    ):
        answer = requests.post(
            url, data=body, auth=(who.address, exchange.PASSWORD), verify=trust, timeout=10
        )
        assert answer.status_code == 500
        assert code in answer.text
    assert world.exchange.violations.pop().startswith("no XML")
