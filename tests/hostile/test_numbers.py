"""Numbers that are none, and numbers that ask for too much. (reliability.md H1, H8)"""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bodies import bodies, fields, put, target
from starlette.testclient import TestClient
from support import assert_problem
from wire import Served

from service.app import create_app
from service.settings import Settings

JSON = {"content-type": "application/json"}
NOT_FINITE = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E+400"]
ODD = [
    "-0.0",
    "-0",
    "0",
    "-1",
    "1e-400",
    "5e-324",
    "1e308",
    "2147483648",
    "1000000000000",
    "9223372036854775808",
    "1.0",
]


@pytest.fixture(scope="module")
def client(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """What is asked for here changes little; no job waits behind another."""
    import shutil

    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("numbers") / "data"))
    settings = Settings(data_dir=root, max_jobs_waiting=0)
    with TestClient(create_app(settings), raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_number_that_is_none_is_refused_in_every_field(client: TestClient, document: dict[str, Any]) -> None:
    """H1: 422, and the field is named, whichever of the two readers of numbers it went through."""
    tried = 0
    for method, route, body in bodies(document):
        for at in fields(document, method, route, {"number", "integer"}):
            for literal in NOT_FINITE:
                response = client.request(method, target(route), content=put(body, at, literal), headers=JSON)
                problem = assert_problem(response, 422)
                pointers = [fault["pointer"] for fault in problem.get("errors", ())]
                named = any(pointer == "" or pointer.startswith(f"/{at[0]}") for pointer in pointers)
                assert named or str(at[0]) in problem["detail"], (route, at, literal, problem)
                tried += 1
    assert tried > 150


def test_odd_numbers_are_answered_or_refused_in_every_field(client: TestClient, document: dict[str, Any]) -> None:
    """H1, H8: -0.0, subnormal, huge: never a 5xx, and quickly."""
    used = time.process_time()
    for method, route, body in bodies(document):
        for at in fields(document, method, route, {"number", "integer"}):
            for literal in ODD:
                response = client.request(method, target(route), content=put(body, at, literal), headers=JSON)
                assert response.status_code < 500, (route, at, literal, response.text)
                if response.status_code >= 400:
                    assert_problem(response, response.status_code)
    assert time.process_time() - used < 60


@pytest.mark.parametrize("literal", [*NOT_FINITE, "9" * 5000])
@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/ingest", '{"collection": "digits", "items": [{"code": "0000000000000000", "payload": {"a": [{"b": %}]}}]}'),
        ("/search", '{"collection": "digits", "query": {"id": "digit-0000"}, "filter": {"label": %}}'),
        ("/search", '{"collection": "digits", "query": {"id": "digit-0000"}, "filter": {"label": {"$in": [1, %]}}}'),
        ("/search", '{"collection": "digits", "query": {"id": "digit-0000"}, "filter": {"label": {"$gte": %}}}'),
        ("/collections/digits/delete", '{"filter": {"label": {"$lt": %}}}'),
        ("/train", '{"name": "n", "family": "vae", "data": {"dataset": "digits"}, "params": {"epochs": %}}'),
        ("/train", '{"name": "n", "family": "vae", "data": {"dataset": "digits"}, "params": {"learning_rate": %}}'),
        ("/denoise", '{"model": "digits-denoise", "input": {"vector": [0.5]}, "mask": [[%, 0]]}'),
        ("/interpolate", '{"model": "digits-vae", "a": {"vector": [%]}, "b": {"code": "0000000000000000"}}'),
    ],
)
def test_numbers_that_are_none_in_free_json(client: TestClient, target: str, text: str, literal: str) -> None:
    """H1: payloads, filters and parameters have no schema, and refuse them all the same."""
    response = client.post(target, content=text.replace("%", literal), headers=JSON)
    assert_problem(response, 422)


@pytest.mark.parametrize("literal", NOT_FINITE)
def test_numbers_that_are_none_in_a_stream(client: TestClient, literal: str) -> None:
    """H1"""
    for name, line in (
        ("digits", '{"id": "s", "code": "0000000000000000", "payload": {"a": %}}'),
        ("vectors", '{"id": "s", "vector": [%]}'),
    ):
        response = client.post(
            f"/ingest?collection={name}",
            content=line.replace("%", literal),
            headers={"content-type": "application/x-ndjson"},
        )
        assert_problem(response, 422)
        assert_problem(client.get(f"/collections/{name}/items/s"), 404)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_in_binary_vectors(client: TestClient, value: float) -> None:
    """H1"""
    data = struct.pack("<24f", *[0.5] * 23, value)
    vector = {"vector_b64": base64.b64encode(data).decode()}
    assert_problem(client.post("/search", json={"collection": "vectors", "query": vector}), 422)
    assert_problem(client.post("/ingest", json={"collection": "vectors", "items": [vector]}), 422)
    form = client.post("/ingest", data={"collection": "vectors"}, files=[("files", ("f", data))])
    assert_problem(form, 422)


def test_minus_zero_is_zero(client: TestClient) -> None:
    """H1: in a vector it changes no code; in a payload it equals 0 and comes back as it was sent."""
    plus, minus = ([sign * 0.0, *[0.25] * 23] for sign in (1, -1))
    body = {"model": "vectors-itq", "inputs": [{"vector": plus}, {"vector": minus}]}
    one, other = client.post("/encode", json=body).json()["codes"]
    assert one == other
    item = '{"collection": "vectors", "items": [{"id": "z", "vector": %s, "payload": {"a": -0.0}}]}' % minus  # noqa: UP031
    assert client.post("/ingest", content=item, headers=JSON).status_code == 200
    assert '"payload":{"a":-0.0}' in client.get("/collections/vectors/items/z").text
    for bound in ("0", "0.0", "-0.0"):
        asked = '{"collection": "vectors", "query": {"id": "z"}, "filter": {"a": %s}}' % bound  # noqa: UP031
        assert client.post("/search", content=asked, headers=JSON).json()["hits"][0]["id"] == "z"


@pytest.mark.parametrize("value", ["NaN", "1e999", "-0.0", "0", "-1", "1001", "1000000000000", "1.5", "", "٣"])
def test_numbers_in_the_address(client: TestClient, document: dict[str, Any], value: str) -> None:
    """H1, H8: every numeric query parameter."""
    tried = 0
    for route, methods in document["paths"].items():
        for method, spec in methods.items():
            for parameter in spec.get("parameters", ()):
                schema = parameter["schema"]
                kinds = {schema.get("type"), *(part.get("type") for part in schema.get("anyOf", ()))}
                if parameter["in"] == "query" and kinds & {"number", "integer"}:
                    response = client.request(method, target(route), params={parameter["name"]: value})
                    assert response.status_code < 500, (route, parameter["name"], response.text)
                    tried += 1
    assert tried
    assert_problem(client.get("/collections/digits/items", params={"limit": value}), 422)


# -- too much ------------------------------------------------------------------------------------------------------

ZERO = "00" * 8
FAR = [0, -1, -(2**31), 2**31, 2**31 - 1, 2**32, 10**12, 2**63, 10**30]
FORGED = [
    "",
    "x",
    "A" * 100_000,
    "null",
    base64.urlsafe_b64encode(b'[0, "a", "b"]').decode(),
    base64.urlsafe_b64encode(b"[-1, null, 1e999]").decode(),
    base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    base64.urlsafe_b64encode(b'{"distance": 0}').decode(),
    base64.urlsafe_b64encode(bytes(range(256))).decode(),
    "é",
    "\0",
    "=",
]


def searches() -> list[dict[str, Any]]:
    by_k = [{"k": value} for value in FAR] + [{"k": value, "radius": 3} for value in FAR]
    by_radius = [{"radius": value} for value in (-1, 65, 2**31, 10**12)]
    limits = [{"radius": 3, "limit": value} for value in FAR]
    cursors = [{"radius": 3, "cursor": value} for value in FORGED]
    soft = [{**options, "rerank": "soft"} for options in by_k[:6]]
    return [*by_k, *by_radius, *limits, *cursors, *soft]


def test_no_search_asks_for_too_much(served: Served) -> None:
    """H8: k, radius, limit and cursors beyond what is allowed are refused, and take no memory."""
    good = {"collection": "digits", "query": {"code": ZERO}}
    served.post("/search", {**good, "radius": 64, "limit": 10_000})
    before, used = served.rss(), served.cpu_s()
    for options in searches():
        assert_problem(served.post("/search", {**good, **options}), 422)
        batch = served.post("/search/batch", {"searches": [good, {**good, **options}]})
        assert_problem(batch, 422)
        body = {"model": "digits-denoise", "input": {"id": "digit-0000"}, "search": {"collection": "digits", **options}}
        assert_problem(served.post("/denoise", body), 422)
    assert served.rss() - before < 60_000_000
    assert served.cpu_s() - used < 20
    assert served.get("/readyz").status_code == 200


def test_a_cursor_that_was_changed_is_refused_or_continues_some_search(served: Served) -> None:
    """H8: no byte of a cursor leads anywhere but to a page or to a 422."""
    body = {"collection": "digits", "query": {"code": ZERO}, "radius": 64, "limit": 3}
    cursor = served.post("/search", body).json()["cursor"]
    assert cursor
    for place in range(len(cursor)):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        reply = served.post("/search", {**body, "cursor": changed})
        assert reply.status_code in (200, 422), reply.text
        if reply.status_code == 422:
            assert_problem(reply, 422)
    for cut in range(len(cursor)):
        assert served.post("/search", {**body, "cursor": cursor[:cut]}).status_code in (200, 422)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/generate", {"model": "digits-vae", "n": 10**12}),
        ("/generate", {"model": "digits-vae", "temperature": 1e308}),
        (
            "/denoise",
            {"model": "digits-denoise", "input": {"id": "digit-0000"}, "collection": "digits", "steps": 10**12},
        ),
        ("/interpolate", {"model": "digits-vae", "a": {"code": ZERO}, "b": {"code": "ff" * 8}, "steps": 10**12}),
        ("/decode", {"model": "digits-hash", "codes": [ZERO], "flip": [10**12]}),
        ("/decode", {"model": "digits-hash", "codes": [ZERO], "flip": [0] * 100_000}),
        ("/decode", {"model": "digits-hash", "codes": [ZERO] * 10_001}),
        ("/collections", {"name": "large", "bits": 2**30}),
        ("/collections", {"name": "large", "bits": 1032}),
        ("/train", {"name": "n", "family": "vae", "bits": 2**30, "data": {"dataset": "digits"}}),
        ("/train", {"name": "n", "family": "vae", "data": {"dataset": "digits"}, "params": {"hidden": 2**40}}),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:50],
)
def test_nothing_else_can_be_asked_for_too_much(served: Served, target: str, body: dict[str, Any]) -> None:
    """H8"""
    before = served.rss()
    reply = served.post(target, body)
    assert reply.status_code in (413, 422), reply.text
    assert_problem(reply, reply.status_code)
    assert served.rss() - before < 60_000_000
