"""`oversample` and `rerank: "exact"`: the best k of what codes find, against a brute force, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient
from support import assert_problem, png

from index import hamming
from models.data import Dataset
from service.app import create_app
from service.settings import Settings

WAYS = {"digits": "image", "python-docs": "text", "vectors": "vector"}


def given(name: str, item: Any) -> dict[str, Any]:
    """An item of a data set as a query."""
    return {WAYS[name]: {"image": png, "text": str, "vector": lambda vector: vector.tolist()}[WAYS[name]](item)}


def points(client: TestClient, data: Dataset, name: str) -> NDArray[np.float64]:
    """Items as points: vectors as they are, all else as the model sees it."""
    if name == "vectors":
        return np.stack(list(data.items)).astype(np.float64)
    engine = client.app.state.engine  # type: ignore[attr-defined]
    _, model = engine.model_of(engine.catalogue.get(name))
    made: NDArray[np.float64] = model.input.tensor(data.items).flatten(1).numpy().astype(np.float64)
    return made


def search(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/search", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def codes_of(client: TestClient, name: str) -> dict[str, NDArray[np.uint8]]:
    items = client.get(f"/collections/{name}/items", params={"limit": 1000}).json()["items"]
    return {item["id"]: np.frombuffer(bytes.fromhex(item["code"]), np.uint8) for item in items}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(("k", "oversample"), [(1, 1), (5, 1), (5, 4), (3, 100), (None, 7)])
def test_the_exact_order_equals_the_brute_force(
    shared_client: TestClient, datasets: dict[str, Dataset], name: str, k: int | None, oversample: int
) -> None:
    """Within the k x oversample nearest codes, and what ties with the last of them."""
    data, codes = datasets[name], codes_of(shared_client, name)
    at = points(shared_client, data, name)
    for place in (0, 41):
        asked = {"collection": name, "k": k, "rerank": "exact", "oversample": oversample, "include": []}
        reply = search(shared_client, **asked, query=given(name, data.items[place]))
        code = np.frombuffer(bytes.fromhex(reply["code"]), np.uint8)
        far = {id: int(hamming(code, codes[id])) for id in data.ids}
        last = sorted(far.values())[: (k or 10) * oversample][-1]
        true = dict(zip(data.ids, np.linalg.norm(at - at[place], axis=1).tolist(), strict=True))
        want = sorted((round(true[id], 5), id, far[id]) for id in data.ids if far[id] <= last)[: k or 10]
        assert [(round(-hit["score"], 5), hit["id"], hit["distance"]) for hit in reply["hits"]] == want
        assert reply["hits"][0]["score"] == 0.0
        assert (reply["total"], reply["complete"]) == (len(want), True)
        assert search(shared_client, **asked, query={"id": data.ids[place]})["hits"] == reply["hits"]


@pytest.mark.parametrize("rerank", ["soft", "exact"])
def test_oversampling_is_a_wider_search_cut_to_k(
    shared_client: TestClient, datasets: dict[str, Dataset], rerank: str
) -> None:
    query = given("digits", datasets["digits"].items[7])
    for more in ({}, {"radius": 20}, {"filter": {"label": {"$in": ["1", "2"]}}}):
        body = {"collection": "digits", "query": query, "rerank": rerank, "include": ["payload", "code"], **more}
        wide = search(shared_client, **body, k=60)["hits"]
        found = search(shared_client, **body, k=6, oversample=10)
        assert found["hits"] == wide[:6]
        assert found["total"] == 6
        one = search(shared_client, **body, k=6)
        assert one == {**search(shared_client, **body, k=6, oversample=1), "took_ms": one["took_ms"]}
        batch = {"searches": [{**body, "k": 6, "oversample": 10}, {**body, "k": 6, "rerank": "none"}]}
        first, plain = shared_client.post("/search/batch", json=batch).json()["results"]
        assert first["hits"] == wide[:6]
        assert all("score" not in hit for hit in plain["hits"])
    counted = search(shared_client, **{**body, "k": 6, "oversample": 10, "count_only": True})
    assert (counted["total"], counted["hits"]) == (6, [])


def test_it_finds_more_of_the_true_neighbours(shared_client: TestClient, datasets: dict[str, Dataset]) -> None:
    data = datasets["vectors"]
    at, found = points(shared_client, data, "vectors"), {1: 0, 10: 0}
    for place in range(0, 100, 5):
        true = {data.ids[near] for near in np.linalg.norm(at - at[place], axis=1).argsort()[:5]}
        for oversample in found:
            asked = {"collection": "vectors", "k": 5, "rerank": "exact", "oversample": oversample}
            hits = search(shared_client, **asked, query=given("vectors", data.items[place]))["hits"]
            found[oversample] += len(true & {hit["id"] for hit in hits})
    assert found[10] > found[1]


def test_a_repaired_item_is_searched_for_by_true_distance(
    shared_client: TestClient, datasets: dict[str, Dataset]
) -> None:
    options = {"collection": "digits", "k": 4, "rerank": "exact", "oversample": 5}
    picture = png(datasets["digits"].items[11])
    body = {"model": "digits-denoise", "input": {"image": picture}, "search": options}
    repaired = shared_client.post("/denoise", json=body).json()
    assert repaired["hits"] == search(shared_client, **options, query=repaired["output"])["hits"]


def test_what_is_refused(client: TestClient) -> None:
    """By name, with the way out, alone and in a batch."""
    kept = client.get("/collections/digits/items/digit-0000").json()["input"]
    client.post("/collections", json={"name": "forgetful", "model": "digits-hash", "keep_inputs": False})
    client.post("/ingest", json={"collection": "forgetful", "items": [{"id": "lost", **kept}]})
    client.post("/ingest", json={"collection": "digits", "items": [{"id": "bare", "code": "00" * 8}]})
    exact: dict[str, Any] = {"rerank": "exact"}
    for collection, query, options, status, pointer, way_out in (
        ("forgetful", kept, exact, 409, None, "rerank soft"),
        ("forgetful", {"id": "lost"}, exact, 409, None, "keep_inputs true"),
        ("digits", {"code": "00" * 8}, exact, 422, "/rerank", "search with the item itself"),
        ("digits", {"id": "bare"}, exact, 422, "/rerank", "search with the item itself"),
        ("digits", kept, {**exact, "k": 400}, 409, None, "Rerank soft"),
        ("digits", kept, {**exact, "radius": 9}, 422, "/rerank", "give k"),
        ("digits", kept, {"rerank": "soft", "radius": 9, "oversample": 2}, 422, "/oversample", "give k"),
        ("digits", kept, {"k": 3, "oversample": 2}, 422, "/oversample", "give rerank soft or exact"),
        ("digits", kept, {"k": 3, "oversample": 0, "rerank": "soft"}, 422, "/oversample", ""),
        ("digits", kept, {"k": 3, "oversample": 101, "rerank": "soft"}, 422, "/oversample", ""),
        ("digits", kept, {**exact, "k": 3, "cursor": "WzEsIDJd"}, 422, None, "a cursor continues"),
    ):
        body = {"collection": collection, "query": query, **options}
        problem = assert_problem(client.post("/search", json=body), status)
        assert way_out in problem["detail"], problem
        assert pointer is None or problem["errors"][0]["pointer"] == pointer
        assert_problem(client.post("/search/batch", json={"searches": [body]}), status)


def test_the_work_is_bounded(data_dir: Path, datasets: dict[str, Dataset]) -> None:
    settings = Settings(data_dir=data_dir, max_oversampled=50, max_oversampled_bytes=2_000, max_batch_hits=120)
    query = given("digits", datasets["digits"].items[7])
    asked = {"collection": "digits", "query": query, "include": []}
    with TestClient(create_app(settings)) as client:
        for options, said in (
            ({"rerank": "soft", "k": 6, "oversample": 10}, "k x oversample is 60, at most 50"),
            ({"rerank": "exact", "k": 51}, "at most 50"),
            ({"rerank": "exact", "k": 30}, "at most 2,000 are compared in one search (max_oversampled_bytes)"),
        ):
            problem = assert_problem(client.post("/search", json={**asked, **options}), 422, "invalid-request")
            assert said in problem["detail"]
        assert len(search(client, **asked, rerank="exact", k=5, oversample=2)["hits"]) == 5
        assert len(search(client, **asked, rerank="soft", k=60)["hits"]) == 60, "as before"
        many = [{**asked, "rerank": "soft", "k": 2, "oversample": 25}] * 3
        problem = assert_problem(client.post("/search/batch", json={"searches": many}), 413, "too-large")
        assert "150 items" in problem["detail"]
        assert client.post("/search/batch", json={"searches": many[:2]}).status_code == 200
        twins = [{"id": f"twin-{at}", **query} for at in range(60)]
        client.post("/ingest", json={"collection": "digits", "items": twins})
        problem = assert_problem(client.post("/search", json={**asked, "rerank": "exact", "k": 3}), 422)
        assert "items are near, at most 50 are compared exactly (max_oversampled)" in problem["detail"]
