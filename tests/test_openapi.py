"""The contract says what is really answered, also where that is no JSON."""

import json
import re
from pathlib import Path

import pytest

import function_app
from handlers import calls, openapi
from shared import audit, drafts
from shared.errors import InvalidRequest
from shared.providers import registry

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


def test_what_a_call_does_besides_is_told_and_who_may():
    doctor = operation("post", "/mailboxes/{mailboxId}/test")
    assert doctor["summary"].startswith("The doctor")
    assert "A mailbox that stopped goes on where nobody has to sign in" in doctor["description"]
    assert doctor["description"].endswith("Who: owner of the mailbox, or admin.")


def test_calls_are_grouped_by_what_they_are_about():
    document = openapi.document()
    told = {tag["name"]: tag["description"] for tag in document["tags"]}
    used = {tag for item in document["paths"].values() for each in item.values() for tag in each["tags"]}
    assert set(told) == used
    assert all(told.values())
    assert operation("post", "/cases/{caseId}/emails")["tags"] == ["cases"]
    assert operation("get", "/openapi.json")["tags"] == ["service"]
    assert "Authorization: Bearer" in document["info"]["description"]


def test_whoever_needs_a_token_is_told_what_comes_of_none():
    for name, described in every_operation():
        assert ("401" in described["responses"]) is (described.get("security") != []), name
    assert media("get", "/mailboxes", "401") == {"application/problem+json"}


def every_operation():
    assert function_app.app
    for path, item in openapi.document()["paths"].items():
        for method, described in item.items():
            yield f"{method} {path}", described


def test_a_page_of_another_origin_may_read_every_header_that_the_contract_names():
    """https://fetch.spec.whatwg.org/#http-access-control-expose-headers; browsers follow `Location` themselves."""
    host = json.loads((Path(__file__).parents[1] / "host.json").read_text())
    exposed = host["extensions"]["http"]["customHeaders"]["Access-Control-Expose-Headers"].split(", ")
    answers = [answer for _, described in every_operation() for answer in described["responses"].values()]
    named = {name for answer in answers for name in answer.get("headers", {})}
    assert named - {"Location"} <= {*exposed}
    assert "Content-Disposition" in exposed


def schema_of(method, path, name):
    [found] = [p["schema"] for p in operation(method, path)["parameters"] if p["name"] == name]
    return found


def test_a_key_is_described_as_it_is_checked():
    for path in ("/cases/{caseId}/emails", "/cases/{caseId}/drafts/{draftId}/send"):
        [header] = [p for p in operation("post", path)["parameters"] if p["in"] == "header"]
        schema = header["schema"]
        assert header["required"]
        assert (schema["minLength"], schema["maxLength"]) == (1, 255)
        for key in ("!", "~" * 255, "", "x" * 256, "a b", "ä"):
            fits = re.search(schema["pattern"], key) is not None
            assert fits == (1 <= len(key) <= 255 and key.isascii() and " " not in key)
            if fits:
                assert drafts.idempotency_key(key) == key
            else:
                with pytest.raises(InvalidRequest):
                    drafts.idempotency_key(key)


def test_what_stands_in_a_path_is_described_as_it_is_checked():
    case = schema_of("put", "/cases/{caseId}", "caseId")
    for given in ("C-1", "~", "-1", "a b", "x" * 129, ""):
        fits = re.search(case["pattern"], given) is not None
        assert fits is bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", given))
        if not fits:
            with pytest.raises(InvalidRequest):
                drafts.case_id(given)
    assert schema_of("put", "/integrations/{provider}", "provider")["enum"] == [*registry.names()]
    number = schema_of("get", "/cases/{caseId}/emails/{emailId}/attachments/{attachmentId}", "attachmentId")
    assert number == {"type": "integer", "minimum": 0, "maximum": 999_999_999}
    assert (calls.whole("999999999"), calls.whole("1000000000")) == (999_999_999, None)


def test_every_parameter_says_what_it_is_and_how_long_a_text_may_be():
    for name, described in every_operation():
        for parameter in described["parameters"]:
            assert parameter["description"], name
            ours = described.get("security") != []
            if ours and parameter["in"] == "query" and parameter["schema"]["type"] == "string":
                assert {"maxLength", "format"} & parameter["schema"].keys(), (name, parameter["name"])
    assert schema_of("get", "/mailboxes/{mailboxId}/search", "q")["maxLength"] == calls.LONGEST_TEXT
    assert "maxLength" not in schema_of("get", "/oauth/{provider}/callback", "code")


def test_every_answer_has_its_correlation_id_and_says_how_long_to_wait():
    for name, described in every_operation():
        for status, answer in described["responses"].items():
            assert "X-Correlation-Id" in answer["headers"], (name, status)
        pages = described["description"] == "Who: browser."
        for status in () if pages else ("429", "503"):
            if "application/problem+json" in described["responses"][status]["content"]:
                assert "Retry-After" in described["responses"][status]["headers"], (name, status)


@pytest.mark.parametrize(
    ("path", "default", "most"),
    [
        ("/mailboxes", 50, 100),
        ("/mailboxes/{mailboxId}/search", 25, 100),
        ("/mailboxes/{mailboxId}/reviews", 50, 100),
        ("/cases/{caseId}/emails", 50, 100),
        ("/audit", 100, audit.EXPORT_PAGE),
    ],
)
def test_a_limit_has_its_range_and_its_default(path, default, most):
    expected = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    assert schema_of("get", path, "limit") == expected


def test_a_time_that_is_asked_for_has_its_format():
    for path, names in {
        "/audit": ("from", "to"),
        "/mailboxes/{mailboxId}/search": ("after", "before"),
    }.items():
        for name in names:
            assert schema_of("get", path, name) == {"type": "string", "format": "date-time"}
            [described] = [p for p in operation("get", path)["parameters"] if p["name"] == name]
            assert f"years {calls.FIRST_YEAR} to {calls.LAST_YEAR - 1}" in described["description"]
