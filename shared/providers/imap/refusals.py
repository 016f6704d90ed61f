"""What an IMAP server's words mean: the one place where they become our errors (RFC 5530)."""

import re

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError

from shared.errors import ConsentRequired, Rejected, Temporary, ZalionError
from shared.providers import silence, wording
from shared.providers.base import Credential

FIX = "Check name and password and sign in again; some providers ask for an app password."

TOO_LARGE = "unexpected size of an answer"
"""What `wire` says in the place of a server's words, and ends the session."""

_CODE = re.compile(r"(?:\* BYE |[a-z ]{1,40} failed: )?\[([a-z-]{1,40})[] ]", re.IGNORECASE)
"""The response code that words begin with. What stands further on is a folder's name, perhaps."""

_NOT_LET_IN = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "CONTACTADMIN"}
_NO_ACCESS = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED"}
_GONE = {"NONEXISTENT", "TRYCREATE", "CANNOT"}, re.compile(r"(?i)exist|not found|unknown")
_NOT_NOW = {"UNAVAILABLE", "INUSE", "LIMIT"}, re.compile(r"(?i)try again|temporar|busy")
_BROKE = {"SERVERBUG", "UNAVAILABLE"}, re.compile(r"(?i)serverbug|unavailable|server error|internal")

_TELLING = _NOT_LET_IN | _GONE[0] | _NOT_NOW[0] | _BROKE[0]

_NO_WORDS = "None"
"""What imaplib quotes where the first line is no greeting, such as POP3's."""

_BAD = re.compile(r"BAD \[b['\"](.*)['\"]\]")


class Broke(Temporary):
    """The server itself failed: it is not well for a moment, or it cannot cope with the mail asked for."""


class HungUp(Broke):
    """The session ended instead of an answer, as it does where the mail asked for makes the server crash."""


class Silent(Temporary):
    """No answer came in time: the server is not well, or the mail asked for keeps it busy for ever."""


def at_sign_in(error: LoginError, credential: Credential) -> ZalionError:
    """Tell a wrong password from a server that is busy. IMAPClient keeps the cause as context only.

    What the server repeats of the credential is told to nobody.
    """
    cause = error.__context__
    if isinstance(cause, IMAPClientAbortError):
        return of_goodbye(cause, credential)
    words = _words(cause or error, credential)
    if _code(words) not in _NOT_LET_IN and wording.not_now(words):
        return wording.later(words)
    return ConsentRequired(f"The mail server refused the sign-in: {words}", fix=FIX)


def of_goodbye(error: IMAPClientError, credential: Credential | None = None) -> ZalionError:
    """Say why the server ended the session, or did not begin one: words alone may be about anything."""
    words = _words(error, credential)
    if words == TOO_LARGE:
        return Temporary("The server's answer is too large to be read.")
    if words.startswith(("socket error", "unexpected", _NO_WORDS)):
        return silence.unreached()
    if _code(words) in _NOT_LET_IN:
        return ConsentRequired(f"The mail server refused the sign-in: {words}", fix=FIX)
    return wording.later(words)


def of_command(error: IMAPClientError) -> ZalionError:
    """Say in our words why a command failed: NO, BAD, BYE, or a connection that was lost."""
    if isinstance(error, IMAPClientAbortError):
        said = of_goodbye(error)
        return HungUp(said.detail) if type(said) is Temporary else said
    words = _words(error)
    if _code(words) in _NO_ACCESS:
        return ConsentRequired(f"The mail server refused: {words}", fix=FIX)
    if _says(words, _GONE):
        return Rejected(f"The mail server refused: {words}")
    if _says(words, _NOT_NOW) or wording.too_often(words):
        return wording.later(words)
    if _says(words, _BROKE):
        return Broke(f"The mail server failed: {words}")
    return Rejected(f"The mail server refused: {words}")


def _code(words: str) -> str:
    found = _CODE.match(words)
    return found[1].upper() if found else ""


def _says(words: str, kind: tuple[set[str], re.Pattern[str]]) -> bool:
    """Whether words are of a kind: by their code (RFC 5530), or by themselves where it tells nothing."""
    codes, said = kind
    code = _code(words)
    return code in codes if code in _TELLING else said.search(words) is not None


def _words(error: BaseException, credential: Credential | None = None) -> str:
    """Find the server's words in what imaplib makes of them, without what they repeat of a credential."""
    said = error.args[0] if error.args else ""
    words = (said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)).rpartition(" => ")[2]
    bad = _BAD.search(words)
    return wording.clean(re.sub(r"\\([^x])", r"\1", bad[1]) if bad else words, credential)
