"""The check against Microsoft's description notices what is not Graph's: it would be worth nothing otherwise."""

import json

import pytest

from sandbox.graph.contract import Contract
from sandbox.web import Reply, Request
from tests import graph_contract

pytestmark = [pytest.mark.fast, pytest.mark.shared_data]
MESSAGE = {"id": "a", "subject": "x", "receivedDateTime": "2026-11-26T00:00:00Z"}


@pytest.fixture(scope="module")
def described():
    if not graph_contract.PATH.exists():
        pytest.skip(f"no {graph_contract.PATH}: Graph's description has to lie beside the checkout")
    return Contract(graph_contract.PATH)


@pytest.fixture
def look(described):
    def look(method="GET", path="me/messages", reply=None, body=b"", kind="application/json", **query):
        described.violations.clear()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {key if key == "changeType" else f"${key}": value for key, value in query.items()}
        request = Request(method, f"/v1.0/{path}", named, {"content-type": kind}, data)
        described.check(request, reply or Reply(200, {"value": []}))
        return described.violations

    return look


@pytest.mark.parametrize(
    "asked",
    [
        {"path": "me/mail"},
        {"method": "PUT"},
        {"query": "x"},
        {"top": "ten"},
        {"select": "subjekt"},
        {"select": "subject,subject"},
        {"orderby": "subjekt desc"},
        {"expand": "subjekt"},
        {"path": "me/mailFolders/inbox/messages/delta", "deltaToken": "x"},
        {
            "path": "me/sendMail",
            "method": "POST",
            "reply": Reply(202),
            "body": {"message": {}, "mail": MESSAGE},
        },
        {"path": "me/sendMail", "method": "POST", "reply": Reply(202), "body": {"message": {"titel": "x"}}},
        {"path": "me/sendMail", "method": "POST", "reply": Reply(202), "body": {"message": {"subject": 1}}},
        {"path": "me/sendMail", "method": "POST", "reply": Reply(202)},
        {"path": "me/sendMail", "method": "POST", "reply": Reply(202), "body": b"x!", "kind": "text/plain"},
        {
            "path": "me/sendMail",
            "method": "POST",
            "reply": Reply(202),
            "body": b"x",
            "kind": "message/rfc822",
        },
    ],
)
def test_a_request_that_graph_does_not_know(look, asked):
    assert len(look(**asked)) == 1


@pytest.mark.parametrize(
    "answered",
    [
        {"reply": Reply(201, {"value": []})},
        {"reply": Reply(200, {"value": [{**MESSAGE, "titel": "x"}]})},
        {"reply": Reply(200, {"value": [{**MESSAGE, "receivedDateTime": "yesterday"}]})},
        {"reply": Reply(200, {"value": {}})},
        {"reply": Reply(404, {"error": "not found"})},
        {"path": "me/messages/a/$value", "reply": Reply(200, {"mail": "x"})},
        {"path": "me/sendMail", "method": "POST", "body": {"message": {}}, "reply": Reply(202, {"id": "a"})},
    ],
)
def test_an_answer_that_graph_would_not_give(look, answered):
    assert len(look(**answered)) == 1


@pytest.mark.parametrize(
    "right",
    [
        {"reply": Reply(200, {"value": [MESSAGE], "@odata.nextLink": "x", "@odata.count": 1}), "top": "5"},
        {"path": "users/a%40b.example/mailFolders('inbox')/messages/delta", "changeType": "created"},
        {"path": "me/messages/a/$value", "reply": Reply(200, b"From: x")},
        {"path": "me/sendMail", "method": "POST", "body": b"eA==", "kind": "text/plain", "reply": Reply(202)},
        {"reply": Reply(429, {"error": {"code": "x", "message": "y"}})},
        {"expand": "singleValueExtendedProperties($filter=id eq 'x')", "select": "id,subject"},
    ],
)
def test_what_is_right_is_no_violation(look, right):
    assert look(**right) == []


def test_notifications_are_looked_at_too(described):
    described.violations.clear()
    described.check_notification({"value": [{"subscriptionId": "no uuid", "changeType": "came"}]})
    assert len(described.violations) == 2


def test_nothing_of_a_mail_or_an_address_stands_in_a_report(look):
    path, wrong = "users/anna%40o.example/messages", {**MESSAGE, "subject": ["our secret"], "from": "secret"}
    found = look(path=path, reply=Reply(200, {"value": [wrong]}))
    assert len(found) == 2
    assert not any(word in line for word in ("anna", "secret") for line in found)
