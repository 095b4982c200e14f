"""The OpenAPI document, as a generator of clients wants it.

Every operation has a short name that stays; every error is the one component `Problem`; a body that a route parses by
itself is a component too; and every reply says which headers it has. `tests/api/test_client.py` makes a client of it
and uses that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.utils import generate_unique_id

from .errors import MEDIA_TYPE
from .schemas.problem import Problem

IDS: Mapping[str, str] = {
    "DELETE /collections/{collection}": "delete_collection",
    "DELETE /collections/{collection}/items/{id}": "delete_item",
    "DELETE /collections/{collection}/snapshots/{name}": "delete_snapshot",
    "DELETE /collections/{collection}/standby": "drop_standby",
    "DELETE /jobs/{id}": "cancel_job",
    "DELETE /models/{reference}": "delete_model",
    "GET /collections": "list_collections",
    "GET /collections/{collection}": "get_collection",
    "GET /collections/{collection}/calibration": "get_calibration",
    "GET /collections/{collection}/health": "code_health",
    "GET /collections/{collection}/items": "list_items",
    "GET /collections/{collection}/items/{id}": "get_item",
    "GET /collections/{collection}/snapshots": "list_snapshots",
    "GET /collections/{collection}/snapshots/{name}": "fetch_snapshot",
    "GET /families": "list_families",
    "GET /jobs": "list_jobs",
    "GET /jobs/{id}": "get_job",
    "GET /jobs/{id}/events": "job_events",
    "GET /jobs/{id}/groups": "list_groups",
    "GET /livez": "livez",
    "GET /metrics": "metrics",
    "GET /models": "list_models",
    "GET /models/{reference}": "get_model",
    "GET /readyz": "readyz",
    "POST /collections": "create_collection",
    "POST /collections/{collection}/calibrate": "calibrate",
    "POST /collections/{collection}/compact": "compact_collection",
    "POST /collections/{collection}/delete": "delete_items",
    "POST /collections/{collection}/duplicates": "find_duplicates",
    "POST /collections/{collection}/flip": "flip",
    "POST /collections/{collection}/indexes": "index_field",
    "POST /collections/{collection}/reencode": "reencode",
    "POST /collections/{collection}/restore": "restore_collection",
    "POST /collections/{collection}/rollback": "rollback",
    "POST /collections/{collection}/snapshots": "create_snapshot",
    "POST /decode": "decode",
    "POST /denoise": "denoise",
    "POST /encode": "encode",
    "POST /generate": "generate",
    "POST /ingest": "ingest_items",
    "POST /interpolate": "interpolate",
    "POST /score": "score",
    "POST /search": "search",
    "POST /search/batch": "search_batch",
    "POST /snapshots/restore": "restore_snapshot",
    "POST /train": "train",
    "PUT /models/{name}/aliases/{alias}": "set_alias",
}
"""The name of every operation; a client's functions are called so, and it does not change with a path or a function."""

_REF = "#/components/schemas/{model}"
_VALUES = frozenset({"default", "example", "examples", "enum", "const"})
_REQUEST_ID = {
    "description": "of the request: the one that came with it, else a new one; every line of the log has it",
    "required": True,
    "schema": {"type": "string"},
}
_ERROR_HEADERS = {
    "retry-after": {"description": "with 429 and 503: seconds", "schema": {"type": "string"}},
    "www-authenticate": {"description": "with 401 and 403", "schema": {"type": "string"}},
}


def operation_id(route: APIRoute) -> str:
    """The name of an operation; of one that is not in the table, FastAPI's own, which is long but unique."""
    method = min(route.methods or {"GET"})
    return IDS.get(f"{method} {route.path_format}", generate_unique_id(route))


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}}
    for code, text in (("4XX", "The request is at fault"), ("5XX", "The service is at fault"))
}
"""What every operation can answer besides what it is for."""


def describe(app: FastAPI) -> None:
    """Let `app` give its document in this form."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _finished(make())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _finished(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    _add(schemas, Problem.model_json_schema(ref_template=_REF))
    components["headers"] = {"RequestId": _REQUEST_ID}
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["summary"] = operation["operationId"].replace("_", " ").capitalize()
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if "properties" in content.get("schema", {}) and "title" in content["schema"]:
                    content["schema"] = _add(schemas, content["schema"])
            for code, response in operation["responses"].items():
                headers = response.setdefault("headers", {})
                headers["x-request-id"] = {"$ref": "#/components/headers/RequestId"}
                if code in ERRORS:
                    headers.update(_ERROR_HEADERS)
            for parameter in operation.get("parameters", []):
                _untitle(parameter["schema"])
    for schema in schemas.values():
        _untitle(list(schema.get("properties", {}).values()))
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _add(schemas: dict[str, Any], schema: dict[str, Any]) -> dict[str, str]:
    """Put a schema and what it is made of among the components; returns the reference to it.

    Pydantic keeps the parts in `$defs`, which is right for JSON Schema alone.
    """
    schema = dict(schema)
    schemas.update(schema.pop("$defs", {}))
    schemas[schema["title"]] = schema
    return {"$ref": _REF.format(model=schema["title"])}


def _untitle(schema: Any) -> None:
    """Take out the titles that pydantic makes of the names of members: they say nothing, and generators stumble."""
    if isinstance(schema, list):
        for part in schema:
            _untitle(part)
    elif isinstance(schema, dict):
        schema.pop("title", None)
        for name, part in schema.items():
            if name == "properties":
                _untitle(list(part.values()))
            elif name not in _VALUES:
                _untitle(part)
