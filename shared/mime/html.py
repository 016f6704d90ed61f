"""HTML of strangers: made harmless for display, or turned into plain text. Pure.

html5ever (inside nh3) parses as browsers do; the limits keep it fast (50,000 nested elements take
seconds). Sanitising happens when a mail is shown, so that a better rule also protects old mail.
"""

import re
from html import unescape

import nh3

LARGEST = 2_000_000
"""Characters; larger HTML is not shown, its text is."""

DEEPEST = 500

MOST_REFERENCES = 100_000
"""Ampersands, and letters that begin in UTF-8 as a hard space does; html5ever takes quadratic time for both.

A million: 9 s (nh3 0.3.8, 2026-11-24).
"""

MOST_ATTRIBUTES = 1000
"""Of one element; html5ever compares each with all before it (80,000: 1.8 s, nh3 0.3.8, 2026-11-26)."""

_REFERENCE = re.compile("[&\x80-\xbf]")
_VALUE = r"""(?:"[^"]*"?|'[^']*'?|[^\t\n\f\r >]+)"""
_ATTRIBUTE = rf"[\t\n\f\r /]*[^\t\n\f\r />][^\t\n\f\r />=]*(?:[\t\n\f\r ]*=[\t\n\f\r ]*{_VALUE})?"
_ELEMENT = re.compile(rf"(?=(<[a-zA-Z][^\t\n\f\r />]*(?:{_ATTRIBUTE}){{0,{MOST_ATTRIBUTES}}}))")
"""Wherever an element might begin: comments and scripts are not told apart, and could hide one from us."""

_NUMBER = re.compile(r"&#[0-9]{9,};?")
"""No character; `int`, to which `unescape` gives it, raises for more than 4,300 digits."""

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# ruff: noqa: SIM905 - the lists below read better than a page of quotes
# Never nest, or are closed by their next sibling (HTML living standard, "optional tags")
_FLAT = frozenset(
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th option"
    " thead tbody tfoot colgroup html head body".split()
)
_DROPPED = frozenset(
    "script style title template noscript svg math textarea select button iframe object applet"
    " frameset".split()
)
_TAGS = frozenset(
    "a abbr b blockquote br caption center cite code col colgroup dd del div dl dt em font h1 h2 h3 h4 h5"
    " h6 hr i img ins kbd li ol p pre q s samp small span strike strong sub sup table tbody td tfoot th"
    " thead tr tt u ul var".split()
)
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
    if too_much(html):
        return ""
    return nh3.clean(
        _encodable(html),
        tags=set(_TAGS),
        clean_content_tags=set(_DROPPED),
        attributes=_ATTRIBUTES,
        attribute_filter=_with_images if remote_images else _without_images,
        url_schemes={"http", "https", "mailto", "tel", "cid"},
        url_relative="deny",  # `//host/x.gif` too
        filter_style_properties=_STYLES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


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


def too_much(html: str) -> bool:
    """Whether HTML is beyond what can be sanitised quickly."""
    if len(html) > LARGEST or len(_REFERENCE.findall(html)) > MOST_REFERENCES or _crowded(html):
        return True
    depth = 0
    for closing, name in _TAG.findall(html):
        if name.lower() not in _FLAT:
            depth = max(0, depth + (-1 if closing else 1))
            if depth > DEEPEST:
                return True
    return False


def _crowded(html: str) -> bool:
    """Whether an element has too many attributes, or so many begin in each other that reading all is work."""
    work = 0
    for element in _ELEMENT.finditer(html):
        length = len(element[1])
        work += length
        many = length > 2 * MOST_ATTRIBUTES and len(re.findall(_ATTRIBUTE, element[1])) > MOST_ATTRIBUTES
        if many or work > 2 * LARGEST:
            return True
    return False


def text_of(html: str) -> str:
    """Return a plain text rendering, for mails without a text part; never raises."""
    if too_much(html):
        words = _NUMBER.sub("\ufffd", re.sub(r"<[^<>]{0,2000}>", " ", html[:LARGEST]))
        return _squeezed(unescape(words))
    tidy = nh3.clean(
        _encodable(html), tags=_BREAKS | {"td", "th"}, clean_content_tags=set(_DROPPED), attributes={}
    )
    # nh3's output is well-formed, so a pattern may read it; the stdlib's parser takes quadratic time
    words = re.sub(r"[ \t\r\n\f]+", " ", tidy)
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
