"""Route templates of HTTP triggers, as ASP.NET Core reads them (without regular expressions and defaults)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sandbox.host.config import ConfigError
from sandbox.host.worker import Function

_CONSTRAINTS = {
    "int": r"-?\d+",
    "long": r"-?\d+",
    "alpha": r"[a-z]+",
    "bool": r"true|false",
    "guid": r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}",
}
_PARAMETER = re.compile(r"\{(?P<rest>\*{0,2})(?P<name>\w+)(?::(?P<constraint>[^?{}]+))?(?P<optional>\?)?\}")
_LITERAL, _CONSTRAINED, _PLAIN, _OPTIONAL, _REST = range(5)  # the most specific first
_ANY = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "QUERY"})


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. `rank` sorts the most specific first; `shape` is equal for equal paths."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    rank: tuple[int, ...]

    @property
    def shape(self) -> str:
        """What two templates that match the same paths have in common."""
        return self.pattern.pattern.lower()


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP function and what it answers to."""

    function: Function
    template: Template
    methods: frozenset[str]
    level: str

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route parameters when the path fits, else None."""
        match = self.template.pattern.fullmatch(path)
        if not match:
            return None
        values = zip(self.template.names, match.groups(), strict=True)
        return {name: value for name, value in values if value}


def parse(template: str) -> Template:
    """Read a template such as `cases/{id:int}/{*rest}`; raises ConfigError."""
    pattern, names, rank = "", list[str](), list[int]()
    segments = template.strip("/").split("/") if template.strip("/") else []
    for position, segment in enumerate(segments, 1):
        piece, found, kind = _segment(segment, template)
        if kind in {_OPTIONAL, _REST} and position < len(segments):
            raise ConfigError(f"Route {template!r}: {segment} must be the last segment.")
        pattern += f"(?:/{piece})?" if kind in {_OPTIONAL, _REST} else f"/{piece}"
        names += found
        rank.append(kind)
    if len({name.lower() for name in names}) < len(names):
        raise ConfigError(f"Route {template!r} uses a parameter twice.")
    return Template(re.compile(pattern + "/?", re.IGNORECASE), tuple(names), tuple(rank))


def _segment(segment: str, template: str) -> tuple[str, list[str], int]:
    pattern, names, kinds = "", list[str](), set[int]()
    for part in re.split(r"(\{[^{}]*\})", segment):
        match = _PARAMETER.fullmatch(part)
        if match:
            piece, kind = _parameter(match, template)
            pattern += f"({piece})"
            names.append(match["name"])
            kinds.add(kind)
        elif re.search(r"[{}?*]", part):
            raise ConfigError(f"Route {template!r}: {part!r} cannot be read.")
        else:
            pattern += re.escape(part)
    whole = segment.startswith("{") and len(names) == 1 and segment.endswith("}")
    if segment == "" or (kinds & {_OPTIONAL, _REST} and not whole):
        raise ConfigError(f"Route {template!r}: the segment {segment!r} cannot be read.")
    if not kinds:
        return pattern, names, _LITERAL
    return pattern, names, max(kinds) if whole else _CONSTRAINED


def _parameter(match: re.Match[str], template: str) -> tuple[str, int]:
    constraint = match["constraint"]
    if constraint and constraint not in _CONSTRAINTS:
        raise ConfigError(f"Route {template!r}: this host does not know the constraint {constraint!r}.")
    if match["rest"]:
        return ".*", _REST
    pattern = _CONSTRAINTS.get(constraint, "[^/]+")
    if match["optional"]:
        return pattern, _OPTIONAL
    return pattern, _CONSTRAINED if constraint else _PLAIN


def route(function: Function, prefix: str) -> Route:
    """Return the route of an HTTP function; raises ConfigError for a bad or a reserved one."""
    trigger = function.trigger
    template = (trigger.get("route") or function.name).strip("/")
    # A plain prefix test, so that administrator/... is refused too: ScriptHost.ValidateHttpFunction.
    if template.lower().startswith(("admin", "runtime")):
        raise ConfigError(f"Route {template!r} of {function.name} is reserved by the host (admin, runtime).")
    methods = frozenset(method.upper() for method in trigger.get("methods") or ()) or _ANY
    level = str(trigger.get("authLevel", "FUNCTION")).upper()
    return Route(function, parse(f"{prefix}/{template}"), methods, level)


def conflicts(routes: Iterable[Route]) -> list[str]:
    """Say which functions share a path and a method."""
    seen: dict[tuple[str, str], str] = {}
    found = []
    for one in routes:
        name = one.function.name
        others = {seen.setdefault((one.template.shape, method), name) for method in one.methods} - {name}
        found += [f"{name} has the route and a method of {other}" for other in sorted(others)]
    return found
