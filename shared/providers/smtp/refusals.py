"""What a server's answers mean (RFC 5321 section 4.2.1, RFC 4954 section 6), said in our words."""

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ConsentRequired, Rejected, Temporary, ZalionError
from shared.providers import network, silence, wording

_TOO_LONG = "Line too long."
"""What smtplib says of an answer beyond 8,192 octets, in the place of a server's words, which are bytes."""


NOT_AVAILABLE, BAD_CREDENTIALS = 421, 535
_NO_ACCESS = {530, 534, 535, 538}  # RFC 4954 §6
_TOO_LARGE = {552, 523}

_SIGN_IN_FIX = "Check name and password and sign in again; some providers ask for an app password."
SIZE_FIX = "Send less at once, or share large files by a link."


@contextmanager
def certain() -> Iterator[None]:
    """Translate what breaks while nothing can have left."""
    with network.translated():
        try:
            yield
        except smtplib.SMTPConnectError as error:  # the greeting
            raise no_session(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPResponseException as error:
            if error.smtp_error == _TOO_LONG:
                raise _no_smtp() from error
            raise refusal(error.smtp_code, wording.clean(error.smtp_error)) from error


def no_session(code: int, words: bytes | str) -> ZalionError:
    """Say why a session did not begin (RFC 5321 §3.1): it is us who were refused for now, and no mail."""
    said = f"{code} {wording.clean(words)}"
    if code // 100 not in {4, 5}:
        return _no_smtp()
    if wording.too_often(said) or code // 100 == 4:  # noqa: PLR2004 - RFC 5321 §4.2.1
        return wording.later(said)
    return Temporary(f"The mail server begins no session with us: {said}")


def _no_smtp() -> Temporary:
    return Temporary("The server's answer is not SMTP.", fix=silence.CHECK)


def refusal(code: int, words: str) -> ZalionError:
    """Say in our words what an answer means (RFC 5321 §4.2.1, RFC 4954 §6)."""
    said = f"{code} {words}"
    if code in _NO_ACCESS:
        return ConsentRequired(f"The mail server refused the sign-in: {said}", fix=_SIGN_IN_FIX)
    match code // 100:
        case 4:
            return wording.later(said)
        case 5:
            fix = SIZE_FIX if code in _TOO_LARGE else None
            return Rejected(f"The mail server refused: {said}", fix=fix)
    return _no_smtp()
