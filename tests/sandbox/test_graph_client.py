"""An independent client, O365 from PyPI, uses Entra and Graph as anybody would.

Only the addresses of Microsoft's services are ours; it is told them the way it keeps them.
"""

import email
import email.policy
from urllib.parse import urlencode

import pytest
from O365 import Account, MSGraphProtocol
from O365.utils.token import MemoryTokenBackend

from sandbox.entra.directory import GRAPH
from tests.sandbox.outlook import BACK

SCOPES = [GRAPH + name for name in ("Mail.ReadWrite", "Mail.Send", "User.Read")]


@pytest.fixture
def account(office):
    """Anna's account, signed in with a browser's redirect."""
    graph = type("Protocol", (MSGraphProtocol,), {"_protocol_url": f"{office.world.graph.url}/"})
    backend = MemoryTokenBackend()
    account = Account(
        (office.app.client_id, office.secret),
        protocol=graph,
        tenant_id=office.tenant.id,
        token_backend=backend,
        verify_ssl=str(office.world.authority.pem),
        requests_delay=0,
    )
    account.con._msal_client = office.msal(token_cache=backend)
    user = office.user()

    def browser(url):
        return f"{BACK}?{urlencode(office.came_back(f'{url}&login_hint={user.address}'))}"

    assert account.authenticate(requested_scopes=SCOPES, redirect_uri=BACK, handle_consent=browser)
    return account


def test_it_signs_in_and_refreshes(account, outlook):
    assert account.is_authenticated
    assert account.get_current_user_data().mail == outlook.address
    assert account.con.refresh_token()


def test_it_lists_filters_and_reads(account, outlook):
    for number in range(30):
        outlook.take(f"Offer {number}")
    inbox = account.mailbox().inbox_folder()
    found = list(inbox.get_messages(limit=30, batch=10, order_by="receivedDateTime desc"))
    assert len(found) == 30
    query = account.mailbox().q().startswith("subject", "Offer 2")
    assert len(list(inbox.get_messages(limit=50, query=query))) == 11
    message = account.mailbox().get_message(found[0].object_id)
    assert "Good day" in message.body
    assert message.get_mime_content().startswith(b"From: someone@else.example")
    assert {folder.name for folder in account.mailbox().get_folders(limit=50)} >= {"Inbox", "Sent Items"}


def test_it_sends_with_attachments_large_ones_too(account, outlook, ben, tmp_path):
    small, large = tmp_path / "small.txt", tmp_path / "large.bin"
    small.write_bytes(b"small")
    large.write_bytes(b"x" * 3_300_000)
    message = account.new_message()
    message.to.add(ben.address)
    message.subject, message.body = "Drawings", "<p>Please see</p>"
    assert message.save_draft()
    message.attachments.add([str(small), str(large)])  # a draft's large file goes up in pieces
    assert message.save_draft()
    assert message.send()
    (raw,) = ben.inbox()
    arrived = email.message_from_bytes(raw, policy=email.policy.default)
    assert [
        (part.get_filename(), len(part.get_payload(decode=True))) for part in arrived.iter_attachments()
    ] == [
        ("small.txt", 5),
        ("large.bin", 3_300_000),
    ]
    assert outlook.subjects("/me/mailFolders/sentitems/messages") == ["Drawings"]


def test_it_replies_marks_and_moves(account, outlook, ben):
    raw = f"From: {ben.address}\r\nTo: {outlook.address}\r\nSubject: Ask\r\nMessage-ID: <q@x>\r\n\r\nWhen?\r\n".encode()
    outlook.world.graph.arrive(outlook.address, raw)
    (question,) = account.mailbox().inbox_folder().get_messages()
    reply = question.reply()
    reply.body = "Tomorrow"
    assert reply.send()
    arrived = email.message_from_bytes(ben.inbox()[0], policy=email.policy.default)
    assert (arrived["Subject"], arrived["In-Reply-To"]) == ("RE: Ask", "<q@x>")
    assert "Tomorrow" in arrived.get_body().get_content()
    assert question.mark_as_read()
    assert question.move(account.mailbox().archive_folder())
    assert [one.is_read for one in account.mailbox().archive_folder().get_messages()] == [True]
