"""/collections, /models, /families, health."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support import assert_problem

from models.base import Model
from service.app import create_app
from service.settings import Settings


def test_collections_are_made_listed_and_deleted(client: TestClient) -> None:
    made = client.post("/collections", json={"name": "mine", "bits": 128})
    assert made.status_code == 201
    body = made.json()
    (generation,) = body.pop("generations")
    assert generation | {"created_at": ""} == {
        "number": 0, "model": None, "bits": 128, "state": "serving", "items": 0, "created_at": "",
    }  # fmt: skip
    assert body | {"created_at": ""} == {
        "name": "mine", "bits": 128, "model": None, "items": 0, "keep_inputs": True, "created_at": "",
        "indexes": [], "backend": "embedded", "memory_bytes": 0, "calibrated": False,
    }  # fmt: skip
    assert_problem(client.post("/collections", json={"name": "mine", "bits": 128}), 409, "collection-exists")
    assert client.post("/collections", json={"name": "theirs", "model": "digits-hash"}).json()["bits"] == 64
    names = [collection["name"] for collection in client.get("/collections").json()["collections"]]
    assert names == ["digits", "mine", "python-docs", "theirs", "vectors"]
    assert client.delete("/collections/mine").status_code == 204
    assert_problem(client.get("/collections/mine"), 404, "unknown-collection")
    assert_problem(client.delete("/collections/mine"), 404, "unknown-collection")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "x"}, 422),
        ({"name": "x", "bits": 64, "model": "digits-hash"}, 422),
        ({"name": "x", "bits": 63}, 422),
        ({"name": "x", "bits": 2**30}, 422),
        ({"name": "x", "bits": 0}, 422),
        ({"name": "../x", "bits": 64}, 422),
        ({"name": "", "bits": 64}, 422),
        ({"name": "x", "model": "nobody"}, 404),
    ],
    ids=str,
)
def test_collections_that_are_refused(client: TestClient, body: dict[str, object], status: int) -> None:
    assert_problem(client.post("/collections", json=body), status)
    assert len(client.get("/collections").json()["collections"]) == 3


def test_items_are_paged_read_and_deleted(client: TestClient) -> None:
    ids, cursor = [], None
    while True:
        page = client.get(
            "/collections/digits/items", params={"limit": 77} | ({"cursor": cursor} if cursor else {})
        ).json()
        ids += [item["id"] for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert ids == sorted(ids)
    assert len(ids) == 300
    item = client.get("/collections/digits/items/digit-0000").json()
    assert set(item) == {"id", "code", "payload", "input"}
    assert client.delete("/collections/digits/items/digit-0000").json() == {"deleted": 1}
    assert_problem(client.delete("/collections/digits/items/digit-0000"), 404, "unknown-item")
    deleted = client.post("/collections/digits/delete", json={"ids": [*ids[1:4], "nobody", ids[1]]}).json()
    assert deleted == {"deleted": 3}
    assert client.get("/collections/digits").json()["items"] == 296
    found = client.post("/search", json={"collection": "digits", "query": {"id": ids[9]}, "k": 10_000}).json()
    assert found["total"] == 296
    assert not set(ids[:4]) & {hit["id"] for hit in found["hits"]}


def test_models_have_cards_aliases_and_users(client: TestClient) -> None:
    listed = client.get("/models").json()["models"]
    assert [model["name"] for model in listed] == [
        "digits-denoise", "digits-hash", "digits-vae", "docs-hash", "vectors-itq",
    ]  # fmt: skip
    assert "vocabulary" not in str(listed)
    card = client.get("/models/docs-hash:1").json()
    assert card["card"].startswith("---")
    assert len(card["input"]["vocabulary"]) > 100
    assert card["metrics"]["retrieval"] >= 0
    assert {"encode", "decode"} <= set(card["capabilities"])
    promoted = client.put("/models/digits-hash/aliases/champion", json={"version": 1}).json()
    assert promoted["aliases"] == ["champion"]
    assert client.get("/models/digits-hash@champion").json()["version"] == 1
    assert_problem(client.put("/models/digits-hash/aliases/x", json={"version": 9}), 404, "unknown-model")
    assert_problem(client.put("/models/digits-hash:1/aliases/x", json={"version": 1}), 404, "unknown-model")
    assert_problem(client.put("/models/digits-hash/aliases/A B", json={"version": 1}), 422)
    assert "digits" in assert_problem(client.delete("/models/digits-hash"), 409, "in-use")["detail"]
    assert client.delete("/models/digits-vae").status_code == 204
    assert_problem(client.get("/models/digits-vae"), 404, "unknown-model")


def test_families_say_what_they_can_do(shared_client: TestClient) -> None:
    reply = shared_client.get("/families").json()
    assert [family["name"] for family in reply["families"]] == sorted(Model.registered)
    for family in reply["families"]:
        assert family["summary"]
        assert "encode" in family["capabilities"]
        assert family["supervised"] is Model.registered[family["name"]].supervised
        assert family["params"]["type"] == "object"
    assert "epochs" in reply["training"]["properties"]


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/livez").text == "ok"
    assert client.get("/readyz").json() == {"status": "ok", "collections": 3, "models": 5, "damaged": []}
    client.post("/search", json={"collection": "digits", "query": {"id": "digit-0000"}})
    client.get("/nothing")
    text = client.get("/metrics").text
    assert 'hammingbird_requests_total{method="POST",route="/search",status="200"} 1.0' in text
    assert 'hammingbird_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'hammingbird_items{collection="digits"} 300.0' in text
    assert "hammingbird_models 5.0" in text


def test_damage_is_named_and_the_rest_is_served(data_dir: Path) -> None:
    (data_dir / "collections" / "digits" / "items.db").write_bytes(b"x" * 5000)
    (data_dir / "models" / "vectors-itq" / "1" / "model.safetensors").write_bytes(b"x")
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        ready = client.get("/readyz").json()
        assert {"digits", "vectors-itq:1"} <= set(ready["damaged"])
        assert [entry["name"] for entry in client.get("/collections").json()["damaged"]] == ["digits"]
        assert [entry["name"] for entry in client.get("/models").json()["damaged"]] == ["vectors-itq:1"]
        query = {"collection": "digits", "query": {"code": "00" * 8}}
        assert_problem(client.post("/search", json=query), 503, "store-damaged")
        query = {"collection": "vectors", "query": {"vector": [0.0] * 24}}
        assert any("no model with fingerprint" in fault for fault in ready["damaged"])
        assert_problem(client.post("/search", json=query), 404, "unknown-model")
        by_code = client.post("/search", json={"collection": "vectors", "query": {"id": "v0"}, "k": 1})
        assert by_code.json()["hits"][0]["distance"] == 0, "stored codes can be searched without their model"
        assert client.post("/search", json={"collection": "python-docs", "query": {"text": "file"}}).status_code == 200


def test_damaged_aliases_keep_nothing_from_being_served(data_dir: Path) -> None:
    (data_dir / "models" / "docs-hash" / "names.json").write_text("{bad")
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        assert "docs-hash@" in client.get("/readyz").json()["damaged"]
        assert client.get("/models").status_code == 200
        assert client.post("/search", json={"collection": "python-docs", "query": {"text": "file"}}).status_code == 200


def test_a_model_of_a_family_of_a_later_release_is_listed_as_damaged(data_dir: Path) -> None:
    folder = data_dir / "models" / "vectors-itq" / "1"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"family": "of-the-future"}))
    sums = json.loads((folder / "checksums.json").read_text())
    sums["config.json"] = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums))
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        assert "of-the-future" in client.get("/models").json()["damaged"][0]["detail"]
        assert_problem(client.get("/models/vectors-itq"), 404, "unknown-model")


def test_damaged_payloads_and_inputs_are_named_not_served(data_dir: Path) -> None:
    with sqlite3.connect(data_dir / "collections" / "digits" / "items.db") as store:
        store.execute("UPDATE items SET input = x'00' WHERE id = 'digit-0000'")
        store.execute("UPDATE items SET payload = '{cut' WHERE id = 'digit-1796'")
    store.close()
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        assert_problem(client.get("/collections/digits/items/digit-0000"), 503, "store-damaged")
        assert_problem(client.get("/collections/digits/items/digit-1796"), 503, "store-damaged")
        search = {"collection": "digits", "query": {"code": "00" * 8}, "radius": 64}
        assert_problem(client.post("/search", json=search), 503, "store-damaged")
        assert client.post("/search", json={**search, "include": []}).json()["total"] == 300


def test_a_damaged_history_of_jobs_is_put_aside(data_dir: Path) -> None:
    (data_dir / "jobs.db").write_bytes(b"not a database" * 500)
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        assert client.get("/jobs").json() == {"jobs": []}
    assert list(data_dir.glob("jobs.db.damaged-*"))


def test_invented_methods_do_not_grow_the_metrics(client: TestClient) -> None:
    for number in range(30):
        client.request(f"METHOD{number}", "/livez")
    text = client.get("/metrics").text
    assert "METHOD" not in text
    assert 'method="other"' in text


def test_listings_hold_inputs_only_when_asked(client: TestClient) -> None:
    plain = client.get("/collections/digits/items", params={"limit": 2}).json()["items"]
    assert [item["input"] for item in plain] == [None, None]
    whole = client.get("/collections/digits/items", params={"limit": 2, "include": "input"}).json()["items"]
    assert all("image" in item["input"] for item in whole)


def test_deleting_a_collection_during_an_ingest_is_a_404(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """reliability.md X3"""
    engine = client.app.state.engine  # type: ignore[attr-defined]
    encode_each = engine.encode_each

    def slowly(*arguments: Any) -> Any:
        client.delete("/collections/vectors")
        return encode_each(*arguments)

    monkeypatch.setattr(engine, "encode_each", slowly)
    body = {"collection": "vectors", "items": [{"vector": [0.5] * 24}]}
    assert_problem(client.post("/ingest", json=body), 404, "unknown-collection")


# -- payload fields, room on disk and in memory --------------------------------------------------------------------


def filled(client: TestClient, count: int, **options: object) -> None:
    """A collection `many` of 64-bit codes with a payload each."""
    assert client.post("/collections", json={"name": "many", "bits": 64, **options}).status_code == 201
    for start in range(0, count, 5000):
        items = [
            {
                "id": f"m{place:06d}",
                "code": f"{place * 2654435761 % 2**64:016x}",
                "payload": {"n": place, "odd": place % 2},
            }
            for place in range(start, min(start + 5000, count))
        ]
        assert client.post("/ingest", json={"collection": "many", "items": items}).status_code == 200


def test_fields_are_indexed_and_answers_stay_the_same(client: TestClient) -> None:
    """With a collection or later, however often; a filter finds the same with an index as without."""
    filled(client, 200, indexes=["n", "n", "author.name"])
    assert client.get("/collections/many").json()["indexes"] == ["author.name", "n"]
    search = {"collection": "many", "query": {"code": "00" * 8}, "k": 50, "filter": {"odd": 1, "n": {"$gte": 50}}}
    before = client.post("/search", json=search).json()["hits"]
    for _ in range(3):
        info = client.post("/collections/many/indexes", json={"field": "odd"}).json()
        assert info == client.get("/collections/many").json()
        assert info["indexes"] == ["author.name", "n", "odd"]
    assert client.post("/search", json=search).json()["hits"] == before
    made = client.post("/collections", json={"name": "theirs", "model": "digits-hash", "indexes": ["label"]})
    assert made.json()["indexes"] == ["label"]


def test_indexes_stay_after_a_restart(data_dir: Path) -> None:
    for _ in range(2):
        with TestClient(create_app(Settings(data_dir=data_dir))) as client:
            info = client.post("/collections/digits/indexes", json={"field": "label"}).json()
            assert info["indexes"] == ["label"]
            found = client.post("/collections/digits/delete", json={"filter": {"label": "nobody"}})
            assert found.json() == {"deleted": 0}


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("", "at least 1 character"),
        ("a..b", "single dots"),
        (".a", "single dots"),
        ("$a", "filter.$a: unknown operator"),
        ("$and", "filter.$and"),
        ("x" * 513, "512"),
        ("a\0b", "no index"),
        ('a"b', "no index"),
        ("a\\b", "no index"),
        (7, "string"),
        (None, "string"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_fields_that_cannot_have_an_index(client: TestClient, field: object, why: str) -> None:
    """Refused alike with a new collection, which is then not made, and later."""
    problem = assert_problem(client.post("/collections/digits/indexes", json={"field": field}), 422, "invalid-request")
    assert why in problem["detail"]
    body = {"name": "new", "bits": 64, "indexes": ["good", field]}
    assert_problem(client.post("/collections", json=body), 422, "invalid-request")
    assert_problem(client.get("/collections/new"), 404, "unknown-collection")
    assert client.get("/collections/digits").json()["indexes"] == []


def test_at_most_sixteen_fields_have_an_index(client: TestClient) -> None:
    names = [f"f{number:02d}" for number in range(16)]
    body = {"name": "new", "bits": 64, "indexes": [*names, "one more"]}
    problem = assert_problem(client.post("/collections", json=body), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/indexes"
    assert client.post("/collections", json={**body, "indexes": names}).json()["indexes"] == names
    problem = assert_problem(
        client.post("/collections/new/indexes", json={"field": "one more"}), 422, "invalid-request"
    )
    assert "at most 16" in problem["detail"]
    assert "f00, f01" in problem["detail"]
    assert client.post("/collections/new/indexes", json={"field": "f07"}).json()["indexes"] == names
    assert_problem(client.post("/collections/nobody/indexes", json={"field": "a"}), 404, "unknown-collection")


def test_delete_by_filter_or_by_ids_and_never_both(client: TestClient) -> None:
    filled(client, 100)
    path = "/collections/many/delete"
    for body in ({}, {"ids": ["m000000"], "filter": {}}, {"ids": None, "filter": None}, {"ids": []}, {"filter": []}):
        assert_problem(client.post(path, json=body), 422, "invalid-request")
    assert "exactly one of ids, filter" in assert_problem(client.post(path, json={}), 422)["detail"]
    assert client.get("/collections/many").json()["items"] == 100
    assert client.post(path, json={"filter": {"n": {"$lt": 30}, "odd": 1}}).json() == {"deleted": 15}
    assert client.post(path, json={"filter": {"n": {"$lt": 30}, "odd": 1}}).json() == {"deleted": 0}
    found = client.post("/search", json={"collection": "many", "query": {"code": "00" * 8}, "k": 100}).json()
    assert sorted(hit["payload"]["n"] for hit in found["hits"]) == [n for n in range(100) if n >= 30 or n % 2 == 0]
    assert client.post(path, json={"ids": ["m000000", "m000001", "nobody"]}).json() == {"deleted": 1}
    assert client.post(path, json={"filter": {}}).json() == {"deleted": 84}
    assert client.get("/collections/many").json()["items"] == 0
    assert_problem(client.post("/collections/nobody/delete", json={"filter": {}}), 404, "unknown-collection")


def test_compact_gives_back_the_room_of_what_was_deleted(client: TestClient) -> None:
    """And leaves nothing of it on disk; what is left is found as before."""
    filled(client, 5000)
    assert client.post("/collections/many/delete", json={"filter": {"n": {"$gte": 100}}}).json() == {"deleted": 4900}
    search = {"collection": "many", "query": {"code": "00" * 8}, "radius": 64}
    before = client.post("/search", json=search).json()
    sizes = client.post("/collections/many/compact").json()
    assert 0 < sizes["bytes_after"] < sizes["bytes_before"] / 4
    after = client.post("/search", json=search).json()
    assert after["hits"] == before["hits"]
    assert after["total"] == 100
    folder = client.app.state.engine.settings.data_dir / "collections" / "many"  # type: ignore[attr-defined]
    assert sizes["bytes_after"] == sum(path.stat().st_size for path in folder.iterdir())
    assert not any(b"m004999" in path.read_bytes() for path in folder.iterdir())
    again = client.post("/collections/many/compact").json()
    assert again["bytes_after"] <= sizes["bytes_after"]
    assert_problem(client.post("/collections/nobody/compact"), 404, "unknown-collection")


def test_memory_bytes_follow_what_is_held(client: TestClient) -> None:
    """Some tens of bytes an item, nothing for none."""
    filled(client, 5000)
    held = client.get("/collections/many").json()["memory_bytes"]
    assert 5000 * 8 <= held <= 5000 * 100
    client.post("/collections/many/delete", json={"filter": {}})
    client.post("/collections/many/compact")
    assert client.get("/collections/many").json()["memory_bytes"] < held / 4
    listed = client.get("/collections").json()["collections"]
    assert all(one["memory_bytes"] >= one["items"] * one["bits"] // 8 for one in listed)


def test_filters_and_fields_are_documented(shared_client: TestClient) -> None:
    """Every operator is named, and every new body has an example."""
    document = shared_client.get("/openapi.json").json()
    parts = document["components"]["schemas"]
    said = parts["SearchRequest"]["properties"]["filter"]["description"]
    for operator in ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$and", "$or", "$not"]:
        assert operator in said
    assert parts["SearchRequest"]["properties"]["filter"]["examples"]
    assert parts["DeleteRequest"]["properties"]["filter"]["examples"]
    for path, name in (
        ("/collections", "indexes"),
        ("/collections/{collection}/indexes", "field"),
        ("/collections/{collection}/delete", "ids"),
        ("/collections/{collection}/delete", "filter"),
    ):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert any(name in example for example in body["examples"]), path
    assert document["paths"]["/collections/{collection}/compact"]["post"]["description"]


def test_request_ids(client: TestClient) -> None:
    assert client.get("/livez", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/livez", headers={"x-request-id": "not/mine"}).headers["x-request-id"] != "not/mine"
    ids = {client.get(path).headers["x-request-id"] for path in ("/livez", "/nothing", "/readyz", "/metrics")}
    assert len(ids) == 4


def test_the_metrics_forget_collections_that_are_gone(client: TestClient) -> None:
    """Names that come and go must not gather in memory."""
    for number in range(4):
        name = f"passing-{number}"
        client.post("/collections", json={"name": name, "bits": 64})
        client.post("/search", json={"collection": name, "query": {"code": "00" * 8}})
        text = client.get("/metrics").text
        assert f'hammingbird_search_seconds_count{{collection="{name}"}} 1.0' in text
        assert sum(f"passing-{earlier}" in text for earlier in range(4)) == 1
        client.delete(f"/collections/{name}")
