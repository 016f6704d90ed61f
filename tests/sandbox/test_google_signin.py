"""Google's sign-in through google-auth and a plain browser: consent, tokens, why they die, delegation."""

import base64
import hashlib
import re
import secrets
import time
from html import unescape
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest
import requests
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request as AuthRequest
from google.oauth2 import id_token
from google.oauth2.credentials import Credentials
from googleapiclient.errors import HttpError

from tests.sandbox.google import SCOPE, delegated, person, refreshed

WANTED = ("gmail.readonly", "gmail.send")


@pytest.fixture
def browser(world):
    session = requests.Session()
    session.trust_env, session.verify = False, str(world.authority.pem)
    return session


@pytest.fixture
def ann(world):
    return person(world)


class Flow:
    """What an app does with the code flow."""

    def __init__(self, world, browser):
        self.google, self.app, self.browser = world.google, world.google_app, browser
        self.verifier = secrets.token_urlsafe(48)

    def url(self, *scopes, **more):
        digest = hashlib.sha256(self.verifier.encode()).digest()
        asked = {
            "client_id": self.app.client_id,
            "redirect_uri": self.app.redirect_uris[1],
            "response_type": "code",
            "scope": " ".join(["openid", "email", *(SCOPE + one for one in scopes or WANTED)]),
            "state": "st&te",
            "access_type": "offline",
            "prompt": "consent",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **more,
        }
        return f"{self.google.url}/o/oauth2/v2/auth?{urlencode(asked)}"

    def follow(self, url):
        """Where the browser comes back to."""
        answer = self.browser.get(url, allow_redirects=False, timeout=5)
        assert answer.status_code == 302, answer.text
        return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))

    def token(self, **more):
        asked = {"client_id": self.app.client_id, "client_secret": self.app.client_secret, **more}
        return self.browser.post(f"{self.google.url}/token", data=asked, timeout=5)

    def redeem(self, code, **more):
        asked = {
            "code": code,
            "redirect_uri": self.app.redirect_uris[1],
            "code_verifier": self.verifier,
            **more,
        }
        return self.token(grant_type="authorization_code", **asked)

    def refresh(self, token):
        return self.token(grant_type="refresh_token", refresh_token=token)


@pytest.fixture
def flow(world, browser):
    return Flow(world, browser)


def form(page):
    """The hidden fields of a form, as a browser sends them, and its checkboxes."""
    fields = re.findall(r"<input type='hidden' name='([^']*)' value='([^']*)'>", page)
    boxes = re.findall(r"<input type='checkbox' name='granted' value='([^']*)'>", page)
    return {name: unescape(value) for name, value in fields}, [unescape(one) for one in boxes]


def test_a_person_signs_in_unticks_a_scope_and_the_app_learns_it(flow, browser, ann):
    url = flow.url(login_hint=ann.address)
    page = browser.get(url, timeout=5).text
    assert f"value='{ann.address}'" in page
    fields, _ = form(page)
    typed = {**fields, "login": ann.address, "password": "wrong", "action": "signin"}
    assert "Wrong password" in browser.post(url, data=typed, timeout=5).text
    page = browser.post(url, data={**typed, "password": "pass:word"}, timeout=5).text
    fields, boxes = form(page)
    assert sorted(boxes) == [f"{SCOPE}gmail.readonly", f"{SCOPE}gmail.send"]
    ticked = {**fields, "granted": boxes[:1], "action": "continue"}
    answer = browser.post(url, data=ticked, allow_redirects=False, timeout=5)
    back = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    assert back["state"] == "st&te"
    tokens = flow.redeem(back["code"]).json()
    assert set(tokens["scope"].split()) == {"openid", f"{SCOPE}userinfo.email", boxes[0]}
    assert (
        browser.post(url, data=ticked, allow_redirects=False, timeout=5).status_code == 200
    )  # no proof twice
    claims = id_token.verify_oauth2_token(
        tokens["id_token"], Transport(flow), flow.app.client_id, clock_skew_in_seconds=5
    )
    assert (claims["email"], claims["sub"]) == (ann.address, ann.user.sub)


class Transport(AuthRequest):
    """google-auth's transport, which asks the simulator for the certificates of Google."""

    def __init__(self, flow):
        self.flow = flow
        super().__init__(flow.browser)

    def __call__(self, url, **more):
        return super().__call__(f"{self.flow.google.url}{urlsplit(url).path}", **more)


def test_a_signed_in_person_is_sent_back_at_once_and_tokens_work(flow, ann, world):
    world.google.auto_sign_in = True
    code = flow.follow(flow.url(login_hint=ann.address))["code"]
    tokens = flow.redeem(code).json()
    credentials = Credentials(
        None, tokens["refresh_token"], token_uri=world.google.token_uri,
        client_id=flow.app.client_id, client_secret=flow.app.client_secret, scopes=tokens["scope"].split(),
    )  # fmt: skip
    profile = ann.client(credentials=refreshed(credentials, world)).users().getProfile(userId="me").execute()
    assert profile["emailAddress"] == ann.address
    assert set(credentials.granted_scopes) >= {f"{SCOPE}gmail.readonly"}
    info = flow.browser.get(
        f"{world.google.url}/v1/userinfo", headers={"Authorization": f"Bearer {credentials.token}"}, timeout=5
    )
    assert info.json()["sub"] == ann.user.sub
    assert flow.redeem(code).json()["error"] == "invalid_grant"


def test_codes_are_bound_to_verifier_address_and_secret(flow, ann, world):
    world.google.auto_sign_in = ann.address

    def refused(**wrong):
        return flow.redeem(flow.follow(flow.url())["code"], **wrong).json()["error"]

    assert refused(code_verifier="wrong") == "invalid_grant"
    assert refused(code_verifier="") == "invalid_grant"
    assert refused(redirect_uri="https://evil.example") == "redirect_uri_mismatch"
    assert refused(client_secret="wrong") == "invalid_client"
    page = flow.browser.get(flow.url(redirect_uri="https://evil.example"), allow_redirects=False, timeout=5)
    assert page.status_code == 400 and "redirect_uri_mismatch" in page.text
    assert "invalid_scope" in flow.browser.get(flow.url("gmail.everything"), timeout=5).text


def test_a_refresh_token_comes_with_the_first_consent_or_when_asked_for(flow, ann, world):
    world.google.auto_sign_in = ann.address
    first = flow.redeem(flow.follow(flow.url(prompt=""))["code"]).json()
    again = flow.redeem(flow.follow(flow.url(prompt=""))["code"]).json()
    asked = flow.redeem(flow.follow(flow.url())["code"]).json()
    assert ["refresh_token" in one for one in (first, again, asked)] == [True, False, True]
    world.google.faults.partial_consent = {"gmail.send"}
    assert f"{SCOPE}gmail.send" not in flow.redeem(flow.follow(flow.url())["code"]).json()["scope"].split()


def test_declining_and_being_blocked(flow, ann, world, browser):
    answer = browser.get(flow.url(action="cancel"), allow_redirects=False, timeout=5)
    assert "error=access_denied" in answer.headers["Location"]
    world.google.auto_sign_in = ann.address
    ann.user.domain.blocked_clients.add(flow.app.client_id)
    try:
        assert "admin_policy_enforced" in browser.get(flow.url(), timeout=5).text
        with pytest.raises(HttpError) as error:
            ann.users().getProfile(userId="me").execute()
        assert b"domainPolicy" in error.value.content
    finally:
        ann.user.domain.blocked_clients.clear()


def test_why_refresh_tokens_die(flow, ann, world):
    google, user = world.google, ann.user

    def died(cause):
        token = google.grant(ann.address)
        assert flow.refresh(token).status_code == 200
        cause(token)
        found = flow.refresh(token)
        assert found.status_code == 400
        return found.json()["error"], found.json().get("error_subtype")

    assert died(lambda _: google.directory.change_password(ann.address, "new")) == ("invalid_grant", None)
    assert died(lambda _: google.grants.revoke_project(user, flow.app.project)) == ("invalid_grant", None)
    assert died(lambda _: google.skip(181 * 86400)) == ("invalid_grant", None)
    assert died(lambda _: [google.grant(ann.address) for _ in range(100)]) == ("invalid_grant", None)
    assert died(lambda _: setattr(user.domain, "session_control", True)) == ("invalid_grant", "invalid_rapt")
    user.domain.session_control = False
    assert died(lambda _: setattr(user, "suspended", True)) == ("invalid_grant", None)
    user.suspended = False
    flow.app.testing = True
    try:
        assert died(lambda _: google.skip(8 * 86400)) == ("invalid_grant", None)
    finally:
        flow.app.testing = False


def test_revoking_one_token_ends_everything_of_the_project(flow, ann, world):
    google = world.google
    other = google.directory.add_client("zalion-mail", "Second app", ())
    foreign = google.directory.add_client("another-project", "Another", ())
    first, second = google.grant(ann.address), google.grant(ann.address, client=other)
    third = google.grant(ann.address, client=foreign)
    access = google.bearer(ann.address)
    revoke, before = f"{google.url}/revoke", google.grants.revocations
    assert flow.browser.post(revoke, data={"token": first}, timeout=5).status_code == 200
    assert flow.browser.post(revoke, data={"token": first}, timeout=5).json()["error"] == "invalid_token"
    assert google.grants.access(access) is None
    assert flow.refresh(first).status_code == 400
    flow.app = other
    assert flow.refresh(second).status_code == 400
    flow.app = foreign
    assert flow.refresh(third).status_code == 200
    assert google.grants.revocations == before + 1


# Domain-wide delegation


def test_a_service_account_speaks_for_whom_the_administrator_allows(ann, world):
    directory, client_id = world.google.directory, world.google_service.client_id
    names = ("gmail.readonly", "gmail.send")
    with pytest.raises(RefreshError, match="unauthorized_client"):
        refreshed(delegated(world, ann.address, *names), world)
    directory.delegate(ann.user.domain.name, client_id, *names)
    try:
        client = ann.client(credentials=refreshed(delegated(world, ann.address, *names), world))
        assert client.users().getProfile(userId="me").execute()["emailAddress"] == ann.address
        for subject, scopes, words in (
            (ann.address, ("openid", *names), "unauthorized_client"),
            (ann.address, ("gmail.modify",), "unauthorized_client"),
            ("nobody@g.example", names, "Invalid email or User ID"),
        ):
            with pytest.raises(RefreshError, match=words):
                refreshed(delegated(world, subject, *scopes), world)
        alone = ann.client(credentials=refreshed(delegated(world, None, *names), world))
        with pytest.raises(HttpError, match="Precondition check failed"):
            alone.users().getProfile(userId="me").execute()
        theirs = world.google.grant(ann.address)
        mine = refreshed(delegated(world, ann.address, *names), world).token
        assert world.google.grants.revoke(mine) and world.google.grants.access(mine) is None
        assert theirs in world.google.grants._refreshes  # what the person granted herself stays
        ann.user.suspended = True
        with pytest.raises(
            RefreshError, match="Invalid email or User ID"
        ):  # after a 401 it asks for a new token
            client.users().getProfile(userId="me").execute()
    finally:
        directory.undelegate(ann.user.domain.name, client_id)


def test_assertions_have_to_be_signed_short_and_for_google(flow, ann, world):
    account, now = world.google_service, int(time.time())
    claims = {
        "iss": account.email,
        "aud": world.google.token_uri,
        "iat": now,
        "exp": now + 3600,
        "scope": "x",
    }

    def refused(key=account.key, **wrong):
        assertion = jwt.encode({**claims, **wrong}, key, "RS256", headers={"kid": account.key_id})
        kind = "urn:ietf:params:oauth:grant-type:jwt-bearer"
        return flow.token(grant_type=kind, assertion=assertion).json()["error_description"]

    other = world.google.directory.add_service_account("another-project", "robot").key
    assert refused(other) == "Invalid JWT Signature."
    assert "audience" in refused(aud="https://evil.example")
    assert "short-lived" in refused(exp=now - 1000, iat=now - 2000)
    assert "short-lived" in refused(exp=now + 7200)
    assert "account not found" in refused(iss="nobody@x.iam.gserviceaccount.com")


def test_an_administrator_authorises_on_the_page_that_the_link_opens(world, browser):
    boss, client_id = person(world, "boss", "console.example", admin=True), world.google_service.client_id
    url = f"{world.google.url}/ac/owl/domainwidedelegation"
    query = {"clientIdToAdd": client_id, "clientScopeToAdd": f"{SCOPE}gmail.readonly,{SCOPE}gmail.send"}
    assert f"value='{client_id}'" in browser.get(url, params=query, timeout=5).text
    typed = {**query, "login": boss.address, "password": "wrong"}
    assert "Sign in as an administrator" in browser.post(url, data=typed, timeout=5).text
    assert (
        "may act for console.example"
        in browser.post(url, data={**typed, "password": "pass:word"}, timeout=5).text
    )
    refreshed(delegated(world, boss.address, "gmail.send"), world)
