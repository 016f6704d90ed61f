"""Notifications over HTTP, as Graph posts them: proven by what they carry, acknowledged at once."""

import json
import time

import pytest
import requests

from shared import bootstrap, noticing
from shared.settings import load
from tests import microsoft
from tests.scenes import Clock


@pytest.fixture
def post(api):
    def post(body, path="/notifications/microsoft", **options):
        return requests.post(f"{api}{path}", data=body, timeout=30, **options)

    return post


@pytest.fixture(scope="module")
def app(world):
    """The app of this process: it shares the host's storage and keys."""
    return bootstrap.build(load(world.environment()), Clock())


@pytest.mark.parametrize("path", ["/notifications/microsoft", "/notifications/microsoft/lifecycle"])
def test_the_handshake_is_answered_with_the_bare_decoded_token(post, path):
    token = "Validation: Testing client application reachability for subscription Request-Id: a+b/c= ä"
    answer = post(b"", path, params={"validationToken": token}, headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.content.decode()) == (200, token)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(post(b"", path, params={"validationToken": "x" * 3000}).content) == 1024


def test_a_genuine_notice_is_acknowledged_and_the_mailbox_looked_at(office, app, post):
    path = f"/mailboxes/{office.mailbox_id}"
    before = office.alice_("GET", path).json()["syncedAt"]
    secret = noticing.secret_of(app, office.org_id, office.mailbox_id)
    answer = post(json.dumps({"value": [{"clientState": secret, "changeType": "created"}]}))
    assert answer.status_code == 202
    deadline = time.monotonic() + 20
    while office.alice_("GET", path).json()["syncedAt"] == before:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (
            b'{"value":[{"subscriptionId":"unknown","clientState":"wrong"},{"lifecycleEvent":"missed"},7]}',
            202,
        ),
        (b'{"value":[]}', 202),
        (b"no json", 400),
        (b"", 400),
        (b'{"value":[' + b" " * 5_000_000 + b"]}", 400),
    ],
)
@pytest.mark.parametrize("path", ["/notifications/microsoft", "/notifications/microsoft/lifecycle"])
def test_a_forged_or_senseless_notice_changes_nothing_and_costs_no_call(
    office, world, post, body, status, path
):
    called = len(world.graph.requests)
    before = office.admin("GET", f"/audit?mailboxId={office.mailbox_id}&limit=100").json()["items"]
    answer = post(body, path)
    assert answer.status_code == status
    if status != 202:
        assert answer.headers["Content-Type"] == "application/problem+json"
    after = office.admin("GET", f"/audit?mailboxId={office.mailbox_id}&limit=100").json()["items"]
    assert answer.headers["X-Correlation-Id"] not in {item["correlationId"] for item in after}
    if after == before:  # else a poll came by
        assert len(world.graph.requests) == called


def test_a_provider_without_push_is_not_found(post):
    assert post(b"{}", "/notifications/imap").status_code == 404
    assert post(b"{}", "/notifications/nonsense").status_code in {400, 404}


def test_many_renewals_due_at_once_are_made_side_by_side_within_bounds(world, api):
    """The timer enqueues, and the host runs so many jobs at once; `make bench` does it with a thousand."""
    scene = microsoft.office(world)
    due = microsoft.many_due(scene, 60)
    with microsoft.Gauge(world.graph, "/subscriptions", meeting=10) as gauge:
        answer = requests.post(f"{api.removesuffix('/api')}/admin/functions/tick", json={}, timeout=20)
        assert answer.status_code == 202, answer.text
        deadline = time.monotonic() + 180
        while any(one.reauthorized == 0 for one in due):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    scene.bell.stop()
    assert 1 < gauge.most <= microsoft.AT_ONCE
    assert {one.reauthorized for one in due} <= {1, 2}  # the host's own minute may tick at the same moment
