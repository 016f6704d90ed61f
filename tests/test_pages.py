"""Result pages as text: escaped, without scripts, readable in light and dark, in both languages."""

import re
from html.parser import HTMLParser

import pytest

from shared import explaining, pages
from shared.explanations import TEXTS

pytestmark = pytest.mark.fast

EVIL = "\"'><script>alert(1)</script>&"


def page(**changes):
    given = {"language": "en", "mood": "good", "correlation_id": "abc"}
    explanation = changes.pop("explanation", explaining.explain("connected", address="a@b.example"))
    return pages.page(explanation, **{**given, **changes})


class Seen(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.links += [value for name, value in attrs if name == "href"]


def test_everything_that_is_shown_is_escaped():
    explanation = explaining.Explanation("x", EVIL, EVIL, EVIL)
    urls = {
        "return_url": f"https://x.example/{EVIL}",
        "retry_url": f"https://y.example/{EVIL}",
        "retry_after": 5,
    }
    html = page(explanation=explanation, correlation_id=EVIL, **urls)
    seen = Seen(html)
    assert "script" not in seen.tags
    assert set(seen.links) == {urls["return_url"], urls["retry_url"]}
    assert EVIL not in html


def test_an_address_cannot_bring_markup():
    html = page(explanation=explaining.explain("connected", address=EVIL))
    assert "script" not in Seen(html).tags


def test_the_policy_allows_the_pages_own_style_and_nothing_else():
    style = re.search(r"<style>(.*?)</style>", page(), re.DOTALL)[1]
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.split(" ", 1) for part in pages.CSP.split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert policy["frame-ancestors"] == "'none'"
    assert "script-src" not in policy
    assert pages.HEADERS["Referrer-Policy"] == "no-referrer"  # the address bar holds the state


def test_a_page_without_a_way_back_offers_none():
    assert Seen(page()).links == []
    assert Seen(page(return_url="https://app.example/done")).links == ["https://app.example/done"]


def test_a_page_that_waits_tries_again_by_itself():
    html = page(mood="waiting", retry_url="https://x.example/?a=1&b=2", retry_after=15)
    assert '<meta http-equiv="refresh" content="15;url=https://x.example/?a=1&amp;b=2">' in html


def luminance(colour):
    colour = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("ink", ["ink", "faint", "act"])
def test_text_stands_out_from_the_paper_in_light_and_dark(scheme, ink):
    """https://www.w3.org/TR/WCAG22/#contrast-minimum"""
    found = re.findall(r":root\{(.*?)\}", page())[scheme]
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]+)", found))
    light, dark = sorted((luminance(colours[ink]), luminance(colours["paper"])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("key", sorted(TEXTS))
def test_every_explanation_stands_in_both_languages_with_a_next_step(key):
    for language in explaining.LANGUAGES:
        title, detail, fix = TEXTS[key][language]
        assert title
        assert detail.endswith(".") or "{" in detail
        assert fix
    told = explaining.explain(
        key, "de", address="a@b.example", actor="c@d.example", redirect_uri="https://x", reference=""
    )
    assert "{" not in told.title + told.detail + told.fix
    assert told.key == key


def test_every_code_of_entra_has_its_explanation():
    from shared.providers import aadsts

    assert set(aadsts.KEYS.values()) <= set(TEXTS)
    for code in (65001, 7000215, 53003, 54005, 650051, 90002):
        error = aadsts.error_of(aadsts.KEYS[code], correlation_id="c-1")
        assert error.detail == TEXTS[aadsts.KEYS[code]]["en"][1]
    assert "(c-1)" in aadsts.error_of("policy", correlation_id="c-1").fix


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("DE-at,en;q=0.5", "de"),
        ("en-GB,de;q=0.9", "en"),
        ("fr,de;q=0.8,en;q=0.7", "de"),
        ("de;q=0", "en"),
        ("fr", "en"),
        ("*", "en"),
        ("de;q=x", "en"),
        ("\x00" * 5000, "en"),
        (",".join(["fr"] * 5000), "en"),
    ],
)
def test_the_language_is_what_the_browser_prefers(header, language):
    assert explaining.language_of(header) == language
