"""What Google's refusals mean to a human, at the sign-in and at the API. Pure.

https://developers.google.com/identity/protocols/oauth2/web-server#handlingresponse and
https://developers.google.com/workspace/gmail/api/guides/handle-errors
"""

from collections.abc import Mapping

from shared.errors import ConsentRequired, InvalidRequest, Temporary, ZalionError
from shared.explaining import UNEXPECTED, explain

_BY_ERROR: Mapping[str, str] = {
    "access_denied": "declined",
    "admin_policy_enforced": "google_policy",
    "org_internal": "google_internal",
    "disallowed_useragent": "start_again",
    "redirect_uri_mismatch": "google_misconfigured",
    "invalid_grant": "sign_in_again",
    "invalid_client": "google_misconfigured",
    "unauthorized_client": "google_misconfigured",
    "deleted_client": "google_misconfigured",
    "invalid_scope": "google_misconfigured",
    "account_disabled": "account_disabled",
    "interaction_required": "sign_in_again",
    "login_required": "sign_in_again",
    "internal_failure": "google_busy",
    "server_error": "google_busy",
    "temporarily_unavailable": "google_busy",
}
_BY_REASON: Mapping[str, str] = {
    "authError": "sign_in_again",
    "insufficientPermissions": "google_boxes",
    "domainPolicy": "google_domain_policy",
    "failedPrecondition": "google_no_mailbox",
    "delegationDenied": "wrong_account",
    "accessNotConfigured": "google_misconfigured",
}
_BY_STATUS: Mapping[tuple[int, str], str] = {
    (401, "required"): "sign_in_again",
    (401, "unauthorized"): "sign_in_again",
    (401, "UNAUTHENTICATED"): "sign_in_again",
    (403, "forbidden"): "google_no_access",
    (403, "PERMISSION_DENIED"): "google_no_access",
}
"""Reasons that mean something with their status alone; `required` with 400 is a field that is missing."""

PERHAPS_ONE = {"google_no_access", "google_no_mailbox"}
"""What Gmail also says where it refuses a single mail of an account that is fine."""

_OURS = {"google_busy", "google_misconfigured"}
"""Nothing that a customer could do: tried again, and seen by us in health."""

BUSY_PAUSE, BROKEN_PAUSE = 60.0, 900.0


def key_of(error: str, description: str = "", subtype: str = "") -> str:
    """Return the key that explains an OAuth error of the sign-in or the token endpoint."""
    if subtype == "invalid_rapt" or "invalid_rapt" in description:
        return "google_session"
    words = description.lower()
    if error == "invalid_grant" and any(
        word in words for word in ("account", "user id", "suspended", "disabled")
    ):
        return "account_disabled"
    return _BY_ERROR.get(error, UNEXPECTED)


def key_of_reason(status: int, reason: str) -> str | None:
    """Return the key that explains a refusal of Gmail's API, or None where it is not about the account."""
    return _BY_REASON.get(reason) or _BY_STATUS.get((status, reason))


def error_of(key: str, *, field: str | None = None, **facts: str) -> ZalionError:
    """Return our error for a key: Temporary where it is not the customer's, else ConsentRequired.

    With `field` it is a setting that is wrong, so InvalidRequest.
    """
    told = explain(key, **facts)
    error: ZalionError
    if key in _OURS:
        pause = BUSY_PAUSE if key == "google_busy" else BROKEN_PAUSE
        error = Temporary(told.detail, retry_after=pause, fix=told.fix)
    elif field:
        error = InvalidRequest(told.detail, field=field, fix=told.fix)
    else:
        error = ConsentRequired(told.detail, fix=told.fix)
    error.reason, error.facts = key, facts
    return error
