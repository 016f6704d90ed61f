"""Signing in at Google: people by their own consent, and mailboxes that an administrator has delegated.

A service account acts for mailboxes ("domain-wide delegation"): its grant reaches everybody of the domain,
so which mailboxes it may be used for is our own list, asked before any token is.
https://developers.google.com/identity/protocols/oauth2/web-server and .../oauth2/service-account
"""

import base64
import hashlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import msgspec

from shared import logs
from shared.errors import RateLimited, Temporary, Unsupported, ZalionError
from shared.explaining import UNEXPECTED
from shared.providers import googling
from shared.providers.base import Delegation, Registration, Tokens
from shared.providers.http import Answer, Api

SCOPE = "https://www.googleapis.com/auth/"
READ, SEND, MODIFY = f"{SCOPE}gmail.readonly", f"{SCOPE}gmail.send", f"{SCOPE}gmail.modify"
SIGN_IN = ("openid", f"{SCOPE}userinfo.email")

DELEGATION = "https://admin.google.com/ac/owl/domainwidedelegation"
"""Where an administrator enters client id and scopes; only a super administrator may."""

ISSUERS = {"https://accounts.google.com", "accounts.google.com"}
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTED = 600
"""Seconds an assertion of the service account lasts."""

SKEW = 300
"""Seconds that Google's clock may differ from ours."""

TITLE = "Google's sign-in service"
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class _Begun(msgspec.Struct):
    """What `redeem` needs to know of `begin`."""

    verifier: str
    nonce: str
    redirect_uri: str
    scopes: list[str]


class Google:
    """`OAuth` of `base`; keeps nothing."""

    by_admin = False
    delegation_missing = "google_delegation"
    delegable: tuple[str, ...] = (READ, SEND, MODIFY)
    not_listed = "google_not_listed"

    def scopes(self, settings: Mapping[str, object]) -> tuple[str, ...]:
        """See `OAuth.scopes`. `gmail.modify` holds what the other two allow."""
        return (MODIFY,) if settings.get("drafts") else (READ, SEND)

    def consent_url(
        self,
        registration: Registration,
        settings: Mapping[str, object],
        redirect_uri: str,  # noqa: ARG002 - nothing comes back from the Admin console
        state: str,  # noqa: ARG002
    ) -> str:
        """See `OAuth.consent_url`. Users need no administrator; a delegation is entered by hand."""
        if not (settings.get("applicationAccess") and registration.service_key):
            fix = "Let users sign in; or switch on applicationAccess to connect mailboxes without them."
            raise Unsupported("Google asks no administrator for this.", fix=fix)
        return DELEGATION

    def consented(self, query: Mapping[str, str]) -> str:  # noqa: ARG002 - the wall's signature
        """See `OAuth.consented`."""
        raise googling.error_of("start_again")

    def begin(
        self, registration: Registration, scopes: Sequence[str], redirect_uri: str, state: str, hint: str
    ) -> tuple[str, str]:
        """See `OAuth.begin`. `prompt=consent`, because only then there is a refresh token each time."""
        begun = _Begun(secrets.token_urlsafe(48), secrets.token_urlsafe(16), redirect_uri, list(scopes))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=")
        query = {
            "client_id": registration.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": " ".join([*SIGN_IN, *scopes]),
            "access_type": "offline",
            "prompt": "consent",
            "state": state,
            "nonce": begun.nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
            **({"login_hint": hint} if hint else {}),
        }
        place = f"{registration.endpoints['google_accounts']}/o/oauth2/v2/auth"
        return f"{place}?{urlencode(query, quote_via=quote)}", msgspec.json.encode(begun).decode()

    def redeem(self, registration: Registration, begun: str, query: Mapping[str, str]) -> Tokens:
        """See `OAuth.redeem`. The boxes on Google's page can be unticked one by one."""
        if "error" in query:
            raise googling.error_of(googling.key_of(query["error"]))
        known = msgspec.json.decode(begun, type=_Begun)
        form = {
            **_client(registration),
            "grant_type": "authorization_code",
            "code": query.get("code", ""),
            "redirect_uri": known.redirect_uri,
            "code_verifier": known.verifier,
        }
        result = _token(registration, form, awaited=True)
        claims = _identity(registration, result, known.nonce)
        tokens = _tokens(result, claims)
        if not set(known.scopes) <= tokens.scopes:
            raise googling.error_of("google_boxes")
        if tokens.refresh_token is None:
            raise googling.error_of("google_no_offline")
        return tokens

    def opens(self, registration: Registration, tokens: Tokens, address: str) -> bool:  # noqa: ARG002 - the wall's
        """See `OAuth.opens`. An alias is no mailbox of its own."""
        return tokens.address == address.lower()

    def renew(self, registration: Registration, refresh_token: str, scopes: Sequence[str]) -> Tokens:
        """See `OAuth.renew`. A scope that was taken back since is missing in the answer."""
        form = {**_client(registration), "grant_type": "refresh_token", "refresh_token": refresh_token}
        tokens = _tokens(_token(registration, form), {})
        if tokens.scopes and not set(scopes) - set(SIGN_IN) <= tokens.scopes:
            raise googling.error_of("google_boxes")
        return tokens

    def application(
        self,
        registration: Registration,
        subject: str = "",
        scopes: Sequence[str] = (),
        *,
        anew: bool = False,  # noqa: ARG002 - it always is
        doubted: datetime | None = None,  # noqa: ARG002
    ) -> Tokens:
        """See `OAuth.application`: the service account, acting for `subject`.

        Whom the organisation has not listed is refused here, where tokens are asked for, each time.
        """
        if subject.lower() not in registration.mailboxes:
            raise googling.error_of(self.not_listed, address=subject)
        key = service_key(registration)
        now = int(time.time())
        claims = {
            "iss": key["client_email"],
            "sub": subject,
            "scope": " ".join(scopes),
            "aud": f"{registration.endpoints['google_oauth']}/token",
            "iat": now,
            "exp": now + ASSERTED,
        }
        assertion = jwt.encode(claims, key["private_key"], "RS256", headers={"kid": key["private_key_id"]})
        facts = {"client_id": key["client_id"], "scopes": ",".join(scopes), "address": subject}
        form = {"grant_type": JWT_BEARER, "assertion": assertion}
        return _tokens(_token(registration, form, facts), {})

    def delegation(self, registration: Registration, settings: Mapping[str, object]) -> Delegation:
        """See `OAuth.delegation`. The client id is the service account's number.

        A new entry replaces the old one, and mailboxes that were connected without drafts go on as they are.
        """
        scopes = (READ, SEND, MODIFY) if settings.get("drafts") else (READ, SEND)
        return Delegation(service_key(registration)["client_id"], scopes)

    def revoke(self, registration: Registration, token: str) -> bool:
        """See `OAuth.revoke`. It ends all that the person granted to our Cloud project, anywhere."""
        try:
            _post(registration, "/revoke", {"token": token})
        except _AlreadyGone:
            return True
        return True


def service_key(registration: Registration) -> Mapping[str, str]:
    """Return the service account's key file. Raises Temporary: where there is none, it is for us to mend."""
    try:
        key = msgspec.json.decode(registration.service_key or "", type=dict[str, str])
    except msgspec.DecodeError as error:
        raise googling.error_of("google_misconfigured") from error
    if not all(key.get(name) for name in ("client_id", "client_email", "private_key", "private_key_id")):
        raise googling.error_of("google_misconfigured")
    return key


class _AlreadyGone(ZalionError):
    """What should be revoked is no token any more."""


def _client(registration: Registration) -> dict[str, str]:
    return {"client_id": registration.client_id, "client_secret": registration.secret or ""}


def _token(
    registration: Registration,
    form: Mapping[str, str],
    delegated: Mapping[str, str] | None = None,
    *,
    awaited: bool = False,
) -> Mapping[str, Any]:
    """Ask the token endpoint.

    Args:
        delegated: the facts to explain a refusal with, for a service account.
        awaited: whether a person waits for the answer, who is told of one that we do not know, too.
    """
    found = _post(registration, "/token", form, delegated, awaited=awaited).json
    if not isinstance(found, Mapping) or "access_token" not in found:
        raise googling.error_of("google_busy")
    return found


def _post(
    registration: Registration,
    path: str,
    form: Mapping[str, str],
    delegated: Mapping[str, str] | None = None,
    *,
    awaited: bool = False,
) -> Answer:
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
        return _AlreadyGone("The token was no longer known.")
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


def _identity(registration: Registration, result: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
    """Check the id_token's claims. Its signature needs none: it came from the token endpoint over TLS.

    https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation (point 6)
    """
    try:
        claims: Mapping[str, Any] = jwt.decode(
            str(result.get("id_token", "")),
            options={"verify_signature": False, "require": ["iss", "aud", "exp", "sub", "email"]},
        )
    except jwt.PyJWTError as error:
        raise googling.error_of("start_again") from error
    genuine = (
        claims["aud"] == registration.client_id
        and claims["iss"] in ISSUERS
        and claims.get("nonce") == nonce
        and claims["exp"] + SKEW >= time.time()
    )
    if not genuine or claims.get("email_verified") is False:
        raise googling.error_of("start_again")
    return claims


def _tokens(result: Mapping[str, Any], claims: Mapping[str, Any]) -> Tokens:
    return Tokens(
        access_token=result["access_token"],
        expires_in=int(result.get("expires_in", 0)),
        refresh_token=result.get("refresh_token"),
        scopes=frozenset(str(result.get("scope", "")).split()),
        tenant=str(claims.get("hd", "")).lower(),
        subject=str(claims.get("sub", "")),
        address=str(claims.get("email", "")).lower(),
    )
