"""HTML written anew, so that the browser's parser in nh3 has little work with it. Pure, in linear time.

Browsers repair what is wrong: of what looks like an end tag, some are none, elements that never nest do, and
formatting that is left open begins again in each paragraph (50 kB made 36 million characters). That cannot be
foretold without being a browser. So what nh3 gets has nothing to repair: only elements that we show, each
closed in its order, no comments; and what may begin again all the same is counted.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

DEEPEST = 500

MOST_ATTRIBUTES = 1000
"""Of one element; html5ever compares each with all before it (80,000: 1.8 s, nh3 0.3.8, 2026-11-26)."""

MOST_AGAIN = 30_000_000
"""Characters of formatting that may begin again; an element costs memory, too (`_ELEMENT`)."""

_ELEMENT = 64
_MISPLACED = 3000
"""In characters; html5ever puts what is in a table but in no cell before it, and takes quadratic time."""

_SPACE = r"[\t\n\f\r ]"
_VALUE = r"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|(?!["'])[^\t\n\f\r >]++)"""
_ATTRIBUTE = rf"[^\t\n\f\r />][^\t\n\f\r />=]*+(?:{_SPACE}*+={_SPACE}*+{_VALUE}?+)?+"
_MARKUP = re.compile(
    rf"<(/?)([a-zA-Z][^\t\n\f\r />]*+)((?:[\t\n\f\r /]++|{_ATTRIBUTE})*+)(>|\Z)"
    r"|<!--(?:-?>|.*?(?:--!?>|\Z))|<[!?/][^>]*+(?:>|\Z)|<",
    re.DOTALL,
)
"""A tag, a comment, what counts as one, or a bare bracket (HTML living standard, "tokenization")."""

# ruff: noqa: SIM905 - the lists below read better than a page of quotes
KEPT = frozenset(
    "a abbr b blockquote br caption center cite code col colgroup dd del div dl dt em font h1 h2 h3 h4 h5"
    " h6 hr i img ins kbd li ol p pre q s samp small span strike strong sub sup table tbody td tfoot th"
    " thead tr tt u ul var".split()
)
DROPPED = frozenset(
    "script style title template noscript svg math textarea select button iframe object applet"
    " frameset".split()
)
"""With what they contain."""

_DIVISIONS = frozenset(
    "address article aside details dialog dir fieldset figcaption figure footer form header hgroup listing"
    " main menu nav plaintext search section summary xmp".split()
)
"""Written as div, which keeps their words apart from what is around them as they do."""

_RAW = frozenset("script style title noscript textarea iframe".split())
"""Without an end tag, they go on to the end."""

_VOID = frozenset("br col hr img".split())
_FORMATTING = frozenset("a b code em font i s small strike strong tt u".split())
_CELLS = frozenset("table td th caption".split())
_BLOCKS = frozenset("blockquote center dd div dl dt h1 h2 h3 h4 h5 h6 li ol pre ul".split()) | _DIVISIONS
_PARTS = tuple(frozenset(level.split()) for level in ("tbody thead tfoot colgroup caption", "tr", "td th"))

_STRUCTURE = frozenset({"table", "col"}).union(*_PARTS)
_IN_TABLE = _STRUCTURE - {"table"}
_BETWEEN = _STRUCTURE - {"td", "th", "caption"}

_ENDED: dict[str, tuple[frozenset[str], ...]] = {
    "a": (frozenset({"a"}),),
    "p": (frozenset({"p"}),),
    "li": (frozenset({"li"}),),
    **dict.fromkeys(("dd", "dt"), (frozenset({"dd", "dt"}),)),
    **{name: _PARTS[level:] for level, names in enumerate(_PARTS) for name in names},
}
"""What an element ends by beginning (HTML living standard, "optional tags")."""

_BOUNDS: dict[str, frozenset[str]] = {
    "p": _CELLS | _BLOCKS,
    "li": _CELLS | {"ol", "ul"},
    **dict.fromkeys(("dd", "dt"), _CELLS | {"dl"}),
    **dict.fromkeys(frozenset().union(*_PARTS), frozenset({"table"})),
    "table": frozenset(),
}
"""Within what an element is looked for to be ended; for all others, a table's cell."""


class _TooMuch(Exception):
    """It is beyond the limits."""


def tidy(html: str) -> str | None:
    """Return HTML of the elements in KEPT; None for what is nested too deep or too much work."""
    page = _Page()
    try:
        for tag, closing, name, attributes in _tags(html, page.text):
            if closing:
                page.end(name)
            elif (
                len(attributes) > 2 * MOST_ATTRIBUTES
                and len(re.findall(_ATTRIBUTE, attributes)) > MOST_ATTRIBUTES
            ):
                return None
            else:
                page.start(name, tag)
    except _TooMuch:
        return None
    page.close(0)
    return "".join(page.out)


def _tags(html: str, write: Callable[[str], None]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (tag, "/" or "", name, attributes) of what is kept; text goes to `write`."""
    place, endless = 0, set[str]()
    while markup := _MARKUP.search(html, place):
        write(html[place : markup.start()])
        place = markup.end()
        if markup[0] == "<":
            write("&lt;")
        elif markup[4]:
            name = markup[2].lower()
            if name in KEPT:
                yield markup[0], markup[1], name, markup[3]
            elif name in _DIVISIONS:
                yield f"<div{markup[3]}>", markup[1], name, markup[3]
            elif name in DROPPED and not markup[1] and name not in endless and not markup[3].endswith("/"):
                end = re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE).search(html, place)
                place = end.start() if end else len(html) if name in _RAW else place
                endless |= set() if end else {name}
    write(html[place:])


class _Page:
    """What was written, and which elements are open: name and what it costs where it begins again."""

    def __init__(self) -> None:
        self.out = list[str]()
        self._open: list[tuple[str, int]] = []
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        self._cost = self._again = 0

    def text(self, text: str) -> None:
        """Write text."""
        self.out.append(text)
        if text and not text.isspace():
            self._count(misplaced=True)

    def start(self, name: str, tag: str) -> None:
        """Write a start tag, after the end tags of what it ends; nothing where browsers ignore it."""
        if (name in _IN_TABLE and not self._places["table"]) or (name == "form" and self._is_between()):
            return
        for names in _ENDED.get(name, ()):
            self._end(names, _BOUNDS.get(name, _CELLS))
        self._count(misplaced=name not in _STRUCTURE)
        self.out.append(tag)
        if name not in _VOID:
            cost = len(tag) + _ELEMENT if name in _FORMATTING else 0
            self._cost += cost
            self._places[name].append(len(self._open))
            self._open.append((name, cost))
        if len(self._open) > DEEPEST:
            raise _TooMuch

    def end(self, name: str) -> None:
        """Write an end tag, after those of all that is open within.

        Of what is not open a paragraph and a line break leave their gap, as in browsers; all else nothing.
        """
        self._count()
        if not self._end((name,), _BOUNDS.get(name, _CELLS)) and name in {"br", "p"}:
            self.start(name, f"<{name}>")
            self._end((name,), ())

    def close(self, count: int) -> None:
        """Write end tags until so many elements are open."""
        while len(self._open) > count:
            name, cost = self._open.pop()
            self._places[name].pop()
            self._cost -= cost
            self.out.append(f"</{'div' if name in _DIVISIONS else name}>")

    def _end(self, names: Iterable[str], bounds: Iterable[str]) -> bool:
        """Close the nearest of these elements, if one is open within the bounds; return whether one was."""
        place = self._nearest(names)
        if is_open := place > self._nearest(bounds):
            self.close(place)
        return is_open

    def _nearest(self, names: Iterable[str]) -> int:
        return max((self._places[name][-1] for name in names if self._places[name]), default=-1)

    def _count(self, *, misplaced: bool = False) -> None:
        """All formatting that is open begins again where the parser ended what is around it."""
        self._again += self._cost + (_MISPLACED if misplaced and self._is_between() else 0)
        if self._again > MOST_AGAIN:
            raise _TooMuch

    def _is_between(self) -> bool:
        """Whether we are in a table, but in no cell."""
        return bool(self._open) and self._open[-1][0] in _BETWEEN
