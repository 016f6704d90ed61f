"""Schemas of OpenAPI 3.0 as JSON Schema, closed, and compiled once."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

_BODY_TYPES = ["text", "html", "Text", "HTML"]
"""Graph says it in lower case and takes both."""


class Validators:
    """Compiles the schemas of a description when they are first needed."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._defs = {name: _translated(schema) for name, schema in schemas.items()}
        self._defs["microsoft.graph.bodyType"] = {"enum": _BODY_TYPES}
        self._compiled: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def errors(self, schema: Mapping[str, Any], body: Any) -> Iterator[str]:
        """Yield where and why a body does not follow a schema; no value of it is told."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._compiled:
            whole = {**_translated(schema), "$defs": self._defs}
            self._compiled[key] = jsonschema_rs.Draft202012Validator(
                whole, validate_formats=True, ignore_unknown_formats=True, mask="…"
            )
        validator = self._compiled[key]
        if validator.is_valid(body):
            return
        for error in validator.iter_errors(body):
            place = "/".join(map(str, error.instance_path)) or "the body"
            yield f"{place}: {error.message[:200]}"


def _translated(node: Any) -> Any:
    """Translate a schema: `nullable`, discriminators, references; and close every object with names."""
    if isinstance(node, list):
        return [_translated(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        return {"$ref": node["$ref"].replace("#/components/schemas/", "#/$defs/")}
    kept = {
        key: value for key, value in node.items() if key not in {"properties", "nullable", "discriminator"}
    }
    made = {key: _translated(value) for key, value in kept.items() if not key.startswith("x-")}
    if node.get("nullable") and "type" in node:
        made["type"] = [node["type"], "null"]
    if properties := node.get("properties"):
        made["properties"] = {name: _translated(one) for name, one in properties.items()}
        if set(properties) != {"@odata.type"}:
            made |= {"additionalProperties": False, "patternProperties": {"@": {}}}
    return _by_type(made, node["discriminator"]["mapping"]) if "discriminator" in node else made


def _by_type(base: dict[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """Choose the schema that `@odata.type` names, else the base."""
    chosen: dict[str, Any] = base
    for name, reference in mapping.items():
        named = {"required": ["@odata.type"], "properties": {"@odata.type": {"const": name}}}
        chosen = {"if": named, "then": _translated({"$ref": reference}), "else": chosen}
    return chosen
