"""The parts together: their settings suit the app, and several worlds run at once."""

import socket
import subprocess
import sys
from subprocess import PIPE

import imapclient
import pytest

from sandbox.families import FAMILIES
from sandbox.ports import HOST, NAMES, Ports, free
from sandbox.processes import StartError
from sandbox.world import Organisation, World
from shared.settings import load


def test_its_environment_is_what_the_app_needs(world):
    settings = load(world.environment())
    assert settings.key_vault_url == world.vault.url
    assert settings.key_vault_verify_challenge is False
    assert {"localhost", "127.0.0.1"} <= settings.allowed_private_hosts


def test_an_organisation_has_users_who_can_sign_in(world):
    organisation = Organisation.of("test", "test.example")
    FAMILIES["imap"].people(world, organisation)
    with imapclient.IMAPClient(
        "localhost", world.ports["imaps"], ssl_context=world.authority.client_context()
    ) as client:
        client.login(organisation.address("dave"), organisation.passwords["dave"])
    assert organisation.passwords["dave"] not in repr(organisation)


def test_a_second_world_runs_beside_the_first_and_leaves_nothing(world, tmp_path):
    with World(tmp_path) as second:
        assert second.issuer.url != world.issuer.url
        mail = second.dovecot.directory
        ports = [second.ports[name] for name in NAMES]
    assert not mail.exists()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port), timeout=1)


def test_a_world_that_cannot_start_says_why_and_leaves_nothing(tmp_path):
    base = free()
    with socket.create_server((HOST, base + NAMES.index("imap"))):
        with pytest.raises(StartError, match="Dovecot cannot start: port"):
            World(tmp_path, base).__enter__()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, base + NAMES.index("blob")), timeout=1)


def test_ports_follow_the_base_and_are_remembered():
    fixed = Ports(9000)
    assert (fixed["api"], fixed["issuer"]) == (9000, 9001)
    assert fixed[NAMES[-1]] == 9000 + len(NAMES) - 1
    first = fixed["a simulator of a test"]
    assert (first, fixed["another"], fixed["a simulator of a test"]) == (
        9000 + len(NAMES),
        9001 + len(NAMES),
        first,
    )
    open_ = Ports()
    assert open_["imap"] == open_["imap"] != open_["imaps"]


def test_processes_that_ask_at_once_get_different_ports():
    ask = "from sandbox.ports import free; import sys; print(*(free() for _ in range(30)), flush=True); sys.stdin.read()"
    run = [sys.executable, "-c", ask]
    askers = [subprocess.Popen(run, stdin=PIPE, stdout=PIPE, text=True) for _ in range(4)]
    given = [port for asker in askers for port in asker.stdout.readline().split()]
    for asker in askers:
        asker.communicate()
    assert len(given) == len(set(given)) == 120
