"""The OpenAPI 3.1 document, made of the declared routes, and the page that shows it without other hosts."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, render_template
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.health import program_version
from app.api.router import Route, Router, routes
from app.auth import LOOPBACK, OPEN
from app.errors import docstrings

router = Router("documentation", prefix="")
PREFIX = "#/components/schemas/"
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "description": "/problems/ and the error's slug."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "urn:foretide:request: and the request's id."},
        "reason": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
IDEMPOTENCY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "description": "The same key and request within 24 hours start the work once and get the stored reply.",
}
PATH_TYPES: dict[str, dict[str, Any]] = {
    "id": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"},
}
_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")


@router.get("/openapi.json", OPEN)
def show_document() -> dict[str, Any]:
    """This document."""
    return document(current_app)


@router.get("/docs", OPEN, media="text/html")
def show_docs() -> Response:
    """The API's reference as a page."""
    made = document(current_app)
    return Response(
        render_template("docs.html", document=made, operations=_by_tag(made)), content_type="text/html; charset=utf-8"
    )


def document(app: Flask) -> dict[str, Any]:
    """The document of an application's declared routes."""
    declared = sorted(routes(app), key=lambda route: (route.rule, route.method))
    refs, schemas = _schemas(declared)
    paths: dict[str, Any] = {}
    for route in declared:
        paths.setdefault(_PARAMETER.sub(r"{\2}", route.rule), {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Foretide",
            "version": program_version(),
            "description": "Puts data where it should be before it is needed.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _schemas(declared: list[Route]) -> tuple[dict[Any, dict[str, str]], dict[str, Any]]:
    """References by model and way of use, and the definitions that they point to."""
    wanted: list[tuple[type[BaseModel], Any]] = []
    for route in declared:
        wanted += [(model, "validation") for model in (route.body, route.reads_as) if model]
        wanted += [(route.answer, "serialization")] if route.answer else []
    refs, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=PREFIX + "{model}")
    schemas = definitions.get("$defs", {})
    for schema in schemas.values():
        schema.pop("description", None)
    for model, _ in wanted:
        schemas[model.__name__]["description"] = docstrings(model.__module__)[model.__name__]
    return dict(refs), schemas


def _operation(route: Route, refs: dict[Any, dict[str, str]]) -> dict[str, Any]:
    summary, _, rest = docstrings(route.view.__module__)[route.view.__name__].partition("\n")
    operation: dict[str, Any] = {
        "operationId": f"{route.tag}_{route.view.__name__}",
        "tags": [route.tag],
        "summary": summary.rstrip("."),
        "parameters": [*_path_parameters(route.rule), *_query_parameters(route.query)],
        "responses": _responses(route, refs),
        "x-role": str(route.access),
    }
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if route.starts_work or route.takes_key:
        operation["parameters"].append(IDEMPOTENCY)
    if route.access == OPEN:
        operation["security"] = []
    if route.access == LOOPBACK:
        operation["security"] = [{}, {"token": []}]
    if route.body:
        schema = refs[(route.body, "validation")]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    elif route.reads:
        json = refs[(route.reads_as, "validation")] if route.reads_as else {"type": "string"}
        operation["requestBody"] = {
            "required": route.reads_as is None,
            "content": {
                media: {"schema": json if media == "application/json" else {"type": "string"}} for media in route.reads
            },
        }
    return operation


def _path_parameters(rule: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PATH_TYPES.get(kind, {"type": "string"})}
        for kind, name in _PARAMETER.findall(rule)
    ]


def _query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = query.model_json_schema()
    definitions = schema.get("$defs", {})
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _inlined(each, definitions)}
        for name, each in schema["properties"].items()
    ]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its references replaced: parameters have nowhere to keep definitions."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            named = definitions[schema["$ref"].rpartition("/")[2]]
            return _inlined({name: value for name, value in named.items() if name != "description"}, definitions)
        return {name: _inlined(value, definitions) for name, value in schema.items()}
    return [_inlined(value, definitions) for value in schema] if isinstance(schema, list) else schema


def _responses(route: Route, refs: dict[Any, dict[str, str]]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.status != HTTPStatus.NO_CONTENT and route.media:
        schema = refs[(route.answer, "serialization")] if route.answer else {}
        good["content"] = {route.media: {"schema": schema}}
    if route.starts_work:
        good["headers"] = {name: {"schema": {"type": "string"}} for name in ("Location", "Retry-After")}
    problem = {"application/problem+json": {"schema": {"$ref": PREFIX + "Problem"}}}
    return {str(route.status): good, "default": {"description": "An error", "content": problem}}


def _by_tag(made: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            found.setdefault(operation["tags"][0], []).append({"method": method.upper(), "path": path, **operation})
    return found
