"""HTTP triggers on a running host."""

import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sandbox.host.process import HostProcess
from tests.host.conftest import APPS, MakeApp


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    log = tmp_path_factory.mktemp("http") / "log"
    with HostProcess(APPS / "http", environment={"OVERRIDDEN": "from the environment"}, log=log) as running:
        running.log = log
        yield running


def get(host: HostProcess, path: str, **options) -> requests.Response:
    return requests.request(options.pop("method", "GET"), host.url + path, timeout=10, **options)


def test_a_function_sees_method_url_headers_query_and_body_as_azure_shows_them(host: HostProcess):
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
    connection.putrequest("POST", "/api/echo?a=1&a=2&empty=&b=%C3%A4")
    for name, value in [("X-One", "1"), ("X-One", "2"), ("Content-Length", "4")]:
        connection.putheader(name, value)
    connection.endheaders(b"body")
    seen = json.load(connection.getresponse())
    assert seen["method"] == "POST"
    assert seen["url"] == f"{host.url}/api/echo?a=1&a=2&empty=&b=%C3%A4"
    assert seen["headers"]["x-one"] == "1,2"
    assert seen["query"] == {"a": "1,2", "b": "ä"}
    assert seen["body"] == "body"


def test_a_body_without_content_length_does_not_reach_the_function(host: HostProcess):
    answer = get(host, "/api/echo", method="POST", data=iter([b"chunk", b"ed"]))
    assert answer.json()["body"] == ""


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("/api/items/special", "items/special", {}),
        ("/API/Items/Special/", "items/special", {}),
        ("/api/items/12", "items/{number:int}", {"number": "12"}),
        ("/api/items/twelve", "items/{name}", {"name": "twelve"}),
        ("/api/items/Gr%C3%BC%C3%9Fe%20x", "items/{name}", {"name": "Grüße x"}),
        ("/api/items/a%2Fb", "items/{name}", {"name": "a%2Fb"}),
        ("/api/pages", "pages/{page?}", {}),
        ("/api/pages/3", "pages/{page?}", {"page": "3"}),
        ("/api/files", "files/{*rest}", {}),
        ("/api/files/a/b.txt", "files/{*rest}", {"rest": "a/b.txt"}),
    ],
)
def test_the_most_specific_route_answers(host: HostProcess, path: str, route: str, params: dict[str, str]):
    seen = get(host, path).json()
    assert (seen["route"], seen["params"]) == (route, params)


def test_the_method_chooses_between_functions_of_one_route(host: HostProcess):
    assert get(host, "/api/items/x", method="DELETE").json()["route"] == "DELETE items/{name}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/echo"),
        ("GET", "/api/nothing-here"),
        ("GET", "/echo"),
        ("GET", "/"),
        ("GET", "/api/pages/1/2"),
    ],
)
def test_a_wrong_method_or_path_is_404(host: HostProcess, method: str, path: str):
    assert get(host, path, method=method).status_code == 404


def test_bytes_status_and_several_cookies_come_through(host: HostProcess):
    answer = get(host, "/api/cookies")
    assert (answer.status_code, answer.content) == (201, b"\x00\xff")
    assert answer.cookies.get_dict() == {"a": "1", "b": "2"}
    assert "HttpOnly" in answer.headers["Set-Cookie"]


def test_an_empty_answer_is_204_without_a_body(host: HostProcess):
    answer = get(host, "/api/nothing")
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_returned_string_is_text(host: HostProcess):
    answer = get(host, "/api/text")
    assert (answer.text, answer.headers["Content-Type"]) == ("grüße", "text/plain; charset=utf-8")


@pytest.mark.parametrize("path", ["/api/fails", "/api/returns-a-dict"])
def test_a_failing_function_is_500_without_a_body(host: HostProcess, path: str):
    answer = get(host, path)
    assert (answer.status_code, answer.content) == (500, b"")


def test_custom_headers_of_host_json_are_added_unless_the_function_set_them(host: HostProcess):
    assert get(host, "/api/nothing").headers["X-Own"] == "host"
    answer = get(host, "/api/cookies")
    assert (answer.headers["X-Own"], answer.headers["X-Content-Type-Options"]) == ("function", "nosniff")


def test_local_settings_fill_the_environment_but_do_not_overwrite_it(host: HostProcess):
    values = get(host, "/api/settings").json()
    assert values == {"GREETING": "from the file", "OVERRIDDEN": "from the environment"}


def test_an_allowed_origin_is_named_and_another_is_not(host: HostProcess):
    allowed = get(host, "/api/nothing", headers={"Origin": "https://app.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
    foreign = get(host, "/api/nothing", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in foreign.headers


def test_a_preflight_is_answered_by_the_host(host: HostProcess):
    asked = {
        "Origin": "https://other.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    answer = get(host, "/api/echo", method="OPTIONS", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Methods"] == "POST"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type"


def test_each_invocation_is_one_log_line_without_what_went_in(host: HostProcess):
    get(host, "/api/echo?question=payload-in-the-query", method="POST", data="payload-in-the-body")
    get(host, "/api/settings")
    log = host.log.read_text()
    assert "payload" not in log
    assert [line.split()[-1] for line in log.splitlines() if " echo_plain " in line][-1] == "Succeeded"
    assert '{"message": "already JSON"}' in log.splitlines()


def test_without_a_key_setting_keys_are_not_asked_for(host: HostProcess):
    assert get(host, "/api/protected").text == "in"


def test_with_a_key_setting_function_level_and_admin_need_it_and_anonymous_does_not(tmp_path: Path):
    with HostProcess(
        APPS / "http", environment={"SANDBOX_FUNCTION_KEY": "s3cret"}, log=tmp_path / "log"
    ) as host:
        assert get(host, "/api/text").status_code == 200
        assert get(host, "/api/nothing-here").status_code == 404
        assert get(host, "/api/protected").status_code == 401
        assert get(host, "/api/protected", headers={"x-functions-key": "wrong"}).status_code == 401
        assert get(host, "/api/protected", headers={"x-functions-key": "s3cret"}).text == "in"
        assert get(host, "/api/protected?code=s3cret").text == "in"
        assert get(host, "/admin/host/status").status_code == 401
        assert "s3cret" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("prefix", "path"), [("", "/hello"), ("v1/mail", "/v1/mail/hello")])
def test_the_route_prefix_can_be_changed_or_emptied(
    make_app: MakeApp, tmp_path: Path, prefix: str, path: str
):
    source = "@app.route('hello')\ndef hello(req: func.HttpRequest) -> func.HttpResponse:\n    return func.HttpResponse('hi')\n"
    folder = make_app(source, {"version": "2.0", "extensions": {"http": {"routePrefix": prefix}}})
    with HostProcess(folder, log=tmp_path / "log") as host:
        assert get(host, path).text == "hi"


def test_only_timers_and_queues_can_be_run_by_hand(host: HostProcess):
    assert get(host, "/admin/functions/echo_plain", method="POST", json={}).status_code == 404
    assert get(host, "/admin/functions/unknown", method="POST", json={}).status_code == 404


def test_a_kept_connection_answers_without_delay(host: HostProcess):
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
    started = time.monotonic()
    for _ in range(50):
        connection.request("GET", "/api/text")
        connection.getresponse().read()
    assert time.monotonic() - started < 1  # 2 s with Nagle's algorithm


def test_many_requests_at_once_are_all_answered(host: HostProcess):
    connections = [http.client.HTTPConnection("127.0.0.1", host.port, timeout=10) for _ in range(50)]
    for number, connection in enumerate(connections):
        connection.request("GET", f"/api/items/{number}?{urllib.parse.urlencode({'n': number})}")
    answers = [json.load(connection.getresponse()) for connection in connections]
    assert [answer["query"]["n"] for answer in answers] == [str(number) for number in range(50)]
    assert os.getpid() != host.process.pid
