"""SMTP submission (RFC 6409): hands a message over once, and knows how sure it is of the outcome.

MAIL, RCPT and DATA are said one by one, because smtplib's `sendmail` throws the last answer away,
and in it some servers tell the Message-ID that they put in place of ours.
"""

import re
import smtplib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from shared import mime
from shared.errors import ConsentRequired, InvalidRequest, OutcomeUnknown, Rejected, Temporary, ZalionError
from shared.providers import network, sasl, sockets
from shared.providers.base import Bearer, Commit, Connection, Credential, Field, Provider, Receipt

PORT = 465

_FILES_COPY = {
    "outlook.office365.com",
    "smtp-mail.outlook.com",
    "smtp.gmail.com",
    "smtp.googlemail.com",
    "smtp.mail.me.com",
    "smtp.office365.com",
}
"""Google, Microsoft and iCloud put a copy into Sent by themselves; ours would be a second one."""

_ADDRESS = re.compile(r"[^\s<>\x00-\x20\x7f]+@[^\s<>@\x00-\x20\x7f]+")
_REPLACED = re.compile(r"2\.0\.0 OK (<[^\s<>@]+@[^\s<>@]+>)", re.IGNORECASE)
"""Outlook.com and Exchange Online: `250 2.0.0 OK <…@….prod.outlook.com> [Hostname=…]`."""

_TOO_LONG = "Line too long."
"""What smtplib says of an answer beyond 8,192 octets, in the place of a server's words, which are bytes."""

_AMAZON = re.compile(r"email-smtp\.([a-z0-9-]+)\.amazonaws\.com")
_AMAZON_ID = re.compile(r"ok ([0-9a-f-]{20,})", re.IGNORECASE)
"""https://docs.aws.amazon.com/ses/latest/dg/header-fields.html: it replaces the Message-ID."""

_OK, _SIGNED_IN, _GO_ON, _START = 250, 235, 334, 354
_NOT_AVAILABLE, _BAD_CREDENTIALS = 421, 535
_NO_ACCESS = {530, 534, 535, 538}  # RFC 4954 §6
_TOO_LARGE = {552, 523}
_OCTETS = re.compile(r"[0-9]{1,20}")  # RFC 1870 §3

_SIGN_IN_FIX = "Check name and password and sign in again; some providers ask for an app password."
GOODBYE = 2.0
"""Seconds that a server is given to answer QUIT."""

_SIZE_FIX = "Send less at once, or share large files by a link."


class _Smtp(smtplib.SMTP):
    """smtplib over the guarded way out, introducing itself without our host's name (RFC 5321 §4.1.3)."""

    def __init__(self, server: network.Server, timeouts: network.Timeouts, credential: Credential) -> None:
        self._server, self._timeouts, self._credential = server, timeouts, credential
        super().__init__(server.name, server.port, local_hostname="[127.0.0.1]", timeout=timeouts.connect)
        self.set_timeout(timeouts.read)
        self.command_encoding = "utf-8"  # for addresses, and those only where SMTPUTF8 is offered

    def _get_socket(self, _host: str, _port: int, _timeout: float) -> Any:  # the library's hook
        return self._server.open(self._timeouts)

    def set_timeout(self, seconds: float) -> None:
        """Wait so long for each answer from now on."""
        if self.sock:
            self.sock.settimeout(seconds)

    def introduce(self) -> None:
        """Say EHLO; who knows only HELO offers no sign-in either."""
        code, words = self.ehlo()
        if code != _OK:
            raise _no_session(code, words)

    def say(self, *words: str) -> tuple[int, str]:
        """Say one line; return code and cleaned words of the answer."""
        code, answer = self.docmd(" ".join(words))
        return code, self.words(answer)

    def words(self, answer: bytes) -> str:
        """Clean an answer; some servers repeat the command that they refuse."""
        return network.clean(answer, self._credential)

    def expect(self, code: int, *words: str) -> None:
        """Say one line; any other answer is raised as what it means."""
        got, answer = self.say(*words)
        if got != code:
            raise _refusal(got, answer)


def files_copy(settings: Mapping[str, object]) -> bool:
    """Return whether the server files copies itself: the setting, else whether it is known to."""
    told, host = settings.get("filesCopy"), str(settings.get("host", ""))
    return told if isinstance(told, bool) else bool(host) and network.host_name(host) in _FILES_COPY


class SmtpSender:
    """Sender of `base`. Every call has a connection of its own."""

    def __init__(self, connection: Connection, timeouts: network.Timeouts = network.TIMEOUTS) -> None:
        self._connection = connection
        self._timeouts = timeouts
        self._server = network.Server.of(connection, PORT)

    @property
    def files_copy(self) -> bool:
        """See `Sender.files_copy`."""
        return files_copy(self._connection.settings)

    def check(self) -> None:
        """See `Sender.check`."""
        with self._session():
            pass

    def send(self, raw: bytes, envelope_from: str, envelope_to: Sequence[str], commit: Commit) -> Receipt:
        """See `Sender.send`.

        Raises InvalidRequest for what is no address, Rejected too for what is larger than the server
        says it takes (RFC 1870).
        """
        text = re.sub(rb"\r\n|\r|\n", b"\r\n", raw).removesuffix(b"\r\n") + b"\r\n"  # RFC 5321 §2.3.8
        with self._session() as smtp:
            with _certain():
                _mail(smtp, text, envelope_from, international=not "".join(envelope_to).isascii())
                refused = _recipients(smtp, envelope_to)
            commit(refused)
            with _certain():
                smtp.expect(_START, "DATA")
            words = self._hand_over(smtp, text)
        return Receipt(message_id=self._replaced(words), refused=refused)

    def close(self) -> None:
        """See `Sender.close`: nothing stays open between calls."""

    def _hand_over(self, smtp: _Smtp, text: bytes) -> str:
        """Send the content. An answer is certain whatever it says; silence is not (RFC 1047)."""
        try:
            smtp.set_timeout(self._timeouts.final)
            smtp.send(re.sub(rb"(?m)^\.", b"..", text) + b".\r\n")  # RFC 5321 §4.5.2
            code, answer = smtp.getreply()
        except OSError as error:
            raise OutcomeUnknown("The connection broke while the message was handed over.") from error
        words = smtp.words(answer)
        match code // 100:
            case 2:
                return words
            case 4 | 5:
                raise _refusal(code, words)
        raise OutcomeUnknown(f"The server's answer to the message means nothing: {code} {words}")

    def _replaced(self, words: str) -> str | None:
        """Read the Message-ID that the server put in place of ours, where its words tell it."""
        amazon, id_ = _AMAZON.fullmatch(self._server.name), _AMAZON_ID.match(words)
        if amazon and id_:
            region = "email" if amazon[1] == "us-east-1" else amazon[1]
            return f"<{id_[1]}@{region}.amazonses.com>"
        told = _REPLACED.match(words)
        return told[1] if told else None

    @contextmanager
    def _session(self) -> Iterator[_Smtp]:
        """Connect, encrypt, sign in; and leave, whatever happens."""
        credential = self._connection.credential()
        with ExitStack() as stack:
            with _certain():
                smtp = _Smtp(self._server, self._timeouts, credential)
                stack.callback(_leave, smtp)
                smtp.introduce()
                if self._server.security == "starttls":
                    _start_tls(smtp)
                _sign_in(smtp, credential)
                sockets.let_in(smtp.sock)
            yield smtp


def _leave(smtp: _Smtp) -> None:
    with suppress(OSError):  # all that matters was answered; a goodbye is manners only
        sockets.done_with(smtp.sock)
        smtp.set_timeout(GOODBYE)  # who waits here has not written down yet that the mail has left
        smtp.quit()
    smtp.close()


def _start_tls(smtp: _Smtp) -> None:
    """Encrypt; what was offered before may be somebody else's words (RFC 3207 §4.2), so ask again."""
    if not smtp.has_extn("starttls"):
        raise network.no_starttls()
    smtp.starttls(context=network.tls_context())
    smtp.introduce()


def _sign_in(smtp: _Smtp, credential: Credential) -> None:
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
        raise _refusal(_BAD_CREDENTIALS if code // 100 in {3, 5} else code, words)


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


def _mail(smtp: _Smtp, text: bytes, sender: str, *, international: bool) -> None:
    """Say who sends how much; of the size before it is sent, so that nothing is sent in vain."""
    told = smtp.esmtp_features.get("size", "")
    limit = int(told) if _OCTETS.fullmatch(told) else 0
    if 0 < limit < len(text):
        sizes = f"{len(text) / 1e6:.1f} MB; the server takes {limit / 1e6:.1f} MB"
        raise Rejected(f"The message has {sizes}.", fix=_SIZE_FIX)
    options = [f"SIZE={len(text)}"] if smtp.has_extn("size") else []
    if not text.isascii() and smtp.has_extn("8bitmime"):
        options.append("BODY=8BITMIME")
    if international or not sender.isascii():
        if not smtp.has_extn("smtputf8"):
            raise Rejected("The server takes no addresses with other than ASCII characters (RFC 6531).")
        options.append("SMTPUTF8")
    if smtp.has_extn("dsn"):
        options += ["RET=HDRS", *_envelope_id(text)]
    smtp.expect(_OK, f"MAIL FROM:<{_address(sender) if sender else ''}>", *options)


def _recipients(smtp: _Smtp, recipients: Sequence[str]) -> dict[str, str]:
    """Name the recipients; return whom the server refused, with its words. Raises where it refuses all."""
    refused: dict[str, tuple[int, str]] = {}
    wanted = dict.fromkeys(recipients)
    for recipient in wanted:
        options = ["NOTIFY=FAILURE,DELAY"] if smtp.has_extn("dsn") else []
        if options and recipient.isascii():
            options.append(f"ORCPT=rfc822;{_xtext(recipient)}")
        code, words = smtp.say(f"RCPT TO:<{_address(recipient)}>", *options)
        if code == _NOT_AVAILABLE:
            raise _refusal(code, words)
        if code // 100 != 2:  # noqa: PLR2004 - 250, or 251 and 252 (RFC 5321 §3.4, §3.5.3)
            refused[recipient] = (code, words)
    if len(refused) == len(wanted):
        # with one that may be taken later, all are tried later: nobody has the mail yet
        raise _refusal(*min(refused.values(), default=(550, "no recipients")))
    return {recipient: f"{code} {words}" for recipient, (code, words) in refused.items()}


def _envelope_id(text: bytes) -> list[str]:
    """Let a report name our Message-ID even where it was replaced (RFC 3461 §4.4: at most 100 characters)."""
    message_id = mime.envelope(text, ref="").message_id or ""
    id_ = _xtext(message_id.strip("<>"))
    return [f"ENVID={id_}"] if 0 < len(id_) <= 100 else []  # noqa: PLR2004 - as said


def _xtext(text: str) -> str:
    """RFC 3461 §4."""
    return re.sub(r"[^!-*,-<>-~]", lambda match: "".join(f"+{byte:02X}" for byte in match[0].encode()), text)


def _address(address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise InvalidRequest("This is no mail address.", field="to")
    return address


@contextmanager
def _certain() -> Iterator[None]:
    """Translate what breaks while nothing can have left."""
    with network.translated():
        try:
            yield
        except smtplib.SMTPConnectError as error:  # the greeting
            raise _no_session(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPResponseException as error:
            if error.smtp_error == _TOO_LONG:
                raise Temporary("The server's answer is not SMTP.") from error
            raise _refusal(error.smtp_code, network.clean(error.smtp_error)) from error


def _no_session(code: int, words: bytes | str) -> ZalionError:
    """Say why a session did not begin (RFC 5321 §3.1): it is us who were refused for now, and no mail."""
    said = f"{code} {network.clean(words)}"
    if code // 100 not in {4, 5}:
        return Temporary("The server's answer is not SMTP.")
    if network.too_often(said) or code // 100 == 4:  # noqa: PLR2004 - RFC 5321 §4.2.1
        return network.later(said)
    return Temporary(f"The mail server begins no session with us: {said}")


def _refusal(code: int, words: str) -> ZalionError:
    """Say in our words what an answer means (RFC 5321 §4.2.1, RFC 4954 §6)."""
    said = f"{code} {words}"
    if code in _NO_ACCESS:
        return ConsentRequired(f"The mail server refused the sign-in: {said}", fix=_SIGN_IN_FIX)
    match code // 100:
        case 4:
            return network.later(said)
        case 5:
            fix = _SIZE_FIX if code in _TOO_LARGE else None
            return Rejected(f"The mail server refused: {said}", fix=fix)
    return Temporary("The server's answer is not SMTP.")


PROVIDER = Provider(
    name="smtp",
    title="SMTP server",
    form=(
        *network.server_form("SMTP", PORT),
        Field(
            "filesCopy",
            "Whether the server itself puts a copy into Sent; known for the large ones",
            "boolean",
        ),
    ),
    sender=SmtpSender,
    files_copy=files_copy,
)
