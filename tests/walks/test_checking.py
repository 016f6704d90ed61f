"""Health and the doctor: each failure is named with its fix."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox.issuer import AUDIENCE, Issuer
from shared import bootstrap, checking, integrating, roundtrip, scheduling
from shared.callers import Tokens
from shared.contract import PutIntegration
from shared.errors import RateLimited, Temporary
from shared.providers.pop3 import Pop3Receiver
from shared.settings import load
from shared.storage.base import Due, Save
from tests import exchange
from tests.doors import Guard, guarded
from tests.providers.parts import connection
from tests.providers.scripted import ScriptedImap, ScriptedPop3, ScriptedSmtp
from tests.scenes import caller, clear, health


@pytest.mark.parametrize(
    ("place", "part"), [(1, "tables"), (2, "blobs"), (3, "vault"), (4, "queues"), (6, "schedule")]
)
def test_a_part_that_does_not_answer_is_named(scene, place, part):
    guard = Guard(place, "error", lambda _: Temporary("It does not answer.", fix="Start it."))
    scene.clock.advance(seconds=10)
    found = health(guarded(scene.app, guard))
    assert found.status == "failed"
    failed = [check for check in found.checks if check.status == "failed"]
    assert [(check.name, check.fix) for check in failed] == [(part, "Start it.")]


def test_who_asks_again_and_again_asks_the_parts_no_more_often(scene):
    guard = Guard()
    app = guarded(scene.app, guard)
    scene.clock.advance(seconds=10)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: health(app), range(40)))
    assert guard.count("vault.") == 1
    assert len(guard.calls) == 6
    assert all(one is found[0] for one in found)
    scene.clock.advance(seconds=5)
    health(app)
    assert guard.count("vault.") == 2


def part(found, name):
    return next(check for check in found.checks if check.name == name)


def test_a_part_whose_setting_is_wrong_is_named_with_the_setting_and_what_came_of_it_is_in_the_log(
    scene, caplog
):
    environment = {**scene.world.environment(), "KEY_VAULT_VERIFY_CHALLENGE": "true"}
    found = health(bootstrap.build(load(environment), scene.clock))
    assert found.status == "failed"
    check = part(found, "vault")
    assert (check.status, check.detail) == ("failed", "The part is misconfigured.")
    assert "KEY_VAULT_VERIFY_CHALLENGE" in check.fix
    assert part(found, "tables").status == "ok"
    [line] = [json.loads(record.getMessage()) for record in caplog.records if record.name == "zalion"]
    assert (line["event"], line["level"], line["part"]) == ("health.failed", "ERROR", "vault")
    assert line["error"]["class"] == "builtins.ValueError"


def test_a_token_issuer_that_did_not_answer_is_named_and_not_asked_again_for_that(scene):
    issuer = Issuer()
    tokens = Tokens(issuer.url, AUDIENCE, f"{issuer.url}/jwks.json")
    issuer.fail_next(1, 503)
    with pytest.raises(Temporary):
        tokens.caller(f"Bearer {issuer.issue('org-1', 'anna@imap.example')}")
    asked = issuer.calls.total()
    scene.clock.advance(seconds=10)
    found = checking.health(scene.app, tokens)
    issuer.stop()
    assert (found.status, part(found, "issuer").status) == ("degraded", "warning")
    assert "AUTH_JWKS_URL" in part(found, "issuer").fix
    assert issuer.calls.total() == asked


def test_work_that_no_timer_has_taken_up_is_shown_and_is_no_reason_to_restart_the_app(scene):
    def schedule():
        scene.clock.advance(seconds=10)
        found = health(scene.app)
        return found.status, part(found, "schedule")

    clear(scene.app)
    assert schedule()[1].status == "ok"
    scene.app.schedule.put(Due(scene.clock() - timedelta(hours=3), "outbox", scene.org_id, "-"))
    status, check = schedule()
    assert (status, check.status) == ("degraded", "warning")
    assert check.detail in {"Work is 180 minutes overdue.", "Work is 181 minutes overdue."}
    assert "tick" in check.fix
    scheduling.tick(scene.app)
    assert schedule()[1].status == "ok"


def test_the_doctor_names_what_fails_and_how_to_mend_it(scene):
    for name in ("imap", "smtp"):
        scene.app.grants.store_password(scene.org_id, scene.mailbox.id, name, scene.alice.address, "wrong")
    checks = {check.name: check for check in checking.doctor(scene.app, scene.caller, scene.mailbox.id)}
    for name in ("sign_in_receiving", "sign_in_sending"):
        assert checks[name].status == "failed"
        assert checks[name].fix


def test_the_doctor_shows_each_server_a_wrong_password_once(scene):
    tls = scene.world.authority.server_context()
    imap = ScriptedImap(tls, {"AUTHENTICATE": "%t NO [AUTHENTICATIONFAILED] wrong"})
    with imap, ScriptedSmtp(tls, {"AUTH": "535 5.7.8 wrong"}) as smtp:
        places = {
            name: {"host": "localhost", "port": server.port, "security": "tls"}
            for name, server in (("imap", imap), ("smtp", smtp))
        }
        scene.app.records.commit(scene.org_id, Save(replace(scene.mailbox, settings=places)))
        checks = examined(scene)
    assert [sum("AUTH" in line for line in server.said) for server in (imap, smtp)] == [1, 1]
    for name in ("round_trip", "sent_copy"):
        assert (checks[name].status, "lock the account" in checks[name].detail) == ("skipped", True)


def test_where_one_system_does_both_the_doctor_shows_it_a_wrong_password_once(world, app, clock):
    scene, accounts = exchange.build(world, app, clock), world.exchange.accounts
    app.grants.store_password(scene.org_id, scene.mailbox.id, "ews", scene.alice.address, "wrong")
    before = accounts.attempts["bad"]
    checks = examined(scene)
    assert accounts.attempts["bad"] == before + 1
    names = ("sign_in_receiving", "sign_in_sending", "round_trip", "sent_copy")
    assert [checks[name].status for name in names] == ["failed", *["skipped"] * 3]


def test_a_server_that_is_slow_and_wants_pauses_is_named_for_that_and_no_mail_is(scene):
    def slowly(line):
        time.sleep(0.3 if line.startswith("PASS") else 0)
        return usual(line)

    tls = scene.world.authority.server_context()
    replies = {"PASS": "-ERR [LOGIN-DELAY] too soon", "CAPA": "+OK\nLOGIN-DELAY 1\n."}
    with ScriptedPop3(tls, replies) as server:
        usual, server.answer = server.answer, slowly
        receiver = Pop3Receiver(connection(server.port))
        with pytest.raises(RateLimited) as caught:
            roundtrip.in_time(lambda: receiver.check() is None, longest_pause=60, seconds=0.5)
        assert len(server.asked("PASS")) > 1
        assert "too soon" in caught.value.detail


def test_the_doctor_finds_what_is_well_and_leaves_one_copy(scene):
    checks = checking.doctor(scene.app, scene.caller, scene.mailbox.id)
    assert {check.status for check in checks} == {"ok", "skipped"}
    assert len(scene.alice.inbox("Sent")) == 1
    assert scene.sync()["ignore"] == 2
    assert scene.timeline() == []


@pytest.mark.parametrize("side", ["imap", "smtp"])
def test_every_failed_check_has_a_fix_and_a_wrong_port_says_what_to_check(scene, side):
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = {"host": "localhost", "port": server.getsockname()[1], "security": "tls"}
    settings = {**scene.mailbox.settings, side: nobody}
    scene.app.records.commit(scene.org_id, Save(replace(scene.mailbox, settings=settings)))
    failed = {name: check.fix for name, check in examined(scene).items() if check.status == "failed"}
    assert "Check host and port" in failed["sign_in_receiving" if side == "imap" else "sign_in_sending"]
    assert all(failed.values()), failed


def test_a_server_that_asks_to_try_later_is_a_failed_check_with_a_fix(scene):
    with ScriptedImap(
        scene.world.authority.server_context(), {}, greeting="* BYE [UNAVAILABLE] later"
    ) as imap:
        place = {"host": "localhost", "port": imap.port, "security": "tls"}
        settings = {**scene.mailbox.settings, "imap": place}
        scene.app.records.commit(scene.org_id, Save(replace(scene.mailbox, settings=settings)))
        check = examined(scene)["sign_in_receiving"]
    assert check.status == "failed"
    assert "later" in check.detail
    assert check.fix == checking.AGAIN


def examined(scene):
    return {check.name: check for check in checking.doctor(scene.app, scene.caller, scene.mailbox.id)}


@pytest.fixture
def rule(scene):
    def rule(**settings):
        admin = caller(scene.org_id, "admin@imap.example", "admin")
        integrating.put(scene.app, admin, "smtp", PutIntegration(approved=True, settings=settings))

    return rule


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"allowedRecipients": ["supplier.example"]}, "address is not allowed"),
        ({"allowedSenders": ["elsewhere.example"]}, "may not send"),
        ({"allowedSenders": ["imap.example"]}, "not proven"),
    ],
)
def test_the_doctors_mail_obeys_the_rules_and_a_refusal_is_what_it_found(scene, rule, settings, says):
    rule(**settings)
    checks = examined(scene)
    assert checks["sign_in_sending"].status == "ok"
    assert (checks["round_trip"].status, says in checks["round_trip"].detail) == ("failed", True)
    assert checks["round_trip"].fix
    assert checks["sent_copy"].status == "failed"
    assert scene.alice.inbox() == scene.alice.inbox("Sent") == []


def test_the_doctors_mail_is_one_of_the_hour(scene, rule):
    rule(maxPerHour=2, allowedRecipients=[scene.alice.address, "supplier.example"])
    assert examined(scene)["round_trip"].status == "ok"
    assert scene.sent().state == "sent"
    refused = examined(scene)["round_trip"]
    assert (refused.status, "within an hour" in refused.detail) == ("failed", True)
    assert len(scene.alice.inbox()) == 1
    scene.clock.advance(minutes=63)
    assert examined(scene)["round_trip"].status == "ok"


def test_a_doctors_mail_that_never_leaves_is_not_counted(scene, rule):
    rule(maxPerHour=1)
    scene.app.grants.store_password(scene.org_id, scene.mailbox.id, "smtp", scene.alice.address, "wrong")
    assert examined(scene)["sign_in_sending"].status == "failed"
    assert scene.send()
