"""Every field of every documented body, so that a test can put what it likes into each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from contract.test_errors import BODIES, NAMES

Path = tuple[str | int, ...]


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, route and a good body of every route that takes one."""
    for route, methods in document["paths"].items():
        for method, spec in methods.items():
            if "requestBody" in spec and "application/json" in spec["requestBody"]["content"]:
                yield method, route, BODIES[route]


def fields(document: dict[str, Any], method: str, route: str, kinds: set[str]) -> list[Path]:
    """The places in the body of `route` where a value of one of the JSON schema types `kinds` stands."""
    schema = document["paths"][route][method]["requestBody"]["content"]["application/json"]["schema"]
    return sorted(set(_places(document, schema, kinds, ())), key=str)


def _places(document: dict[str, Any], schema: dict[str, Any], kinds: set[str], at: Path) -> Iterator[Path]:
    if len(at) > 8:
        return
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    for part in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        yield from _places(document, part, kinds, at)
    if schema.get("type") in kinds:
        yield at
    for name, member in schema.get("properties", {}).items():
        yield from _places(document, member, kinds, (*at, name))
    if isinstance(schema.get("items"), dict):
        yield from _places(document, schema["items"], kinds, (*at, 0))


def target(route: str, **names: str) -> str:
    """The path of `route` with the names of things that are there."""
    return route.replace(":path", "").format(**(NAMES | names))


def put(body: Any, at: Path, literal: str) -> bytes:
    """`body` as JSON with the text `literal` at the place `at`, whatever it says."""
    mark = "--here--"
    copy = json.loads(json.dumps(body))
    inner: Any = copy
    for part, following in zip(at, (*at[1:], None), strict=True):
        fresh: Any = mark if following is None else [] if isinstance(following, int) else {}
        if isinstance(part, int):
            if following is None or not inner or not isinstance(inner[0], dict | list):
                inner[:1] = [fresh]
        elif following is None or not isinstance(inner.get(part), type(fresh)):
            inner[part] = fresh
        inner = inner[part]
    return json.dumps(copy, ensure_ascii=False).replace(f'"{mark}"', literal).encode(errors="surrogatepass")
