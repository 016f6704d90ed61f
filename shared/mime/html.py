"""HTML of strangers: made harmless for display, or turned into plain text. Pure.

html5ever (inside nh3) parses as browsers do; what it gets is tidied and within limits, so it is fast (50,000
nested elements took seconds). Sanitising happens when a mail is shown, so that a better rule also protects
old mail.
"""

import re
from html import unescape

import nh3

from shared.mime.tidying import DROPPED, KEPT, tidy

LARGEST = 2_000_000
"""Characters; larger HTML is not shown, its text is."""

MOST_REFERENCES = 100_000
"""Ampersands, and letters that begin in UTF-8 as a hard space does; html5ever takes quadratic time for both.

A million: 9 s (nh3 0.3.8, 2026-11-24).
"""

MOST_SHOWN = 3 * LARGEST
"""Characters of sanitised HTML: links and wrong attributes grow in it."""

_REFERENCE = re.compile("[&\x80-\xbf]")
_NUMBER = re.compile(r"&#[0-9]{9,};?")
"""No character; `int`, to which `unescape` gives it, raises for more than 4,300 digits."""

# ruff: noqa: SIM905 - the lists below read better than a page of quotes
_TABLE = {"align", "valign", "width", "height", "bgcolor"}
_ATTRIBUTES = {
    "*": {"style", "dir", "lang", "title", "align"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height", "border"},
    "font": {"color", "face", "size"},
    "table": _TABLE | {"border", "cellpadding", "cellspacing"},
    "td": _TABLE | {"colspan", "rowspan"},
    "th": _TABLE | {"colspan", "rowspan"},
    "tr": _TABLE,
    "col": {"span", "width"},
    "ol": {"start", "type"},
}
# Nothing that loads (background-image), hides (display) or moves content over the page (position).
_STYLES = set(
    "background-color border border-bottom border-collapse border-color border-left border-right"
    " border-spacing border-style border-top border-width color font-family font-size font-style"
    " font-variant font-weight height letter-spacing line-height list-style-type margin margin-bottom"
    " margin-left margin-right margin-top max-width padding padding-bottom padding-left padding-right"
    " padding-top text-align text-decoration text-indent text-transform vertical-align white-space"
    " width word-break word-wrap".split()
)
_LOADS = re.compile(r"url\s*\(|image\s*\(|image-set|expression|\\|@import", re.IGNORECASE)

_BREAKS = set("p div br tr li h1 h2 h3 h4 h5 h6 blockquote pre table ul ol dl dt dd hr center".split())
_BLOCKS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "table", "ul", "ol"}
_CLEAN_TAG = re.compile(r"<(/?)([a-z0-9]+)(?:[^>]*)>")


def sanitise(html: str, *, remote_images: bool = False) -> str:
    """Return HTML without anything active; "" for what is too large or nested too deep to be shown.

    Links keep http, https, mailto and tel, images `cid:`; images from the net only if `remote_images`.
    Render it in a sandboxed frame all the same.
    """
    clean = nh3.clean(
        _tidied(html) or "",
        tags=set(KEPT),
        clean_content_tags=set(DROPPED),
        attributes=_ATTRIBUTES,
        attribute_filter=_with_images if remote_images else _without_images,
        url_schemes={"http", "https", "mailto", "tel", "cid"},
        url_relative="deny",  # `//host/x.gif` too
        filter_style_properties=_STYLES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return clean if len(clean) <= MOST_SHOWN else ""


def _with_images(element: str, attribute: str, value: str) -> str | None:
    if attribute == "style" and _LOADS.search(value):
        return None
    if element == "img" and attribute == "src":
        return value if value.lower().lstrip().startswith(("cid:", "http:", "https:")) else None
    return None if value.lower().lstrip().startswith("cid:") else value


def _without_images(element: str, attribute: str, value: str) -> str | None:
    if element == "img" and attribute == "src" and not value.lower().lstrip().startswith("cid:"):
        return None
    return _with_images(element, attribute, value)


def _tidied(html: str) -> str | None:
    """Return HTML as it can be sanitised quickly; None for what is beyond that."""
    tidied = tidy(_encodable(html)) if len(html) <= LARGEST else None
    return tidied if tidied is not None and len(_REFERENCE.findall(tidied)) <= MOST_REFERENCES else None


def text_of(html: str) -> str:
    """Return a plain text rendering, for mails without a text part; never raises."""
    tidied = _tidied(html)
    if tidied is None:
        words = _NUMBER.sub("\ufffd", re.sub(r"<[^<>]{0,2000}>", " ", html[:LARGEST]))
        return _squeezed(unescape(words))
    clean = nh3.clean(tidied, tags=_BREAKS | {"td", "th"}, clean_content_tags=set(DROPPED), attributes={})
    # nh3's output is well-formed, so a pattern may read it; the stdlib's parser takes quadratic time
    words = re.sub(r"[ \t\r\n\f]+", " ", clean)
    return _squeezed(unescape(_CLEAN_TAG.sub(_rendered, words)))


def _rendered(tag: re.Match[str]) -> str:
    closing, name = tag[1], tag[2]
    if name in {"td", "th"}:
        return "\t" if closing else ""
    if name == "li":
        return "\n" if closing else "\n- "
    return "\n\n" if name in _BLOCKS else "\n"


def _squeezed(text: str) -> str:
    lines = [re.sub(r"[ \t\xa0]+", " ", line).strip() for line in text.replace("\x00", "").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _encodable(html: str) -> str:
    """A lone surrogate cannot cross into Rust."""
    return html.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
