"""Logs: one JSON line an event, known fields, and nobody else's words."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared import logs
from shared.errors import Temporary

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    logs.configure("INFO")
    yield
    logs.configure("INFO")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records]


def test_an_event_is_one_json_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    logs.log("mailbox.read", outcome="done", mailbox_id="m1", case_id=None, file=2, retry_after=1.5)
    [line] = lines(caplog)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "event": "mailbox.read",
        "outcome": "done",
        "mailbox_id": "m1",
        "file": 2,
        "retry_after": 1.5,
    }


def test_a_field_that_is_not_known_raises_even_where_nothing_would_be_logged() -> None:
    with pytest.raises(TypeError, match="subject"):
        logs.log("mail.filed", level=logging.DEBUG, subject="Offer")  # type: ignore[call-arg]


def test_what_is_bound_is_in_every_line_inside_and_in_none_outside(caplog: pytest.LogCaptureFixture) -> None:
    with logs.bind(correlation_id="c1", job="sync"):
        with logs.bind(org_id="o1", mailbox_id=None):
            logs.log("in")
            assert logs.correlation_id() == "c1"
        logs.log("between")
    logs.log("out")
    inside, between, outside = lines(caplog)
    assert (inside["correlation_id"], inside["job"], inside["org_id"]) == ("c1", "sync", "o1")
    assert "org_id" not in between
    assert "correlation_id" not in outside
    assert logs.correlation_id() == ""


def test_threads_do_not_share_what_is_bound() -> None:
    def look(_: int) -> str:
        return logs.correlation_id()

    with logs.bind(correlation_id="mine"), ThreadPoolExecutor(1) as pool:
        assert list(pool.map(look, [1])) == [""]


def test_what_was_bound_is_unbound_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), logs.bind(correlation_id="c"):
        _ = 1 / 0
    assert logs.correlation_id() == ""


def fail(password: str) -> None:
    raise ValueError(f"LOGIN ann {password} failed")


def test_a_foreign_exception_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    try:
        fail("hunter2")
    except ValueError as error:
        logs.log("job.failed", level=logging.ERROR, error=error)
    [line] = lines(caplog)
    assert line["level"] == "ERROR"
    assert line["error"]["class"] == "builtins.ValueError"
    assert [frame.rpartition(" ")[2] for frame in line["error"]["stack"]][-1] == "fail"
    assert "hunter2" not in caplog.text
    assert "LOGIN" not in caplog.text


def test_our_own_errors_are_told_in_words_and_their_causes_by_class(caplog: pytest.LogCaptureFixture) -> None:
    try:
        try:
            fail("hunter2")
        except ValueError as cause:
            raise Temporary("The server cannot be reached.") from cause
    except Temporary as error:
        logs.log("job.postponed", error=error)
    [line] = lines(caplog)
    assert (line["error"]["code"], line["error"]["detail"]) == ("temporary", "The server cannot be reached.")
    assert line["error"]["causes"] == ["builtins.ValueError"]
    assert "hunter2" not in caplog.text


def test_no_address_that_a_mail_server_quotes_is_in_our_log(caplog: pytest.LogCaptureFixture) -> None:
    said = "The mail server asks to try again later: 450 4.2.0 <anna@supplier.example>: greylisted"
    logs.log("job.postponed", error=Temporary(said))
    [line] = lines(caplog)
    assert line["error"]["detail"] == said.replace("anna@supplier.example", "(address)")


def test_what_ends_a_job_is_an_error_in_our_log_whatever_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Temporary), logs.telling("tick.failed"):
        raise Temporary("The store does not let the app in.")
    with pytest.raises(RuntimeError) as caught, logs.telling("tick.failed"):
        fail("hunter2")
    assert [(line["event"], line["level"]) for line in lines(caplog)] == [("tick.failed", "ERROR")] * 2
    assert "hunter2" not in caplog.text + str(caught.value)
    assert caught.value.__suppress_context__


def test_nothing_breaks_out_of_its_line(caplog: pytest.LogCaptureFixture) -> None:
    logs.log("request.refused", route='x\n{"event":"forged"}\r\u2028\udcff')
    assert len(caplog.records[0].getMessage().splitlines()) == 1


def test_libraries_that_talk_too_much_are_quiet() -> None:
    for name in (
        "azure.core.pipeline.policies.http_logging_policy",
        "urllib3.connectionpool",
        "msal.token_cache",
        "imapclient.imaplib",
    ):
        assert logging.getLogger(name).getEffectiveLevel() == logging.WARNING


def test_the_level_is_what_was_configured(caplog: pytest.LogCaptureFixture) -> None:
    logs.configure("ERROR")
    logs.log("quiet")
    logs.log("loud", level=logging.ERROR)
    assert [line["event"] for line in lines(caplog)] == ["loud"]
