"""Consent and sign-in as people meet them: Debian's Chromium, without JavaScript, on the real routes."""

import os
import re
import secrets
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from sandbox import chromium
from tests import scan
from tests.api.conftest import client
from tests.microsoft import PASSWORD, Company

SHOTS = os.environ.get("SCREENSHOTS", "")
"""A folder to put pictures of the pages into, for looking at them."""

GERMAN, ENGLISH = {"locale": "de-DE"}, {"locale": "en-GB"}
NARROW = {"viewport": {"width": 360, "height": 640}}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium.install(), args=list(chromium.ARGUMENTS))
        yield found
        found.close()


@pytest.fixture
def opened(browser):
    """Open a window; scripts are switched off in all of them."""
    contexts = []

    def window(**options):
        options = {"viewport": {"width": 900, "height": 700}, **options}
        context = browser.new_context(java_script_enabled=False, ignore_https_errors=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        return page

    yield window
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def company(world, api):
    """An organisation at Microsoft whose administrator calls the API."""
    made = Company(world, None)
    made.call = client(api, world, made.org_id, made.it.address, "admin")
    made.api = api
    return made


@pytest.fixture(autouse=True)
def nobody_is_signed_in(world):
    world.entra.auto_sign_in = False


@pytest.fixture(scope="module")
def approved(company, world):
    """The organisation after the consent, given without a browser."""
    give_consent(company, world)
    return company


def give_consent(company, world):
    put(company)
    link = company.call("POST", "/integrations/microsoft/consent", {}).json()["url"]
    back = visit(company, world, company.browse(link), "consent")
    assert back.status_code == 302, back.text
    back = visit(company, world, company.browse(back.headers["Location"]), "oauth")
    assert "approved" in back.text
    world.entra.auto_sign_in = False


def visit(company, world, query, path="oauth", **headers):
    """Come back from Microsoft without a browser."""
    url = f"{company.api}/{path}/microsoft/callback"
    answer = requests.get(url, params=query, headers=headers, allow_redirects=False, timeout=30)
    scan.ANSWERS.append(answer.content + str(answer.headers).encode())
    return answer


def put(company, **settings):
    answer = company.call("PUT", "/integrations/microsoft", {"approved": True, "settings": settings})
    assert answer.status_code == 200, answer.text
    return answer.json()


def link_of(company, name="alice", **body):
    """Connect somebody's mailbox; returns who, and where they sign in."""
    who = company.person(name)
    member = client(company.api, company.world, company.org_id, who.address, "member")
    answer = member("POST", "/mailboxes", {"address": who.address, "receivesWith": "microsoft", **body})
    assert answer.status_code == 201, answer.text
    assert answer.json()["state"] == "needs_consent"
    return who, answer.json()["authorizeUrl"], member, answer.json()["id"]


def sign_in(page, address):
    """Fill in Microsoft's form."""
    page.fill("input[name=login]", address)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[value=signin]")


def shoot(page, name):
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def check(page):
    """What holds for every page of ours."""
    assert [text for text in page.complaints if "Content Security Policy" in text] == []
    assert "<script" not in page.content()
    assert page.locator("footer code").inner_text()
    box = page.locator("main").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.viewport_size["width"], "wider than the window"
    for part in page.locator("h1, p, a.button").all():
        inner = part.bounding_box()
        assert inner["x"] + inner["width"] <= box["x"] + box["width"] + 1, part.inner_text()


def test_an_administrator_approves_and_a_user_connects_in_german(world, company, opened, api):
    put(company)
    page = opened(**GERMAN)
    return_url = f"{api}/health"
    answer = company.call("POST", "/integrations/microsoft/consent", {"returnUrl": return_url})
    page.goto(answer.json()["url"])
    sign_in(page, company.it.address)
    page.click("button[value=accept]")
    sign_in(page, company.it.address)  # the proof: the same browser signs in to the directory
    assert page.locator("h1").inner_text() == "Ihre Organisation hat Zalion freigegeben"
    shoot(page, "approved-de")
    check(page)
    assert company.call("GET", "/integrations/microsoft").json()["state"] == "approved"

    who, url, member, mailbox_id = link_of(company, "jürgen".replace("ü", "ue"), returnUrl=return_url)
    page.goto(url)
    sign_in(page, who.address)
    assert page.locator("h1").inner_text() == "Ihr Postfach ist verbunden"
    assert who.address in page.locator("main").inner_text()
    shoot(page, "connected-de")
    check(page)
    assert member("GET", f"/mailboxes/{mailbox_id}").json()["state"] == "active"
    page.reload()
    assert page.locator("h1").inner_text() == "Ihr Postfach ist verbunden"
    page.click("a.button")
    assert page.url == return_url


@pytest.mark.parametrize(
    ("code", "english", "german"),
    [
        (65001, "Your administrator has to approve the connection", "Ihre IT muss die Verbindung freigeben"),
        (53003, "policy blocks the sign-in", "Richtlinie Ihrer Organisation sperrt die Anmeldung"),
        (7000222, "sign-in at Microsoft does not work right now", "funktioniert gerade nicht"),
        (90033, "Microsoft does not answer right now", "Microsoft antwortet gerade nicht"),
        (70000, "Please sign in again", "Bitte melden Sie sich noch einmal an"),
        (999999, "Something unexpected happened", "Etwas Unerwartetes ist geschehen"),
    ],
)
def test_each_failure_is_told_in_the_readers_language_with_a_next_step(
    world, approved, api, code, english, german
):
    """A fault of Zalion's own app (7000222) is nothing that a customer is asked to mend."""
    for language, words in (("en", english), ("de", german)):
        who, url, member, mailbox_id = link_of(approved, returnUrl=f"{api}/health")
        world.entra.refuse_next(code, error="some_error" if code == 999999 else "invalid_grant")
        query = approved.browse(url, who.address)
        answer = visit(approved, world, query, **{"Accept-Language": language})
        assert answer.status_code in {409, 503}
        assert words in re.search(r"<h1>(.*)</h1>", answer.text)[1].replace("&#x27;", "'")
        assert re.search(r'<p class="next">.+</p>', answer.text)
        assert f'href="{api}/health"' in answer.text
        assert answer.headers["X-Correlation-Id"] in answer.text
        assert query["code"] not in answer.text
        assert member("GET", f"/mailboxes/{mailbox_id}").json()["state"] == "needs_consent"


def test_pages_fit_a_narrow_screen_in_light_and_dark(world, approved, opened, api):
    page = None
    for scheme in ("light", "dark"):
        who, url, *_ = link_of(approved, "maximiliane.schmidt-rottluff.einkauf", returnUrl=f"{api}/health")
        page = opened(**GERMAN, **NARROW, color_scheme=scheme)
        page.goto(url)
        sign_in(page, who.address)
        shoot(page, f"connected-narrow-{scheme}")
        check(page)
    world.entra.refuse_next(53003, error="interaction_required")
    who, url, *_ = link_of(approved)
    page.goto(url)
    sign_in(page, who.address)
    shoot(page, "policy-narrow-dark")
    check(page)


def test_the_wrong_account_is_told_which_mailbox_it_should_be(approved, opened):
    who, url, *_ = link_of(approved)
    page = opened(**ENGLISH)
    page.goto(url)
    sign_in(page, approved.person("bob").address)
    assert page.locator("h1").inner_text() == "You signed in with another account"
    assert who.address in page.locator("main").inner_text()
    shoot(page, "wrong-account-en")
    check(page)


def test_a_consent_that_is_late_is_waited_for_in_the_browser(world, company, opened):
    """The page tries again by itself; pressing its button is only quicker."""
    put(company)
    page = opened(**GERMAN)
    page.goto(company.call("POST", "/integrations/microsoft/consent", {}).json()["url"])
    sign_in(page, company.it.address)
    page.click("button[value=accept]")
    world.entra.refuse_next(65001, suberror="consent_required")
    sign_in(page, company.it.address)
    assert page.locator("h1").inner_text() == "Warten auf Microsoft"
    shoot(page, "waiting-de")
    check(page)
    assert "http-equiv" in page.content()
    page.click("a.button")
    sign_in(page, company.it.address)
    assert page.locator("h1").inner_text() == "Ihre Organisation hat Zalion freigegeben"


@pytest.mark.parametrize(
    ("button", "heading"), [("yes", "Ihr Postfach ist verbunden"), ("no", "Es wurde nichts verbunden")]
)
def test_who_signs_in_for_what_another_one_asked_for_is_asked(approved, opened, button, heading):
    who = approved.person("alice")
    body = {"address": who.address, "receivesWith": "microsoft"}
    url = approved.call("POST", "/mailboxes", body).json()["authorizeUrl"]
    page = opened(**GERMAN)
    page.goto(url)
    sign_in(page, who.address)
    assert page.locator("h1").inner_text() == "Das Postfach mit Zalion verbinden?"
    assert page.locator("main").inner_text().count(approved.it.address) == 3  # who asks, and who will own it
    shoot(page, "asked-de")
    check(page)
    page.click(f"button[value={button}]")
    assert page.locator("h1").inner_text() == heading
    shoot(page, f"answered-{button}-de")
    check(page)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded", "", 409),
        ("application/x-www-form-urlencoded", "state=org-x.abc&answer=yes", 409),
        ("application/x-www-form-urlencoded", b"state=\xff%00&answer=yes&" + b"x=1&" * 500, 409),
        ("application/x-www-form-urlencoded", "x" * 5000, 400),
        ("application/json", '{"state": "x"}', 400),
        ("multipart/form-data; boundary=x", "--x--", 400),
    ],
)
def test_a_forged_answer_is_a_page_that_connects_nothing(company, kind, body, status):
    url = f"{company.api}/oauth/microsoft/answer"
    answer = requests.post(url, data=body, headers={"Content-Type": kind}, timeout=30)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "href" not in answer.text


def test_a_declined_consent_is_told(world, company, opened):
    put(company)
    page = opened(**ENGLISH)
    page.goto(company.call("POST", "/integrations/microsoft/consent", {}).json()["url"])
    sign_in(page, company.it.address)
    page.click("button[value=decline]")
    assert page.locator("h1").inner_text() == "The approval was declined"
    shoot(page, "declined-en")
    check(page)


FORGED = [
    ("consent", {}),
    ("oauth", {}),
    ("consent", {"admin_consent": "True", "tenant": "t", "state": "org-x.abc"}),
    ("oauth", {"code": "x", "state": "<script>alert(1)</script>"}),
    ("oauth", {"error": "<script>", "error_description": "<script>alert(1)</script>", "state": "x"}),
    ("oauth", {"code": "x" * 3000, "state": "\x00/\\#?"}),
]


@pytest.mark.parametrize(("path", "query"), FORGED)
def test_a_forged_redirect_is_a_page_with_a_strict_policy(company, world, path, query):
    answer = visit(company, world, query, path, **{"Accept-Language": "de"})
    assert answer.status_code == 409
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert "Die Anmeldung konnte nicht abgeschlossen werden" in answer.text
    assert answer.headers["X-Correlation-Id"] in answer.text
    assert "<script" not in answer.text
    assert "href" not in answer.text  # nothing leads anywhere that a stranger chose


@pytest.mark.parametrize(
    ("path", "provider"),
    [("oauth", "imap"), ("consent", "pigeon"), ("oauth", "..%2f")],
)
def test_a_browser_never_gets_json(company, path, provider):
    answer = requests.get(f"{company.api}/{path}/{provider}/callback?state=a.b", timeout=30)
    assert answer.status_code == 409
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_correlation_id_is_the_callers_or_ours_and_never_markup(company, world):
    own = f"test-{secrets.token_hex(4)}"
    assert own in visit(company, world, {}, **{"X-Correlation-Id": own}).text
    assert "<b>" not in visit(company, world, {}, **{"X-Correlation-Id": "<b>bold</b>"}).text


def test_the_authorize_link_asks_for_the_least(approved):
    _, url, *_ = link_of(approved)
    query = dict(parse_qsl(urlsplit(url).query))
    scopes = {re.sub(r"https://graph.microsoft.com/", "", scope) for scope in query["scope"].split()}
    assert scopes == {"Mail.Read", "Mail.Send", "offline_access", "openid", "profile"}
    assert query["code_challenge_method"] == "S256"
    assert {"state", "nonce", "login_hint"} <= set(query)
