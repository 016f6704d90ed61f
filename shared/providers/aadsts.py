"""What Entra's error codes mean to a human. Pure.

Only codes count: their texts change. https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from collections.abc import Mapping, Sequence

from shared.errors import ConsentRequired, InvalidRequest, Temporary, ZalionError
from shared.explaining import explain

_CODES: Mapping[str, tuple[int, ...]] = {
    "approval_needed": (65001, 90094),
    "approval_requested": (90095,),
    "declined": (65004,),
    "no_exchange": (650052, 500011),
    "permissions_missing": (650056, 650057, 65005),
    "app_not_found": (700016, 700011, 7000229),
    "tenant_unknown": (90002,),
    "secret_wrong": (7000215,),
    "secret_expired": (7000222,),
    "registration_type": (7000218, 700025),
    "certificate_rejected": (700027, 50012, 700030),
    "app_disabled": (7000112, 70001, 1000031),
    "redirect_uri": (50011,),
    "single_tenant": (50194, 9001023),
    "wrong_account": (50020, 50034, 51004, 90072),
    "account_locked": (50053,),
    "password_expired": (50055, 50144),
    "account_disabled": (50057,),
    "second_factor": (50072, 50074, 50076, 50078, 50079),
    "not_assigned": (50105,),
    "sign_in_again": (50173, 50132, 50133, 70000, 70008, 700082, 9002341, 50058),
    "policy": (53000, 53001, 53002, 53003, 530032, 53011),
    "policy_frequency": (70043,),
    "already_used": (54005,),
    "expired": (50089,),
    "start_again": (501481, 50147, 501491, 700005),
    "microsoft_busy": (90033, 90006, 90024, 90055, 90090, 50033, 50087, 650051),
    "asked_in_circles": (50196,),
}
KEYS: Mapping[int, str] = {code: key for key, codes in _CODES.items() for code in codes}
"""AADSTS number -> key of its explanation."""

_BY_ERROR: Mapping[str, str] = {
    "access_denied": "declined",
    "permission_denied": "declined",
    "consent_required": "approval_needed",
    "interaction_required": "sign_in_again",
    "login_required": "sign_in_again",
    "invalid_grant": "sign_in_again",
    "invalid_client": "secret_wrong",
    "unauthorized_client": "app_not_found",
    "invalid_scope": "permissions_missing",
    "temporarily_unavailable": "microsoft_busy",
    "server_error": "microsoft_busy",
}

_SETTINGS: Mapping[str, str] = {
    "tenant_unknown": "settings.tenantId",
    "single_tenant": "settings.tenantId",
    "app_not_found": "settings.clientId",
    "secret_wrong": "secret.clientSecret",
    "secret_expired": "secret.clientSecret",
    "registration_type": "settings.clientId",
    "certificate_rejected": "secret.certificate",
}
"""What only a corrected registration helps with, and where it is corrected."""

REGISTRATION = {*_SETTINGS, "redirect_uri", "permissions_missing"} - {"tenant_unknown", "app_not_found"}
"""What is wrong with a registration itself, whichever directory it is used in."""

PAUSES: Mapping[str, float] = {"microsoft_busy": 60, "our_app": 60, "asked_in_circles": 300}
"""What passes by itself -> seconds until it is worth another try. Entra's loop detection looks at minutes."""


def key_of(error: str, codes: Sequence[int]) -> str:
    """Return the key that explains an OAuth error with its AADSTS codes; a known code says more."""
    return next((KEYS[code] for code in codes if code in KEYS), _BY_ERROR.get(error, "unexpected"))


def error_of(key: str, *, correlation_id: str | None) -> ZalionError:
    """Return our error for a key: Temporary, InvalidRequest naming the setting, else ConsentRequired."""
    facts = {"reference": f" ({correlation_id})" if correlation_id else ""}
    told = explain(key, **facts)
    error: ZalionError
    if key in PAUSES:
        error = Temporary(told.detail, retry_after=PAUSES[key], fix=told.fix)
    elif key in _SETTINGS:
        error = InvalidRequest(told.detail, field=_SETTINGS[key], fix=told.fix)
    else:
        error = ConsentRequired(told.detail, fix=told.fix)
    error.reason, error.facts = key, facts
    return error
