"""Gmail's contract, read from the discovery document that google-api-python-client ships.

Requests that break it are answered as Google answers them; answers that break it are faults of the simulator.
"""

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sandbox.google.problems import Problem, invalid

NUMBER = re.compile(r"-?\d+")
BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")


@dataclass(frozen=True)
class Method:
    """One method of the API.

    Attributes:
        id: its name without "gmail.users.", e.g. messages.list.
        largest: octets of an upload, 0 where there is none.
        upload: how the request came: "" (plain), "simple" or "resumable".
    """

    id: str
    parameters: dict[str, dict[str, Any]]
    scopes: frozenset[str]
    request: str
    response: str
    largest: int
    upload: str
    path: dict[str, str]


@cache
def document() -> dict[str, Any]:
    """Return the document, without importing the library."""
    spec = importlib.util.find_spec("googleapiclient")
    if spec is None or not spec.origin:
        raise ImportError("google-api-python-client is not installed.")
    place = Path(spec.origin).parent / "discovery_cache" / "documents" / "gmail.v1.json"
    found: dict[str, Any] = json.loads(place.read_text())
    return found


@cache
def _methods() -> list[tuple[str, re.Pattern[str], str, dict[str, Any]]]:
    """Return (HTTP method, pattern of the path, kind of upload, description) of every method."""
    found: list[tuple[str, re.Pattern[str], str, dict[str, Any]]] = []

    def walk(resource: Mapping[str, Any]) -> None:
        for one in resource.get("methods", {}).values():
            paths = {"": f"/{one['path']}"}
            paths |= {
                kind: each["path"] for kind, each in one.get("mediaUpload", {}).get("protocols", {}).items()
            }
            for kind, path in paths.items():
                found.append((one["httpMethod"], _pattern(path), kind, one))
        for child in resource.get("resources", {}).values():
            walk(child)

    walk(document())
    # Fixed paths before those with an id in the same place: drafts/send before drafts/{id}.
    return sorted(found, key=lambda one: one[1].pattern.count("(?P<"))


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


def method_of(http: str, path: str) -> Method:
    """Return the method that a path names. Raises Problem."""
    for verb, pattern, kind, one in _methods():
        match = pattern.fullmatch(path)
        if match and verb == http:
            name = one["id"].removeprefix("gmail.users.")
            request, response = (one.get(key, {}).get("$ref", "") for key in ("request", "response"))
            size = int(one.get("mediaUpload", {}).get("maxSize", 0))
            values = {key: unquote(value) for key, value in match.groupdict().items()}
            scopes = frozenset(one["scopes"])
            return Method(name, one["parameters"], scopes, request, response, size, kind, values)
    raise Problem(404, "notFound", "Not Found")


def check_query(method: Method, pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the query's values by name. Raises Problem as Google does."""
    general, found = document()["parameters"], dict[str, list[str]]()
    for name, value in pairs:
        known = method.parameters.get(name)
        if known is None and name in general:
            known = general[name]
        if known is None or known["location"] != "query":
            raise invalid(
                f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                f" Field '{name}' could not be found in request message."
            )
        wrong = known.get("enum") and value not in known["enum"]
        wrong = wrong or (known["type"] == "integer" and not NUMBER.fullmatch(value))
        wrong = wrong or (known["type"] == "boolean" and value not in {"true", "false"})
        wrong = wrong or (known.get("format") == "uint64" and not value.isdigit())
        if wrong or (name in found and not known.get("repeated")):
            raise invalid(f"Invalid value at '{_snake(name)}', \"{value}\"")
        found.setdefault(name, []).append(value)
    return found


def check_body(method: Method, body: Any) -> None:
    """Raises Problem where the request's body is not what the method takes."""
    for fault in faults_in(body, method.request, ""):
        raise invalid(f"Invalid JSON payload received. {fault}")


def faults_in(value: Any, schema: str, place: str) -> Iterable[str]:
    """Return what is wrong with a value of this schema."""
    if not schema:
        if value:
            yield f"{place or 'body'}: nothing is expected here."
        return
    if not isinstance(value, dict):
        yield f"{place or 'body'}: an object is expected."
        return
    known = document()["schemas"][schema]["properties"]
    for name, one in value.items():
        where = f"{place}.{name}".strip(".")
        if name not in known:
            yield f"Unknown name \"{name}\" at '{place or schema}': Cannot find field."
        else:
            yield from _faults(one, known[name], where)


def _faults(value: Any, kind: Mapping[str, Any], place: str) -> Iterable[str]:
    if "$ref" in kind:
        yield from faults_in(value, kind["$ref"], place)
        return
    expected = kind["type"]
    if not _is(value, expected):
        yield f"{place}: {expected} expected."
    elif expected == "array":
        for n, one in enumerate(value):
            yield from _faults(one, kind["items"], f"{place}[{n}]")
    elif "enum" in kind and value not in kind["enum"]:
        yield f"Invalid value at '{place}', \"{value}\""
    elif kind.get("format") in {"uint64", "int64"} and not NUMBER.fullmatch(str(value)):
        yield f"{place}: a number in a string expected."
    elif kind.get("format") == "byte" and not BASE64URL.fullmatch(value):
        yield f"Invalid value at '{place}' (TYPE_BYTES), Base64 decoding failed"


def _is(value: Any, expected: str) -> bool:
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    return isinstance(value, types[expected]) and (expected == "boolean" or not isinstance(value, bool))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def check_mask(mask: str, schema: str) -> None:
    """Raises Problem where `fields` names what the answer cannot have."""
    for fault in _unknown(_mask(mask), schema):
        raise invalid(f"Invalid field selection {fault}")


def _unknown(wanted: Mapping[str, Any], schema: str) -> Iterable[str]:
    known = document()["schemas"].get(schema, {}).get("properties", {})
    for name, inside in wanted.items():
        if name == "*":
            continue
        if name not in known:
            yield name
            continue
        kind = known[name].get("items", known[name])
        yield from _unknown(inside, kind.get("$ref", ""))


def selected(body: Any, mask: str) -> Any:
    """Apply the `fields` parameter: names, a/b and a(b,c), separated by commas."""
    wanted = _mask(mask)
    return _select(body, wanted) if wanted else body


def _select(value: Any, wanted: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_select(one, wanted) for one in value]
    if not wanted or "*" in wanted or not isinstance(value, dict):
        return value
    return {name: _select(one, wanted[name]) for name, one in value.items() if name in wanted}


def _mask(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    stack, path = [found], [found]
    for token in re.findall(r"[\w$*]+|[(),/]", text):
        if token == ",":
            path = [stack[-1]]
        elif token == "(":
            stack.append(path[-1])
            path = [path[-1]]
        elif token == ")":
            stack.pop()
            path = [stack[-1]]
        elif token != "/":
            path.append(path[-1].setdefault(token, {}))
    return found
