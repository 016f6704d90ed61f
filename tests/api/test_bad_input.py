"""What callers get wrong: a problem that names the field, and nothing is lost."""

import base64
import socket
from datetime import UTC, datetime, timedelta, timezone

import pytest
import requests

from shared.contract import MOST_RECIPIENTS
from tests.api.conftest import Client, connection, draft, key, open_office, until
from tests.scenes import PASSWORD, someone

LIMIT = 35_000_000
"""MAX_MAIL_BYTES where nobody sets it: octets of a mail as it leaves."""


def send(office, headers=None, **changes):
    return office.alice_("POST", "/cases/C-1/emails", draft(office, **changes), headers=headers or key())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"to": [{"address": "nobody"}]}, "to[0].address"),
        ({"to": [{"address": "a@b@c.example"}]}, "to[0].address"),
        ({"to": [{"address": "a b@c.example"}]}, "to[0].address"),
        ({"cc": [{"address": "a@b.example\r\nBcc: x@y.example"}]}, "cc[0].address"),
        ({"to": []}, "to"),
        ({"to": [{"address": f"a{n}@b.example"} for n in range(301)]}, "to"),
        ({"to": "a@b.example"}, "to"),
        ({"subject": "x\r\nBcc: evil@x.example"}, "subject"),
        ({"subject": "x\u2028y"}, "subject"),
        ({"to": [{"address": "a@b.example", "name": "x\nBcc: y"}]}, "to[0].name"),
        ({"attachments": [{"name": "a\r\nX: y", "contentBase64": "YQ=="}]}, "attachments[0].name"),
        (
            {"attachments": [{"name": "a", "contentType": "text/html\r\nX: y", "contentBase64": ""}]},
            "attachments[0].contentType",
        ),
        ({"attachments": [{"name": "a", "contentBase64": "%%%"}]}, "attachments[0].contentBase64"),
        ({"attachments": [{"name": "a", "contentBase64": "é"}]}, "attachments[0].contentBase64"),
        ({"attachments": [{"name": "a", "contentBase64": "\ufeffYQ=="}]}, "attachments[0].contentBase64"),
        ({"attachments": [{"name": "a"}]}, "attachments[0].contentBase64"),
        ({"unknown": 1}, "unknown"),
        ({"to": [{"address": "a@b.example", "nmae": "x"}]}, "to[0].nmae"),
        ({"text": None}, "text"),
        ({"mailboxId": "nothing"}, "mailboxId"),
        ({"mailboxId": "../other!x"}, "mailboxId"),
        ({"inReplyTo": "nothing"}, "inReplyTo"),
        ({"inReplyTo": "a/b\\c#d?"}, "inReplyTo"),
    ],
)
def test_a_wrong_draft_names_its_field(office, changes, field):
    answer = send(office, **changes)
    assert answer.status_code in {400, 404}, answer.text
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["field"] == field, problem
    assert problem["detail"]
    assert problem["correlationId"] == answer.headers["X-Correlation-Id"]


@pytest.mark.parametrize("value", [None, "", "a b", "x" * 256, "ü"])
def test_the_idempotency_key_is_needed_and_checked(office, value):
    headers = {"Idempotency-Key": value.encode() if value else ""} if value is not None else {"X": "y"}
    answer = send(office, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["field"] == "Idempotency-Key"


def test_a_draft_that_is_not_there_cannot_be_sent_and_needs_a_key_too(office):
    route = "/cases/C-1/drafts/1763943000123-0123456789ab/send"
    answer = office.alice_("POST", route, headers={"X": "y"})
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")
    answer = office.alice_("POST", route, headers=key())
    assert (answer.status_code, answer.json()["field"]) == (404, "draftId")
    answer = office.alice_("POST", "/cases/C-1/drafts/..%2Fx/send", headers=key())
    assert answer.status_code == 404


def attached(office, octets):
    """Send a mail with one file of zeros."""
    content = base64.b64encode(bytes(octets)).decode()
    return send(office, attachments=[{"name": "big.bin", "contentBase64": content}])


def encoded(octets):
    """What a file takes in a mail: base64, in lines of 76 characters and CRLF."""
    characters = 4 * -(-octets // 3)
    return characters + 2 * -(-characters // 76)


@pytest.mark.long
def test_25_mb_of_files_go_26_mb_do_not_and_the_first_octet_too_many_is_refused_clearly(api, world):
    office = open_office(api, world)
    goes = attached(office, 25_000_000)
    assert goes.status_code == 202, goes.text
    until(lambda: state(office, goes) == "sent")
    raw = office.alice_("GET", f"/cases/C-1/emails/{goes.json()['id']}/raw").content
    room = LIMIT - (len(raw) - encoded(25_000_000))
    largest = max(size for size in range(25_560_000, 25_580_000) if encoded(size) <= room)
    for octets in (largest + 1, 26_000_000, 26 * 1024 * 1024):  # `largest` goes: walks/test_sending.py
        answer = attached(office, octets)
        assert answer.status_code == 400, answer.text
        problem = answer.json()
        assert problem["field"] == "attachments"
        assert "25.5 MB together (24.3 MB as Windows counts)" in problem["detail"]
        assert problem["fix"]


def state(office, answer):
    return office.alice_("GET", f"/cases/C-1/emails/{answer.json()['id']}").json()["state"]


def post(office, path, content, content_type="application/json"):
    headers = {"Authorization": f"Bearer {office.alice_.token}", "Content-Type": content_type, **key()}
    return requests.post(f"{office.alice_.api}{path}", data=content, headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("content", "content_type", "field"),
    [
        (b"{", "application/json", "body"),
        (b"\xff\xfe", "application/json", "body"),
        (b"", "application/json", "body"),
        (b"[]", "application/json", "body"),
        (b"a=b", "application/x-www-form-urlencoded", "Content-Type"),
        (b"{}", "text/plain", "Content-Type"),
        (b"[" * 100_000, "application/json", "body"),
        (b" " * 61_000_000, "application/json", "body"),
    ],
)
def test_a_body_that_is_not_our_json_is_refused(office, content, content_type, field):
    answer = post(office, "/cases/C-1/emails", content, content_type)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field


@pytest.mark.parametrize("cursor", ["x", "a.b", "..", "%00", "eyJhIjoxfQ.AAAA"])
def test_a_cursor_that_is_not_ours_is_refused(office, cursor):
    for path in (
        "/cases/C-1/emails",
        "/mailboxes",
        f"/mailboxes/{office.mailbox_id}/search",
        f"/mailboxes/{office.mailbox_id}/reviews",
    ):
        answer = office.alice_("GET", f"{path}?cursor={cursor}")
        assert answer.status_code == 400, answer.text
        assert answer.json()["field"] == "cursor"
    assert office.admin("GET", f"/audit?cursor={cursor}").status_code == 400


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/cases/C-1/emails?limit=0", "limit"),
        ("/cases/C-1/emails?limit=101", "limit"),
        ("/cases/C-1/emails?limit=x", "limit"),
        ("/cases/C-1/emails?Limit=1", "Limit"),
        ("/cases/C-1/emails/x?limit=1", "limit"),
    ],
)
def test_a_wrong_parameter_is_named(office, path, field):
    answer = office.alice_("GET", path)
    assert answer.status_code == 400
    assert answer.json()["field"] == field


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-01-01", "to"),
        ("limit=0", "limit"),
        ("mailboxid=1", "mailboxid"),
        ("caseId=C-1&mailbox=x", "mailbox"),
        ("from=0001-01-01T00:00:00%2B14:00", "from"),
        ("to=9999-12-31T23:59:59-14:00", "to"),
    ],
)
def test_a_wrong_audit_filter_is_named(office, query, field):
    assert office.admin("GET", f"/audit?{query}").json()["field"] == field


def test_who_is_no_caller_of_ours_may_bring_along_what_it_likes(api):
    for path in ("/health", "/openapi.json"):
        assert Client(api, None)("GET", f"{path}?probe=1").status_code == 200
    answer = Client(api, None)("POST", "/notifications/microsoft?validationToken=abc&more=1")
    assert (answer.status_code, answer.text) == (200, "abc")


@pytest.mark.parametrize("query", ["after=0001-01-01T00:00:00Z", "before=9999-12-31T23:59:59Z"])
def test_a_time_that_is_at_the_end_of_all_times_is_named(office, query):
    answer = office.alice_("GET", f"/mailboxes/{office.mailbox_id}/search?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, query.partition("=")[0])


@pytest.mark.parametrize("name", ["settings", "secret"])
def test_what_is_nested_too_deeply_is_refused_wherever_it_stands(office, name):
    deep = "[" * 100_000 + "]" * 100_000
    body = f'{{"address":"a@imap.example","receivesWith":"imap","{name}":{{"imap":{{"x":{deep}}}}}}}'
    answer = office.alice_("POST", "/mailboxes", headers={"Content-Type": "application/json"}, data=body)
    assert (answer.status_code, answer.json()["field"]) == (400, "body")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/cases/nothing/emails", "caseId"),
        ("/cases/nothing/emails/nothing", "caseId"),
        ("/cases/C-1/emails/nothing", "emailId"),
        ("/mailboxes/nothing", "mailboxId"),
        ("/mailboxes/nothing/reviews", "mailboxId"),
        ("/cases/C-1/emails/x/raw", "emailId"),
        ("/mailboxes/a%2Fb", "mailboxId"),
        ("/cases/a%23b/emails", "caseId"),
        ("/cases/C-1/emails/%00", "emailId"),
    ],
)
def test_unknown_ids_are_not_found_and_named_as_the_path_names_them(office, path, field):
    answer = office.alice_("GET", path)
    assert (answer.status_code, answer.json()["field"]) == (404, field)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/cases/C-1/emails/{email}/move", {"caseId": "nope"}, "caseId"),
        ("/cases/C-1/emails/nope/move", {"caseId": "C-1"}, "emailId"),
        ("/cases/nope/links", {"mailboxId": "{box}", "ref": "x"}, "caseId"),
        ("/cases/C-1/links", {"mailboxId": "nope", "ref": "x"}, "mailboxId"),
        ("/cases/C-1/links", {"mailboxId": "{box}", "ref": "x"}, "ref"),
        ("/mailboxes/nope/sync", {}, "mailboxId"),
        ("/mailboxes/nope/reviews/nope", {"action": "file"}, "mailboxId"),
        ("/mailboxes/{box}/reviews/nope", {"action": "file"}, "reviewId"),
        ("/mailboxes/{box}/reviews/nope", {"action": "dismiss"}, "reviewId"),
        ("/domains/nobody-asked.example/verify", {}, "domain"),
        ("/notifications/imap", {}, "provider"),
    ],
)
def test_an_unknown_id_beside_a_body_or_in_it_is_named(office, path, body, field):
    email = send(office).json()["id"]
    path = path.format(email=email, box=office.mailbox_id)
    body = {name: value.format(box=office.mailbox_id) for name, value in body.items()}
    who = office.admin if path.startswith("/domains") else office.alice_
    answer = who("POST", path, body)
    assert (answer.status_code, answer.json()["field"]) == (404, field), answer.text


def test_an_attachment_that_is_not_there_is_named_as_the_path_names_it(office):
    email = send(office).json()["id"]
    answer = office.alice_("GET", f"/cases/C-1/emails/{email}/attachments/7")
    assert (answer.status_code, answer.json()["field"]) == (404, "attachmentId")


def test_a_line_break_behind_a_case_id_is_no_part_of_one(office):
    email = send(office).json()["id"]
    answer = office.alice_("POST", f"/cases/C-1/emails/{email}/move", {"caseId": "C-1\n"})
    assert (answer.status_code, answer.json()["field"]) == (400, "caseId"), answer.text


@pytest.mark.parametrize("case_id", ["-x", "a b", "x" * 129, "a!b"])
def test_a_case_id_that_is_none_is_refused(office, case_id):
    answer = office.platform("PUT", f"/cases/{case_id}", {"members": []})
    assert answer.status_code == 400
    assert answer.json()["field"] == "caseId"


@pytest.mark.parametrize("title", ["a\r\nb", "a\n", "a\0b"])
def test_a_title_with_a_line_break_is_named(office, title):
    answer = office.platform("PUT", "/cases/C-7", {"title": title, "members": []})
    assert (answer.status_code, answer.json()["field"]) == (400, "title"), answer.text


def test_a_member_that_is_no_address_is_named(office):
    answer = office.platform("PUT", "/cases/C-7", {"members": ["a@b.example", "nobody"]})
    assert answer.json()["field"] == "members[1]"


def connect(office, world, **changes):
    person = someone(world, "new", "imap.example")
    return office.alice_("POST", "/mailboxes", connection(world, person, **changes))


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"secret": {"password": "wrong"}}, 409, "consent_required", None),
        ({"secret": {}}, 400, "invalid_request", "secret"),
        ({"secret": {"pasword": "x"}}, 400, "invalid_request", "secret.pasword"),
        (
            {"secret": {"imap": {"password": "a"}, "smpt": {"password": "a"}}},
            400,
            "invalid_request",
            "secret.smpt",
        ),
        ({"secret": {"imap": {"password": "a"}}}, 400, "invalid_request", "secret.smtp"),
        ({"secret": {"imap": {"password": "a"}, "smtp": 1}}, 400, "invalid_request", "secret.smtp"),
        ({"receivesWith": "pigeon"}, 400, "invalid_request", None),
        ({"receivesWith": None, "sendsWith": None, "settings": {}}, 400, "invalid_request", "receivesWith"),
        ({"address": "nobody"}, 400, "invalid_request", "address"),
        ({"name": "Alice\nSales"}, 400, "invalid_request", "name"),
        ({"folders": ["Kunden", "a\nb"]}, 400, "invalid_request", "folders[1]"),
        ({"secret": {"password": "a\r\nb"}}, 400, "invalid_request", "secret.password"),
        ({"secret": {"password": f"{PASSWORD}\n"}}, 400, "invalid_request", "secret.password"),
        ({"secret": {"accessToken": "a\n"}}, 400, "invalid_request", "secret.accessToken"),
        (
            {"secret": {"imap": {"password": "a\0"}, "smtp": {}}},
            400,
            "invalid_request",
            "secret.imap.password",
        ),
        ({"secret": {"clientSecret": "a\n"}}, 400, "invalid_request", "secret.clientSecret"),
        ({"name": "=?x?="}, 400, "invalid_request", "name"),
        ({"name": "x" * 321}, 400, "invalid_request", "name"),
        ({"pollSeconds": 59}, 400, "invalid_request", "pollSeconds"),
        ({"pollSeconds": 86_401}, 400, "invalid_request", "pollSeconds"),
        ({"since": "2020-01-01T00:00:00Z"}, 400, "invalid_request", "since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, 400, "invalid_request", "since"),
        ({"owner": "bob@imap.example"}, 403, "not_allowed", "owner"),
        ({"settings": {"pop3": {}}}, 400, "invalid_request", "settings.pop3"),
        ({"settings": {"imap": {}, "smtp": {}}}, 400, "invalid_request", "settings.imap.host"),
        ({"settings": {"imap": {"host": "x.example"}, "smtp": 1}}, 400, "invalid_request", "settings.smtp"),
        ({"settings": {"imap": None}}, 400, "invalid_request", "settings.imap"),
        ({"settings": []}, 400, "invalid_request", "settings"),
    ],
)
def test_a_mailbox_that_cannot_be_connected_says_why(office, world, changes, status, code, field):
    answer = connect(office, world, **changes)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code
    if field:
        assert answer.json()["field"] == field


@pytest.mark.parametrize("name", ["a\nb", "a\r", "a\n", "\0", "a\u2028b"])
def test_a_folder_with_a_line_break_is_named_and_nothing_is_kept(office, name):
    box = f"/mailboxes/{office.mailbox_id}"
    answer = office.alice_("PATCH", box, {"folders": [name]})
    assert (answer.status_code, answer.json()["field"]) == (400, "folders[0]"), answer.text
    assert answer.json()["detail"] == "Line breaks and control characters are not allowed here."
    assert office.alice_("GET", box).json()["folders"] == []


def test_a_secret_with_a_line_break_is_named_when_it_is_changed_too(office):
    answer = office.alice_("PATCH", f"/mailboxes/{office.mailbox_id}", {"secret": {"password": "a\nb"}})
    assert (answer.status_code, answer.json()["field"]) == (400, "secret.password"), answer.text


def test_changed_settings_of_the_wrong_kind_name_their_provider(office):
    answer = office.alice_("PATCH", f"/mailboxes/{office.mailbox_id}", {"settings": {"smtp": ["x"]}})
    assert (answer.status_code, answer.json()["field"]) == (400, "settings.smtp"), answer.text


def test_the_secret_of_a_provider_that_the_mailbox_does_not_use_is_told_which_it_uses(office, world):
    answer = connect(office, world, secret={"imap": {"password": "a"}, "smpt": {"password": "a"}})
    assert answer.json()["fix"] == "Known: imap, smtp."


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/cases/C-5", {"members": [], "x" * 1_000_000: 1}),
        ("/integrations/imap", {"approved": True, "settings": {"x" * 1_000_000: 1}}),
    ],
)
def test_a_refusal_repeats_no_name_of_any_length(office, path, body):
    answer = office.admin("PUT", path, body)
    assert (answer.status_code, len(answer.content) < 3000) == (400, True)
    assert "xxx" in answer.json()["field"]


def test_where_a_mailboxs_history_starts_is_answered_in_utc(office, world):
    since = (datetime.now(UTC) - timedelta(days=3)).replace(microsecond=0)
    elsewhere = since.astimezone(timezone(timedelta(hours=2))).isoformat()
    answer = connect(office, world, since=elsewhere)
    assert answer.status_code == 201, answer.text
    told = [answer, office.alice_("GET", f"/mailboxes/{answer.json()['id']}")]
    assert {one.json()["since"] for one in told} == {since.isoformat().replace("+00:00", "Z")}


@pytest.mark.parametrize("side", ["to", "cc", "bcc"])
@pytest.mark.parametrize("recipients", [300, 600])
def test_a_mail_with_too_many_recipients_says_what_helps(office, side, recipients):
    many = [{"address": f"a{n}@b.example"} for n in range(recipients)]
    one = {"to": [{"address": "a@b.example"}]}
    answer = send(office, **(one | {side: many} if side != "to" else {"to": many, "cc": one["to"]}))
    assert (answer.status_code, answer.json()["field"]) == (400, "to")
    assert f"{MOST_RECIPIENTS} recipients" in answer.json()["detail"]
    assert "several mails" in answer.json()["fix"]


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "10.0.0.1",
        "2130706434",
        "0x7f.0.0.2",
        "[::1]",
        "metadata.google.internal",
        "a\r\nb",
    ],
)
def test_an_internal_host_is_refused(office, world, host):
    settings = {"imap": {"host": host, "port": 993}, "smtp": {"host": host, "port": 465}}
    answer = connect(office, world, settings=settings)
    assert answer.status_code in {400, 503}, answer.text
    assert "127." not in answer.json()["detail"]
    assert "169.254" not in answer.json()["detail"]
    if answer.status_code == 400:
        assert answer.json()["field"] in {"settings.imap.host", "settings.imap.port"}


@pytest.mark.parametrize(
    ("side", "place"),
    [
        ("imap", lambda ports: {"port": closed(), "security": "tls"}),
        ("imap", lambda ports: {"port": ports["smtp"], "security": "starttls"}),
        ("smtp", lambda ports: {"port": closed(), "security": "starttls"}),
        ("smtp", lambda ports: {"port": ports["imap"], "security": "starttls"}),
        ("smtp", lambda ports: {"port": ports["imaps"], "security": "tls"}),
    ],
)
def test_a_wrong_port_names_the_server_and_what_to_check(office, world, side, place):
    settings = connection(world, office.alice)["settings"]
    settings[side] = {"host": "localhost", **place(world.ports)}
    change = {"settings": {side: settings[side]}, "secret": {"password": PASSWORD}}
    for answer in (
        connect(office, world, settings=settings),
        office.alice_("PATCH", f"/mailboxes/{office.mailbox_id}", change),
    ):
        assert answer.status_code == 503, answer.text
        assert answer.json()["field"] == f"settings.{side}"
        assert "Check host and port, and security" in answer.json()["fix"]


def test_a_wrong_address_of_exchange_names_the_server_and_what_to_check(office, world):
    office.admin("PUT", "/integrations/ews", {"approved": True})
    body = {
        **connection(world, office.alice),
        "address": "new@imap.example",
        "receivesWith": "ews",
        "sendsWith": "ews",
        "settings": {"ews": {"host": "localhost", "port": closed()}},
    }
    answer = office.alice_("POST", "/mailboxes", body)
    assert (answer.status_code, answer.json()["field"]) == (503, "settings.ews"), answer.text
    assert "Check host and port" in answer.json()["fix"]


def closed():
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_an_address_is_connected_once(office, world):
    answer = office.alice_("POST", "/mailboxes", connection(world, office.alice))
    assert answer.status_code == 409
    assert answer.json()["fix"]


def test_no_mailbox_connects_under_an_integration_that_is_not_approved(world, api):
    from tests.api.conftest import client

    person = someone(world, "early", "imap.example")
    early = client(api, world, "org-early", person.address, "member")
    answer = early("POST", "/mailboxes", connection(world, person))
    assert answer.status_code == 409
    assert "approve" in answer.json()["fix"]


@pytest.mark.parametrize("side", ["receivesWith", "sendsWith"])
def test_a_provider_that_does_not_exist_is_refused_under_the_name_it_was_given_by(office, side):
    problem = office.alice_("POST", "/mailboxes", {"address": "typo@imap.example", side: "exchange"}).json()
    assert (problem["status"], problem["field"]) == (400, side)
    assert "ews" in problem["fix"]


def test_a_mailbox_is_disconnected_with_a_receipt_and_comes_back(office, world):
    person = someone(world, "leaving", "imap.example")
    admin = office.admin
    box = admin("POST", "/mailboxes", connection(world, person)).json()
    receipt = admin("DELETE", f"/mailboxes/{box['id']}").json()
    assert receipt["state"] == "disconnected"
    assert receipt["destroyed"]
    assert receipt["kept"]
    assert admin("GET", f"/mailboxes/{box['id']}").json()["state"] == "disconnected"
    again = admin("POST", "/mailboxes", connection(world, person))
    assert again.status_code == 201
    assert again.json()["id"] == box["id"]


def test_a_disconnected_integration_disconnects_its_mailboxes(world, api):
    office = open_office(api, world)
    assert office.admin("DELETE", "/integrations/imap").json()["state"] == "disconnected"
    assert office.alice_("GET", f"/mailboxes/{office.mailbox_id}").json()["state"] == "disconnected"


def test_from_a_disconnected_mailbox_nothing_is_sent_and_its_owner_is_told_why(world, api):
    office = open_office(api, world)
    office.alice_("DELETE", f"/mailboxes/{office.mailbox_id}")
    for path in ("/cases/C-1/emails", "/cases/C-1/drafts"):
        problem = office.alice_("POST", path, draft(office), headers=key()).json()
        assert (problem["status"], problem["field"]) == (409, "mailboxId")
        assert "disconnected" in problem["detail"]
        assert "Connect it again" in problem["fix"]


def test_an_integration_with_wrong_settings_names_them(office):
    answer = office.admin("PUT", "/integrations/imap", {"approved": True, "settings": {"prot": 1}})
    assert answer.json()["field"] == "settings.prot"
    answer = office.admin("PUT", "/integrations/imap", {"approved": True, "domains": ["x@y"]})
    assert answer.json()["field"] == "domains[0]"
    assert office.admin("GET", "/integrations/pigeon").status_code in {400, 404}


@pytest.mark.parametrize("provider", ["ews", "imap", "pop3", "smtp"])
@pytest.mark.parametrize(
    ("name", "value"), [("port", 0), ("port", 70_000), ("host", "a b"), ("host", "x/../y"), ("host", "-")]
)
def test_it_cannot_set_a_server_that_nobody_can_reach(office, provider, name, value):
    answer = office.admin("PUT", f"/integrations/{provider}", {"approved": True, "settings": {name: value}})
    assert (answer.status_code, answer.json()["field"]) == (400, f"settings.{name}")


MICROSOFT = "/integrations/microsoft"
IDS = {"tenantId": "11111111-2222-3333-4444-555555555555", "clientId": "11111111-2222-3333-4444-555555555556"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"settings": {}}, "approved"),
        ({"approved": "yes"}, "approved"),
        ({"approved": True, "settings": {"tenantid": "x"}}, "settings.tenantid"),
        ({"approved": True, "settings": {"tenantId": 7}}, "settings.tenantId"),
        ({"approved": True, "settings": {"tenantId": "contoso.com", "clientId": "x"}}, "settings.tenantId"),
        ({"approved": True, "settings": {**IDS, "clientId": "x"}}, "settings.clientId"),
        ({"approved": True, "settings": IDS}, "secret"),
        ({"approved": True, "settings": IDS, "secret": {}}, "secret"),
        ({"approved": True, "settings": IDS, "secret": {"clientSecret": ""}}, "secret.clientSecret"),
        ({"approved": True, "settings": IDS, "secret": {"clientSecret": "x\n"}}, "secret.clientSecret"),
        ({"approved": True, "settings": IDS, "secret": {"secret": "x"}}, "secret.secret"),
        ({"approved": True, "settings": IDS, "secret": {"clientSecret": "x"}}, "settings.tenantId"),
        ({"approved": True, "secret": {"clientSecret": "x"}}, "secret"),
        ({"approved": True, "settings": {**IDS, "secretExpiresAt": "31.5.2027"}}, "settings.secretExpiresAt"),
        ({"approved": True, "settings": {"largeAttachments": "yes"}}, "settings.largeAttachments"),
        ({"approved": True, "settings": {"access": "robot"}}, "settings.access"),
        ({"approved": True, "domains": ["@"]}, "domains[0]"),
    ],
)
def test_a_wrong_registration_names_its_field(office, body, field):
    answer = office.admin("PUT", MICROSOFT, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field, answer.text
    assert office.admin("GET", MICROSOFT).json()["state"] == "not_approved"


def test_a_return_url_that_is_not_registered_is_refused(office):
    office.admin("PUT", MICROSOFT, {"approved": True})
    for body in ({"returnUrl": "https://evil.example"}, {"returnUrl": 7}):
        answer = office.admin("POST", f"{MICROSOFT}/consent", body)
        assert (answer.status_code, answer.json()["field"]) == (400, "returnUrl")
    office.admin("DELETE", MICROSOFT)
    assert office.admin("POST", f"{MICROSOFT}/consent", {}).status_code == 409
