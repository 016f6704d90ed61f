"""OpenAPI 3.1, generated from the registered routes and the shapes in `shared.contract`. Pure."""

import re
from http import HTTPStatus
from typing import Any

import msgspec

from handlers.http import ANONYMOUS, ENDPOINTS, Endpoint, Reply
from shared.contract import ProblemResource

_TYPES = {str: {"type": "string"}, int: {"type": "integer"}, bool: {"type": "boolean"}}
_MEDIA = {None: "", str: "text/html", bytes: "application/octet-stream"}
"""Of what is not JSON."""

_REFERENCE = "#/components/schemas/{name}"

_BINARY = {"type": "string", "format": "binary"}
_PROBLEM = {
    "description": "A problem (RFC 9457).",
    "content": {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="ProblemResource")}}},
}
_PAGE = {"description": "A page that says why.", "content": {"text/html": {"schema": _TYPES[str]}}}


def document(url: str = "") -> dict[str, Any]:
    """Return the document; `url` is any URL of this app and gives the server's base."""
    used = (shape for e in ENDPOINTS for shape in (e.body, *(reply.shape for reply in _replies(e))))
    shapes = [shape for shape in used if shape not in {None, bytes}]
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
        "responses": _responses(endpoint, by_shape),
    }
    if endpoint.who in ANONYMOUS:
        operation["security"] = []
    if endpoint.body:
        operation["requestBody"] = _required("application/json", by_shape[repr(endpoint.body)])
    if endpoint.form:
        fields = {field.name: {**_TYPES[field.type], "description": field.purpose} for field in endpoint.form}
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        operation["requestBody"] = _required("application/x-www-form-urlencoded", schema)
    return operation


def _required(media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema}}}


def _replies(endpoint: Endpoint) -> tuple[Reply, ...]:
    media = _MEDIA.get(endpoint.answer, "application/json")
    return (Reply(endpoint.status, media, endpoint.answer), *endpoint.also)


def _responses(endpoint: Endpoint, by_shape: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for reply in _replies(endpoint):
        described = responses.setdefault(str(reply.status), {"description": HTTPStatus(reply.status).phrase})
        if reply.media:
            schema = _BINARY if reply.shape is bytes else by_shape[repr(reply.shape)]
            described.setdefault("content", {})[reply.media] = {"schema": schema}
        if reply.headers:
            described["headers"] = {name: {"schema": _TYPES[str]} for name in reply.headers}
    return {**responses, "default": _PAGE if endpoint.who == "browser" else _PROBLEM}


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
