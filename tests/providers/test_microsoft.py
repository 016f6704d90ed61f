"""What the contract tests do not ask of Microsoft's provider: how it stands its services' bad days."""

import json
import os
import socket
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from sandbox.ca import Authority
from shared.errors import Temporary, Unsupported
from shared.providers import http
from shared.providers.base import Notification, Query, Registration
from shared.providers.microsoft import notices
from shared.providers.microsoft.entra import Entra
from shared.providers.microsoft.results import roles_of
from shared.providers.transport import NotSent
from tests.contracts.stages import Microsoft
from tests.providers.parts import HOSTS, SINCE, id_of, mail


@pytest.fixture
def stage(server):
    stage = Microsoft(server)
    yield stage
    stage.entra.heal()
    stage.system.heal()


@pytest.fixture
def registration(stage):
    secret = stage.app.add_secret()
    places = {"entra": stage.entra.url, "graph": stage.system.base}
    return Registration(
        stage.app.client_id, stage.user.tenant.id, secret, endpoints=places, allowed_hosts=HOSTS
    )


class TestEntra:
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_bad_day_is_waited_out_and_ends_no_grant(self, stage, registration, status):
        entra = Entra()
        entra.application(registration)
        stage.entra.fail_next(4, status, body=b"<html>busy</html>", headers={"Retry-After": "1"})
        with pytest.raises(Temporary):
            entra.renew(registration, "any", ["Mail.Read"])

    def test_whoever_asks_in_circles_is_put_off_for_five_minutes(self, stage, registration):
        stage.entra.refuse_next(50196)
        with pytest.raises(Temporary) as caught:
            Entra().renew(registration, "any", ["Mail.Read"])
        assert caught.value.retry_after >= 300

    def test_its_first_call_may_be_the_one_that_fails(self, stage, registration):
        stage.entra.fail_next(4, 503)
        with pytest.raises(Temporary):
            Entra().application(replace(registration, secret="another"))

    @pytest.mark.parametrize(
        "token", ["", "opaque", "a.b.c", "a.ä.c", "a.bm90IGpzb24.c", "a.eyJyb2xlcyI6MX0.c"]
    )
    def test_a_token_that_is_not_ours_to_read_says_nothing(self, token):
        assert roles_of(token) == frozenset()


class TestIds:
    def test_every_mail_is_known_by_an_id_that_outlives_a_move(self, stage):
        since = datetime.now(UTC) - timedelta(minutes=1)
        raw = mail("Screws", To=stage.address)
        stage.put(raw)
        stage.put(mail("Sent", From=stage.address), "sent")
        receiver = stage.receiver()
        found = [envelope for page in receiver.pages(None, since) for envelope in page.envelopes]
        found += [*receiver.look([id_of(raw)]), *stage.searcher().search(Query(text="Screws")).mails]
        for item in list(stage.box.items.values()):
            stage.box.move(item, "archive")
        assert len(found) == 4
        for envelope in found:
            assert receiver.fetch(envelope.ref)


class TestSearching:
    def test_pages_stay_small_however_much_is_wanted(self, stage):
        for number in range(60):
            stage.put(mail(f"Screws {number}", To=stage.address))
        stage.system.faults.heavy_page = 50
        assert len(stage.searcher().search(Query(text="Screws", limit=55)).mails) == 55
        assert len(stage.searcher().search(Query(limit=55)).mails) == 55

    def test_a_match_names_its_folder_as_the_list_of_folders_does(self, stage):
        above = stage.box.add_folder("Projects")
        below = stage.box.add_folder("Washers", parent=above.id)
        stage.put(mail("Screws", To=stage.address))
        stage.box.move(next(iter(stage.box.items.values())), below.id)
        stage.put(mail("Screws", To=stage.address))
        searcher = stage.searcher()
        places = {one.folder for one in searcher.search(Query(text="Screws")).mails}
        names = {folder.name: folder.role for folder in searcher.folders()}
        assert "Projects/Washers" in places
        assert {names[place] for place in places} == {None, "inbox"}


class TestNotices:
    def test_one_without_a_secret_does_not_spoil_the_others(self):
        items = [{"subscriptionId": "a", "clientState": None, "lifecycleEvent": None}, {"clientState": "s"}]
        posted = Notification(json.dumps({"value": items}).encode())
        assert [one.secret for one in notices(posted)] == ["", "s"]


class TestAnswers:
    """What comes with 200 and is not what Graph says."""

    @pytest.mark.parametrize("body", [b"<html>Sign in to the Wi-Fi</html>", b"null", b"[]"])
    def test_a_page_in_graphs_place_is_waited_out(self, stage, body):
        stage.put(mail("Screws", To=stage.address))
        receiver, sent, searcher = stage.receiver(), stage.sent_folder(), stage.searcher()
        cursor = [page.cursor for page in receiver.pages(None, SINCE)][-1]
        for ask in (
            lambda: list(receiver.pages(None, SINCE)),
            lambda: list(receiver.pages(cursor, SINCE)),
            lambda: list(receiver.look(["<a@x>"])),
            lambda: receiver.returned_headers("id"),
            lambda: sent.find_sent("<a@x>"),
            lambda: searcher.search(Query()),
            searcher.folders,
        ):
            stage.system.fail_next(1, 200, body=body)
            with pytest.raises(Temporary, match="gave an answer that is none"):
                ask()
        assert list(receiver.pages(cursor, SINCE))

    def test_half_a_character_hides_no_mail(self, stage):
        body = b'{"subject": "\\ud83d", "from": "\\ud83d\\ude00", "to": "\\\\ud83d"}'
        stage.system.fail_next(1, 200, body=body)
        api = http.Api(stage.system.base, "It", lambda: "token", lambda _: Temporary(""), HOSTS)
        assert api.call("GET", "/me/messages").json == {
            "subject": "?",
            "from": "\U0001f600",
            "to": "\\ud83d",
        }
        api.close()


class TestHttp:
    @contextmanager
    def api(self, tls):
        """A server that reads a request over TLS, and then answers without it."""
        asked = []

        def serve():
            connection, _ = listener.accept()
            plain = socket.socket(fileno=os.dup(connection.fileno()))
            with suppress(OSError), tls.wrap_socket(connection, server_side=True) as secure:
                asked.append(secure.recv(65536))
                plain.sendall(b"this is no TLS")
            plain.close()

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = Thread(target=serve)
            thread.start()
            base = f"https://localhost:{listener.getsockname()[1]}"
            yield http.Api(base, "It", lambda: "token", lambda _: Temporary(""), HOSTS), asked
            thread.join(10)

    def test_tls_that_breaks_after_the_request_leaves_its_outcome_open(self, tls):
        with self.api(tls) as (api, asked), pytest.raises(Temporary) as caught:
            api.call("POST", "/sendMail", body=b"x")
        assert asked[0].startswith(b"POST /sendMail")
        assert not isinstance(caught.value, NotSent)

    def test_a_stranger_is_sent_nothing(self, tmp_path):
        stranger = Authority(tmp_path)
        with self.api(stranger.server_context()) as (api, asked), pytest.raises(NotSent):
            api.call("POST", "/sendMail", body=b"x")
        assert asked == []


def test_that_no_copy_is_filed_of_what_another_server_sent_is_said(stage):
    sent = stage.sent_folder()
    with pytest.raises(Unsupported) as caught:
        sent.keep_sent(mail(), datetime.now(UTC))
    assert caught.value.fix
    assert stage.box.listed() == []
