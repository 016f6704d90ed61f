"""The mail server through imapclient and poplib."""

import poplib
import subprocess

import imapclient
import pytest
from imapclient.exceptions import IMAPClientError, LoginError

from sandbox.dovecot import Dovecot, install
from sandbox.processes import StartError
from tests.sandbox.conftest import mail


def test_imap_answers_with_tls_and_with_starttls(world, ann):
    with ann.imap() as client:
        assert client.select_folder("INBOX")[b"EXISTS"] == 0
    with imapclient.IMAPClient("localhost", world.ports["imap"], ssl=False) as client:
        assert b"STARTTLS" in client.capabilities()
        client.starttls(ann.context)
        client.login(ann.address, ann.password)


def test_one_session_after_the_other_starts_no_process(world, ann):
    def processes():
        group = str(world.dovecot._process.pid)
        found = subprocess.run(["pgrep", "-g", group], capture_output=True, text=True, check=True)
        return set(found.stdout.split())

    def sessions():
        with ann.imap() as client:
            client.select_folder("INBOX")
        other = poplib.POP3_SSL("localhost", world.ports["pop3s"], context=ann.context)
        other.user(ann.address)
        other.pass_(ann.password)
        other.quit()

    for _ in range(3):  # by then there is one in reserve
        sessions()
    before = processes()
    for _ in range(5):
        sessions()
    assert processes() <= before


def test_every_account_has_its_special_folders(ann):
    with ann.imap() as client:
        uses = {name: flags for flags, _, name in client.list_folders()}
    for name in ("Drafts", "Sent", "Trash", "Junk", "Archive"):
        assert f"\\{name}".encode() in uses[name]


def test_pop3_answers_with_tls_and_with_stls(world, ann):
    world.dovecot.deliver("x@parts.example", ann.address, mail("x@parts.example"))
    inside = poplib.POP3_SSL("localhost", world.ports["pop3s"], context=ann.context)
    upgraded = poplib.POP3("localhost", world.ports["pop3"])
    upgraded.stls(ann.context)
    for client in (inside, upgraded):
        client.user(ann.address)
        client.pass_(ann.password)
        assert client.stat()[0] == 1
        client.quit()


def test_a_changed_password_is_in_force_at_once(world, ann):
    ann.imap().logout()
    old, ann.password = ann.password, "another"
    world.add_user(ann.address, "another")
    ann.imap().logout()
    ann.password = old
    with pytest.raises(LoginError):
        ann.imap()


@pytest.mark.parametrize("login", ["oauth2_login", "oauthbearer_login"])
def test_a_token_opens_its_own_mailbox_and_no_other(world, ann, ben, login):
    token = world.issuer.access_token(ann.address)

    def sign_in(address, with_token):
        client = imapclient.IMAPClient("localhost", world.ports["imaps"], ssl_context=ann.context)
        with client:
            getattr(client, login)(address, with_token)

    sign_in(ann.address, token)
    with pytest.raises(IMAPClientError):
        sign_in(ben.address, token)
    world.issuer.revoke(ann.address)
    with pytest.raises(IMAPClientError):
        sign_in(ann.address, token)


def test_mail_outlives_a_restart_on_the_same_ports(world, ann):
    world.dovecot.deliver("x@parts.example", ann.address, mail("x@parts.example"))
    client = ann.imap()
    world.dovecot.stop()
    try:
        with pytest.raises((IMAPClientError, OSError)):
            client.noop()
        with pytest.raises(OSError):
            ann.imap()
    finally:
        world.dovecot.start()
    assert len(ann.inbox()) == 1


@pytest.mark.parametrize("missing", ["imap-login", "pop3-login", "lmtp"])
def test_one_that_is_half_installed_is_missing_and_its_packages_are_named(tmp_path, monkeypatch, missing):
    for name in ("sbin/dovecot", "lib/dovecot/imap-login", "lib/dovecot/pop3-login", "lib/dovecot/lmtp"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\necho 2.3.19\n")
        program.chmod(0o755)
    (tmp_path / "lib/dovecot" / missing).unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "sbin"))  # a machine without apt, too
    with pytest.raises(StartError, match=r"sudo apt-get install dovecot-core .*dovecot-pop3d dovecot-lmtpd"):
        install()


def test_one_that_does_not_start_says_why_and_names_no_log_that_goes_away_with_it(world):
    dovecot = Dovecot(world.authority)
    (dovecot.directory / "dovecot.conf").write_text("nonsense = yes\n")
    with pytest.raises(StartError, match=r"Unknown setting: nonsense$"), dovecot:
        pass
