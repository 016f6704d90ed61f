"""The other half of `grants`: asks an issuer for a new access token (RFC 6749 sections 5 and 6)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from shared.errors import ConsentRequired, InvalidRequest, RateLimited, Temporary
from shared.providers import transport

if TYPE_CHECKING:
    from requests import Response

TIMEOUT = (5, 20)
"""Seconds to connect and between two reads."""
CHUNK, MOST_CHUNKS = 8192, 16
UNSAID = 600
"""Seconds an access token is used when its issuer does not say how long it lives (RFC 6749 §5.1)."""

LONGEST_LIFE, LONGEST_PAUSE = 366 * 86_400, 3600
"""Seconds that are believed: users name their issuers, and what comes of a time must still be one."""

_OURS = {"invalid_client", "unauthorized_client"}
_ENDS = {
    "access_denied",
    "consent_required",
    "interaction_required",
    "invalid_scope",
    "login_required",
    "unsupported_grant_type",
}
"""What only a human can mend, besides `invalid_grant`: RFC 6749 §5.2, OpenID Connect Core §3.1.2.6, Entra."""

_CODE = re.compile(r"[a-z_]{1,40}")
_ISSUER = "The issuer of the mailbox's tokens"


class InvalidGrant(Exception):
    """The issuer says `invalid_grant`: the refresh token is spent, revoked or expired (RFC 6749 §5.2)."""


class Answer(msgspec.Struct, frozen=True):
    """What an issuer gives; `expires_in` is in seconds. Without a new refresh token the old one stays."""

    access_token: str
    expires_in: int = UNSAID
    refresh_token: str | None = None

    def __repr__(self) -> str:
        """Keep the tokens out of logs."""
        return "Answer(...)"


class _Error(msgspec.Struct):
    error: str = ""


def check_issuer(token_url: str | None, client_id: str | None) -> None:
    """Raise InvalidRequest unless a refresh token could be redeemed with these."""
    if not client_id:
        raise InvalidRequest("A refresh token needs the client id it was given to.", field="secret.clientId")
    if not token_url or not _is_https(token_url):
        raise InvalidRequest("A refresh token needs its issuer's https URL.", field="secret.tokenUrl")


def redeem(token_url: str, form: Mapping[str, str], allowed_hosts: frozenset[str]) -> Answer:
    """Post the form to the token endpoint and return what it gives.

    Raises InvalidGrant, ConsentRequired (a human has to correct something), RateLimited, and Temporary for
    all that we do not know: it may be somebody else's answer, and pass.
    """
    response, body = _post(token_url, form, allowed_hosts)
    if response.status_code == HTTPStatus.OK:
        try:
            answer = msgspec.json.decode(body, type=Answer, strict=False)
            return msgspec.structs.replace(answer, expires_in=max(0, min(answer.expires_in, LONGEST_LIFE)))
        except msgspec.DecodeError as error:
            raise Temporary(f"{_ISSUER} gave an answer without a token.") from error
    _refuse(response, body)
    raise Temporary(f"{_ISSUER} is not available.", retry_after=_retry_after(response, 60))


def _post(url: str, form: Mapping[str, str], allowed_hosts: frozenset[str]) -> "tuple[Response, bytes]":
    with transport.session(allowed_hosts) as session:
        try:
            with transport.translated(_ISSUER):
                response = session.post(
                    url,
                    data=form,
                    headers={"Accept": "application/json"},
                    timeout=TIMEOUT,
                    allow_redirects=False,
                    stream=True,
                )
                return response, b"".join(islice(response.iter_content(CHUNK), MOST_CHUNKS))
        except InvalidRequest as error:
            fix = "Correct the token URL and connect the mailbox again."
            raise ConsentRequired("The token URL does not lead to a host we may use.", fix=fix) from error


def _refuse(response: "Response", body: bytes) -> None:
    """Raise what a refusal means; return for a trouble that may pass."""
    status = response.status_code
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(f"{_ISSUER} is asked too often.", retry_after=_retry_after(response, 60))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return
    code = _error_code(body)
    if code == "invalid_grant":
        raise InvalidGrant
    if code in _OURS:
        fix = "Check the client id and secret (expired?) in the app registration, then connect again."
        raise ConsentRequired("The issuer does not accept our client id and secret.", fix=fix)
    detail = f"The issuer refused to renew the sign-in ({code or status})."
    if code in _ENDS:
        raise ConsentRequired(detail, fix="Check the token URL and the scopes and connect the mailbox again.")
    fix = "It is tried again by itself. If it stays, check the token URL and connect the mailbox again."
    raise Temporary(detail, retry_after=_retry_after(response, 60), fix=fix)


def _error_code(body: bytes) -> str:
    try:
        code = msgspec.json.decode(body, type=_Error).error
    except msgspec.DecodeError:
        return ""  # an HTML page, say: the status tells enough
    return code if _CODE.fullmatch(code) else ""


def _retry_after(response: "Response", default: float) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_PAUSE) if value.isdecimal() else default


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:
        return False
