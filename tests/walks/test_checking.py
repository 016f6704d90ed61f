"""Health and the doctor: each failure is named with its fix."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import checking
from shared.errors import Temporary
from tests.doors import Guard, guarded


@pytest.mark.parametrize(("place", "part"), [(1, "tables"), (2, "blobs"), (3, "vault"), (4, "queues")])
def test_a_part_that_does_not_answer_is_named(scene, place, part):
    guard = Guard(place, "error", lambda _: Temporary("It does not answer.", fix="Start it."))
    scene.clock.advance(seconds=10)
    health = checking.health(guarded(scene.app, guard))
    assert health.status == "failed"
    failed = [check for check in health.checks if check.status == "failed"]
    assert [(check.name, check.fix) for check in failed] == [(part, "Start it.")]


def test_who_asks_again_and_again_asks_the_parts_no_more_often(scene):
    guard = Guard()
    app = guarded(scene.app, guard)
    scene.clock.advance(seconds=10)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: checking.health(app), range(40)))
    assert guard.count("vault.") == 1
    assert len(guard.calls) == 5
    assert all(health is found[0] for health in found)
    scene.clock.advance(seconds=5)
    checking.health(app)
    assert guard.count("vault.") == 2


def test_the_doctor_names_what_fails_and_how_to_mend_it(scene):
    for name in ("imap", "smtp"):
        scene.app.grants.store_password(scene.org_id, scene.mailbox.id, name, scene.alice.address, "wrong")
    checks = {check.name: check for check in checking.doctor(scene.app, scene.caller, scene.mailbox.id)}
    for name in ("sign_in_receiving", "sign_in_sending", "round_trip", "sent_copy"):
        assert checks[name].status == "failed"
        assert checks[name].fix


def test_the_doctor_finds_what_is_well_and_leaves_one_copy(scene):
    checks = checking.doctor(scene.app, scene.caller, scene.mailbox.id)
    assert {check.status for check in checks} == {"ok", "skipped"}
    assert len(scene.alice.inbox("Sent")) == 1
    assert scene.sync()["ignore"] == 2
    assert scene.timeline() == []
