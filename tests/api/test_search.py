"""/search: exact against a brute force over the stored codes, paged, batched, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from models.data import Dataset
from service.app import create_app
from service.settings import Settings


@pytest.fixture(scope="module")
def stored(shared_client: TestClient) -> dict[str, int]:
    """The code of every stored digit, as a number."""
    items = shared_client.get("/collections/digits/items", params={"limit": 1000}).json()["items"]
    return {item["id"]: int(item["code"], 16) for item in items}


def expected(stored: dict[str, int], code: str) -> list[tuple[int, str]]:
    return sorted(((number ^ int(code, 16)).bit_count(), id) for id, number in stored.items())


def search(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/search", json={"collection": "digits", **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def pairs(reply: dict[str, Any]) -> list[tuple[int, str]]:
    return [(hit["distance"], hit["id"]) for hit in reply["hits"]]


@pytest.mark.parametrize("k", [1, 5, 10, 299, 300, 301, 10_000])
@pytest.mark.parametrize("radius", [None, 0, 8, 64])
def test_nearest_equal_the_brute_force(
    shared_client: TestClient, stored: dict[str, int], k: int, radius: int | None
) -> None:
    reply = search(shared_client, query={"id": "digit-0000"}, k=k, radius=radius)
    want = [pair for pair in expected(stored, reply["code"]) if radius is None or pair[0] <= radius][:k]
    assert pairs(reply) == want
    assert (reply["total"], reply["complete"], reply["cursor"]) == (len(want), True, None)
    assert reply["plan"] == {"method": "scan", "candidates": 300}


@pytest.mark.parametrize("radius", [0, 5, 12, 20, 64])
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_a_radius_comes_in_pages(shared_client: TestClient, stored: dict[str, int], radius: int, limit: int) -> None:
    got, cursor, pages = [], None, 0
    while True:
        reply = search(shared_client, query={"id": "digit-0000"}, radius=radius, limit=limit, cursor=cursor, include=[])
        want = [pair for pair in expected(stored, reply["code"]) if pair[0] <= radius]
        assert reply["total"] == len(want)
        got += pairs(reply)
        cursor, pages = reply["cursor"], pages + 1
        assert reply["complete"] == (cursor is None)
        if reply["complete"]:
            break
    assert got == want
    assert pages == max(1, -(-len(want) // limit))


def test_neither_k_nor_radius_means_ten(shared_client: TestClient) -> None:
    assert len(search(shared_client, query={"id": "digit-0000"})["hits"]) == 10


def test_every_way_to_ask(shared_client: TestClient, datasets: dict[str, Dataset]) -> None:
    image = png(datasets["digits"].items[17])
    id = datasets["digits"].ids[17]
    by_image = search(shared_client, query={"image": image}, k=3)
    by_id = search(shared_client, query={"id": id}, k=3)
    by_code = search(shared_client, query={"code": by_id["code"]}, k=3)
    assert pairs(by_image) == pairs(by_id) == pairs(by_code)
    assert (0, id) in pairs(by_id)
    text = datasets["python-docs"].items[3]
    reply = search(shared_client, collection="python-docs", query={"text": text}, k=1)
    assert reply["hits"][0]["distance"] == 0
    vector = datasets["vectors"].items[3].tolist()
    reply = search(shared_client, collection="vectors", query={"vector": vector}, k=1)
    assert reply["hits"][0]["distance"] == 0


def test_what_a_hit_holds(shared_client: TestClient) -> None:
    plain = search(shared_client, query={"id": "digit-0000"}, k=1)["hits"][0]
    assert set(plain) == {"id", "distance", "payload"}
    assert plain["payload"] == {"label": "0"}
    both = search(shared_client, query={"id": "digit-0000"}, k=1, include=["payload", "code"])["hits"][0]
    assert set(both) == {"id", "distance", "payload", "code"}
    bare = search(shared_client, query={"id": "digit-0000"}, k=1, include=[])["hits"][0]
    assert set(bare) == {"id", "distance"}


def test_a_count_has_no_hits(shared_client: TestClient, stored: dict[str, int]) -> None:
    reply = search(shared_client, query={"id": "digit-0000"}, radius=15, count_only=True)
    assert reply["hits"] == []
    assert reply["total"] == sum(distance <= 15 for distance, _ in expected(stored, reply["code"]))
    assert reply["complete"]


def test_a_batch_is_answered_in_order(shared_client: TestClient) -> None:
    queries = [{"collection": "digits", "query": {"id": "digit-0000"}, "k": k} for k in (3, 1, 2)]
    results = shared_client.post("/search/batch", json={"searches": queries}).json()["results"]
    assert [len(result["hits"]) for result in results] == [3, 1, 2]
    queries[1]["query"] = {"id": "nobody"}
    assert_problem(shared_client.post("/search/batch", json={"searches": queries}), 404, "unknown-item")


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"collection": "nobody", "query": {"id": "a"}}, 404, "unknown-collection"),
        ({"query": {"id": "nobody"}}, 404, "unknown-item"),
        ({"query": {"text": "t"}}, 422, "invalid-input"),
        ({"query": {}}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000", "code": "00"}}, 422, "invalid-request"),
        ({"query": {"code": "00"}}, 422, "invalid-code"),
        ({"query": {"id": "digit-0000"}, "k": 0}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "k": -1}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "k": 2**31}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "k": 10**12}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "k": 1.0}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "k": True}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "radius": -1}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "radius": 65}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "radius": 3, "limit": 0}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "radius": 3, "limit": 10_001}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "radius": 3, "cursor": "forged"}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "k": 3, "cursor": "x"}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "include": ["vector"]}, 422, "invalid-request"),
        ({"query": {"id": "digit-0000"}, "unknown": 1}, 422, "invalid-request"),
    ],
    ids=str,
)
def test_searches_that_are_refused(shared_client: TestClient, body: dict[str, Any], status: int, slug: str) -> None:
    """reliability.md H8"""
    assert_problem(shared_client.post("/search", json={"collection": "digits", **body}), status, slug)


def test_limits_are_told(data_dir: Path) -> None:
    with TestClient(create_app(Settings(data_dir=data_dir, max_k=5, max_searches=1))) as client:
        one = {"collection": "digits", "query": {"id": "digit-0000"}}
        body = assert_problem(client.post("/search", json={**one, "k": 6}), 422)
        assert "max_k" in body["detail"]
        assert_problem(client.post("/search/batch", json={"searches": [one, one]}), 413, "too-large")


def test_the_hits_of_a_batch_have_a_limit(data_dir: Path) -> None:
    with TestClient(create_app(Settings(data_dir=data_dir, max_batch_hits=25))) as client:
        one = {"collection": "digits", "query": {"id": "digit-0000"}, "k": 10}
        assert client.post("/search/batch", json={"searches": [one] * 2}).status_code == 200
        body = assert_problem(client.post("/search/batch", json={"searches": [one] * 3}), 413, "too-large")
        assert "max_batch_hits" in body["detail"]


@pytest.mark.parametrize(("distance", "id"), [(0, "\ud800"), (10**30, "a"), (-5, "a"), (2**40, "a"), (0, "")])
def test_a_cursor_that_is_forged_with_the_right_seal(shared_client: TestClient, distance: int, id: str) -> None:
    import base64
    import json
    import zlib

    code = search(shared_client, query={"id": "digit-0000"})["code"]
    seal = zlib.crc32(json.dumps([distance, id, f"digits {code} 3"]).encode())
    cursor = base64.urlsafe_b64encode(json.dumps([distance, id, seal]).encode()).decode().rstrip("=")
    body = {"collection": "digits", "query": {"id": "digit-0000"}, "radius": 3, "cursor": cursor}
    assert_problem(shared_client.post("/search", json=body), 422, "invalid-request")


def test_the_same_answers_after_a_restart(data_dir: Path) -> None:
    replies = []
    for _ in range(2):
        with TestClient(create_app(Settings(data_dir=data_dir))) as client:
            reply = client.post("/search", json={"collection": "digits", "query": {"id": "digit-0000"}, "k": 50}).json()
            replies.append({name: reply[name] for name in ("code", "hits", "total", "model")})
    assert replies[0] == replies[1]
