"""Who may what at Graph, how much at once, and several requests in one."""

import base64
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from threading import Event

import pytest

from tests import graph_contract

INBOX = "/me/mailFolders/inbox"


class TestPermissions:
    def test_no_or_a_foreign_token_is_refused_with_a_challenge(self, outlook):
        outlook.token = "foreign"
        answer = outlook.call("GET", INBOX, 401)
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]

    @pytest.mark.parametrize(
        ("scope", "method", "path", "json"),
        [
            ("Mail.Send", "GET", "/me/messages", None),
            ("Mail.Send", "GET", INBOX, None),
            ("Mail.Read", "POST", "/me/sendMail", {"message": {"subject": "x"}}),
            ("Mail.Read", "POST", "/me/messages", {"subject": "x"}),
            ("Mail.Send", "POST", "/me/messages", {"subject": "x"}),
            ("Mail.Read", "POST", "/me/mailFolders", {"displayName": "x"}),
            ("User.Read", "POST", "/subscriptions", {"resource": "me/messages"}),
        ],
    )
    def test_every_call_needs_its_scope(self, office, outlook, scope, method, path, json):
        assert office.outlook(scope).refused(method, path, 403, json=json) == "ErrorAccessDenied"

    def test_reading_needs_one_for_the_content(self, office, outlook):
        id_, basic = outlook.take("x").id, office.outlook("Mail.ReadBasic")
        shown = basic.get(f"/me/messages/{id_}")
        assert shown["subject"] == "x"
        assert not {"body", "bodyPreview", "uniqueBody"} & {*shown}
        for path, options in (
            (f"/me/messages/{id_}/$value", {}),
            (f"/me/messages/{id_}/attachments", {}),
            ("/me/messages", {"search": '"x"'}),
            ("/me/messages", {"expand": "attachments"}),
        ):
            assert basic.refused("GET", path, 403, **options) == "ErrorAccessDenied"

    def test_what_others_opened_needs_the_shared_scope_and_their_word(self, office, outlook):
        team = office.outlook(name="team")
        path = f"/users/{team.address}/messages"
        assert outlook.refused("GET", path, 403) == "ErrorAccessDenied"
        team.box.grant_access(outlook.address, "full_access")
        assert outlook.get(path)["value"] == []
        assert office.outlook("Mail.Read").refused("GET", path, 403) == "ErrorAccessDenied"

    def test_the_app_itself_reaches_everybody_or_those_it_is_restricted_to(self, office, outlook):
        other, app = office.outlook(name="other"), office.daemon()
        for address in (outlook.address, other.address):
            app.get(f"/users/{address}/mailFolders/inbox")
        office.world.graph.restricted[office.app.client_id] = {outlook.address}
        app.get(f"/users/{outlook.address}/mailFolders/inbox")
        assert app.refused("GET", f"/users/{other.address}/mailFolders/inbox", 403) == "ErrorAccessDenied"
        assert app.refused("GET", INBOX, 400) == "BadRequest"

    def test_nobody_sees_into_another_directory(self, office, outlook):
        stranger = type(office).of(office.world).outlook(name="stranger")
        code = stranger.refused("GET", f"/users/{outlook.address}/messages", 404)
        assert code == "ErrorInvalidUser"

    def test_a_mailbox_may_be_elsewhere(self, outlook):
        outlook.box.enabled = False
        assert outlook.refused("GET", INBOX, 404) == "MailboxNotEnabledForRESTAPI"


class TestThrottling:
    def test_four_at_once_are_served_and_the_others_told_to_wait(self, outlook):
        url, headers = f"{outlook.world.graph.base}{INBOX}", {"Authorization": f"Bearer {outlook.token}"}
        gate = outlook.world.graph.faults.gate = Event()
        with ThreadPoolExecutor(7) as pool:
            asked = [pool.submit(outlook.session.get, url, headers=headers) for _ in range(7)]
            refused = [one.result() for one in islice(as_completed(asked, timeout=20), 3)]
            gate.set()
        assert sorted(one.result().status_code for one in asked) == [200] * 4 + [429] * 3
        assert {one.headers["Retry-After"] for one in refused} == {"1"}
        assert all("MailboxConcurrency" in one.json()["error"]["message"] for one in refused)

    def test_one_mailbox_does_not_slow_another(self, office, outlook):
        other = office.outlook(name="other")
        outlook.world.graph.faults.throttled[outlook.address] = 1
        other.get(INBOX)
        outlook.call("GET", INBOX, 429)

    @pytest.mark.parametrize(("kind", "status"), [("throttled", 429), ("unavailable", 503)])
    def test_a_storm_names_when_to_come_back_and_passes(self, outlook, kind, status):
        faults = outlook.world.graph.faults
        faults.retry_after = 7
        getattr(faults, kind)[outlook.address] = 2
        assert [outlook.call("GET", INBOX, status).headers["Retry-After"] for _ in range(2)] == ["7", "7"]
        outlook.get(INBOX)

    def test_it_may_not_say_when(self, outlook):
        faults = outlook.world.graph.faults
        faults.retry_after, faults.unavailable[outlook.address] = 0, 1
        assert "Retry-After" not in outlook.call("GET", INBOX, 503).headers


class TestBatches:
    def ask(self, outlook, *requests, status=200):
        numbered = [{"id": str(n), "method": "GET", **one} for n, one in enumerate(requests)]
        return outlook.call("POST", "/$batch", status, json={"requests": numbered}).json()

    def answers(self, outlook, *requests):
        found = self.ask(outlook, *requests)["responses"]
        return [one for _, one in sorted((int(one["id"]), one) for one in found)]

    def test_each_is_answered_on_its_own_and_in_another_order(self, outlook):
        id_ = outlook.take("x").id
        found = self.ask(outlook, {"url": f"/me/messages/{id_}"}, {"url": "/me/messages/none"})["responses"]
        assert [(one["id"], one["status"]) for one in found] == [("1", 404), ("0", 200)]
        assert found[1]["body"]["subject"] == "x"

    def test_one_that_is_throttled_does_not_spoil_the_rest(self, outlook):
        outlook.world.graph.faults.throttled[outlook.address] = 1
        found = self.answers(outlook, {"url": INBOX}, {"url": INBOX})
        assert sorted(one["status"] for one in found) == [200, 429]
        assert [one["headers"]["Retry-After"] for one in found if one["status"] == 429] == ["1"]

    def test_bytes_come_as_base64(self, outlook):
        item = outlook.take("x")
        (one,) = self.answers(outlook, {"url": f"/me/messages/{item.id}/$value"})
        assert base64.b64decode(one["body"]) == item.raw

    def test_what_depends_on_a_failure_is_not_tried(self, outlook, ben):
        body = {"message": {"subject": "x", "toRecipients": [{"emailAddress": {"address": ben.address}}]}}
        act = {
            "method": "POST",
            "url": "/me/sendMail",
            "body": body,
            "headers": {"Content-Type": "application/json"},
        }
        first, second = self.answers(outlook, {"url": "/me/messages/none"}, {**act, "dependsOn": ["0"]})
        assert (first["status"], second["status"]) == (404, 424)
        assert ben.inbox() == []

    def test_twenty_at_most_and_each_with_its_own_id(self, outlook):
        with graph_contract.broken(outlook.world.graph):
            self.ask(outlook, *[{"url": INBOX}] * 21, status=400)
        self.ask(outlook, {"url": INBOX}, {"url": INBOX, "id": "0"}, status=400)


def test_requests_are_noted_without_ids(outlook):
    id_ = outlook.take("x").id
    outlook.get(f"/me/messages/{id_}", select="subject")
    assert outlook.world.graph.requests[-1] == ("GET", "messages/{id}", outlook.address, ("$select",))
