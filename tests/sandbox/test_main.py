"""`python -m sandbox` from outside: what it writes is true, and when it ends nothing is left."""

import contextlib
import email
import http.server
import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import requests

from sandbox.__main__ import _published
from sandbox.host.process import HostProcess
from sandbox.ports import HOST, NAMES, row

ROOT = Path(__file__).parents[2]


def launch(directory, port, *options, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--directory", str(directory), *map(str, options)],
        cwd=ROOT,
        env={**os.environ, "SANDBOX_PORT": str(port), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # as a shell does, for Ctrl-C
    )


def processes():
    """Process id -> its parent's and when it began, of all that run on this machine."""
    said = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="], capture_output=True, text=True, check=True
    )
    rows = (line.split(maxsplit=3) for line in said.stdout.splitlines())
    return {int(pid): (int(parent), began) for pid, parent, state, began in rows if state[0] != "Z"}


def offspring(pid):
    """Process id -> when it began, of all that a process started, and they in their turn."""
    found, running, news = {}, processes(), {pid}
    while news:
        news = {one for one, (parent, _) in running.items() if parent in news}
        found |= {one: running[one][1] for one in news}
    return found


def left_of(started):
    running = processes()
    return [pid for pid, began in started.items() if pid in running and running[pid][1] == began]


def answering(port):
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(directory, port, *options):
    process = launch(directory, port, *options)
    file = directory / "sandbox.json"
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process, json.loads(file.read_text())
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def base():
    return row()


@pytest.fixture
def temporary():
    """A folder that Dovecot can reach as another user, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.long
def test_the_story_can_be_told_and_ctrl_c_leaves_nothing(tmp_path, base):
    with running(tmp_path, base) as (process, facts):
        assert facts["api"] == f"http://127.0.0.1:{base}/api"
        assert {"imap", "imap2", "pop3", "ews"} <= set(facts["organisations"])
        assert allowed(facts, "http://localhost:3000"), "the frontend that somebody works on"
        assert not allowed(facts, "http://localhost:3001")
        for organisation in facts["organisations"].values():
            timeline = tell(facts, organisation)
            assert [each["direction"] for each in timeline] == ["out", "in"]
            assert timeline[1]["from"]["address"] == facts["supplier"]["address"]
            if "pop3" not in organisation:  # which has no Sent
                answer_oneself(tmp_path / "sandbox.json", facts, organisation)
        assert delegate(facts, facts["organisations"]["google"])["delegation"]["clientId"]
        started = offspring(process.pid)
        assert len(started) > 4  # Azurite, Dovecot and its own, the host and its worker
        os.killpg(process.pid, signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
        assert process.returncode == 0
        wait_for(lambda: left_of(started) == [])
        assert f"http://127.0.0.1:{base}/api" in said
        assert complaints == ""
    assert not (tmp_path / "sandbox.json").exists()
    assert [port for port in range(base, base + len(NAMES)) if answering(port)] == []


@pytest.mark.long
def test_two_sandboxes_live_side_by_side_and_know_nothing_of_each_other(tmp_path, base):
    with running(tmp_path / "one", base) as (_, one), running(tmp_path / "two", row()) as (_, two):
        for facts in (one, two):
            assert len(tell(facts, facts["organisations"]["imap"])) == 2


def test_the_facts_of_an_older_sandbox_come_back_when_the_newer_one_stops(tmp_path):
    newest = tmp_path / "sandbox.json"
    with socket.create_server((HOST, 0)) as older:  # as its API listens
        ports = older.getsockname()[1], row(), row()
        old, new, killed = (tmp_path / str(port) / "sandbox.json" for port in ports)
        for file in (old, new, killed):
            file.parent.mkdir()
        with _published({"api": "old"}, newest, old):
            with _published({"api": "new"}, newest, new):
                killed.write_text("{}")
                assert json.loads(newest.read_text()) == {"api": "new"}
            assert json.loads(newest.read_text()) == {"api": "old"}
            assert newest.stat().st_mode & 0o777 == 0o600
            with _published({"api": "new"}, newest, new):
                old.unlink()
            assert not newest.exists()
    assert not new.exists()


@pytest.mark.long
def test_another_host_serves_the_app_with_nothing_but_the_settings_that_are_written(
    tmp_path, base, monkeypatch
):
    """As `func start` would, for which our own host stands in."""
    file = tmp_path / "local.settings.json"
    sample = json.loads((ROOT / "local.settings.sample.json").read_text())
    for name in (
        *sample["Values"],
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    app = HostProcess(ROOT, base, settings_file=file)

    def serve():
        wait_for(file.exists)
        app.start()

    starter = threading.Thread(target=serve)
    starter.start()
    try:
        with running(tmp_path, base, "--no-app", file) as (_, facts):
            assert len(tell(facts, facts["organisations"]["imap"])) == 2
            assert allowed(facts, "http://localhost:3000")
            assert file.stat().st_mode & 0o077 == 0
    finally:
        starter.join()
        app.stop()
    assert not file.exists()


class Unwell(http.server.BaseHTTPRequestHandler):
    """An app whose vault fails."""

    def do_GET(self):
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"checks": [{"name": "vault", "status": "failed"}]}')


def test_a_host_whose_app_is_not_well_is_waited_for_and_what_fails_is_said_once(tmp_path, base):
    file = tmp_path / "local.settings.json"
    process = launch(tmp_path, base, "--no-app", file)
    try:
        wait_for(file.exists)
        with http.server.ThreadingHTTPServer((HOST, base), Unwell) as server:
            threading.Thread(target=server.serve_forever).start()
            time.sleep(2)
            server.shutdown()
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert said.count('"name": "vault", "status": "failed"') == 1


def test_settings_that_somebody_else_wrote_are_not_overwritten(tmp_path, base):
    file = tmp_path / "local.settings.json"
    file.write_text("{}")
    process = launch(tmp_path, base, "--no-app", file)
    _, complaints = process.communicate(timeout=60)
    assert (process.returncode, file.read_text()) == (1, "{}")
    assert "move it away" in complaints


def allowed(facts, origin):
    """Whether a browser lets a page of this origin send a mail (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = requests.options(
        f"{facts['api']}/cases/C-1/emails", headers={"Origin": origin, **asked}, timeout=20
    )
    return answer.ok and answer.headers.get("Access-Control-Allow-Origin") == origin


def tell(facts, organisation):
    """Alice sends from the case, the supplier answers, Alice's mailbox is looked at; returns the case's timeline.

    A stranger writes to her, too, and Bob asks for the timeline: neither gets anywhere.
    """

    def ask(who, method, path, body=None, **headers):
        headers = {"Authorization": f"Bearer {organisation['tokens'][who]}", **headers}
        return requests.request(method, facts["api"] + path, json=body, headers=headers, timeout=60)

    def call(method, path, body=None, **headers):
        answer = ask("alice", method, path, body, **headers)
        assert answer.ok, answer.text
        return answer.json()

    supplier, timeline = facts["supplier"], f"/cases/{organisation['case']}/emails"
    sent = {
        "mailboxId": organisation["mailboxId"],
        "to": [{"address": supplier["address"]}],
        "subject": "Offer",
    }
    call("POST", timeline, {**sent, "text": "Please."}, **{"Idempotency-Key": "one"})
    wait_for(lambda: call("GET", timeline)["items"][0]["state"] == "sent")
    original = call("GET", timeline)["items"][0]
    reply = email.message.EmailMessage()
    reply["From"], reply["To"] = supplier["address"], organisation["address"]
    reply["Subject"], reply["Message-ID"] = "Re: Offer", f"<{organisation['org']}@supplier.example>"
    reply["In-Reply-To"] = reply["References"] = original["messageId"]
    reply.set_content("Here it is.")
    intrude(facts, organisation["address"])
    submit(facts, reply)
    call("POST", f"/mailboxes/{organisation['mailboxId']}/sync")
    wait_for(lambda: len(call("GET", timeline)["items"]) == 2)
    assert ask("bob", "GET", timeline).status_code == 403
    return call("GET", timeline)["items"]


def delegate(facts, organisation):
    """Save the integration as docs/connecting-google.md says: the domain is proven by what the seed published."""
    settings = {"applicationAccess": True, "mailboxes": [f"bob@{organisation['domain']}"]}
    answer = requests.put(
        f"{facts['api']}/integrations/google",
        json={"approved": True, "settings": settings},
        headers={"Authorization": f"Bearer {organisation['tokens']['admin']}"},
        timeout=60,
    )
    assert answer.ok, answer.text
    return answer.json()


def answer_oneself(file, facts, organisation):
    """Alice answers from her own program, as the README says; her provider tells the app of it, where it can."""
    name = organisation["org"].removeprefix("org-")
    options = ["--organisation", name, "--file", file]
    command = [sys.executable, "-m", "sandbox.supplier", "answer-as-alice", "Thank you.", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    headers = {"Authorization": f"Bearer {organisation['tokens']['alice']}"}
    timeline = f"{facts['api']}/cases/{organisation['case']}/emails"
    if "imap" in organisation or "ews" in organisation:  # they tell nothing: she presses "sync"
        requests.post(
            f"{facts['api']}/mailboxes/{organisation['mailboxId']}/sync", headers=headers, timeout=60
        )

    def directions():
        found = requests.get(timeline, headers=headers, timeout=60).json()["items"]
        return [each["direction"] for each in found]

    wait_for(lambda: directions() == ["out", "in", "out"])


def intrude(facts, address):
    """A stranger's mail server hands over a mail that belongs to no case."""
    mx = facts["providers"]["mx"]
    with smtplib.SMTP(mx["host"], mx["port"]) as client:
        text = f"From: stranger@elsewhere.example\r\nTo: {address}\r\nSubject: Lunch\r\n\r\nToday?\r\n"
        client.sendmail("stranger@elsewhere.example", [address], text)


def submit(facts, message):
    supplier = facts["supplier"]
    with smtplib.SMTP(supplier["smtp"]["host"], supplier["smtp"]["port"]) as client:
        client.starttls(context=ssl.create_default_context(cafile=facts["ca"]))
        client.login(supplier["address"], supplier["password"])
        client.send_message(message)


def wait_for(condition):
    """As long as a mail may take whose first hand-over a busy machine broke off: it is tried again by itself."""
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_leaves_nothing(tmp_path, base, number, temporary):
    process = launch(tmp_path, base, TMPDIR=str(temporary))
    deadline = time.monotonic() + 60
    while not answering(base + NAMES.index("issuer")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []
    assert [port for port in range(base, base + len(NAMES)) if answering(port)] == []


@pytest.mark.parametrize(
    ("port", "said"),
    [("taken", "is taken; choose another base with SANDBOX_PORT"), ("many", "must be a port number")],
)
def test_what_keeps_it_from_starting_is_one_line(tmp_path, base, port, said):
    with socket.create_server((HOST, base)):
        process = launch(tmp_path, base if port == "taken" else port)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said in complaints
    assert complaints.count("\n") == 1
