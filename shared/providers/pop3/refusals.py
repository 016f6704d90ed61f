"""What a POP3 server's words mean: response codes first (RFC 2449, RFC 3206), words where there is none."""

import poplib
import re

from shared.errors import Rejected, Temporary, ZalionError
from shared.providers import silence, wording
from shared.providers.base import Credential

USE_IMAP = "Use IMAP with this server."
LACKS = {
    "UIDL": "This server cannot tell mails apart (it lacks UIDL).",
    "TOP": "This server cannot show a mail's headers alone (it lacks TOP).",
}
_NOT_NOW = re.compile(
    r"(?i)\[(in-use|login-delay|sys/temp)\]|(maildrop|mailbox).*lock|already lock|\bin use\b|busy|try again"
    r"|temporar|unavailable"
)
GONE = re.compile(
    r"(?i)no such|delet|expung|not exist|(message|mail).*not found|no message|out of range|invalid message"
)
COMMAND = re.compile(r"(?i)command|not implemented|unsupported")
MESSAGE = re.compile(r"(?i)\bmessage\b")
# of a mail's headers, [SYS/TEMP] and "try again" are said of that mail: a disk may have lost it alone
_IN_USE = re.compile(
    r"(?i)\[(in-use|login-delay)\]|(maildrop|mailbox).*lock|already lock|\bin use\b|busy"
    r"|\brate\b|throttl|too (many|fast|frequent)"
)
_LOST, _TOO_LARGE = {"", "EOF"}, {"line too long", "answer too large"}


class Refused(Temporary):
    """The server does not show this mail's headers, or not in a way that can be read, and shows others."""


class Ended(Refused):
    """The same, and it left no session: the server may let nobody in again so soon."""


class Muted(Temporary):
    """The server goes silent at more mails than one look has the time for."""


class Silent(Temporary):
    """No answer came in time: the server is not well, or the mail asked for keeps it busy for ever."""


class HungUp(Temporary):
    """The session ended instead of an answer, as it does where the mail asked for makes the server crash."""


def refusal(words: str, *, of_mail: bool = False) -> ZalionError | None:
    """Make the error for words after which the session is of no use."""
    if of_mail and words in _LOST:
        return HungUp(silence.SILENT)
    whole = _IN_USE if of_mail else _NOT_NOW
    return broken(words) or (wording.later(words) if whole.search(words) else None)


def no_pop3() -> Temporary:
    """Make the error for a server that speaks something else."""
    return Temporary("The server's answer is not POP3.", fix=silence.CHECK)


def broken(words: str) -> ZalionError | None:
    """Make the error for what the library says where the server's answer did not end well."""
    if words in _LOST:
        return silence.unreached()
    if words in _TOO_LARGE:
        return Rejected("The server's answer is too large to be read.", fix=USE_IMAP)
    return None


def words_of(error: poplib.error_proto, credential: Credential | None = None) -> str:
    """Find the server's words, without what it repeats of a credential that it was shown."""
    said = error.args[0] if error.args else b""
    text = said if isinstance(said, (bytes, str)) else str(said)
    return wording.clean(text, credential).removeprefix("-ERR").strip()
