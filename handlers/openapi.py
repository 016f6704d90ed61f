"""OpenAPI 3.1, generated from the registered routes and the shapes in `shared.contract`. Pure."""

import re
from http import HTTPStatus
from typing import Any

import msgspec

from handlers.http import ANONYMOUS, ENDPOINTS, Endpoint
from shared.contract import ProblemResource

_TYPES = {str: {"type": "string"}, int: {"type": "integer"}, bool: {"type": "boolean"}}
_REFERENCE = "#/components/schemas/{name}"


def document(url: str = "") -> dict[str, Any]:
    """Return the document; `url` is any URL of this app and gives the server's base."""
    shapes = [shape for e in ENDPOINTS for shape in (e.body, e.answer) if shape not in {None, bytes}]
    schemas, components = msgspec.json.schema_components([*shapes, ProblemResource], ref_template=_REFERENCE)
    by_shape = dict(zip([repr(shape) for shape in shapes], schemas, strict=False))
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        path = "/" + re.sub(r"\{(\w+)\??(:\w+)?\}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, by_shape)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Zalion e-mail integration", "version": "1"},
        "servers": [{"url": url.partition("/api/")[0] + "/api"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(endpoint: Endpoint, by_shape: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": f"Who: {endpoint.who}.",
        "parameters": _parameters(endpoint),
        "responses": {
            str(endpoint.status): _success(endpoint, by_shape),
            "default": {
                "description": "A problem (RFC 9457).",
                "content": {
                    "application/problem+json": {
                        "schema": {"$ref": _REFERENCE.format(name="ProblemResource")}
                    }
                },
            },
        },
    }
    if endpoint.who in ANONYMOUS:
        operation["security"] = []
    if endpoint.body:
        schema = by_shape[repr(endpoint.body)]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _success(endpoint: Endpoint, by_shape: dict[str, Any]) -> dict[str, Any]:
    described = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.answer is None:
        return described
    if endpoint.answer is str:
        return {**described, "content": {"text/html": {"schema": {"type": "string"}}}}
    if endpoint.answer is bytes:
        binary = {"schema": {"type": "string", "format": "binary"}}
        return {**described, "content": {"application/octet-stream": binary}}
    return {**described, "content": {"application/json": {"schema": by_shape[repr(endpoint.answer)]}}}


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", endpoint.path)
    ]
    in_query = [
        {"name": q.name, "in": "query", "description": q.purpose, "schema": _TYPES[q.type]}
        for q in endpoint.query
    ]
    in_header = [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
        for name in endpoint.headers
    ]
    return [*in_path, *in_query, *in_header]
