"""What Exchange's refusals mean, by HTTP status and by response code: translated here alone.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/responsecode
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from exchangelib.errors import (
    ErrorAccessDenied,
    ErrorInternalServerTransientError,
    ErrorServerBusy,
    EWSError,
    UnauthorizedError,
)
from exchangelib.protocol import FailFast
from spnego.exceptions import SpnegoError

from shared.errors import (
    ConsentRequired,
    CursorExpired,
    InvalidRequest,
    NotFound,
    RateLimited,
    Rejected,
    Temporary,
    ZalionError,
)
from shared.providers import network, wording
from shared.providers.http import LONGEST_PAUSE
from shared.providers.transport import NotSent

BUSY_PAUSE = 60.0
SIGN_IN_FIX = "Check name and password and sign in again; an account may also be locked after wrong attempts."
_MOVED = "If the mailbox was moved to Exchange Online, connect it as Microsoft 365."


class Broken(ConnectionResetError):
    """A failed connection, of a kind that exchangelib passes on without retrying or logging what was sent."""

    def __init__(self, error: ZalionError) -> None:
        super().__init__(error.detail)
        self.error = error


class Broke(Temporary):
    """The server itself fails at what it was asked: perhaps at one mail of many."""


class NoAccess(ConsentRequired):
    """The account may not do this where it asked to: in one folder, or in the whole mailbox."""


class Policy(FailFast):  # type: ignore[misc]  # the library has no types
    """Never waits, never tries again: the queue does. Statuses are read here, before the library guesses."""

    def raise_response_errors(self, response: Any) -> None:
        """Raise what an answer's status means."""
        if refusal := _of_status(response):
            raise refusal
        super().raise_response_errors(response)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the library raises into our errors.

    Nothing is chained to them: the library's words may quote an answer, and answers hold mail.
    """
    try:
        yield
    except (EWSError, SpnegoError, OSError) as error:
        refusal = _of(error)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if not wording.is_of_library(error):
            raise
        refusal = Temporary("The Exchange server's answer cannot be read.", retry_after=300)
    else:
        return
    raise refusal from None


def of_mail(error: Exception) -> ZalionError | None:
    """Return what is said of one mail, in its place and while others are given; None where it is gone.

    Raises what is about the mailbox or the server.
    """
    refusal = _of(error)
    if isinstance(refusal, NotFound):
        return None
    if isinstance(error, ErrorAccessDenied):  # the mailbox lets us in: it listed this mail just now
        return Temporary("The Exchange server does not show this mail (ErrorAccessDenied).", retry_after=60)
    if isinstance(refusal, NotSent | RateLimited) or not isinstance(refusal, Temporary | Rejected):
        raise refusal from None
    return refusal


def _of(error: BaseException) -> ZalionError:
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, Broken):
            return chain.error
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, SpnegoError):
        return ConsentRequired("The Exchange server's NTLM sign-in failed.", fix=SIGN_IN_FIX)
    if isinstance(error, ErrorServerBusy) and isinstance(
        error.__context__, ErrorInternalServerTransientError
    ):
        error = error.__context__  # the library calls it busy, but nobody knows what became of the request
    if isinstance(error, ErrorServerBusy):
        pause = min(float(error.back_off or BUSY_PAUSE), LONGEST_PAUSE)
        return RateLimited("The Exchange server asks us to wait.", retry_after=pause)
    code = type(error).__name__
    explain = _BY_CODE.get(code) or (_not_found if code.startswith("ErrorInvalidId") else None)
    if explain:
        return explain(code)
    if code.startswith("Error"):
        return Rejected(f"The Exchange server refused ({code}).")
    return Temporary("The Exchange server's answer cannot be read.", retry_after=300)


def _of_status(response: Any) -> ZalionError | UnauthorizedError | None:
    status, words = response.status_code, f"HTTP {response.status_code}"
    pause = _pause(response.headers.get("Retry-After", ""))
    if status == HTTPStatus.UNAUTHORIZED:
        return _unauthorised(response)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return InvalidRequest(
            "The server sends us elsewhere; redirects are not followed.",
            field="host",
            fix="Name the server that answers at /EWS/Exchange.asmx itself.",
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.SERVICE_UNAVAILABLE and pause):
        return RateLimited(f"The Exchange server asks us to wait ({words}).", retry_after=pause or BUSY_PAUSE)
    if status in _BY_STATUS:
        return _BY_STATUS[status](words)
    is_soap = status == HTTPStatus.OK or b"Envelope" in response.content[:400]
    kind = Broke if status == HTTPStatus.INTERNAL_SERVER_ERROR else Temporary
    return None if is_soap else kind(f"The Exchange server is not available ({words}).", retry_after=60)


def _unauthorised(response: Any) -> ZalionError:
    """Tell a wrong password from a server that does not offer this way of signing in."""
    asked = response.request.headers.get("Authorization", "")
    offered = response.headers.get("WWW-Authenticate", "").lower()
    way = "basic" if asked.startswith("Basic") else "ntlm"
    if offered and way not in offered and not (way == "ntlm" and "negotiate" in offered):
        return InvalidRequest(
            f"The Exchange server does not offer this way of signing in ({way}).",
            field="auth",
            fix="Choose the other one, or ask IT to enable it for EWS.",
        )
    return ConsentRequired("The Exchange server refused the sign-in.", fix=SIGN_IN_FIX)


def _pause(text: str) -> float:
    """Read Retry-After; 0 where it says nothing."""
    return min(float(text), LONGEST_PAUSE) if text.isdecimal() else 0.0


def _consent(detail: str, fix: str) -> Callable[[str], ZalionError]:
    return lambda code: ConsentRequired(f"{detail} ({code}).", fix=fix)


def _rejected(detail: str, fix: str) -> Callable[[str], ZalionError]:
    return lambda code: Rejected(f"{detail} ({code}).", fix=fix)


def _not_now(code: str) -> ZalionError:
    return NotSent(f"The mailbox is not available now ({code}).", retry_after=120)


def _broke(code: str) -> ZalionError:
    return Broke(f"The Exchange server had a problem ({code}).", retry_after=60)


def _not_found(_: str) -> ZalionError:
    return NotFound("This mail is no longer where it was.")


def _too_often(code: str) -> ZalionError:
    return RateLimited(f"The Exchange server limits us ({code}).", retry_after=BUSY_PAUSE)


def _no_access(code: str) -> ZalionError:
    fix = "Ask IT for full access to it, or sign in as its user."
    return NoAccess(f"The account may not open this mailbox ({code}).", fix=fix)


def _no_mailbox(code: str) -> ZalionError:
    return InvalidRequest(f"This server has no such mailbox ({code}).", field="address", fix=_MOVED)


_impersonation = _consent(
    "The account may not impersonate this mailbox",
    "Ask IT for the role ApplicationImpersonation, or sign in as the mailbox's user.",
)
_disabled = _consent("The account is disabled or its password has ended", "Ask IT, then sign in again.")
_BY_CODE: Mapping[str, Callable[[str], ZalionError]] = {
    "ErrorImpersonateUserDenied": _impersonation,
    "ErrorImpersonationDenied": _impersonation,
    "ErrorImpersonationFailed": _impersonation,
    "ErrorAccessDenied": _no_access,
    "ErrorAccountDisabled": _disabled,
    "ErrorPasswordExpired": _disabled,
    "ErrorPasswordChangeRequired": _disabled,
    "ErrorNonExistentMailbox": _no_mailbox,
    "ErrorMissingEmailAddress": _no_mailbox,
    "ErrorInvalidSyncStateData": lambda code: CursorExpired(
        f"Exchange no longer knows where we stopped ({code})."
    ),
    "ErrorItemNotFound": _not_found,
    "ErrorCannotOpenFileAttachment": _not_found,
    "ErrorFolderNotFound": lambda _: NotSent("A folder went away while we looked.", retry_after=30),
    "ErrorMailboxMoveInProgress": _not_now,
    "ErrorMailboxStoreUnavailable": _not_now,
    "ErrorMailboxFailover": _not_now,
    "ErrorADUnavailable": _not_now,
    "ErrorExceededConnectionCount": _too_often,
    "ErrorSubmissionQuotaExceeded": _too_often,
    "ErrorTooManyObjectsOpened": _too_often,
    "ErrorTimeoutExpired": _broke,
    "ErrorInternalServerError": _broke,
    "ErrorInternalServerTransientError": _broke,
    "ErrorConnectionFailed": _broke,
    "ErrorMessageSizeExceeded": _rejected(
        "The mail is larger than Exchange takes", "Send fewer or smaller files."
    ),
    "ErrorQuotaExceeded": _rejected("The mailbox is full", "Make room in it, then send again."),
    "ErrorSendAsDenied": _rejected(
        "The account may not send as this mailbox",
        "Ask IT for the right to send as it, or send from your own.",
    ),
    "ErrorMissingRecipients": _rejected("Exchange sees no recipient", "Name at least one."),
    "ErrorInvalidRecipients": _rejected("Exchange takes a recipient for invalid", "Correct the recipients."),
}
_BY_STATUS: Mapping[int, Callable[[str], ZalionError]] = {
    HTTPStatus.FORBIDDEN: _consent(
        "The Exchange server does not let us use EWS",
        "Ask IT to allow EWS for the mailbox, and the user agent Zalion in its application access policy.",
    ),
    HTTPStatus.NOT_FOUND: lambda _: InvalidRequest(
        "There are no Exchange Web Services at this server.", field="host", fix="Check the server's name."
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _rejected(
        "The mail is larger than the Exchange server takes", "Send fewer or smaller files."
    ),
    HTTPStatus.MISDIRECTED_REQUEST: lambda _: Temporary(network.SILENT),
}
