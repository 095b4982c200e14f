"""Every route asked in every wrong way. (reliability.md H11)"""

from __future__ import annotations

import json
from typing import Any

import pytest
from bodies import bodies, target
from starlette.testclient import TestClient
from support import assert_problem

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "X" * 1_000}
TYPES = [
    None,
    "",
    "text/plain",
    "application/xml",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "application/jsonp",
    "application/json, text/plain",
    "json",
    "*/*",
    "application/ json",
    "x" * 5_000,
    "\xe9/\xe9",
]


@pytest.fixture(scope="module")
def document(shared_client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = shared_client.get("/openapi.json").json()
    return found


def test_every_route_by_every_wrong_method(shared_client: TestClient, document: dict[str, Any]) -> None:
    """H11: 405 that says what is taken; made-up methods too."""
    for route, taken in document["paths"].items():
        for method in METHODS - {name.upper() for name in taken}:
            reply = shared_client.request(method, target(route))
            if method == "HEAD":  # has no body that could be looked at
                assert reply.status_code in (405, *([200] if "get" in taken else [])), route
                continue
            assert_problem(reply, 405, "method-not-allowed")
            allowed = {name.strip() for name in reply.headers["allow"].split(",")}
            assert allowed <= {name.upper() for name in taken} | {"HEAD"}
            assert len(reply.content) < 1_000


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: repr(kind)[:40])
def test_every_body_of_every_wrong_type(shared_client: TestClient, document: dict[str, Any], kind: str | None) -> None:
    """H11: a body that is good but for what is said of it."""
    for method, route, body in bodies(document):
        headers = {} if kind is None else {"content-type": kind.encode("latin-1")}
        reply = shared_client.request(method, target(route), content=json.dumps(body), headers=headers)
        assert reply.status_code in (415, 422), (route, kind, reply.text)
        assert_problem(reply, reply.status_code)
        assert len(reply.content) < 1_000


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;", "application/vnd.api+json"]
)
def test_types_that_are_json_too(shared_client: TestClient, kind: str) -> None:
    """H11: the other side: what RFC 9110 and RFC 6839 call JSON is taken by every route that only looks."""
    body = json.dumps({"collection": "digits", "query": {"id": "digit-0000"}})
    assert shared_client.post("/search", content=body, headers={"content-type": kind}).status_code == 200


def test_a_body_where_none_belongs(shared_client: TestClient, document: dict[str, Any]) -> None:
    """H11: a GET with a body answers as without."""
    for route, methods in document["paths"].items():
        if "get" in methods and "events" not in route:
            plain, with_body = (
                shared_client.request(
                    "GET", target(route), content=content, headers={"content-type": "application/json"}
                )
                for content in (None, b"{" * 1_000)
            )
            assert plain.status_code == with_body.status_code, route


def test_paths_that_are_no_route(shared_client: TestClient) -> None:
    """H11"""
    for path in (
        "/nothing",
        "/search/x",
        "/v1/search",
        "/collections/digits/nothing",
        "/.env",
        "/wp-login.php",
        "/%00",
    ):
        for method in ("GET", "POST", "DELETE"):
            reply = shared_client.request(method, path, json={})
            assert reply.status_code in (404, 405)
            assert_problem(reply, reply.status_code)
