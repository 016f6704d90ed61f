"""DavMail, an EWS client that we did not write: it gives an Exchange's mailboxes by IMAP and SMTP.

It checks the Exchange simulator from the far side; nothing of the sandbox needs it.
https://davmail.sourceforge.net/serversetup.html
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from sandbox import debian
from sandbox.ca import Authority
from sandbox.ports import HOST, Ports
from sandbox.processes import Process, Service

PACKAGES = ("davmail-server", "default-jre-headless")
JAR = Path("/usr/share/davmail/davmail.jar")
CLASSES = f"{JAR}:/usr/share/java/*"


class DavMail(Service):
    """One DavMail in front of one Exchange. Raises StartError where it is missing.

    Args:
        authority: who signed the Exchange's certificate.
        url: its EWS endpoint.

    Attributes:
        imap, smtp: the ports it listens on, without TLS.
    """

    def __init__(self, authority: Authority, url: str) -> None:
        java = debian.ensured("DavMail", _found, *PACKAGES)
        self._folder = tempfile.TemporaryDirectory(prefix="zalion-davmail-", ignore_cleanup_errors=True)
        directory, ports = Path(self._folder.name), Ports()
        self.imap, self.smtp = ports["davmail-imap"], ports["davmail-smtp"]
        self.log = directory / "davmail.log"
        self.log.touch()
        settings = directory / "davmail.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in self._settings(url).items()))
        trust = _trusting(authority, directory)
        # a small heap and the quick compiler only: it lives for one test
        options = ["-Xmx96m", "-XX:TieredStopAtLevel=1", *trust, "-cp", CLASSES]
        command: list[str | Path] = [java, *options, "davmail.DavGateway", "-server", settings]
        self._process = Process("DavMail", command, [self.imap, self.smtp], self.log)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def _settings(self, url: str) -> dict[str, object]:
        off = dict.fromkeys(("davmail.caldavPort", "davmail.ldapPort", "davmail.popPort"), "")
        return {
            "davmail.server": "true",
            "davmail.mode": "EWS",
            "davmail.url": url,
            "davmail.imapPort": self.imap,
            "davmail.smtpPort": self.smtp,
            "davmail.bindAddress": HOST,
            "davmail.disableUpdateCheck": "true",
            "davmail.enableKerberos": "false",
            "davmail.logFilePath": self.log,
            "log4j.rootLogger": "WARN",
            **off,
        }


def _found() -> str | None:
    return shutil.which("java") if JAR.exists() else None


def _trusting(authority: Authority, directory: Path) -> list[str]:
    """Make a trust store of the private CA alone; return the options that name it."""
    store = directory / "trust.jks"
    command = ["keytool", "-importcert", "-noprompt", "-alias", "sandbox", "-storepass", "changeit"]
    subprocess.run(
        [*command, "-file", authority.pem, "-keystore", store], check=True, capture_output=True, timeout=60
    )
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
