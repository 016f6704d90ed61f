"""What Gmail's refusals mean.

https://developers.google.com/workspace/gmail/api/guides/handle-errors
"""

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from shared import logs
from shared.errors import NotFound, RateLimited, Rejected, Temporary, ZalionError
from shared.providers import googling
from shared.providers.http import Answer
from shared.providers.transport import NotSent

MOST_WORDS = 300
"""Characters of Gmail's own words that are told."""

_UNTIL = re.compile(r"Retry after (\S+)")
_REASON = re.compile(r"[A-Za-z_]{1,40}")
_HEADER_WORDS = re.compile(r"Invalid (To|Cc|Bcc|From) header|Recipient address required")
_ACCOUNT = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_ABOUT_US = {*_ACCOUNT, HTTPStatus.NOT_FOUND}
"""What ends a mailbox, or takes a mail for gone: believed where Google itself says it."""

_SLOW = {"rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded"}


def refusal(answer: Answer) -> ZalionError:
    """Say what a refusal of Gmail means.

    A page that something on the way gave instead tells nothing about the mailbox, or about the mail; nor
    does a reason that we do not know end a mailbox: it may be anybody's, and pass.
    """
    status, said = answer.status, _said(answer)
    reason, words = said or ("", "")
    if status == HTTPStatus.TOO_MANY_REQUESTS or reason in _SLOW:
        fix = "It goes on by itself. If it stays, ask Zalion's support about the limits at Google."
        return RateLimited(
            f"Gmail asks us to wait ({reason or status}).", retry_after=_pause(answer, words), fix=fix
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Temporary(f"Gmail is not available ({reason or status}).", retry_after=answer.pause())
    if said is None and status in _ABOUT_US:
        return NotSent(f"Something else answered in Gmail's place ({status}).", retry_after=answer.pause())
    if key := googling.key_of_reason(status, reason):
        return googling.error_of(key, said=f"{reason or status}: {words[:MOST_WORDS]}")
    if status in _ACCOUNT:
        logs.log("api.unclear", level=logging.ERROR, provider="google", status=status, code=reason)
        told = f"Gmail refused for a reason that we do not know ({reason or status})."
        return NotSent(told, retry_after=answer.pause())
    return _request_refused(status, reason, words)


def _request_refused(status: int, reason: str, words: str) -> ZalionError:
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("There is no such mail or label in the mailbox.")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or "too large" in words.lower():
        return Rejected("The mail is larger than Gmail takes.", fix="Send fewer or smaller files.")
    if _HEADER_WORDS.search(words):
        return Rejected("Gmail takes one of the addresses for invalid.", fix="Correct the recipients.")
    return Rejected(f"Gmail refused the request ({reason or status}).")


def _said(answer: Answer) -> tuple[str, str] | None:
    """Return the reason and the words of an error; None where the answer is none of Google's.

    Without a reason of its own an error has its status, a word like PERMISSION_DENIED.
    """
    error = answer.json.get("error") if isinstance(answer.json, Mapping) else None
    if not isinstance(error, Mapping):
        return None
    each = error.get("errors") or [{}]
    reason = str(each[0].get("reason") or error.get("status", ""))
    return reason if _REASON.fullmatch(reason) else "", str(error.get("message", ""))


def _pause(answer: Answer, words: str) -> float:
    """Gmail writes the end of its sending limit into the message, and no Retry-After."""
    until = _UNTIL.search(words)
    if until is None:
        return answer.pause()
    try:
        seconds = (datetime.fromisoformat(until[1].rstrip(".")) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return answer.pause()
    return min(max(seconds, 1.0), 3600.0)
