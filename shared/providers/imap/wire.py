"""One line to an IMAP server: TLS, sign-in, and folders' names as the server spells them."""

import imaplib
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientError, LoginError

from shared.errors import ConsentRequired
from shared.providers import network, sasl, sockets
from shared.providers.base import Bearer, Credential
from shared.providers.imap import names, refusals
from shared.providers.imap.items import quoted

logging.getLogger("imapclient").setLevel(logging.INFO)  # at DEBUG it logs what is searched for

SHORT, FETCHED = 8_000_000, 32_000_000
"""Octets of an answer that are read: to a search a million numbers, to a fetch the headers of 200 mails."""

LINE = 64
"""Octets that a line counts at least: an answer of short ones takes many times its size in memory."""


class Wire(imaplib.IMAP4):
    """The library below the library, over the guarded way out, which reads no endless answer."""

    def __init__(self, server: network.Server, timeouts: network.Timeouts) -> None:
        self._server, self._timeouts, self._left = server, timeouts, SHORT
        super().__init__(server.name, server.port, timeouts.connect)

    def _create_socket(self, _timeout: float) -> Any:
        return self._server.open(self._timeouts)

    def send(self, data: Any) -> None:
        """Say a command; what is read from now on answers it."""
        self._left = FETCHED if b" FETCH " in data[:40] else SHORT
        super().send(data)

    def read(self, size: int) -> bytes:
        """Read a literal, of which the server has told the size."""
        self._take(size)
        return super().read(size)

    def readline(self) -> bytes:
        """Read a line; the library's own would break at a million octets, and leave its rest unread."""
        line: bytes = self.file.readline(max(self._left, 0) + 1)  # type: ignore[assignment]
        self._take(max(len(line), LINE))
        return line

    def _take(self, octets: int) -> None:
        self._left -= octets
        if self._left < 0:
            raise self.abort(refusals.TOO_LARGE)

    def _get_line(self) -> bytes:
        """A goodbye is the last word; where the library waits for leave to go on, it would read on."""
        if self.state != "LOGOUT":
            self._check_bye()
        line: bytes = super()._get_line()  # type: ignore[misc]
        return line


class Client(IMAPClient):
    """IMAPClient over the guarded way out, with aware times.

    Args:
        server: where to.
        timeouts: how long to wait.
        spelling: how the server spells folders' names, where that is known.
    """

    def __init__(
        self, server: network.Server, timeouts: network.Timeouts, spelling: Mapping[str, bytes]
    ) -> None:
        self._server, self._timeouts, self._spelling = server, timeouts, spelling
        both: Any = SocketTimeout(timeouts.connect, timeouts.read)
        super().__init__(server.name, server.port, ssl=server.security == "tls", timeout=both)
        self._imap.debug = 0  # it would format every line for a log that nobody keeps
        self.normalise_times = False

    def _create_IMAP4(self) -> imaplib.IMAP4:  # noqa: N802 - the library's hook
        return Wire(self._server, self._timeouts)

    def _proc_folder_list(self, folder_data: Any) -> list[names.Line]:
        """The library's own gives up on all folders where it cannot decode one of them."""
        return [*names.listed(folder_data)]

    def _normalise_folder(self, folder_name: str) -> bytes:
        """Name a folder in a command."""
        name = self._spelling.get(folder_name) or names.encoded(folder_name)
        return names.quoted(name)


def opened(
    server: network.Server, timeouts: network.Timeouts, spelling: Mapping[str, bytes], credential: Credential
) -> Client:
    """Connect, encrypt and sign in."""
    try:
        with network.translated(), ExitStack() as undo:
            client = Client(server, timeouts, spelling)
            undo.callback(client.shutdown)
            if server.security == "starttls":
                _start_tls(client)
            _sign_in(client, credential)
            undo.pop_all()
            return client
    except LoginError as error:
        raise refusals.at_sign_in(error, credential) from error
    except IMAPClientError as error:
        raise refusals.of_goodbye(error, credential) from error


def _start_tls(client: Any) -> None:
    if not client.has_capability("STARTTLS"):
        raise network.no_starttls()
    client.starttls(network.tls_context())


def _sign_in(client: Any, credential: Credential) -> None:
    """Prove who we are, then say what we are (RFC 2971): 163.com opens no folder for who does not."""
    offered = client.capabilities()
    if isinstance(credential, Bearer):
        bearer = b"AUTH=OAUTHBEARER" in offered and b"AUTH=XOAUTH2" not in offered
        mechanism = "OAUTHBEARER" if bearer else "XOAUTH2"
        answers = iter(sasl.bearer_answers(mechanism, credential))
        client.sasl_login(mechanism, lambda _challenge: next(answers, None))
    elif b"AUTH=PLAIN" in offered:
        client.plain_login(credential.username, credential.password)
    elif (plain := credential.username + credential.password).isascii() and plain.isprintable():
        client.login(quoted(credential.username), credential.password)
    else:
        raise ConsentRequired("This server takes ASCII passwords only.", fix=refusals.FIX)
    if client.has_capability("ID"):
        client.id_({"name": "Zalion", "version": "1", "vendor": "Zalion"})
    sockets.let_in(client.socket())
