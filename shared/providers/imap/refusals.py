"""What an IMAP server's words mean: the one place where they become our errors (RFC 5530)."""

import re

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError

from shared.errors import ConsentRequired, Rejected, Temporary, ZalionError
from shared.providers import network

FIX = "Check name and password and sign in again; some providers ask for an app password."

# RFC 5530's codes first, words only where there is none: servers repeat folder names in theirs
_NOT_LET_IN = re.compile(
    r"(?i)\[(authenticationfailed|authorizationfailed|expired|privacyrequired|contactadmin)\]"
)
_GONE = re.compile(r"(?i)\[(nonexistent|trycreate|cannot)\]|exist|not found|unknown")
_NO_ACCESS = re.compile(r"(?i)\[(authenticationfailed|authorizationfailed|expired)\]")
_NOT_NOW = re.compile(r"(?i)\[(unavailable|inuse|limit)\]|try again|temporar|busy")
_BROKE = re.compile(r"(?i)serverbug|unavailable|server error|internal")

_BAD = re.compile(r"BAD \[b['\"](.*)['\"]\]")


class Broke(Temporary):
    """The server itself failed: it is not well for a moment, or it cannot cope with the mail asked for."""


def at_sign_in(error: LoginError) -> ZalionError:
    """Tell a wrong password from a server that is busy. IMAPClient keeps the cause as context only."""
    cause = error.__context__
    if isinstance(cause, IMAPClientAbortError):
        return of_goodbye(cause)
    words = _words(cause or error)
    if not _NOT_LET_IN.search(words) and network.not_now(words):
        return network.later(words)
    return ConsentRequired(f"The mail server refused the sign-in: {words}", fix=FIX)


def of_goodbye(error: IMAPClientError) -> ZalionError:
    """Say why the server ended the session, or did not begin one: words alone may be about anything."""
    words = _words(error)
    if words.startswith(("socket error", "unexpected")):
        return Temporary(network.SILENT)
    if _NOT_LET_IN.search(words):
        return ConsentRequired(f"The mail server refused the sign-in: {words}", fix=FIX)
    return network.later(words)


def of_command(error: IMAPClientError) -> ZalionError:
    """Say in our words why a command failed: NO, BAD, BYE, or a connection that was lost."""
    if isinstance(error, IMAPClientAbortError):
        return of_goodbye(error)
    words = _words(error)
    if _NO_ACCESS.search(words):
        return ConsentRequired(f"The mail server refused: {words}", fix=FIX)
    if not _GONE.search(words) and (_NOT_NOW.search(words) or network.too_often(words)):
        return network.later(words)
    if not _GONE.search(words) and _BROKE.search(words):
        return Broke(f"The mail server failed: {words}")
    return Rejected(f"The mail server refused: {words}")


def _words(error: BaseException) -> str:
    """Find the server's words in what imaplib makes of them."""
    said = error.args[0] if error.args else ""
    words = network.clean(said if isinstance(said, bytes) else str(said)).rpartition(" => ")[2]
    bad = _BAD.search(words)
    return bad[1] if bad else words
