"""One error shape on every route and for every failure; nothing sent is echoed. (reliability.md H1, H3, H8, H9, H11)"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient
from support import assert_problem

from service import errors
from service.app import create_app
from service.plain_json import JsonRoute
from service.rawroute import RawRoute
from service.settings import Settings

MARK = "secret-marker-7f3a"
JSON = {"content-type": "application/json"}
BODIES: dict[str, dict[str, Any]] = {
    "/ingest": {"collection": "python-docs", "items": [{"id": "a", "code": "00" * 16}]},
    "/search": {"collection": "digits", "query": {"code": "00" * 8}},
    "/search/batch": {"searches": [{"collection": "digits", "query": {"code": "00" * 8}}]},
    "/generate": {"model": "digits-vae"},
    "/denoise": {"model": "digits-denoise", "input": {"id": "digit-0000"}, "search": {"collection": "digits"}},
    "/interpolate": {"model": "digits-vae", "a": {"code": "00" * 8}, "b": {"id": "digit-0000"}, "collection": "digits"},
    "/encode": {"model": "vectors-itq", "inputs": [{"vector": [0.5] * 24}], "latents": True},
    "/decode": {"model": "digits-hash", "codes": ["00" * 8], "flip": [0]},
    "/score": {"model": "digits-denoise", "inputs": [{"code": "00" * 8}], "relative_to": {"code": "ff" * 8}},
    "/collections": {"name": "new", "bits": 64},
    "/collections/{collection}/delete": {"ids": ["nobody"]},
    "/collections/{collection}/indexes": {"field": "label"},
    "/collections/{collection}/reencode": {"model": "digits-vae", "gate": {"queries": 10}, "flip": False},
    "/collections/{collection}/restore": {"snapshot": "here", "source": "vectors", "replace": True},
    "/collections/{collection}/duplicates": {"radius": 2},
    "/collections/{collection}/calibrate": {"by": "labels", "field": "label"},
    "/models/{name}/aliases/{alias}": {"version": 1},
    "/train": {"name": "new", "family": "lsh", "data": {"dataset": "digits"}},
}
PAGES = {"/", "/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/page/{version}/{path}"}
"""For people, and no part of the API."""
NAMES = {"collection": "digits", "id": "digit-0000", "reference": "digits-hash", "name": "digits-hash", "alias": "x"}


def leaves(routes: Any) -> Iterator[APIRoute]:
    """Every route of the application, those of included routers too."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        else:
            inner = getattr(route, "original_router", None) or getattr(route, "router", None)
            if inner is not None:
                yield from leaves(inner.routes)


@pytest.fixture(scope="module")
def documented(shared_client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = shared_client.get("/openapi.json").json()
    return found


def routes(documented: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path, method) for path, methods in documented["paths"].items() for method in methods]


def path_of(template: str) -> str:
    return template.format(**NAMES)


def with_body(documented: dict[str, Any]) -> set[str]:
    """The paths that take JSON."""
    return {
        path
        for path, methods in documented["paths"].items()
        for spec in methods.values()
        if "application/json" in spec.get("requestBody", {}).get("content", {})
    }


def test_every_route_with_a_body_has_one_here(documented: dict[str, Any]) -> None:
    assert with_body(documented) == set(BODIES)


def test_the_bodies_here_are_good(client: TestClient, documented: dict[str, Any]) -> None:
    client.post("/collections/vectors/snapshots", params={"name": "here"})
    for path, body in BODIES.items():
        method = next(iter(documented["paths"][path].keys() - {"get", "delete"}))
        response = client.request(method, path_of(path), json=body)
        assert response.status_code < 300, (path, response.text)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"NaN",
        b'{"' + MARK.encode() * 10_000 + b'": 1}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"collection": "\\ud800", "model": "\\ud800", "name": "\\ud800"}',
    ],
    ids=["empty", "cut", "list", "null", "text", "not-utf8", "nan", "unknown", "deep", "huge-number", "surrogate"],
)
def test_a_body_that_cannot_be_meant(
    shared_client: TestClient, documented: dict[str, Any], path: str, body: bytes
) -> None:
    method = next(iter(documented["paths"][path].keys() - {"get", "delete"}))
    response = shared_client.request(method, path_of(path), content=body, headers=JSON)
    assert response.status_code in (400, 422)
    assert_problem(response, response.status_code)
    assert len(response.text) < 4000, "what was sent is not given back"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every member of a body."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield (*path, name)
            yield from places(member, (*path, name))
    elif isinstance(value, list) and value:
        yield (*path, 0)
        yield from places(value[0], (*path, 0))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    at = copy
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = new
    return copy


WRONG = [float("nan"), float("inf"), float("-inf"), True, {"x": MARK}, [], "", "\0", 1.5, -1, 10**30, None, MARK * 50]
CASES = [(path, place) for path, body in BODIES.items() for place in places(body)]


@pytest.mark.parametrize(
    ("path", "place"), CASES, ids=lambda value: value if isinstance(value, str) else "/".join(map(str, value))
)
def test_every_field_with_every_wrong_value(
    client: TestClient, documented: dict[str, Any], path: str, place: tuple[Any, ...]
) -> None:
    """H1, H8: NaN and its like, wrong types, out of range: a problem, or an answer; never a 5xx, never an echo."""
    method = next(iter(documented["paths"][path].keys() - {"get", "delete"}))
    for wrong in WRONG:
        body = json.dumps(replaced(BODIES[path], place, wrong)).encode()
        response = client.request(method, path_of(path), content=body, headers=JSON)
        assert response.status_code < 500, (wrong, response.text)
        if response.status_code >= 400:
            assert_problem(response, response.status_code)
            assert MARK * 50 not in response.text
        if isinstance(wrong, float) and wrong != 1.5:
            assert response.status_code == 422


def test_every_route_with_every_wrong_method(shared_client: TestClient, documented: dict[str, Any]) -> None:
    """H11"""
    for path, methods in documented["paths"].items():
        for method in {"get", "post", "put", "delete", "patch"} - set(methods):
            response = shared_client.request(method, path_of(path))
            assert_problem(response, 405, "method-not-allowed")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
def test_every_body_of_a_wrong_type(shared_client: TestClient, documented: dict[str, Any], kind: str) -> None:
    """H11"""
    for path, body in BODIES.items():
        method = next(iter(documented["paths"][path].keys() - {"get", "delete"}))
        headers = {"content-type": kind} if kind else {}
        response = shared_client.request(method, path_of(path), content=json.dumps(body), headers=headers)
        assert response.status_code in (415, 422), path
        assert_problem(response, response.status_code)


@pytest.mark.parametrize("name", ["nobody", "CON", "x" * 10_000, "\u0430", "a b", "A"])
def test_every_name_that_names_nothing(client: TestClient, documented: dict[str, Any], name: str) -> None:
    """H9"""
    from urllib.parse import quote

    before = sorted(path for path in client.app.state.engine.settings.data_dir.rglob("*"))  # type: ignore[attr-defined]
    for path, method in routes(documented):
        for parameter in [part for part in NAMES if f"{{{part}}}" in path and part != "alias"]:
            values = NAMES | {parameter: quote(name, safe="")}
            body = BODIES.get(path) if method in ("post", "put") else None
            response = client.request(method, path.format(**values), json=body)
            assert response.status_code in (404, 422), (path, method, parameter, response.text)
            assert_problem(response, response.status_code)
            assert len(response.text) < 2000
    after = sorted(path for path in client.app.state.engine.settings.data_dir.rglob("*"))  # type: ignore[attr-defined]
    assert {path for path in after if ".db" not in path.name} == {path for path in before if ".db" not in path.name}


@pytest.mark.parametrize(
    "body",
    [
        {"collection": "vectors", "query": {"vector": ["a"] * 1_000_000}},
        {"collection": "vectors", "query": {"vector": [1.0] * 1_000_000}},
    ],
    ids=["wrong", "long"],
)
def test_a_long_list_is_refused_early(shared_client: TestClient, body: dict[str, Any]) -> None:
    problem = assert_problem(shared_client.post("/search", json=body), 422)
    assert len(problem["errors"]) == 1


def test_an_unexpected_exception_is_a_problem_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError(MARK)

    monkeypatch.setattr("service.search._glanced", broken)
    response = client.post("/search", json=BODIES["/search"])
    body = assert_problem(response, 500, "internal-error")
    assert MARK not in json.dumps(body)
    assert client.get("/livez").status_code == 200


def test_every_error_of_the_packages_is_in_the_table() -> None:
    from index import errors as index_errors
    from models import errors as model_errors

    bases = (index_errors.HammingIndexError, model_errors.ModelsError, errors.ServiceError)
    found = [
        kind
        for module in (index_errors, model_errors, errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, bases) and kind not in bases
    ]
    outside_requests = {"DataDirectoryError", "TrainingFailed"}
    for kind in found:
        known = any(issubclass(kind, row[0]) for row in errors.TABLE)
        assert known or kind.__name__ in outside_requests, kind


def test_subclasses_stand_before_their_bases_in_the_table() -> None:
    kinds = [row[0] for row in errors.TABLE]
    for at, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[at + 1 :]), kind


def test_every_route_reads_json_in_one_way(data_dir: Any) -> None:
    """H3: give the router of a new route `route_class=JsonRoute`, or let it parse its body by `rawroute.parsed`."""
    app = create_app(Settings(data_dir=data_dir))
    try:
        for route in leaves(app.routes):
            assert route.body_field is None or isinstance(route, JsonRoute | RawRoute), route.path
    finally:
        app.state.runner.close()
        app.state.engine.close()


def test_every_route_is_documented_with_examples_and_problems(documented: dict[str, Any], data_dir: Any) -> None:
    app = create_app(Settings(data_dir=data_dir))
    try:
        in_app = {(route.path_format, method.lower()) for route in leaves(app.routes) for method in route.methods or ()}
    finally:
        app.state.runner.close()
        app.state.engine.close()
    listed = {(path, method) for path, method in routes(documented)}
    assert {pair for pair in in_app if pair[0] not in PAGES} <= {
        (path.replace(":path", ""), method) for path, method in listed
    } | {(path, method) for path, method in listed}
    for path, method in routes(documented):
        spec = documented["paths"][path][method]
        assert spec.get("description"), (path, method)
        assert "4XX" in spec["responses"], (path, method)
        if "requestBody" in spec and path in with_body(documented):
            content = spec["requestBody"]["content"]["application/json"]
            assert "example" in json.dumps(content), (path, method)
    text = json.dumps(documented)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        at = documented
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def test_the_examples_of_the_document_work(client: TestClient, documented: dict[str, Any]) -> None:
    client.post("/collections/digits/snapshots", params={"name": "nightly"})
    for path, method in routes(documented):
        spec = documented["paths"][path][method]
        if path not in with_body(documented) or "requestBody" not in spec or path == "/train":
            continue
        content = spec["requestBody"]["content"]["application/json"]
        schema = content["schema"]
        if "$ref" in schema:
            schema = documented["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        examples = [value["value"] for value in content.get("examples", {}).values()]
        examples += content["schema"].get("examples", []) + ([content["example"]] if "example" in content else [])
        assert examples, path
        for example in examples:
            response = client.request(method, path_of(path), json=example)
            assert response.status_code < 300, (path, response.text)
