"""SMTP submission (RFC 6409): hands a message over once, and knows how sure it is of the outcome.

MAIL, RCPT and DATA are said one by one, because smtplib's `sendmail` throws the last answer away,
and in it some servers tell the Message-ID that they put in place of ours.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from shared import mime
from shared.errors import InvalidRequest, OutcomeUnknown, Rejected, ZalionError
from shared.providers import hosts, network
from shared.providers.base import Commit, Connection, Field, Provider, Receipt
from shared.providers.smtp.refusals import NOT_AVAILABLE, SIZE_FIX, certain, refusal
from shared.providers.smtp.session import OK, START, Smtp, session

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

_AMAZON = re.compile(r"email-smtp\.([a-z0-9-]+)\.amazonaws\.com")
_AMAZON_ID = re.compile(r"ok ([0-9a-f-]{20,})", re.IGNORECASE)
"""https://docs.aws.amazon.com/ses/latest/dg/header-fields.html: it replaces the Message-ID."""

_OCTETS = re.compile(r"[0-9]{1,20}")  # RFC 1870 §3


def files_copy(settings: Mapping[str, object]) -> bool:
    """Return whether the server files copies itself: the setting, else whether it is known to."""
    told, host = settings.get("filesCopy"), str(settings.get("host", ""))
    return told if isinstance(told, bool) else bool(host) and hosts.host_name(host) in _FILES_COPY


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
            with certain():
                _mail(smtp, text, envelope_from, international=not "".join(envelope_to).isascii())
                refused = _recipients(smtp, envelope_to)
            commit(refused)
            with certain():
                smtp.expect(START, "DATA")
            words = self._hand_over(smtp, text)
        return Receipt(message_id=self._replaced(words), refused=refused)

    def close(self) -> None:
        """See `Sender.close`: nothing stays open between calls."""

    def _hand_over(self, smtp: Smtp, text: bytes) -> str:
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
                raise refusal(code, words)
        raise OutcomeUnknown(f"The server's answer to the message means nothing: {code} {words}")

    def _session(self) -> AbstractContextManager[Smtp]:
        return session(self._server, self._timeouts, self._connection.credential())

    def _replaced(self, words: str) -> str | None:
        """Read the Message-ID that the server put in place of ours, where its words tell it."""
        amazon, id_ = _AMAZON.fullmatch(self._server.name), _AMAZON_ID.match(words)
        if amazon and id_:
            region = "email" if amazon[1] == "us-east-1" else amazon[1]
            return f"<{id_[1]}@{region}.amazonses.com>"
        told = _REPLACED.match(words)
        return told[1] if told else None


def _mail(smtp: Smtp, text: bytes, sender: str, *, international: bool) -> None:
    """Say who sends how much; of the size before it is sent, so that nothing is sent in vain."""
    told = smtp.esmtp_features.get("size", "")
    limit = int(told) if _OCTETS.fullmatch(told) else 0
    if 0 < limit < len(text):
        sizes = f"{len(text) / 1e6:.1f} MB; the server takes {limit / 1e6:.1f} MB"
        raise Rejected(f"The message has {sizes}.", fix=SIZE_FIX)
    options = [f"SIZE={len(text)}"] if smtp.has_extn("size") else []
    if not text.isascii() and smtp.has_extn("8bitmime"):
        options.append("BODY=8BITMIME")
    if international or not sender.isascii():
        if not smtp.has_extn("smtputf8"):
            raise Rejected("The server takes no addresses with other than ASCII characters (RFC 6531).")
        options.append("SMTPUTF8")
    if smtp.has_extn("dsn"):
        options += ["RET=HDRS", *_envelope_id(text)]
    smtp.expect(OK, f"MAIL FROM:<{_address(sender) if sender else ''}>", *options)


def _recipients(smtp: Smtp, recipients: Sequence[str]) -> dict[str, str]:
    """Name the recipients; return whom the server refused, with its words. Raises where it refuses all."""
    refused: dict[str, tuple[int, str]] = {}
    wanted = dict.fromkeys(recipients)
    for recipient in wanted:
        options = ["NOTIFY=FAILURE,DELAY"] if smtp.has_extn("dsn") else []
        if options and recipient.isascii():
            options.append(f"ORCPT=rfc822;{_xtext(recipient)}")
        code, words = smtp.say(f"RCPT TO:<{_address(recipient)}>", *options)
        if code == NOT_AVAILABLE:
            raise _ended(refused, f"{code} {words}") or refusal(code, words)
        if code // 100 != 2:  # noqa: PLR2004 - 250, or 251 and 252 (RFC 5321 §3.4, §3.5.3)
            refused[recipient] = (code, words)
    if len(refused) == len(wanted):
        # with one that may be taken later, all are tried later: nobody has the mail yet
        raise refusal(*min(refused.values(), default=(550, "no recipients")))
    return {recipient: f"{code} {words}" for recipient, (code, words) in refused.items()}


def _ended(refused: Mapping[str, tuple[int, str]], last: str) -> ZalionError | None:
    """Name the recipients refused for good before the server ended the session; None where there are none.

    Postfix ends it after twenty of them (smtpd_hard_error_limit), each time anew: nobody would ever get it.
    """
    for_good = {recipient: said for recipient, said in refused.items() if said[0] // 100 == 5}  # noqa: PLR2004
    if not for_good:
        return None
    told = [f"{recipient}: {code} {words}" for recipient, (code, words) in for_good.items()]
    error = refusal(min(for_good.values())[0], "; ".join([*told, f"and then {last}"]))
    error.fix = error.fix or "Nobody has it. Correct these recipients and send it again."
    return error


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
