"""The on-call engineer's way to put a poisoned job back, on a real queue service."""

import secrets

import pytest
from azure.storage.queue import QueueServiceClient

from shared import jobs, working
from shared.errors import Temporary
from shared.jobs import Job
from tests.doors import Guard, guarded
from tests.scenes import encoded
from tools import requeue


@pytest.fixture
def poisoned(scene, monkeypatch, world):
    """A job that failed for good, by its correlation id; and one that nobody can read."""
    monkeypatch.setenv("STORAGE", world.environment()["STORAGE"])
    service = QueueServiceClient.from_connection_string(world.environment()["STORAGE"])

    def clear():
        """Have every queue there, as the host does, and nothing in it."""
        for queue in ("sync", "deliver", "sync-poison", "deliver-poison"):
            scene.app.queues.put(queue, "x")
            service.get_queue_client(queue).clear_messages()

    clear()
    name = secrets.token_hex(8)
    app = guarded(scene.app, Guard(fail_at=1, how="error", error=lambda _: Temporary("Away.")))
    working.run(app, encoded(Job("carry", scene.org_id, "c" * 16, attempt=4, correlation_id=name)))
    scene.app.queues.put("sync-poison", "no job")
    yield name
    clear()


def test_without_arguments_it_shows_what_lies_there_and_leaves_it(scene, poisoned, capsys):
    for _ in range(2):
        assert requeue.main([]) == 0
        said = capsys.readouterr().out
        assert f"lies here: deliver  carry      {scene.org_id} {'c' * 16} attempts=5 {poisoned}" in said
        assert "lies here: sync     unreadable" in said
    assert scene.app.queues.length("deliver-poison") == 1
    assert list(scene.waiting()) == []


def test_a_job_is_put_back_by_its_correlation_id_and_its_attempts_begin_anew(scene, poisoned, capsys):
    assert requeue.main([poisoned, "nothing"]) == 1
    assert "not found: nothing" in capsys.readouterr().err
    [text] = list(scene.waiting())
    job = jobs.read(text)
    assert (job.type, job.attempt, job.correlation_id) == ("carry", 0, poisoned)
    assert scene.app.queues.length("deliver-poison") == 0
    assert scene.app.queues.length("sync-poison") == 1


def test_all_are_put_back(scene, poisoned):
    assert requeue.main(["--all"]) == 0
    assert [scene.app.queues.length(f"{queue}-poison") for queue in ("sync", "deliver")] == [0, 0]


def test_without_an_account_it_says_what_to_name(monkeypatch):
    monkeypatch.delenv("STORAGE", raising=False)
    with pytest.raises(SystemExit, match="--account"):
        requeue.main([])
