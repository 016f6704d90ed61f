"""What Entra ID answers, as our wall has it: tokens, the claims of who signed in, and refusals explained.

MSAL checks no id_token since 1.38 (msal-python#911), so that is done here.
"""

import base64
import logging
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import msgspec

from shared import logs
from shared.errors import ZalionError
from shared.providers import aadsts
from shared.providers.base import Registration, Tokens

RESOURCE = "https://graph.microsoft.com/"

TOO_LONG = 10
"""Digits: no AADSTS number is so long."""

SKEW = 300
"""Seconds that Entra's clock may differ from ours."""


class _Claims(msgspec.Struct):
    roles: tuple[str, ...] = ()


def identity(registration: Registration, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check the id_token's claims. Its signature needs none: it came from the token endpoint over TLS.

    https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation (point 6)
    """
    claims = cast("Mapping[str, Any]", result.get("id_token_claims") or {})
    now, tenant = time.time(), claims.get("tid", "")
    genuine = (
        claims.get("aud") == registration.client_id
        and claims.get("iss") == f"{registration.endpoints['entra']}/{tenant}/v2.0"
        and claims.get("nbf", 0) - SKEW <= now <= claims.get("exp", 0) + SKEW
        and bool(tenant and claims.get("oid"))
    )
    if "error" not in result and not genuine:
        raise aadsts.error_of("start_again", correlation_id=None)
    return claims


def tokens_of(
    result: Mapping[str, Any], registration: Registration, claims: Mapping[str, Any] = MappingProxyType({})
) -> Tokens:
    """Return what was given. Raises what was said instead."""
    if "error" in result or "access_token" not in result:
        raise refused(result, registration)
    names = [str(claims[name]).lower() for name in ("preferred_username", "email") if claims.get(name)]
    return Tokens(
        access_token=result["access_token"],
        expires_in=int(result.get("expires_in", 0)),
        refresh_token=result.get("refresh_token"),
        scopes=frozenset(scope.removeprefix(RESOURCE) for scope in str(result.get("scope", "")).split()),
        tenant=str(claims.get("tid", "")),
        subject=str(claims.get("oid", "")),
        address=names[0] if names else "",
        addresses=frozenset(names),
    )


def roles_of(token: str) -> frozenset[str]:
    """Return an app's permissions for the whole directory, as far as its token can be read.

    What RBAC for Applications gives is not in it. The token is Graph's to read, so it may become opaque.
    """
    try:
        payload = token.split(".")[1]
        return frozenset(msgspec.json.decode(base64.urlsafe_b64decode(f"{payload}==="), type=_Claims).roles)
    except (IndexError, ValueError, msgspec.DecodeError):
        return frozenset()


def refused(result: Mapping[str, Any], registration: Registration) -> ZalionError:
    """Return the error for a refusal; what is wrong with our own app is no customer's to mend."""
    codes = [int(code) for code in result.get("error_codes", []) if str(code).isdecimal()]
    error = explained(str(result.get("error", "")), codes, result.get("correlation_id"), "")
    if registration.ours and error.reason in aadsts.REGISTRATION:
        logs.log("registration.refused", level=logging.ERROR, provider="microsoft", code=error.reason)
        return aadsts.error_of("our_app", correlation_id=result.get("correlation_id"))
    if registration.ours and error.reason == "app_not_found":  # it is in a directory by consent alone
        return aadsts.error_of("approval_needed", correlation_id=result.get("correlation_id"))
    return error


def explained(error: str, codes: Sequence[int], correlation_id: str | None, description: str) -> ZalionError:
    """Explain a refusal. A redirect names its code in the description's first word only."""
    if not codes and description.startswith("AADSTS"):
        number = description[len("AADSTS") :].partition(":")[0].strip()
        codes = [int(number)] if number.isascii() and number.isdecimal() and len(number) < TOO_LONG else []
    return aadsts.error_of(aadsts.key_of(error, codes), correlation_id=correlation_id)
