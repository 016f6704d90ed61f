"""The on-call engineer's way to put a poisoned job back, on a real queue service."""

import re
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
    with pytest.raises(SystemExit, match=r"--account .* STORAGE"):
        requeue.main([])


def test_a_message_that_is_no_base64_is_shown_as_unreadable_and_keeps_nothing_from_being_put_back(
    scene, poisoned, world, capsys
):
    service = QueueServiceClient.from_connection_string(world.environment()["STORAGE"])
    service.get_queue_client("deliver-poison").send_message("<not> base64!")
    assert requeue.main([]) == 0
    assert "lies here: deliver  unreadable" in capsys.readouterr().out
    assert requeue.main(["--all"]) == 0
    assert f"put back: deliver  carry      {scene.org_id}" in capsys.readouterr().out
    assert [scene.app.queues.length(f"{queue}-poison") for queue in ("sync", "deliver")] == [0, 0]
    texts = [message.content for message in service.get_queue_client("deliver").receive_messages()]
    assert "<not> base64!" in texts


def test_whoever_has_not_signed_in_is_told_so_in_one_line(monkeypatch):
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"az login.*Storage Queue Data Contributor"):
        requeue.main(["--account", "https://nobody.queue.core.windows.net"])


def test_whoever_lacks_the_role_is_told_which_in_one_line(monkeypatch, world):
    text = world.environment()["STORAGE"]
    wrong = re.sub(r"AccountKey=[^;]*", "AccountKey=bm90IHRoZSBrZXk=", text)
    assert wrong != text
    monkeypatch.setenv("STORAGE", wrong)
    with pytest.raises(SystemExit, match="Storage Queue Data Contributor"):
        requeue.main([])
