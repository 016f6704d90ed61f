"""The contract says what is really answered, also where that is no JSON."""

import pytest

import function_app
from handlers import openapi

pytestmark = pytest.mark.fast


def operation(method, path):
    assert function_app.app
    return openapi.document()["paths"][path][method]


def media(method, path, status):
    return set(operation(method, path)["responses"][status].get("content", {}))


def parameters(method, path, place="query"):
    return {p["name"] for p in operation(method, path)["parameters"] if p["in"] == place}


def test_an_export_of_the_audit_is_lines_and_says_where_it_goes_on():
    assert media("get", "/audit", "200") == {"application/json", "application/x-ndjson"}
    assert "X-Next-Cursor" in operation("get", "/audit")["responses"]["200"]["headers"]


@pytest.mark.parametrize("path", ["/notifications/{provider}", "/notifications/{provider}/lifecycle"])
def test_a_provider_that_asks_whether_we_are_there_gets_its_word_back(path):
    assert parameters("post", path) == {"validationToken"}
    assert media("post", path, "200") == {"text/plain"}
    assert media("post", path, "202") == {"application/json"}


def test_health_tells_its_parts_also_where_one_does_not_answer():
    answers = operation("get", "/health")["responses"]
    assert answers["503"]["content"] == answers["200"]["content"]


def test_a_browser_that_comes_back_gets_a_page_or_is_sent_on():
    for method, path in (
        ("get", "/consent/{provider}/callback"),
        ("get", "/oauth/{provider}/callback"),
        ("post", "/oauth/{provider}/answer"),
    ):
        assert media(method, path, "200") == media(method, path, "default") == {"text/html"}
    consented = operation("get", "/consent/{provider}/callback")["responses"]
    assert "Location" in consented["302"]["headers"]
    assert {"state", "code"} <= parameters("get", "/oauth/{provider}/callback")
    [(kind, form)] = operation("post", "/oauth/{provider}/answer")["requestBody"]["content"].items()
    assert (kind, form["schema"]["required"]) == ("application/x-www-form-urlencoded", ["state", "answer"])


def test_an_attachment_has_a_type_of_its_own():
    path = "/cases/{caseId}/emails/{emailId}/attachments/{attachmentId}"
    assert media("get", path, "200") == {"application/octet-stream", "*/*"}


def test_all_else_is_json_and_problems():
    answers = operation("post", "/cases/{caseId}/emails")["responses"]
    assert list(answers["202"]["content"]) == ["application/json"]
    assert list(answers["default"]["content"]) == ["application/problem+json"]
    assert parameters("post", "/cases/{caseId}/emails", "header") == {"Idempotency-Key"}
