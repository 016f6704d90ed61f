"""Someone else's eyes: every request and every answer held against Microsoft's own description of Graph.

The description (OpenAPI 3.0) lies outside the project. Its objects are open; here they are closed, so that
a name which Graph does not have is noticed too. Names with an @ are OData's annotations and always allowed.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sandbox.graph.schemas import Validators
from sandbox.web import Reply, Request

_TOKENS = {"$skiptoken", "$deltatoken"}
_NUMBERS = {"$top", "$skip"}
_NAMES = {"$select", "$orderby", "$expand"}


@dataclass
class _Operation:
    """One call of the description."""

    described: Mapping[str, Any]
    resolve: Callable[[Mapping[str, Any]], Mapping[str, Any]]

    @cached_property
    def parameters(self) -> dict[str, Mapping[str, Any]]:
        found = [self.resolve(one) for one in self.described.get("parameters", ())]
        return {one["name"]: one for one in found if one["in"] == "query"}

    @cached_property
    def bodies(self) -> dict[str, Mapping[str, Any]]:
        content = (self.described.get("requestBody") or {}).get("content") or {}
        return {kind: one["schema"] for kind, one in content.items()}

    @cached_property
    def answers(self) -> dict[str, Mapping[str, Any]]:
        """Kinds of content of a good answer; none where it has no body."""
        good = next(one for status, one in self.described["responses"].items() if status[0] == "2")
        return {kind: one["schema"] for kind, one in (good.get("content") or {}).items()}

    @cached_property
    def item(self) -> Mapping[str, Any]:
        """The schema that $select and $orderby speak about."""
        schema = self.answers.get("application/json") or {}
        listed = (schema.get("properties") or {}).get("value")
        return self.resolve(listed["items"] if listed else schema)

    @property
    def status(self) -> int:
        return int(self.described["x-documented-status"])


@dataclass
class _Node:
    """A place in the tree of paths."""

    operations: dict[str, _Operation] = field(default_factory=dict)
    children: dict[str, "_Node"] = field(default_factory=dict)


class Contract:
    """The description.

    Attributes:
        violations: what did not follow it, one line each.
        checked: how many requests were looked at.
    """

    def __init__(self, path: Path) -> None:
        described = json.loads(path.read_text())
        self.violations: list[str] = []
        self.checked = 0
        self._components = described["components"]
        self._validators = Validators(self._components["schemas"])
        self._root = _Node()
        for template, operations in described["paths"].items():
            node = self._root
            for part in template.strip("/").split("/"):
                node = node.children.setdefault("{}" if part.startswith("{") else part, _Node())
            node.operations = {m.upper(): _Operation(one, self._resolved) for m, one in operations.items()}

    def check(self, request: Request, reply: Reply) -> None:
        """Look at a request and its answer."""
        self.checked += 1
        path = request.path.removeprefix("/v1.0").strip("/")
        operation = self._find(request.method, path)
        if operation is None:
            self.violations.append(f"{request.method} {_template(path)}: Graph has no such call")
            return
        for words in (*self._of_request(request, operation), *self._of_reply(reply, operation)):
            self.violations.append(f"{request.method} {_template(path)}: {words}")

    def check_notification(self, body: Any) -> None:
        """Look at what is sent to a notification URL."""
        schema = {"$ref": "#/components/schemas/microsoft.graph.changeNotificationCollection"}
        self.violations += [f"notification: {words}" for words in self._validators.errors(schema, body)]

    def _find(self, method: str, path: str) -> _Operation | None:
        nodes = [self._root]
        for part in path.replace("('", "/").replace("')", "").split("/"):
            nodes = [
                node.children[name]
                for node in nodes
                for name in (unquote(part), "{}")
                if name in node.children
            ]
        return next((node.operations[method] for node in nodes if method in node.operations), None)

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in node:
            return node
        _, _, kind, name = node["$ref"].split("/", 3)
        found: Mapping[str, Any] = self._components[kind][name]
        return found

    def _of_request(self, request: Request, operation: _Operation) -> Iterator[str]:
        for name, value in request.query.items():
            yield from self._of_option(name, value, operation)
        if request.method in {"GET", "DELETE"} or not (request.body or operation.bodies):
            return
        kind = request.headers.get("content-type", "application/json").partition(";")[0]
        if not request.body:
            if operation.described["requestBody"].get("required"):
                yield "a body is needed"
        elif kind not in operation.bodies:
            yield f"a body of {kind} is not taken"
        elif kind == "text/plain":
            try:
                base64.b64decode(request.body, validate=True)
            except binascii.Error:
                yield "the body is not base64"
        else:
            yield from self._validators.errors(operation.bodies[kind], request.json)

    def _of_option(self, name: str, value: str, operation: _Operation) -> Iterator[str]:
        if name not in operation.parameters and name not in _TOKENS:
            yield f"has no option {name}"
        elif name in _NUMBERS and not value.isdecimal():
            yield f"{name} is no number"
        elif name in _NAMES:
            asked = value.partition("(")[0] if name == "$expand" else value
            names = [one.strip().partition(" ")[0].partition("/")[0] for one in asked.split(",")]
            unknown = {one for one in names if one not in operation.item.get("properties", {})}
            unknown -= {"microsoft.graph.itemAttachment", "microsoft.graph.itemattachment"}
            if unknown or len(names) != len(set(names)):
                yield f"{name} names {sorted(unknown) or 'something twice'}"

    def _of_reply(self, reply: Reply, operation: _Operation) -> Iterator[str]:
        body = json.loads(json.dumps(reply.body)) if not isinstance(reply.body, bytes) else reply.body
        if reply.status >= 400:
            error = {"$ref": "#/components/schemas/microsoft.graph.ODataErrors.ODataError"}
            yield from self._validators.errors(error, body)
        elif reply.status != operation.status:
            yield f"answered {int(reply.status)}, documented is {operation.status}"
        elif not operation.answers:
            if body:
                yield "answered with a body, and has none"
        elif "application/json" in operation.answers:
            yield from self._validators.errors(operation.answers["application/json"], body)
        elif not isinstance(body, bytes):
            yield "answered with JSON, not with bytes"


def _template(path: str) -> str:
    """Return a path without ids and addresses: they are nobody's business in a report."""
    return "/".join(
        "*" if len(part) > 24 or "@" in part or "%40" in part else part for part in path.split("/")
    )
