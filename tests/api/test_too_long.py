"""What is longer than can be kept is refused by its name, before anything is written."""

import pytest
from azure.data.tables import TableServiceClient

from tests.api.conftest import connection, draft, key, open_office
from tests.scenes import someone

KEPT = (
    "mailbox!",
    "grant!",
    "integration!",
    "case!",
    "conversation!",
    "message!",
    "promise!",
    "outbox!",
    "domain!",
)
"""Kinds of records that requests write; looks at the mailbox go on meanwhile and write others."""


@pytest.fixture(scope="module")
def office(api, world):
    """One of our own: in the others' mail is still on its way."""
    return open_office(api, world)


def kept(office, world):
    """Everything of the organisation that a request could have written, with its version."""
    table = TableServiceClient.from_connection_string(world.environment()["STORAGE"]).get_table_client(
        "records"
    )
    rows = table.query_entities("PartitionKey eq @org", parameters={"org": office.org_id})
    records = {row["RowKey"]: row.metadata["etag"] for row in rows if row["RowKey"].startswith(KEPT)}
    return records, {name: len(versions) for name, versions in world.vault.secrets.items() if name[0] in "mi"}


REFRESH = {"refreshToken": "r", "tokenUrl": "https://issuer.example/token", "clientId": "c"}
LIST = [f"{number:05}.supplier.example" for number in range(30_000)]
FIELDS = [
    ("secret.imap.refreshToken", {"refreshToken": "x" * 400_000}),
    ("secret.imap.clientId", {"clientId": "c" * 500_000}),
    ("secret.imap.clientSecret", {"clientSecret": "s" * 30_000}),
    ("secret.imap.tokenUrl", {"tokenUrl": f"https://issuer.example/{'x' * 40_000}"}),
    ("secret.imap.accessToken", {"accessToken": "x" * 400_000}),
    ("secret.imap.accessToken", {"accessToken": "x\r\ny"}),
    ("secret.imap.expiresIn", {"accessToken": "x", "expiresIn": 10**18}),
    ("secret.imap.password", {"password": "x" * 30_000}),
]
MAILBOX = [
    ("authservId", {"authservId": "x" * 600_000}),
    ("authservId", {"authservId": "a\r\nb"}),
    ("authservId", {"authservId": "a\n"}),
    ("name", {"name": "x" * 600_000}),
    ("folders", {"folders": [f"F{number}" for number in range(51)]}),
    ("folders[0]", {"folders": ["x" * 600_000]}),
    ("settings.imap.host", {"settings": {"imap": {"host": "x" * 600_000}}}),
    ("settings.imap.port", {"settings": {"imap": {"port": 10**30}}}),
    *(
        (field, {"secret": {"imap": {**REFRESH, **given}, "smtp": {"password": "p"}}})
        for field, given in FIELDS
    ),
]


@pytest.mark.parametrize(("field", "body"), MAILBOX)
def test_of_a_mailbox(office, world, field, body):
    before = kept(office, world)
    refused(office.alice_("PATCH", f"/mailboxes/{office.mailbox_id}", body), field)
    base = connection(world, someone(world, "longing", "imap.example"))
    new = {**base, **body}
    new["settings"] = {
        name: {**given, **body.get("settings", {}).get(name, {})} for name, given in base["settings"].items()
    }
    refused(office.alice_("POST", "/mailboxes", new), field)
    assert kept(office, world) == before


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "field"),
    [
        ("alice_", "POST", "/mailboxes", {"address": "x" * 600_000, "receivesWith": "imap"}, "address"),
        ("alice_", "POST", "/mailboxes", {"address": "a@b.example", "receivesWith": "x" * 600_000}, "receivesWith"),
        ("alice_", "POST", "/mailboxes", {"address": "a@b.example", "owner": "x" * 600_000}, "owner"),
        ("alice_", "POST", "/mailboxes", {"address": "a@b.example", "returnUrl": "x" * 600_000}, "returnUrl"),
        ("alice_", "POST", "/mailboxes/autodetect", {"address": "x" * 600_000}, "address"),
        ("admin", "PUT", "/integrations/smtp", {"approved": True, "settings": {"allowedRecipients": LIST}}, "settings.allowedRecipients"),
        ("admin", "PUT", "/integrations/smtp", {"approved": True, "settings": {"allowedSenders": LIST}}, "settings.allowedSenders"),
        ("admin", "PUT", "/integrations/smtp", {"approved": True, "settings": {"allowedSenders": ["x" * 600_000]}}, "settings.allowedSenders"),
        ("admin", "PUT", "/integrations/smtp", {"approved": True, "settings": {"maxPerHour": 10**30}}, "settings.maxPerHour"),
        ("admin", "PUT", "/integrations/smtp", {"approved": True, "settings": {"username": "x" * 600_000}}, "settings.username"),
        ("admin", "PUT", "/integrations/smtp", {"approved": True, "domains": ["x" * 600_000 + ".example"]}, "domains[0]"),
        ("admin", "PUT", "/integrations/smtp", {"approved": True, "domains": LIST}, "domains"),
        ("admin", "PUT", "/integrations/google", {"approved": True, "settings": {"mailboxes": LIST}}, "settings.mailboxes"),
        ("admin", "PUT", "/integrations/microsoft", {"approved": True, "secret": {"clientSecret": "x" * 30_000}}, "secret.clientSecret"),
        ("admin", "PUT", "/integrations/microsoft", {"approved": True, "secret": {"certificate": "x" * 30_000}}, "secret.certificate"),
        ("admin", "PUT", "/integrations/microsoft", {"approved": True, "secret": {"certificate": "ü" * 20_000}}, "secret.certificate"),
        ("admin", "POST", "/integrations/microsoft/consent", {"returnUrl": "x" * 600_000}, "returnUrl"),
        ("platform", "PUT", "/cases/C-9", {"title": "x" * 600_000, "members": []}, "title"),
        ("platform", "PUT", "/cases/C-9", {"members": ["x" * 600_000]}, "members[0]"),
        ("platform", "PUT", "/cases/C-9", {"members": [f"a{number}@b.example" for number in range(1001)]}, "members"),
        ("alice_", "POST", "/cases/C-1/links", {"mailboxId": "x" * 600_000, "ref": "1"}, "mailboxId"),
        ("alice_", "POST", "/cases/C-1/links", {"mailboxId": "x", "ref": "x" * 600_000}, "ref"),
        ("alice_", "POST", "/cases/C-1/emails/x/move", {"caseId": "x" * 600_000}, "caseId"),
        ("alice_", "GET", "/mailboxes/{mailbox}/search?q=" + "x" * 2001, None, "q"),
        ("alice_", "GET", "/mailboxes/{mailbox}/search?from=" + "x" * 2001, None, "from"),
        ("admin", "GET", "/audit?caseId=" + "x" * 2001, None, "caseId"),
    ],
)  # fmt: skip
def test_of_anything_else(office, world, who, method, path, body, field):
    before = kept(office, world)
    refused(getattr(office, who)(method, path.format(mailbox=office.mailbox_id), body), field)
    assert kept(office, world) == before


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("mailboxId", {"mailboxId": "x" * 600_000}),
        ("inReplyTo", {"inReplyTo": "x" * 600_000}),
        ("subject", {"subject": "x" * 600_000}),
        ("text", {"text": "x" * 1_000_001}),
        ("html", {"html": "x" * 1_000_001}),
        ("to[0].address", {"to": [{"address": "x" * 600_000}]}),
        ("to[0].name", {"to": [{"address": "a@b.example", "name": "x" * 600_000}]}),
        ("attachments", {"attachments": [{"name": "a", "contentBase64": ""}] * 101}),
        ("attachments[0].name", {"attachments": [{"name": "x" * 600_000, "contentBase64": ""}]}),
        ("attachments[0].contentType", {"attachments": [{"name": "a", "contentType": "x" * 600_000, "contentBase64": ""}]}),
    ],
)  # fmt: skip
def test_of_a_mail(office, world, field, changes):
    before = kept(office, world)
    for route in ("emails", "drafts"):
        refused(office.alice_("POST", f"/cases/C-1/{route}", draft(office, **changes), headers=key()), field)
    assert kept(office, world) == before


def test_a_key_for_a_mail(office, world):
    before = kept(office, world)
    headers = {"Idempotency-Key": "k" * 256}
    refused(office.alice_("POST", "/cases/C-1/emails", draft(office), headers=headers), "Idempotency-Key")
    assert kept(office, world) == before


def test_a_list_as_long_as_a_record_has_room_for_is_kept(office):
    settings = {"allowedRecipients": LIST[:1400], "allowedSenders": LIST[:1400]}
    answer = office.admin("PUT", "/integrations/ews", {"approved": True, "settings": settings})
    assert answer.status_code == 200, answer.text
    assert answer.json()["settings"] == settings
    office.admin("DELETE", "/integrations/ews")


def refused(answer, field):
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json"), (
        answer.text
    )
    assert answer.json()["field"] == field, answer.text[:500]
