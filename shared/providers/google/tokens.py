"""Google's token service: what is asked of it, and what its refusals mean.

https://developers.google.com/identity/protocols/oauth2/web-server
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from shared import logs
from shared.errors import RateLimited, Temporary, ZalionError
from shared.explaining import UNEXPECTED
from shared.providers import googling
from shared.providers.base import Registration
from shared.providers.http import Answer, Api

TITLE = "Google's sign-in service"
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class AlreadyGone(ZalionError):
    """What should be revoked is no token any more."""


def asked(
    registration: Registration,
    form: Mapping[str, str],
    delegated: Mapping[str, str] | None = None,
    *,
    awaited: bool = False,
) -> Mapping[str, Any]:
    """Ask the token endpoint; returns what it gives.

    Args:
        delegated: the facts to explain a refusal with, for a service account.
        awaited: whether a person waits for the answer, who is told of one that we do not know, too.
    """
    found = post(registration, "/token", form, delegated, awaited=awaited).json
    if not isinstance(found, Mapping) or "access_token" not in found:
        raise googling.error_of("google_busy")
    return found


def post(
    registration: Registration,
    path: str,
    form: Mapping[str, str],
    delegated: Mapping[str, str] | None = None,
    *,
    awaited: bool = False,
) -> Answer:
    """Post a form to one of its paths; the rest is as in `asked`."""

    def refused(answer: Answer) -> ZalionError:
        return _refused(answer, delegated, awaited=awaited)

    place = registration.endpoints["google_oauth"]
    api = Api(place, TITLE, lambda: "", refused, registration.allowed_hosts)
    try:
        return api.anonymous("POST", place + path, urlencode(form).encode(), _FORM)
    finally:
        api.close()


def _refused(answer: Answer, delegated: Mapping[str, str] | None, *, awaited: bool) -> ZalionError:
    """Say what a refusal means. What we do not know ends no mailbox: it may be anybody's, and pass."""
    said = answer.json if isinstance(answer.json, Mapping) else {}
    error, words = str(said.get("error", "")), str(said.get("error_description", ""))
    if error == "invalid_token":
        return AlreadyGone("The token was no longer known.")
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited("Google is asked for tokens too often.", retry_after=answer.pause())
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Temporary("Google's sign-in service is not available.", retry_after=answer.pause())
    if delegated is None:
        key = googling.key_of(error, words, str(said.get("error_subtype", "")))
    else:
        key = _key_of_delegation(error, words)
    if key == UNEXPECTED and not awaited:
        logs.log("sign_in.unclear", level=logging.ERROR, provider="google", status=int(answer.status))
        key = "google_busy"
    return googling.error_of(key, **(delegated or {}))


def _key_of_delegation(error: str, words: str) -> str:
    """A service account is refused because of itself, of its delegation, or of whom it acts for."""
    words = words.lower()
    if error in {"unauthorized_client", "access_denied"}:
        return "google_delegation"
    ours = any(word in words for word in ("jwt", "account not found", "robot"))
    if error == "invalid_grant" and not ours:
        return "google_no_user"
    return "google_misconfigured" if error in {"invalid_grant", "invalid_client"} else googling.key_of(error)
