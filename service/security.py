"""Keys in the OpenAPI document, and the check that every route says what it needs."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from .keys import KeyRing
from .scopes import NEEDED, PUBLIC

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer hb_...`"},
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "the same key in a header of ours",
    },
}


def routes_of(app: FastAPI) -> set[str]:
    """Every `METHOD path-template` that the application answers."""
    return {
        f"{method} {route.path}"
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or {"ANY"}) - {"HEAD"}
    }


def secure(app: FastAPI, keys: KeyRing) -> None:
    """Check that each route of `app` has its scope, and let its document say which. To be called when all are there."""
    without = sorted(routes_of(app) - PUBLIC - NEEDED.keys())
    if without:
        raise AssertionError(f"say in service/scopes.py what a key must be allowed for: {', '.join(without)}")
    needed = {re.sub(r":\w+}", "}", line): scope for line, scope in NEEDED.items()}
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        anybody: list[dict[str, list[str]]] = [] if keys.asked_for else [{}]
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                scope = needed.get(f"{method.upper()} {path}")
                operation["security"] = [] if scope is None else [*anybody, {"bearer": [scope]}, {"header": [scope]}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
