"""Entra as MSAL sees it, and as a browser does: two clients that we did not write."""

import json
import shutil
import time

import jwt
import pytest
import requests
from msal.exceptions import MsalServiceError
from playwright.sync_api import sync_playwright

from sandbox.entra.directory import GRAPH
from tests.microsoft import certificate
from tests.sandbox.outlook import ALL, BACK, Office

DEFAULT = [f"{GRAPH}.default"]


def refresh(office, result, scopes=ALL):
    """Use a refresh token with a client that remembers no earlier refusal."""
    return office.msal().acquire_token_by_refresh_token(result["refresh_token"], [GRAPH + s for s in scopes])


class TestSigningIn:
    def test_code_and_pkce_end_in_tokens_for_what_was_asked_and_approved(self, office):
        result = office.signed_in(office.user())
        claims = result["id_token_claims"]
        assert claims["tid"] == office.tenant.id
        assert claims["preferred_username"] == f"anna@{office.domain}"
        assert {GRAPH + scope for scope in ALL} <= {*result["scope"].split()}
        assert {"access_token", "refresh_token"} <= {*result}

    def test_the_id_token_is_signed_with_a_published_key(self, office):
        result = office.signed_in(office.user())
        place = f"{office.world.entra.authority(office.tenant)}/v2.0/.well-known/openid-configuration"
        described = office.session().get(place).json()
        keys = office.session().get(described["jwks_uri"]).json()
        key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(result["id_token"])["kid"]]
        claims = jwt.decode(
            result["id_token"], key, audience=office.app.client_id, issuer=described["issuer"]
        )
        assert claims["oid"]

    def test_without_offline_access_and_openid_there_is_an_access_token_only(self, office):
        user = office.user()
        url = f"{office.world.entra.authority(office.tenant)}/oauth2/v2.0"
        query = f"client_id={office.app.client_id}&response_type=code&redirect_uri={BACK}&scope=Mail.Read"
        back = office.came_back(f"{url}/authorize?{query}&login_hint={user.address}")
        known = {"client_id": office.app.client_id, "client_secret": office.secret, "redirect_uri": BACK}
        form = {**known, "grant_type": "authorization_code", "code": back["code"]}
        tokens = office.session().post(f"{url}/token", form).json()
        assert "access_token" in tokens
        assert not {"refresh_token", "id_token"} & {*tokens}

    def test_a_code_is_good_once(self, office):
        client, user = office.msal(), office.user()
        flow = client.initiate_auth_code_flow(
            [f"{GRAPH}Mail.Read"], redirect_uri=BACK, login_hint=user.address
        )
        back = office.came_back(flow["auth_uri"])
        assert "access_token" in client.acquire_token_by_auth_code_flow(flow, back)
        assert office.msal().acquire_token_by_auth_code_flow(flow, back)["error_codes"] == [54005]

    def test_a_code_is_of_no_use_without_its_verifier(self, office):
        client, user = office.msal(), office.user()
        flow = client.initiate_auth_code_flow(
            [f"{GRAPH}Mail.Read"], redirect_uri=BACK, login_hint=user.address
        )
        back = office.came_back(flow["auth_uri"])
        result = client.acquire_token_by_auth_code_flow({**flow, "code_verifier": "x" * 43}, back)
        assert (result["error"], result["error_codes"]) == ("invalid_grant", [501481])

    def test_a_damaged_state_is_noticed(self, office):
        office.world.entra.damage_state = True
        with pytest.raises(ValueError, match="state"):
            office.signed_in(office.user())

    def test_somebody_of_another_directory_is_sent_back(self, office):
        stranger = Office.of(office.world).user("stranger")
        result = office.signed_in(stranger)
        assert (result["error"], result["error_description"][:12]) == ("interaction_required", "AADSTS50020:")

    def test_a_disabled_or_blocked_account_is_sent_back(self, office):
        user = office.user()
        user.blocked = 53003
        assert "AADSTS53003" in office.signed_in(user)["error_description"]
        user.blocked, user.enabled = 0, False
        assert "AADSTS50057" in office.signed_in(user)["error_description"]

    def test_a_silent_sign_in_without_a_session_is_refused(self, office):
        flow = office.msal().initiate_auth_code_flow([f"{GRAPH}Mail.Read"], redirect_uri=BACK, prompt="none")
        assert office.came_back(flow["auth_uri"])["error"] == "login_required"

    def test_a_redirect_uri_that_is_not_registered_is_never_followed(self, office):
        flow = office.msal().initiate_auth_code_flow(
            [f"{GRAPH}Mail.Read"], redirect_uri="https://evil.example/"
        )
        answer = office.session().get(flow["auth_uri"], allow_redirects=False)
        assert answer.status_code == 400
        assert "AADSTS50011" in answer.text


class TestConsent:
    def ask(self, office, user, scope, path="v2.0/adminconsent"):
        url = f"{office.world.entra.authority(office.tenant)}/{path}"
        query = f"client_id={office.app.client_id}&scope={scope}&redirect_uri={BACK}&state=s"
        return office.came_back(f"{url}?{query}&login_hint={user.address}")

    def test_without_it_a_user_is_told_to_ask_the_administrator(self, world):
        office = Office.of(world, consented=False)
        result = office.signed_in(office.user())
        assert (result["error"], result["error_description"][:12]) == ("consent_required", "AADSTS90094:")

    def test_it_holds_for_the_scopes_it_names_and_in_its_directory(self, world):
        office = Office.of(world, multi_tenant=True, consented=False)
        back = self.ask(office, office.user("boss", admin=True), f"{GRAPH}Mail.Read")
        assert back == {
            "admin_consent": "True",
            "tenant": office.tenant.id,
            "scope": f"{GRAPH}Mail.Read",
            "state": "s",
        }
        assert "access_token" in office.signed_in(office.user(), "Mail.Read")
        assert "AADSTS90094" in office.signed_in(office.user(), "Mail.Send")["error_description"]
        other = Office.of(world)
        elsewhere = office.signed_in(other.user(), "Mail.Read", client=office.msal(tenant="organizations"))
        assert "AADSTS90094" in elsewhere["error_description"]

    def test_a_second_one_adds_to_the_first(self, world):
        office = Office.of(world, consented=False)
        boss = office.user("boss", admin=True)
        self.ask(office, boss, f"{GRAPH}Mail.Read")
        self.ask(office, boss, f"{GRAPH}Mail.Send")
        assert "access_token" in office.signed_in(office.user(), "Mail.Read", "Mail.Send")

    @pytest.mark.parametrize(
        ("scope", "roles"), [("Mail.Read", []), (".default", ["Mail.Read", "Mail.Send"])]
    )
    def test_the_apps_own_permissions_come_with_default_only(self, world, scope, roles):
        office = Office.of(world, consented=False)
        self.ask(office, office.user("boss", admin=True), GRAPH + scope)
        token = office.msal().acquire_token_for_client(DEFAULT)["access_token"]
        assert jwt.decode(token, options={"verify_signature": False})["roles"] == roles

    def test_the_old_form_of_the_link_asks_for_everything_registered(self, world):
        office = Office.of(world, consented=False)
        back = self.ask(office, office.user("boss", admin=True), "", "adminconsent")
        assert "scope" not in back
        assert {*ALL} <= {s.removeprefix(GRAPH) for s in office.signed_in(office.user())["scope"].split()}

    def test_nobody_but_an_administrator_can_give_it(self, world):
        office = Office.of(world, consented=False)
        url = f"{world.entra.authority(office.tenant)}/v2.0/adminconsent?client_id={office.app.client_id}"
        world.entra.auto_sign_in = office.user().address
        answer = office.session().get(
            f"{url}&scope={GRAPH}.default&redirect_uri={BACK}", allow_redirects=False
        )
        world.entra.auto_sign_in = False
        assert answer.status_code == 400
        assert "AADSTS90094" in answer.text

    def test_it_may_take_effect_late(self, world):
        office = Office.of(world, consented=False)
        self.ask(office, office.user("boss", admin=True), f"{GRAPH}Mail.Read")
        world.entra.late_consents = 2
        assert "AADSTS90094" in office.signed_in(office.user(), "Mail.Read")["error_description"]
        assert (
            jwt.decode(
                office.msal().acquire_token_for_client(DEFAULT)["access_token"],
                options={"verify_signature": False},
            )["roles"]
            == []
        )
        assert "access_token" in office.signed_in(office.user(), "Mail.Read")

    def test_declining_comes_back_as_an_error_that_also_says_consent(self, office):
        url = f"{office.world.entra.authority(office.tenant)}/v2.0/adminconsent?action=decline"
        query = f"client_id={office.app.client_id}&scope={GRAPH}.default&redirect_uri={BACK}"
        back = office.came_back(f"{url}&{query}")
        assert (back["error"], back["admin_consent"]) == ("access_denied", "True")


class TestGrants:
    def test_a_refresh_gives_another_token_and_the_old_one_stays_good(self, office):
        first = office.signed_in(office.user())
        second = refresh(office, first)
        assert second["refresh_token"] != first["refresh_token"]
        assert "access_token" in refresh(office, first)
        assert "access_token" in refresh(office, second)

    @pytest.mark.parametrize(
        ("spoil", "code"),
        [
            (lambda o, user: o.world.entra.revoke_sessions(user), 50173),
            (lambda o, user: o.world.entra.age_refresh_tokens(91 * 86400), 700082),
            (lambda o, user: o.world.entra.directory.revoke_consent(o.tenant, o.app), 65001),
            (lambda o, user: setattr(user, "enabled", False), 50057),
            (lambda o, user: setattr(o.tenant, "blocked", 53003), 53003),
            (lambda o, user: setattr(o.app, "disabled", True), 7000112),
        ],
        ids=[
            "administrator reset it",
            "unused for 90 days",
            "consent revoked",
            "account off",
            "policy",
            "app off",
        ],
    )
    def test_a_grant_ends(self, office, spoil, code):
        user = office.user()
        result = office.signed_in(user)
        spoil(office, user)
        assert refresh(office, result)["error_codes"] == [code]
        office.world.entra.age_refresh_tokens(-91 * 86400)

    def test_it_is_bound_to_its_app_and_its_directory(self, office):
        result, other = office.signed_in(office.user()), Office.of(office.world)
        assert refresh(other, result)["error_codes"] == [70000]

    def test_a_refusal_is_told_with_everything_support_asks_for(self, office):
        office.world.entra.refuse_next(65001, suberror="consent_required")
        result = office.msal().acquire_token_for_client(DEFAULT)
        assert result["error_codes"] == [65001]
        assert result["suberror"] == "consent_required"
        assert result["error_description"].startswith("AADSTS65001:")
        assert {"correlation_id", "trace_id", "timestamp"} <= {*result}

    def test_entra_may_be_out_of_order(self, office):
        client = office.msal()
        office.world.entra.fail_next(2, 503)  # MSAL tries once more by itself
        with pytest.raises(MsalServiceError):
            client.acquire_token_for_client(DEFAULT)

    def test_an_access_token_ends(self, office):
        office.outlook().get("/me/mailFolders/inbox")
        office.world.entra.token_seconds = -1
        outlook = office.outlook()
        assert outlook.refused("GET", "/me/mailFolders/inbox", 401) == "InvalidAuthenticationToken"


class TestTheAppItself:
    def test_it_signs_in_with_its_secret(self, office):
        result = office.msal().acquire_token_for_client(DEFAULT)
        assert "access_token" in result
        assert "refresh_token" not in result

    def test_it_signs_in_with_its_certificate(self, office):
        key, public = certificate()
        office.app.add_certificate(public)
        client = office.msal({"private_key": key, "public_certificate": public})
        assert "access_token" in client.acquire_token_for_client(DEFAULT)

    @pytest.mark.parametrize("days", [30, -1], ids=["not registered", "ended"])
    def test_another_certificate_is_refused(self, office, days):
        key, public = certificate(days)
        if days < 0:
            office.app.add_certificate(public)
        client = office.msal({"private_key": key, "public_certificate": public})
        result = client.acquire_token_for_client(DEFAULT)
        assert (result["error"], result["error_codes"]) == ("invalid_client", [700027])

    def test_a_wrong_an_old_and_no_secret_are_told_apart(self, office):
        old = office.app.add_secret(expires_at=time.time() - 1)
        answers = [office.msal(each).acquire_token_for_client(DEFAULT) for each in ("wrong", old, "")]
        assert [one["error_codes"] for one in answers] == [[7000215], [7000222], [7000218]]

    def test_it_needs_a_directory_of_its_own_name(self, world):
        office = Office.of(world, multi_tenant=True)
        result = office.msal(tenant="organizations").acquire_token_for_client(DEFAULT)
        assert result["error_codes"] == [9001023]

    def test_a_single_tenant_app_and_an_unknown_directory_are_refused(self, office):
        shared = office.msal(tenant="organizations").acquire_token_for_client(DEFAULT)
        assert shared["error_codes"] == [50194]
        with pytest.raises(ValueError, match=r"nowhere\.example"):
            office.msal(tenant="nowhere.example").acquire_token_for_client(DEFAULT)

    def test_an_app_is_unknown_in_a_directory_of_others(self, office):
        other = Office.of(office.world)
        assert office.msal(tenant=other.tenant).acquire_token_for_client(DEFAULT)["error_codes"] == [700016]


def test_what_was_shown_and_given_out_is_remembered_for_the_search_for_leaks(office):
    result = office.signed_in(office.user())
    seen = office.world.entra.secrets_seen
    assert {result["access_token"], result["refresh_token"], result["id_token"], office.secret} <= seen


class TestInTheBrowser:
    @pytest.fixture
    def page(self):
        quiet = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
        with sync_playwright() as started:
            browser = started.chromium.launch(
                executable_path=shutil.which("chromium"), args=[f"--{one}" for one in quiet]
            )
            context = browser.new_context(ignore_https_errors=True, java_script_enabled=False)
            yield context.new_page()
            browser.close()

    def test_the_pages_work_without_javascript(self, world, bell, page):
        office = Office.of(world, consented=False)
        office.tenant.user_consent = True
        back = f"{bell.url}/oauth?x="
        office.app.redirect_uris += (back, bell.url)
        user, client = office.user(), office.msal()
        flow = client.initiate_auth_code_flow(
            [f"{GRAPH}Mail.Read"], redirect_uri=bell.url, state='<b>"it\'s"</b>', response_mode="form_post"
        )
        page.goto(flow["auth_uri"])
        page.get_by_label("Account").fill(user.address)
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        assert "AADSTS50126" in page.get_by_role("alert").inner_text()
        page.get_by_label("Account").fill(user.address)
        page.get_by_label("Password").fill(user.password)
        page.get_by_role("button", name="Sign in").click()
        assert page.get_by_role("listitem").all_inner_texts() == ["Mail.Read"]
        page.get_by_role("button", name="Accept").click()
        with page.expect_request(lambda request: request.url.startswith(bell.url)) as sent:
            page.get_by_role("button", name="Go on").click()
        posted = dict(requests.compat.unquote_plus(p).split("=", 1) for p in sent.value.post_data.split("&"))
        assert "access_token" in client.acquire_token_by_auth_code_flow(flow, posted), json.dumps([*posted])
