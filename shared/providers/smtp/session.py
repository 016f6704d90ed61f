"""One connection to a submission server: encrypted, signed in, and left again."""

import smtplib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from shared.errors import InvalidRequest
from shared.providers import network, sasl, sockets, wording
from shared.providers.base import Bearer, Credential
from shared.providers.smtp.refusals import BAD_CREDENTIALS, certain, no_session, refusal

OK, START = 250, 354
_SIGNED_IN, _GO_ON = 235, 334

GOODBYE = 2.0
"""Seconds that a server is given to answer QUIT."""

LONGEST = 64 * 1024
"""Octets of an answer that are read: a line of it has at most 512 (RFC 5321 §4.5.3.1.5)."""


class _Lines:
    """The lines of answers: who goes on and on in one is taken for one that has hung up."""

    def __init__(self, sock: Any) -> None:
        self._file, self.left = sock.makefile("rb"), LONGEST
        self.close = self._file.close

    def readline(self, size: int) -> bytes:
        line: bytes = self._file.readline(size)
        self.left -= len(line)
        return line if self.left >= 0 else b""


class Smtp(smtplib.SMTP):
    """smtplib over the guarded way out, introducing itself without our host's name (RFC 5321 §4.1.3)."""

    def __init__(self, server: network.Server, timeouts: network.Timeouts, credential: Credential) -> None:
        self._server, self._timeouts, self._credential = server, timeouts, credential
        super().__init__(server.name, server.port, local_hostname="[127.0.0.1]", timeout=timeouts.connect)
        self.set_timeout(timeouts.read)
        self.command_encoding = "utf-8"  # for addresses, and those only where SMTPUTF8 is offered

    def _get_socket(self, _host: str, _port: int, _timeout: float) -> Any:  # the library's hook
        return self._server.open(self._timeouts)

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer, which has an end."""
        self.file = lines = self.file or _Lines(self.sock)
        lines.left = LONGEST
        return super().getreply()

    def set_timeout(self, seconds: float) -> None:
        """Wait so long for each answer from now on."""
        if self.sock:
            self.sock.settimeout(seconds)

    def introduce(self) -> None:
        """Say EHLO; who knows only HELO offers no sign-in either."""
        code, words = self.ehlo()
        if code != OK:
            raise no_session(code, words)

    def say(self, *words: str) -> tuple[int, str]:
        """Say one line; return code and cleaned words of the answer."""
        code, answer = self.docmd(" ".join(words))
        return code, self.words(answer)

    def words(self, answer: bytes) -> str:
        """Clean an answer; some servers repeat the command that they refuse."""
        return wording.clean(answer, self._credential)

    def expect(self, code: int, *words: str) -> None:
        """Say one line; any other answer is raised as what it means."""
        got, answer = self.say(*words)
        if got != code:
            raise refusal(got, answer)


@contextmanager
def session(server: network.Server, timeouts: network.Timeouts, credential: Credential) -> Iterator[Smtp]:
    """Connect, encrypt, sign in; and leave, whatever happens."""
    with ExitStack() as stack:
        with certain():
            smtp = Smtp(server, timeouts, credential)
            stack.callback(_leave, smtp)
            smtp.introduce()
            if server.security == "starttls":
                _start_tls(smtp)
            _sign_in(smtp, credential)
            sockets.let_in(smtp.sock)
        yield smtp


def _leave(smtp: Smtp) -> None:
    with suppress(OSError):  # all that matters was answered; a goodbye is manners only
        sockets.done_with(smtp.sock)
        smtp.set_timeout(GOODBYE)  # who waits here has not written down yet that the mail has left
        smtp.quit()
    smtp.close()


def _start_tls(smtp: Smtp) -> None:
    """Encrypt; what was offered before may be somebody else's words (RFC 3207 §4.2), so ask again."""
    if not smtp.has_extn("starttls"):
        raise network.no_starttls()
    smtp.starttls(context=network.tls_context())
    smtp.introduce()


def _sign_in(smtp: Smtp, credential: Credential) -> None:
    """Sign in (RFC 4954). An answer is given to each 334, the last of a token's lets the server say "no"."""
    offered = smtp.esmtp_features.get("auth", "").upper().split()
    if not offered:
        raise InvalidRequest(
            "The server offers no sign-in on this port.",
            field="port",
            fix="Use its submission port, usually 465 or 587.",
        )
    lines = _sign_in_lines(offered, credential)
    code, words = smtp.say(lines[0])
    for line in lines[1:]:
        if code == _GO_ON:
            code, words = smtp.say(line)
    if code != _SIGNED_IN:
        raise refusal(BAD_CREDENTIALS if code // 100 in {3, 5} else code, words)


def _sign_in_lines(offered: Sequence[str], credential: Credential) -> list[str]:
    if isinstance(credential, Bearer):
        bearer = "OAUTHBEARER" in offered and "XOAUTH2" not in offered
        mechanism = "OAUTHBEARER" if bearer else "XOAUTH2"
        token, end = map(sasl.encoded, sasl.bearer_answers(mechanism, credential))
        return [f"AUTH {mechanism} {token}", end]
    if "LOGIN" in offered and "PLAIN" not in offered:
        answers = credential.username.encode(), credential.password.encode()
        return ["AUTH LOGIN", *map(sasl.encoded, answers)]
    return [f"AUTH PLAIN {sasl.encoded(sasl.plain_answer(credential))}"]
