"""The browser's side: people sign in, users and administrators consent.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow,
https://learn.microsoft.com/entra/identity-platform/v2-admin-consent
"""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from sandbox.entra import forms
from sandbox.entra.directory import GRAPH, Application, Refusal, Tenant, User, resource_scopes
from sandbox.web import Reply

if TYPE_CHECKING:
    from sandbox.entra.server import Entra

DECLINED = {
    "error": "access_denied",
    "error_description": "AADSTS65004: User declined to consent to access the app.",
}


def authorize(entra: "Entra", name: str, asked: dict[str, str]) -> Reply:
    """Let somebody sign in for an app; the browser goes back with a code. Raises Refusal."""
    tenant, app = _registered(entra, name, asked)
    if asked.get("action") == "decline":
        return _back(entra, asked, DECLINED)
    if asked.get("response_type") != "code":
        return _back(entra, asked, _told(Refusal(700054, "Not enabled.", error="unsupported_response_type")))
    user = _who(entra, asked, tenant)
    if isinstance(user, Reply):
        return user
    try:
        scopes = _wanted(entra, user, app, asked)
    except Refusal as refusal:
        return _back(entra, asked, _told(refusal))
    if scopes is None:
        return _asking(entra, asked, app, resource_scopes(asked.get("scope", "")), user)
    return _back(entra, asked, {"code": entra.codes.issue(asked, user, scopes)})


def consent(entra: "Entra", name: str, asked: dict[str, str], *, v2: bool) -> Reply:
    """Let an administrator consent for a directory. Raises Refusal."""
    if name == "common" or (v2 and not asked.get("scope")):
        raise Refusal(900144, "A directory and a scope are needed.", error="invalid_request")
    tenant, app = _registered(entra, name, asked)
    if asked.get("action") == "decline":
        return _back(entra, asked, {**DECLINED, "admin_consent": "True"})
    user = _who(entra, asked, tenant)
    if isinstance(user, Reply):
        return user
    if not user.admin:
        return forms.failure(Refusal(90094, "You need to be an administrator to do this."))
    wanted = resource_scopes(asked.get("scope", ""))
    wanted = app.delegated if not v2 or ".default" in wanted else wanted & app.delegated
    if not entra.auto_sign_in and asked.get("action") != "accept":
        return _asking(entra, asked, app, wanted, user)
    application = app.application if not v2 or "/.default" in asked.get("scope", "") else frozenset()
    entra.directory.consent_besides(user.tenant, app, wanted, application)
    granted = {"admin_consent": "True", "tenant": user.tenant.id}
    scope = {"scope": " ".join(GRAPH + name for name in sorted(wanted))} if v2 else {}
    return _back(entra, asked, {**granted, **scope})


def _registered(entra: "Entra", name: str, asked: Mapping[str, str]) -> tuple[Tenant | None, Application]:
    """Return the directory (None where any will do) and the app. Raises Refusal."""
    tenant = entra.directory.tenant_of(name)
    app = entra.directory.application(asked.get("client_id", ""), tenant)
    if asked.get("redirect_uri") not in app.redirect_uris:
        raise Refusal(50011, "The redirect URI does not match.", error="invalid_request")
    return tenant, app


def _who(entra: "Entra", asked: dict[str, str], tenant: Tenant | None) -> User | Reply:
    """Return who signs in, or the form to do so."""
    hint = asked.get("login_hint") or (entra.auto_sign_in if isinstance(entra.auto_sign_in, str) else "")
    if entra.auto_sign_in and hint:
        user = entra.directory.users.get(hint.lower())
    elif asked.get("prompt") == "none":
        words = "AADSTS50058: no session"
        return _back(entra, asked, {"error": "login_required", "error_description": words})
    elif asked.get("action") == "accept" and asked.get("session") in entra.sessions:
        user = entra.sessions[asked["session"]]
    elif asked.get("action") == "signin":
        user = entra.directory.users.get(asked.get("login", "").lower())
        if user is None or user.password != asked.get("password"):
            return forms.sign_in(asked, "AADSTS50126: Your account or password is incorrect.")
    else:
        return forms.sign_in(asked)
    try:
        return _admitted(user, tenant)
    except Refusal as refusal:
        return _back(entra, asked, _told(refusal))


def _asking(
    entra: "Entra", asked: Mapping[str, str], app: Application, wanted: frozenset[str], user: User
) -> Reply:
    """Ask whoever signed in; the page carries the proof of it."""
    session = secrets.token_urlsafe(24)
    entra.sessions[session] = user
    return forms.consent(asked, app, wanted, session)


def _admitted(user: User | None, tenant: Tenant | None) -> User:
    if user is None or (tenant and user.tenant is not tenant):
        raise Refusal(50020, "User account does not exist in tenant.", error="interaction_required")
    if not user.enabled:
        raise Refusal(50057, "The user account is disabled.", error="invalid_grant")
    blocked = user.blocked or user.tenant.blocked
    if blocked:
        raise Refusal(blocked, "Blocked.", error="interaction_required")
    return user


def _wanted(entra: "Entra", user: User, app: Application, asked: Mapping[str, str]) -> frozenset[str] | None:
    """Return the scopes the sign-in gets, or None where the user is to be asked. Raises Refusal."""
    wanted = resource_scopes(asked.get("scope", ""))
    if not user.tenant.has_exchange:
        raise Refusal(650052, "The organization lacks a service principal.", error="invalid_client")
    if not wanted <= app.delegated:
        raise Refusal(650057, "Invalid resource: not listed in the registration.", error="invalid_resource")
    granted = entra.in_force(user, user.tenant, app)
    if wanted <= granted:
        return wanted | granted
    if not (user.tenant.user_consent or user.admin):
        raise Refusal(90094, "An administrator has to grant permission.", error="consent_required")
    if asked.get("action") != "accept":
        return None
    entra.directory.personal[user.address, app.client_id] = wanted | granted
    return wanted | granted


def _told(refusal: Refusal) -> dict[str, str]:
    return {"error": refusal.error, "error_description": str(refusal)}


def _back(entra: "Entra", asked: Mapping[str, str], answer: dict[str, str]) -> Reply:
    """Send the browser back to the app, with the state it came with."""
    state = asked.get("state", "") + (" Sign in to your account" if entra.damage_state else "")
    if asked.get("response_mode") == "form_post":
        return forms.post_back(asked["redirect_uri"], {**answer, "state": state})
    query = urlencode({**answer, **({"state": state} if state else {})})
    return Reply(302, None, {"Location": f"{asked['redirect_uri']}?{query}"})
