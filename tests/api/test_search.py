"""/search: exact against a brute force over the stored codes, paged, batched, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from index import unpack
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


# -- filters -------------------------------------------------------------------------------------------------------

PAYLOADS: list[dict[str, Any] | None] = [
    None,
    {},
    *({"n": number} for number in (-1, 0, 3, 7, 7.5, 10)),
    *({"n": value, "tag": "odd"} for value in ("7", "abc", True, None, [3, 7], {"m": 7})),
    {"tag": "even", "author": {"name": "Ann", "age": 30}},
    {"tag": ["even", "prime"], "author": {"name": "Bob"}},
]
FIELD = "no such field"
FILTERS: list[tuple[dict[str, Any], Callable[[Any, dict[str, Any]], bool]]] = [
    # filter, and what it means of `n` and of the whole payload (a number here is never a bool)
    ({}, lambda n, all: True),
    ({"n": 7}, lambda n, all: n in (7, [3, 7])),
    ({"n": {"$eq": 7}}, lambda n, all: n in (7, [3, 7])),
    ({"n": {"$ne": 7}}, lambda n, all: n not in (7, [3, 7])),
    ({"n": {"$gt": 3}}, lambda n, all: n in (7, 7.5, 10, [3, 7])),
    ({"n": {"$gte": 3}}, lambda n, all: n in (3, 7, 7.5, 10, [3, 7])),
    ({"n": {"$lt": 3}}, lambda n, all: n in (-1, 0)),
    ({"n": {"$lte": 3}}, lambda n, all: n in (-1, 0, 3, [3, 7])),
    ({"n": {"$gt": 0, "$lte": 7}}, lambda n, all: n in (3, 7, [3, 7])),
    ({"n": {"$gt": "7"}}, lambda n, all: n == "abc"),
    ({"n": {"$in": [7, "abc"]}}, lambda n, all: n in (7, "abc", [3, 7])),
    ({"n": {"$nin": [7, "abc"]}}, lambda n, all: n not in (7, "abc", [3, 7])),
    ({"n": {"$exists": True}}, lambda n, all: n is not FIELD),
    ({"n": {"$exists": False}}, lambda n, all: n is FIELD),
    ({"n": {"$not": {"$lt": 7}}}, lambda n, all: n not in (-1, 0, 3, [3, 7])),
    ({"n": None}, lambda n, all: n is None),
    ({"n": True}, lambda n, all: n is True),
    ({"n.m": 7}, lambda n, all: n == {"m": 7}),
    ({"tag": "even", "author.name": "Ann"}, lambda n, all: all.get("author", {}).get("name") == "Ann"),
    ({"$and": [{"tag": "even"}, {"tag": "prime"}]}, lambda n, all: all.get("tag") == ["even", "prime"]),
    ({"$or": [{"n": 10}, {"author.age": {"$gte": 18}}]}, lambda n, all: n == 10 or "age" in all.get("author", {})),
    ({"$not": {"tag": {"$exists": True}}}, lambda n, all: "tag" not in all),
    ({"n": {"$in": []}}, lambda n, all: False),
]


def meant(filter: Callable[[Any, dict[str, Any]], bool], payload: dict[str, Any] | None) -> bool:
    n = (payload or {}).get("n", FIELD)
    # In Python True == 1; the cases above hold no 1, and so need not tell them apart.
    return filter(n, payload or {})


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A collection `rich` of 32-bit codes, some of them alike, whose payloads are `PAYLOADS` in turn."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 256, (20, 4)).astype(np.uint8)[rng.integers(0, 20, 320)]
    items = [
        {"id": f"r{place:03d}", "code": code.tobytes().hex(), "payload": PAYLOADS[place % len(PAYLOADS)]}
        for place, code in enumerate(codes)
    ]
    settings = Settings(data_dir=tmp_path_factory.mktemp("rich") / "data")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.post("/collections", json={"name": "rich", "bits": 32, "indexes": ["tag"]})
        assert client.post("/ingest", json={"collection": "rich", "items": items}).json()["created"] == 320
        yield client


@pytest.fixture(scope="module")
def near(rich: TestClient) -> list[tuple[int, str, dict[str, Any] | None]]:
    """(distance from ff00ff00, id, payload) of every item, nearest first."""
    items = rich.get("/collections/rich/items", params={"limit": 1000}).json()["items"]
    return sorted(((int(item["code"], 16) ^ 0xFF00FF00).bit_count(), item["id"], item["payload"]) for item in items)


def hits(reply: dict[str, Any]) -> list[tuple[int, str, dict[str, Any] | None]]:
    return [(hit["distance"], hit["id"], hit.get("payload")) for hit in reply["hits"]]


@pytest.mark.parametrize(("filter", "means"), FILTERS, ids=lambda value: str(value) if type(value) is dict else "")
def test_every_filter_equals_the_brute_force(
    rich: TestClient,
    near: list[tuple[int, str, dict[str, Any] | None]],
    filter: dict[str, Any],
    means: Callable[[Any, dict[str, Any]], bool],
) -> None:
    """The k nearest that match, all that match within a radius, both, and how many: exact, by distance, then id."""
    body = {"collection": "rich", "query": {"code": "ff00ff00"}, "filter": filter}
    matching = [one for one in near if meant(means, one[2])]
    for k, radius in ((1, None), (5, None), (320, None), (None, 0), (None, 14), (None, 32), (7, 14)):
        want = [one for one in matching if radius is None or one[0] <= radius][:k]
        reply = search(rich, **body, k=k, radius=radius)
        assert hits(reply) == want, (k, radius)
        assert (reply["total"], reply["complete"]) == (len(want), True)
        assert reply["plan"]["method"] in ("multi-index-hash", "scan", "bucket")
        counted = search(rich, **body, k=k, radius=radius, count_only=True)
        assert (counted["total"], counted["hits"]) == (len(want), [])


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_pages_under_a_filter_neither_skip_nor_repeat(
    rich: TestClient, near: list[tuple[int, str, dict[str, Any] | None]], limit: int
) -> None:
    body = {"collection": "rich", "query": {"code": "ff00ff00"}, "filter": {"tag": "even"}, "radius": 17}
    want = [one for one in near if one[0] <= 17 and "even" in ((one[2] or {}).get("tag") or [])]
    assert len(want) > 30
    pages = paged(rich, **body, limit=limit)
    assert [hit for page in pages for hit in hits(page)] == want
    assert all(page["total"] == len(want) for page in pages)
    assert len(pages) == -(-len(want) // limit)


def test_a_cursor_belongs_to_its_filter(rich: TestClient) -> None:
    """However that is written: what means the same continues, anything else is refused."""
    body = {"collection": "rich", "query": {"code": "ff00ff00"}, "filter": {"tag": "even"}, "radius": 17, "limit": 7}
    pages = paged(rich, **body)
    body["cursor"] = pages[0]["cursor"]
    for other in ({"filter": {"tag": "odd"}}, {"filter": None}, {"radius": 18}, {"query": {"code": "ff00ff01"}}):
        assert_problem(rich.post("/search", json={**body, **other}), 422, "invalid-request")
    for same in ({"tag": {"$eq": "even"}}, {"$and": [{"tag": {"$in": ["even"]}}]}):
        assert hits(search(rich, **{**body, "filter": same})) == hits(pages[1])


def paged(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    """Every page of a search, by its cursors."""
    pages = [search(client, **body)]
    while pages[-1]["cursor"] is not None:
        assert not pages[-1]["complete"]
        pages.append(search(client, **body, cursor=pages[-1]["cursor"]))
    assert pages[-1]["complete"]
    return pages


@pytest.mark.parametrize(
    ("filter", "why"),
    [
        ({"$nor": []}, "filter.$nor: unknown operator"),
        ({"n": {"$like": "a"}}, "filter.n.$like: unknown operator"),
        ({"n": {"m": 1}}, "'author.name'"),
        ({"n": {}}, "$exists"),
        ({"n": [1]}, "use $in"),
        ({"n": {"$in": 1}}, "filter.n.$in: it takes a list"),
        ({"n": {"$in": [[1]]}}, "filter.n.$in[0]"),
        ({"n": {"$exists": 1}}, "it takes true or false"),
        ({"n": {"$gt": None}}, "only numbers and strings have an order"),
        ({"n": {"$gt": True}}, "only numbers and strings have an order"),
        ({"n": {"$eq": 2**64}}, "64 bits"),
        ({"n": {"$in": list(range(10_001))}}, "10,000"),
        ({"$and": []}, "filter.$and: it takes a list"),
        ({"$or": {"n": 1}}, "filter.$or: it takes a list"),
        ({"$or": [1]}, "filter.$or[0]: a filter is an object"),
        ({"$not": 1}, "filter.$not: a filter is an object"),
        ({"$or": [{f"f{number}": 1} for number in range(257)]}, "256"),
        ({"": 1}, "names with single dots"),
        ({"a..b": 1}, "names with single dots"),
        ({"x" * 513: 1}, "512"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_filters_that_are_refused(rich: TestClient, filter: dict[str, Any], why: str) -> None:
    """422, saying where in the filter and what to do; the same of a delete."""
    body = {"collection": "rich", "query": {"code": "ff00ff00"}, "filter": filter}
    for response in (
        rich.post("/search", json=body),
        rich.post("/collections/rich/delete", json={"filter": filter}),
    ):
        problem = assert_problem(response, 422, "invalid-request")
        assert why in problem["detail"]
        assert problem["detail"].startswith("filter")
        assert len(response.text) < 1000
    assert rich.get("/collections/rich").json()["items"] == 320


@pytest.mark.parametrize(
    "filter", [b"NaN", b"[]", b"7", b'"x"', b'{"n": NaN}', b'{"n": {"$gt": -Infinity}}', b'{"$not":' * 300]
)
def test_filters_that_are_not_even_json_objects(rich: TestClient, filter: bytes) -> None:
    body = b'{"collection": "rich", "query": {"code": "ff00ff00"}, "filter": %b}' % filter
    response = rich.post("/search", content=body, headers={"content-type": "application/json"})
    assert_problem(response, 422, "invalid-request")


def test_filters_nested_too_deep_are_refused(rich: TestClient) -> None:
    filter: dict[str, Any] = {"n": 1}
    for _ in range(16):
        filter = {"$not": filter}
    body = {"collection": "rich", "query": {"code": "ff00ff00"}, "filter": filter}
    assert "write it flatter" in assert_problem(rich.post("/search", json=body), 422, "invalid-request")["detail"]


def test_a_filter_sees_what_was_just_written(rich: TestClient) -> None:
    """Promise 1, though what a filter selects is kept from one search to the next."""
    body = {"collection": "rich", "query": {"code": "00000000"}, "filter": {"fresh": True}, "k": 10}
    assert search(rich, **body)["hits"] == []
    for number in range(3):
        item = {"id": f"fresh{number}", "code": "00000000", "payload": {"fresh": True}}
        rich.post("/ingest", json={"collection": "rich", "items": [item]})
        assert len(search(rich, **body)["hits"]) == number + 1
    rich.post("/ingest", json={"collection": "rich", "items": [{"id": "fresh1", "code": "00000000"}]})
    assert [hit["id"] for hit in search(rich, **body)["hits"]] == ["fresh0", "fresh2"]
    assert rich.post("/collections/rich/delete", json={"filter": {"fresh": True}}).json() == {"deleted": 2}
    rich.post("/collections/rich/delete", json={"ids": ["fresh1"]})
    assert search(rich, **body)["total"] == 0


# -- the soft order ------------------------------------------------------------------------------------------------


def softly(client: TestClient, name: str, item: Any) -> list[tuple[float, str, int]]:
    """(minus the score, id, distance) of every item of a collection from `item`, best first."""
    engine = client.app.state.engine  # type: ignore[attr-defined]
    _, logits, _ = engine.code_of_item(
        engine.model_of(engine.catalogue.get(name))[1].input.kind, item, engine.catalogue.get(name)
    )
    rows = []
    for stored in client.get(f"/collections/{name}/items", params={"limit": 1000}).json()["items"]:
        wrong = unpack(np.frombuffer(bytes.fromhex(stored["code"]), np.uint8)) != (logits > 0)
        score = 1 - 2 * np.abs(logits.astype(float))[wrong].sum() / np.abs(logits.astype(float)).sum()
        rows.append((-round(float(score), 9), stored["id"], int(wrong.sum())))
    return sorted(rows)


def scored(reply: dict[str, Any]) -> list[tuple[float, str, int]]:
    return [(-round(hit["score"], 9), hit["id"], hit["distance"]) for hit in reply["hits"]]


WAYS = {"digits": "image", "python-docs": "text", "vectors": "vector"}


@pytest.mark.parametrize("name", WAYS)
def test_the_soft_order_equals_the_brute_force(
    shared_client: TestClient, datasets: dict[str, Dataset], name: str
) -> None:
    """By an input of each kind and by the id of an item whose input is kept: by score, then id, from -1 to 1."""
    item, id = datasets[name].items[7], datasets[name].ids[7]
    value = {"image": png, "text": str, "vector": lambda vector: vector.tolist()}[WAYS[name]](item)
    want = softly(shared_client, name, item)
    bits = shared_client.get(f"/collections/{name}").json()["bits"]
    for query in ({WAYS[name]: value}, {"id": id}):
        body = {"collection": name, "query": query, "rerank": "soft"}
        assert scored(search(shared_client, **body, radius=bits, limit=1000)) == want
        best = search(shared_client, **body, k=1000)["hits"]
        assert all(-1 <= hit["score"] <= 1 for hit in best)
        assert best[0]["score"] == 1.0
        assert [(-hit["score"], hit["id"]) for hit in best] == sorted((-hit["score"], hit["id"]) for hit in best)
        distances = sorted(row[2] for row in want)
        for k, radius in ((12, None), (5, distances[11]), (300, distances[11])):
            near = [distance for distance in distances if radius is None or distance <= radius]
            chosen = [row for row in want if row[2] <= near[:k][-1]]  # the k nearest, and what ties with the last
            assert scored(search(shared_client, **body, k=k, radius=radius)) == chosen[:k]
        counted = search(shared_client, **body, radius=distances[11], count_only=True)
        assert (counted["total"], counted["hits"]) == (sum(row[2] <= distances[11] for row in want), [])
    plain = search(shared_client, collection=name, query={"id": id}, k=3, rerank="none")
    assert all("score" not in hit for hit in plain["hits"])


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("filter", [None, {"label": {"$in": ["0", "1", "2"]}}], ids=["all", "filtered"])
def test_pages_in_the_soft_order_neither_skip_nor_repeat(
    shared_client: TestClient, datasets: dict[str, Dataset], limit: int, filter: dict[str, Any] | None
) -> None:
    data = datasets["digits"]
    assert data.labels is not None
    label_of = dict(zip(data.ids, data.labels, strict=True))
    want = [
        row
        for row in softly(shared_client, "digits", data.items[7])
        if row[2] <= 20 and (filter is None or label_of[row[1]] in "012")
    ]
    assert len(want) > 8
    body = {"query": {"image": png(data.items[7])}, "rerank": "soft", "radius": 20, "filter": filter}
    pages = paged(shared_client, **body, limit=limit)
    assert [row for page in pages for row in scored(page)] == want
    assert {page["total"] for page in pages} == {len(want)}
    if limit == 7:
        whole = {"collection": "digits", **body, "cursor": pages[0]["cursor"]}
        for other in ({"rerank": "none"}, {"radius": 21}, {"query": {"image": png(data.items[8])}}, {"filter": {}}):
            assert_problem(shared_client.post("/search", json={**whole, **other}), 422, "invalid-request")


def test_a_soft_order_needs_logits(client: TestClient) -> None:
    """A code has none, nor has an item that was stored without its input."""
    item = {"id": "bare", "code": "00" * 8}
    client.post("/ingest", json={"collection": "digits", "items": [item]})
    client.post("/collections", json={"name": "forgetful", "model": "digits-hash", "keep_inputs": False})
    kept = client.get("/collections/digits/items/digit-0000").json()["input"]
    client.post("/ingest", json={"collection": "forgetful", "items": [{"id": "lost", **kept}]})
    for collection, query in (
        ("digits", {"code": "00" * 8}),
        ("digits", {"id": "bare"}),
        ("forgetful", {"id": "lost"}),
    ):
        body = {"collection": collection, "query": query, "rerank": "soft"}
        problem = assert_problem(client.post("/search", json=body), 422, "invalid-request")
        assert problem["errors"][0]["pointer"] == "/rerank"
        assert "search with the item itself" in problem["detail"]
        several = [{**body, "rerank": "none"}, body]
        problem = assert_problem(client.post("/search/batch", json={"searches": several}), 422, "invalid-request")
        assert problem["errors"][0]["pointer"] == "/searches/1/rerank"
        assert problem["detail"].startswith("search 1: ")
    assert_problem(client.post("/search", json={**body, "rerank": "hard"}), 422, "invalid-request")
    reply = client.post("/search", json={"collection": "forgetful", "query": kept, "rerank": "soft"}).json()
    assert [(hit["id"], hit["score"]) for hit in reply["hits"]] == [("lost", 1.0)]


def test_filters_and_the_soft_order_wherever_there_is_a_search(
    shared_client: TestClient, datasets: dict[str, Dataset]
) -> None:
    """In a batch as in a search alone, and in the search of a denoise, with the repaired item as the query."""
    options = {"collection": "digits", "k": 4, "filter": {"label": {"$in": ["3", "8"]}}, "rerank": "soft"}
    picture = png(datasets["digits"].items[11])
    alone = search(shared_client, **options, query={"image": picture})
    batch = shared_client.post("/search/batch", json={"searches": [{**options, "query": {"image": picture}}] * 2})
    assert [reply["hits"] for reply in batch.json()["results"]] == [alone["hits"]] * 2
    assert {hit["payload"]["label"] for hit in alone["hits"]} <= {"3", "8"}
    body = {"model": "digits-denoise", "input": {"image": picture}, "search": options}
    repaired = shared_client.post("/denoise", json=body).json()
    again = search(shared_client, **options, query=repaired["output"])
    assert repaired["hits"] == again["hits"]
    assert len(repaired["hits"]) == 4
    bad = {**body, "search": {**options, "filter": {"label": {"$in": 3}}}}
    assert "filter.label.$in" in assert_problem(shared_client.post("/denoise", json=bad), 422)["detail"]


def test_a_bad_search_in_a_batch_is_named(shared_client: TestClient) -> None:
    good = {"collection": "digits", "query": {"id": "digit-0000"}}
    for change, status, pointer in (
        ({"k": 10_001}, 422, "/searches/2/k"),
        ({"k": 0}, 422, "/searches/2/k"),
        ({"filter": {"$x": 1}}, 422, None),
        ({"query": {"id": "nobody"}}, 404, None),
        ({"query": {"code": "00"}}, 422, None),
        ({"collection": "nobody"}, 404, None),
    ):
        response = shared_client.post("/search/batch", json={"searches": [good, good, {**good, **change}]})
        problem = assert_problem(response, status)
        if pointer is not None:
            assert problem["errors"][0]["pointer"] == pointer
        assert "search 2: " in problem["detail"] or "/searches/2/" in problem["detail"]
