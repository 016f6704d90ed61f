"""Signing in at Google: people by their own consent, and mailboxes that an administrator has delegated.

A service account acts for mailboxes ("domain-wide delegation"): its grant reaches everybody of the domain,
so which mailboxes it may be used for is our own list, asked before any token is.
https://developers.google.com/identity/protocols/oauth2/web-server and .../oauth2/service-account
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import msgspec

from shared.errors import Unsupported
from shared.providers import googling
from shared.providers.base import Delegation, Registration, Tokens
from shared.providers.google.tokens import AlreadyGone, asked, post

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
        result = asked(registration, form, awaited=True)
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
        tokens = _tokens(asked(registration, form), {})
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
        return _tokens(asked(registration, form, facts), {})

    def delegation(self, registration: Registration, settings: Mapping[str, object]) -> Delegation:
        """See `OAuth.delegation`. The client id is the service account's number.

        A new entry replaces the old one, and mailboxes that were connected without drafts go on as they are.
        """
        scopes = (READ, SEND, MODIFY) if settings.get("drafts") else (READ, SEND)
        return Delegation(service_key(registration)["client_id"], scopes)

    def revoke(self, registration: Registration, token: str) -> bool:
        """See `OAuth.revoke`. It ends all that the person granted to our Cloud project, anywhere."""
        try:
            post(registration, "/revoke", {"token": token})
        except AlreadyGone:
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


def _client(registration: Registration) -> dict[str, str]:
    return {"client_id": registration.client_id, "client_secret": registration.secret or ""}


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
