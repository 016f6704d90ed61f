"""Dovecot 2.3 from a temporary directory: IMAP, POP3 and LMTP for any number of domains, as an ordinary user.

As root it runs as `nobody`; no file of the system is read or written.
https://doc.dovecot.org/2.3/configuration_manual/
"""

import base64
import itertools
import os
import pwd
import re
import shutil
import smtplib
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from sandbox import debian
from sandbox.ca import Authority
from sandbox.ports import HOST, Ports
from sandbox.processes import Process, Service, StartError

PACKAGES = ("dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd")
PROGRAMS = ("imap-login", "pop3-login", "lmtp")
"""One of each package besides the core."""

FOLDERS = ("Drafts", "Sent", "Trash", "Junk", "Archive")

REUSED = {"service_count": 1000}
"""Connections that a process serves one after the other: by itself Dovecot starts two processes for each,
which costs 16 ms of CPU instead of 3. https://doc.dovecot.org/2.3/admin_manual/login_processes/"""

type Block = dict[str, "str | int | Block"]


class Dovecot(Service):
    """One Dovecot.

    Args:
        authority: whose certificate it shows.
        ports: names imap (STARTTLS), imaps, pop3 (STLS), pop3s and lmtp.
        tokeninfo: URL that an access token is appended to; without it there is no XOAUTH2 and OAUTHBEARER.

    Attributes:
        directory: its configuration, log and mail; short, because Unix sockets lie in it.
        passwords: address -> password of every account.
    """

    def __init__(
        self, authority: Authority, ports: Ports | None = None, *, tokeninfo: str | None = None
    ) -> None:
        self.ports = ports or Ports()
        self.passwords: dict[str, str] = {}
        self._lock = threading.Lock()
        self._changes = itertools.count(1)
        binary = install()
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        # Removes itself even if it is never closed: a copy of the private key lies in it.
        self._folder = tempfile.TemporaryDirectory(prefix="zalion-dovecot-", ignore_cleanup_errors=True)
        self.directory = Path(self._folder.name)
        for source in (authority.certificate, authority.key):
            shutil.copy(source, self.directory)
        (self.directory / "users").mkdir(mode=0o700)
        self._write("dovecot.log", "")
        self._write("oauth2.conf", f"tokeninfo_url = {tokeninfo}\nusername_attribute = email\n")
        self._write("dovecot.conf", render(self._configuration(oauth=tokeninfo is not None)))
        for path in (self.directory, *self.directory.iterdir()):
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        listening = [self.ports[name] for name in ("imap", "imaps", "pop3", "pop3s", "lmtp")]
        command: list[str | Path] = [binary, "-F", "-c", self.directory / "dovecot.conf"]
        log = self.directory / "dovecot.log"
        user = self._user if os.geteuid() == 0 else None
        self._process = Process("Dovecot", command, listening, log, user=user, log_stays=False)

    def close(self) -> None:
        """Stop it and remove everything."""
        self.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        try:
            self.start()
        except StartError:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_user(self, address: str, password: str) -> None:
        """Add an account, or change its password; at once and for IMAP, POP3 and SMTP alike."""
        address = address.lower()
        with self._lock:
            changed = self.passwords.get(address, password) != password
            self.passwords[address] = password
            encoded = base64.b64encode(password.encode()).decode()
            # A file for each account: a new one is seen at once, a line more in a common one is not.
            self._write(f"users/{address}", f"{address}:{{PLAIN.B64}}{encoded}::::::\n")
        if changed:
            # Dovecot looks once a second, and only whether an open file's size or second is another one.
            later = time.time() + next(self._changes)
            os.utime(self.directory / "users" / address, (later, later))
            time.sleep(1.1)

    def knows(self, address: str) -> bool:
        """Whether mail to this address arrives: an account, with or without a +detail."""
        return _account(address) in self.passwords

    def deliver(self, envelope_from: str, recipient: str, raw: bytes) -> None:
        """Put a mail into the recipient's INBOX by LMTP (RFC 2033). Raises SMTPException or OSError."""
        with smtplib.LMTP(HOST, self.ports["lmtp"], timeout=30) as client:
            client.sendmail(envelope_from, [recipient], raw, mail_options=["BODY=8BITMIME"])

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        new = path.with_name(f"{path.name}.new")
        new.touch(mode=0o600)
        new.write_text(text)
        os.chown(new, self._user.pw_uid, self._user.pw_gid)
        new.replace(path)  # in one piece, so that no reader sees half of it

    def _configuration(self, *, oauth: bool) -> Block:
        own, user, ports = str(self.directory), self._user, self.ports
        ids = f"uid={user.pw_uid} gid={user.pw_gid} home={own}/mail/%Ld/%Ln"
        mailboxes: Block = {
            f"mailbox {name}": {"auto": "subscribe", "special_use": f"\\{name}"} for name in FOLDERS
        }
        oauth_passdb: Block = {
            "passdb oauth": {
                "driver": "oauth2",
                "mechanisms": "xoauth2 oauthbearer",
                "args": f"{own}/oauth2.conf",
            }
        }
        return {
            "base_dir": f"{own}/run",
            "state_dir": f"{own}/state",
            "log_path": f"{own}/dovecot.log",
            "default_internal_user": user.pw_name,
            "default_internal_group": _group(user.pw_gid),
            "default_login_user": user.pw_name,
            "protocols": "imap pop3 lmtp",
            "listen": HOST,
            "ssl": "yes",
            "ssl_cert": f"<{own}/server.pem",
            "ssl_key": f"<{own}/server.key",
            "disable_plaintext_auth": "yes",
            "auth_mechanisms": "plain login xoauth2 oauthbearer" if oauth else "plain login",
            "auth_failure_delay": "0",  # tests of wrong passwords need not wait 2 s each
            "auth_username_format": "%Lu",
            "mail_location": f"mdbox:{own}/mail/%Ld/%Ln",
            "mail_uid": user.pw_uid,
            "mail_gid": user.pw_gid,
            "first_valid_uid": 1,
            "mail_fsync": "never",
            "recipient_delimiter": "+",
            "lmtp_save_to_detail_mailbox": "no",
            "passdb": {"driver": "passwd-file", "args": f"username_format=%Lu {own}/users/%Lu"},
            **(oauth_passdb if oauth else {}),
            # Only accounts exist: without this a token for any address would open a new mailbox.
            "userdb": {
                "driver": "passwd-file",
                "args": f"username_format=%Lu {own}/users/%Lu",
                "override_fields": ids,
            },
            "namespace inbox": {"inbox": "yes", "separator": "/", **mailboxes},
            # Without a chroot nothing needs root.
            "service imap-login": {
                "chroot": "",
                **REUSED,
                "process_min_avail": 1,
                "inet_listener imap": {"port": ports["imap"]},
                "inet_listener imaps": {"port": ports["imaps"], "ssl": "yes"},
            },
            "service pop3-login": {
                "chroot": "",
                **REUSED,
                "inet_listener pop3": {"port": ports["pop3"]},
                "inet_listener pop3s": {"port": ports["pop3s"], "ssl": "yes"},
            },
            "service imap": {**REUSED},
            "service pop3": {**REUSED},
            "service lmtp": {"inet_listener lmtp": {"address": HOST, "port": ports["lmtp"]}},
            # No penalty for a machine whose logins failed: here all tests are one machine.
            "service anvil": {"chroot": "", "unix_listener anvil-auth-penalty": {"mode": "0"}},
            "service stats": {"chroot": ""},
            "protocol pop3": {"pop3_uidl_format": "%08Xu%08Xv"},
            "protocol imap": {"mail_max_userip_connections": 100},
        }


def render(block: Block, indent: str = "") -> str:
    """Write a configuration as Dovecot reads it: every setting and every brace on a line of its own."""
    lines = []
    for name, value in block.items():
        if isinstance(value, dict):
            # Two blocks of one kind may differ in a name that Dovecot does not take.
            title = name.replace("passdb oauth", "passdb")
            lines.append(f"{indent}{title} {{\n{render(value, indent + '  ')}{indent}}}\n")
        else:
            lines.append(f"{indent}{name} = {value}\n")
    return "".join(lines)


def install() -> str:
    """Return Dovecot's path, after installing it with apt where we may.

    Raises StartError that says what to install.
    """
    binary = debian.ensured("Dovecot", _found, *PACKAGES)
    version = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not version.startswith("2.3."):
        raise StartError(f"Dovecot {version} is here; the sandbox's configuration is for 2.3.")
    return binary


def _found() -> str | None:
    """Return Dovecot's path where all that we need of it is installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"))
    found = shutil.which("dovecot", path=path)
    if found is None:
        return None
    prefix = Path(found).resolve().parent.parent
    folders = [prefix / name / "dovecot" for name in ("lib", "libexec")]
    return found if any(all((folder / one).exists() for one in PROGRAMS) for folder in folders) else None


def _account(address: str) -> str:
    return re.sub(r"\+[^@]*@", "@", address.lower())


def _group(gid: int) -> str:
    import grp

    return grp.getgrgid(gid).gr_name
