"""The story over HTTP, with queues and timers run by the host."""

import base64
import json
from urllib.parse import urlencode

import pytest

from tests.api.conftest import draft, key, open_office, until


def test_send_receive_and_read_over_http(api, world):
    office = open_office(api, world)
    content = base64.b64encode("Preisliste äöü".encode()).decode()
    attachment = {"name": "Preisliste ü.txt", "contentType": "text/plain", "contentBase64": content}
    once = key()
    answer = office.alice_("POST", "/cases/C-1/emails", draft(office, attachments=[attachment]), headers=once)
    assert answer.status_code == 202, answer.text
    email = answer.json()
    again = office.alice_("POST", "/cases/C-1/emails", draft(office, attachments=[attachment]), headers=once)
    assert again.json()["id"] == email["id"]
    other = office.alice_("POST", "/cases/C-1/emails", draft(office, subject="Another"), headers=once)
    assert (other.status_code, other.json()["code"], other.json()["field"]) == (
        409,
        "conflict",
        "Idempotency-Key",
    )
    path = f"/cases/C-1/emails/{email['id']}"
    until(lambda: office.alice_("GET", path).json()["state"] == "sent")
    [arrived] = until(office.supplier.inbox)

    office.supplier.reply(arrived, "Here it is. <script>alert(1)</script>")
    assert office.alice_("POST", f"/mailboxes/{office.mailbox_id}/sync").status_code == 202
    items = until(
        lambda: (
            found if len(found := office.alice_("GET", "/cases/C-1/emails").json()["items"]) == 2 else None
        )
    )
    reply = items[1]
    assert reply["direction"] == "in"
    assert reply["evidence"]["rule"] in {"in-reply-to", "references"}
    assert reply["from"]["address"] == office.supplier.address
    assert set(items[0]["mailboxIds"]) == {office.mailbox_id}

    raw = office.alice_("GET", f"{path}/raw")
    assert raw.headers["Content-Type"] == "application/octet-stream"
    assert raw.content.startswith(b"From:") or b"Message-ID" in raw.content
    assert "attachment" in raw.headers["Content-Disposition"]
    part = office.alice_("GET", f"{path}/attachments/{items[0]['attachments'][0]['id']}")
    assert part.content.decode() == "Preisliste äöü"
    assert part.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in part.headers["Content-Security-Policy"]
    assert "Content-Disposition" in part.headers["Access-Control-Expose-Headers"]
    assert office.alice_("GET", f"{path}/attachments/99").status_code == 404
    assert office.bob("GET", path).status_code == 403


def test_an_address_is_shown_as_it_is_spelled_and_the_repeated_request_is_the_same(office):
    spelled = office.supplier.address.replace("@", "+AbC9xQ@")
    once, mail = key(), draft(office, to=[{"address": spelled}])
    email = office.alice_("POST", "/cases/C-1/emails", mail, headers=once).json()
    again = office.alice_("POST", "/cases/C-1/emails", mail, headers=once).json()
    path = f"/cases/C-1/emails/{email['id']}"
    for shown in (email, again, office.alice_("GET", path).json()):
        assert (shown["id"], shown["to"]) == (email["id"], [{"address": spelled, "name": ""}])
    until(lambda: office.alice_("GET", path).json()["state"] == "sent")


def test_pages_follow_each_other_by_signed_cursors(office):
    for number in range(3):
        draft_ = draft(office, subject=f"Page {number}")
        office.alice_("POST", "/cases/C-1/emails", draft_, headers=key())
    first = office.alice_("GET", "/cases/C-1/emails?limit=2").json()
    assert len(first["items"]) == 2
    second = office.alice_("GET", f"/cases/C-1/emails?limit=2&cursor={first['nextCursor']}").json()
    assert second["items"][0]["id"] > first["items"][1]["id"]


def test_the_doctor_finds_a_healthy_mailbox_healthy(office):
    checks = office.alice_("POST", f"/mailboxes/{office.mailbox_id}/test").json()["checks"]
    assert {check["name"]: check["status"] for check in checks} == {
        "sign_in_receiving": "ok",
        "sign_in_sending": "ok",
        "round_trip": "ok",
        "sent_copy": "ok",
        "push": "skipped",
        "mx": "ok",
        "mx_tls": "ok",
        "spf": "ok",
        "dkim": "skipped",
        "dmarc": "ok",
    }


def test_folders_and_search_show_the_own_mailbox_live(office):
    office.supplier.send(office.alice.address, "Findable words")
    folders = office.alice_("GET", f"/mailboxes/{office.mailbox_id}/folders").json()["items"]
    assert {"INBOX", "Sent"} <= {folder["name"] for folder in folders}
    path = f"/mailboxes/{office.mailbox_id}/search?subject=Findable"
    [hit] = until(lambda: office.alice_("GET", path).json()["items"])
    assert hit["from"]["address"] == office.supplier.address
    assert office.admin("GET", path).status_code == 403
    linked = office.alice_("POST", "/cases/C-1/links", {"mailboxId": office.mailbox_id, "ref": hit["ref"]})
    assert linked.status_code == 201, linked.text


def test_a_mailbox_can_be_changed_paused_and_listed(office):
    path = f"/mailboxes/{office.mailbox_id}"
    changed = office.alice_("PATCH", path, {"pollSeconds": 120, "name": "Alice Ä.", "paused": True}).json()
    assert (changed["pollSeconds"], changed["name"], changed["state"]) == (120, "Alice Ä.", "paused")
    assert office.alice_("PATCH", path, {"paused": False}).json()["state"] == "active"
    assert office.mailbox_id in [box["id"] for box in office.admin("GET", "/mailboxes").json()["items"]]
    assert office.bob("GET", "/mailboxes").json()["items"] == []
    assert "password" not in office.alice_("GET", path).text


def exported(office, query):
    """The pages of an export, each a list of its lines."""
    cursor = ""
    while cursor is not None:
        path = f"/audit?{query}&cursor={cursor}" if cursor else f"/audit?{query}"
        page = office.admin("GET", path, headers={"Accept": "application/x-ndjson"})
        assert page.headers["Content-Type"].startswith("application/x-ndjson")
        yield page.text.splitlines()
        cursor = page.headers.get("X-Next-Cursor")


def test_an_export_of_the_audit_has_one_record_a_line_and_goes_on_at_its_cursor(office):
    first = office.admin("GET", "/audit?limit=5").json()["items"]
    early = urlencode({"to": first[-1]["at"]})  # what is that old stays as it is
    known = office.admin("GET", f"/audit?{early}&limit=500").json()["items"]
    pages = list(exported(office, f"{early}&limit=2"))
    assert [json.loads(line) for page in pages for line in page] == known
    assert [len(page) for page in pages[:-1]] == [2] * (len(pages) - 1)
    assert len(pages) > 1


def test_the_audit_is_for_administrators(office):
    assert office.alice_("GET", "/audit").status_code == 403
    page = office.admin("GET", "/audit?limit=2").json()
    assert len(page["items"]) == 2
    following = office.admin("GET", f"/audit?limit=2&cursor={page['nextCursor']}").json()
    assert following["items"][0]["at"] >= page["items"][1]["at"]
    only = office.admin("GET", f"/audit?mailboxId={office.mailbox_id}").json()["items"]
    assert {record["mailboxId"] for record in only} == {office.mailbox_id}


@pytest.mark.parametrize(
    ("accept", "lines"),
    [
        ("Application/X-NDJSON", True),
        ("application/json;q=0.5, application/x-ndjson ; q=1.0", True),
        ("application/x-ndjson;q=0.01", True),
        ("application/json, application/x-ndjson;q=0", False),
        ("application/x-ndjson; Q = 0.000", False),
        ("application/x-ndjson-too", False),
        ("*/*", False),
    ],
)
def test_an_export_is_lines_for_whoever_asks_for_them_by_name(office, accept, lines):
    kind = office.admin("GET", "/audit?limit=1", headers={"Accept": accept}).headers["Content-Type"]
    assert kind.partition(";")[0] == ("application/x-ndjson" if lines else "application/json")


def test_health_and_the_contract_are_open_to_anyone(office, api):
    import requests

    health = requests.get(f"{api}/health", timeout=20).json()
    assert health["status"] in {"ok", "degraded"}
    assert {check["name"] for check in health["checks"]} == {
        "tables",
        "blobs",
        "vault",
        "queues",
        "schedule",
        "issuer",
    }
    document = requests.get(f"{api}/openapi.json", timeout=20).json()
    assert document["openapi"].startswith("3.1")
    assert "post" in document["paths"]["/cases/{caseId}/emails"]
    assert "EmailResource" in document["components"]["schemas"]
