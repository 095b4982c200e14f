"""The service over Milvus: what was moved there is asked and answered as before, by every route; replicas share it.

Milvus Lite stands in for a server here; `tests/milvus` has the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient
from support import assert_problem, free_port

from index import Item
from index.errors import DataDirectoryError, StoreDamaged
from index.milvus import Connection, connection
from models.data import Dataset
from service import moving
from service.app import create_app
from service.engine import Engine
from service.errors import InvalidRequest
from service.moving import Moved, move
from service.runner import Runner
from service.settings import Settings

from .test_jobs import wait
from .test_reencode import in_process

pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed: pip install 'hammingbird[milvus-lite]'")
pytestmark = pytest.mark.xdist_group("milvus")


def nothing(done: float, note: str) -> None:
    pass


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a Milvus Lite file."""
    return str(tmp_path_factory.mktemp("lite") / "milvus.db")


@contextmanager
def serving(**settings: Any) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(**settings)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def moved(prepared: Path, lite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the prepared data whose collections of digits and vectors are in Milvus."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("moved") / "data"))
    with Engine(Settings(data_dir=root, milvus_uri=lite)) as engine:
        for name in ("digits", "vectors"):
            engine.catalogue.get(name).index_field("label")
            assert move(engine, name, "milvus", nothing) == Moved(name, "milvus", 300, 64)
        assert list(engine.catalogue.embedded.all()) == ["python-docs"]
    return root


@pytest.fixture(scope="module")
def client(moved: Path, lite: str) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "_child", in_process)
        patch.setattr(os, "nice", lambda by: by)
        with serving(data_dir=moved, milvus_uri=lite) as found:
            yield found


SEARCHES: list[dict[str, Any]] = [
    {"k": 7},
    {"k": 300, "include": ["code"]},
    {"radius": 12, "limit": 5, "include": ["payload", "code"]},
    {"radius": 64, "count_only": True},
    {"k": 5, "radius": 3},
    {"k": 5, "filter": {"label": "3"}},
    {"radius": 64, "filter": {"label": {"$in": ["1", "2"]}}, "limit": 1000},
    {"k": 9, "filter": {"$not": {"label": "3"}}},
    {"k": 9, "filter": {"label": {"$gte": "7"}, "nobody": {"$exists": False}}},
    {"k": 6, "rerank": "soft"},
    {"radius": 20, "rerank": "soft", "limit": 4},
    {"k": 6, "rerank": "exact", "oversample": 5},
    {"k": 3, "include": []},
]


def same(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply without what differs for good reason."""
    return {name: value for name, value in reply.items() if name not in ("took_ms", "plan", "cursor")}


@pytest.mark.parametrize("asked", SEARCHES, ids=json.dumps)
def test_searches_are_answered_as_before(
    client: TestClient, shared_client: TestClient, datasets: dict[str, Dataset], asked: dict[str, Any]
) -> None:
    ids = datasets["digits"].ids
    assert ids is not None
    stored = shared_client.get(f"/collections/digits/items/{ids[17]}").json()["input"]
    for query in ({"id": ids[3]}, stored, {"code": "0123456789abcdef"}):
        if "code" in query and asked.get("rerank"):
            continue
        body = {"collection": "digits", "query": query, **asked}
        replies = [each.post("/search", json=body) for each in (client, shared_client)]
        assert [reply.status_code for reply in replies] == [200, 200], replies[0].text
        one, other = (reply.json() for reply in replies)
        assert same(one) == same(other)
        while other["cursor"]:
            one, other = (
                each.post("/search", json={**body, "cursor": found["cursor"]}).json()
                for each, found in ((client, one), (shared_client, other))
            )
            assert same(one) == same(other)
        assert one["cursor"] is None


def test_items_are_listed_as_before(client: TestClient, shared_client: TestClient) -> None:
    for path in (
        "/collections/digits/items?limit=120",
        "/collections/vectors/items?limit=1000&include=input",
        "/collections/vectors/items/v7",
    ):
        replies = [each.get(path) for each in (client, shared_client)]
        assert replies[0].status_code == 200
        assert replies[0].json() == replies[1].json()
    found = client.get("/collections/digits").json()
    kept = ("name", "bits", "model", "items", "keep_inputs", "created_at")
    assert [found[name] for name in kept] == [shared_client.get("/collections/digits").json()[name] for name in kept]
    assert (found["backend"], found["memory_bytes"], found["indexes"]) == ("milvus", None, ["label"])
    assert [one["name"] for one in client.get("/collections").json()["collections"]] == [
        "digits",
        "python-docs",
        "vectors",
    ]
    assert client.get("/readyz").json()["collections"] == 3
    assert 'hammingbird_items{collection="digits"} 300.0' in client.get("/metrics").text
    health = [each.get("/collections/digits/health").json() for each in (client, shared_client)]
    differ = {"sequence", "measured_at", "took_ms"}
    one, other = ({name: value for name, value in found.items() if name not in differ} for found in health)
    assert one == other


def test_writes(client: TestClient, datasets: dict[str, Dataset]) -> None:
    vectors = datasets["vectors"].items
    assert client.post("/collections", json={"name": "new", "model": "vectors-itq", "backend": "milvus"}).is_success
    assert_problem(client.post("/collections", json={"name": "new", "bits": 64}), 409)
    items = [
        {"id": f"n{place}", "vector": vectors[place].tolist(), "payload": {"n": place, "tags": ["a", place]}}
        for place in range(40)
    ]
    body = {"collection": "new", "items": items}
    first = client.post("/ingest", json=body, headers={"idempotency-key": "once"})
    assert (first.json()["created"], first.json()["updated"]) == (40, 0)
    assert client.post("/ingest", json=body, headers={"idempotency-key": "once"}).json() == first.json()
    other = {"collection": "new", "items": items[:1]}
    assert_problem(client.post("/ingest", json=other, headers={"idempotency-key": "once"}), 409)
    assert client.post("/ingest", json=body).json()["unchanged"] == 40
    items[3]["payload"] = {"n": -3}
    assert client.post("/ingest", json=body).json()["updated"] == 1
    bad = client.post("/ingest", json={"collection": "new", "items": [*items[:2], {"id": "x", "vector": [1.0]}]})
    assert_problem(bad, 422)
    lines = "\n".join(json.dumps({"id": f"l{place}", "vector": vectors[place].tolist()}) for place in range(30))
    streamed = client.post(
        "/ingest?collection=new", content=lines, headers={"content-type": "application/x-ndjson"}
    ).json()
    assert streamed["created"] == 30, streamed
    near = {"collection": "new", "items": [{"id": "twin", "vector": vectors[5].tolist()}]}
    rejected = client.post("/ingest?on_duplicate=reject&radius=0", json=near).json()
    assert (rejected["created"], rejected["duplicates"][0]["distance"]) == (0, 0)
    tags = {"collection": "new", "query": {"id": "n0"}, "radius": 32, "filter": {"tags": 7}, "limit": 50}
    assert [hit["id"] for hit in client.post("/search", json=tags).json()["hits"]] == ["n7"]
    assert client.delete("/collections/new/items/n7").json() == {"deleted": 1}
    assert_problem(client.get("/collections/new/items/n7"), 404)
    assert client.post("/collections/new/delete", json={"filter": {"n": {"$gte": 30}}}).json() == {"deleted": 10}
    assert client.post("/collections/new/compact").json() == {"bytes_before": None, "bytes_after": None}
    assert client.get("/collections/new").json()["items"] == 59
    assert client.delete("/collections/new").status_code == 204
    assert_problem(client.get("/collections/new"), 404)


def test_jobs(client: TestClient) -> None:
    def done(reply: Any) -> dict[str, Any]:
        assert reply.status_code == 202, reply.text
        job = wait(client, reply.json()["id"], "succeeded", "failed")
        assert job["state"] == "succeeded", job
        return dict(job["result"])

    found = done(client.post("/collections/digits/duplicates", json={"radius": 2}))
    assert found["items"] == 300
    calibrated = done(client.post("/collections/digits/calibrate", json={"by": "labels", "queries": 60}))
    assert calibrated["radius_for"]
    assert client.get("/collections/digits").json()["calibrated"]
    gate = {"min_overlap": 0, "max_precision_drop": 1, "min_distinct": 0, "max_dead_bits": 1, "max_slowdown": 1000}
    again = {"name": "vectors-new", "family": "pca-sign", "bits": 32, "data": {"collection": "vectors"}}
    done(client.post("/train", json=again))
    told = done(client.post("/collections/vectors/reencode", json={"model": "vectors-new", "gate": gate}))
    assert (told["encoded"], told["flipped"]) == (300, True)
    query = {"collection": "vectors", "query": {"id": "v3"}, "k": 1}
    assert client.post("/search", json=query).json()["model"]["name"] == "vectors-new"
    assert_problem(client.delete("/models/vectors-itq"), 409)
    client.post(
        "/ingest", json={"collection": "vectors", "items": [{"id": "later", "vector": [0.5] * 24}]}
    ).raise_for_status()
    assert client.post("/collections/vectors/rollback").json()["model"]["name"] == "vectors-itq"
    assert client.post("/search", json={**query, "query": {"id": "later"}}).json()["hits"][0]["id"] == "later"
    assert len(client.delete("/collections/vectors/standby").json()["generations"]) == 1
    client.delete("/collections/vectors/items/later").raise_for_status()


def test_a_snapshot_can_be_restored_without_milvus(client: TestClient, tmp_path: Path) -> None:
    made = client.post("/collections/digits/snapshots", params={"name": "s"})
    assert made.is_success, made.text
    data = client.get("/collections/digits/snapshots/s").content
    with serving(data_dir=tmp_path / "other") as other:
        restored = other.post("/snapshots/restore", content=data, headers={"content-type": "application/x-tar"})
        assert restored.is_success, restored.text
        asked = {"collection": "digits", "query": {"code": "0123456789abcdef"}, "radius": 64, "limit": 1000}
        replies = [each.post("/search", json=asked).json() for each in (client, other)]
        assert replies[0]["hits"] == replies[1]["hits"]
        assert replies[0]["total"] == 300


def test_what_is_kept_in_milvus_is_seen_by_every_replica(moved: Path, lite: str, tmp_path: Path) -> None:
    """Each has a data directory of its own; the models and Milvus they share."""
    models = Path(shutil.copytree(moved / "models", tmp_path / "models"))
    shared = {"models_dir": models, "milvus_uri": lite, "default_backend": "milvus"}
    with (
        serving(data_dir=tmp_path / "one", **shared) as one,
        serving(data_dir=tmp_path / "two", **shared) as two,
    ):
        made = one.post(
            "/ingest",
            json={"collection": "both", "model": "vectors-itq", "items": [{"id": "a", "vector": [1.0] * 24}]},
        )
        assert made.is_success, made.text
        body = {"collection": "both", "query": {"vector": [1.0] * 24}, "k": 5}
        assert [hit["id"] for hit in two.post("/search", json=body).json()["hits"]] == ["a"]
        two.post(
            "/ingest", json={"collection": "both", "items": [{"id": "b", "vector": [-1.0] * 24}]}
        ).raise_for_status()
        assert [hit["id"] for hit in one.post("/search", json=body).json()["hits"]] == ["a", "b"]
        trained = {"name": "fresh", "family": "lsh", "bits": 16, "data": {"dataset": "digits"}}
        job = wait(one, one.post("/train", json=trained).json()["id"], "succeeded", "failed")
        assert job["state"] == "succeeded", job
        assert two.get("/models/fresh").json()["version"] == 1
        two.put("/models/fresh/aliases/champion", json={"version": 1}).raise_for_status()
        time.sleep(0.6)
        assert one.get("/models/fresh").json()["aliases"] == ["champion"]
        assert two.delete("/models/fresh:1").is_success
        assert_problem(two.delete("/models/vectors-itq"), 409)
        assert one.delete("/collections/both").status_code == 204
        time.sleep(1.1)
        assert_problem(two.post("/search", json=body), 404)
        assert_problem(two.get("/collections/both"), 404)


def test_milvus_away_is_said_at_once_and_keeps_nothing_else_from_being_served(data_dir: Path) -> None:
    with serving(data_dir=data_dir, milvus_uri=f"http://127.0.0.1:{free_port()}", milvus_timeout_s=1.0) as client:
        embedded = {"collection": "vectors", "query": {"id": "v1"}, "k": 1}
        assert client.post("/search", json=embedded).json()["hits"][0]["id"] == "v1"
        started = time.monotonic()
        for reply in (
            client.get("/readyz"),
            client.get("/collections"),
            client.post("/search", json={**embedded, "collection": "elsewhere"}),
            client.post("/collections", json={"name": "elsewhere", "bits": 64, "backend": "milvus"}),
        ):
            assert_problem(reply, 503)
            assert reply.headers["retry-after"]
            assert reply.json()["type"].endswith("backend-unavailable")
        assert time.monotonic() - started < 8
        assert client.get("/metrics").is_success
        assert client.get("/livez").text == "ok"


def test_without_milvus_it_is_said_what_to_do(shared_client: TestClient) -> None:
    refused = shared_client.post("/collections", json={"name": "elsewhere", "bits": 64, "backend": "milvus"})
    assert_problem(refused, 422)
    assert "HAMMINGBIRD_MILVUS_URI" in refused.json()["detail"]


# -- moving ------------------------------------------------------------------------------------------------------------


def test_there_and_back_again(prepared: Path, lite: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    with Engine(Settings(data_dir=root)) as engine:
        before = list(engine.catalogue.get("python-docs").scan())
    with Engine(Settings(data_dir=root, milvus_uri=lite)) as engine:
        engine.catalogue.get("python-docs").note("n", {"a": 1})
        with pytest.raises(InvalidRequest, match="embedded already"):
            move(engine, "python-docs", "embedded", nothing)
        move(engine, "python-docs", "milvus", nothing)
        assert engine.catalogue.get("python-docs").backend == "milvus"
        with pytest.raises(InvalidRequest, match="in Milvus already"):
            move(engine, "python-docs", "milvus", nothing)
        move(engine, "python-docs", "embedded", nothing)
        back = engine.catalogue.get("python-docs")
        assert (back.backend, list(back.scan()), back.noted("n")) == ("embedded", before, {"a": 1})
        assert engine.catalogue.milvus is not None
        assert "python-docs" not in engine.catalogue.milvus.all()


@pytest.mark.parametrize("to", ["milvus", "embedded"])
def test_a_copy_that_differs_is_not_kept(
    prepared: Path, lite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Any
) -> None:
    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    with Engine(Settings(data_dir=root, milvus_uri=lite)) as engine:
        shutil.rmtree(root / "collections" / "digits")  # another one of that name is in Milvus
        if to == "embedded":
            move(engine, "python-docs", "milvus", nothing)
        with monkeypatch.context() as patch:
            patch.setattr(moving, "compare", _unequal)
            with pytest.raises(StoreDamaged):
                move(engine, "python-docs", to, nothing)
        found = engine.catalogue.get("python-docs")
        assert found.backend != to
        assert len(found) == 400
        move(engine, "python-docs", to, nothing)
        if to == "milvus":
            move(engine, "python-docs", "embedded", nothing)


def _unequal(*args: Any) -> int:
    raise StoreDamaged("not equal")


def test_a_move_that_was_killed_is_taken_up(prepared: Path, lite: str, tmp_path: Path) -> None:
    """Killed when both were there: the one in the data directory serves until the move is made again."""
    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    shutil.rmtree(root / "collections" / "digits")
    shutil.rmtree(root / "collections" / "vectors")
    with Engine(Settings(data_dir=root, milvus_uri=lite)) as engine:
        assert engine.catalogue.milvus is not None
        source = engine.catalogue.get("python-docs")
        engine.catalogue.milvus.fill(source.config, source.scan())
        assert engine.catalogue.get("python-docs").backend == "embedded"
        assert "move" in engine.catalogue.damaged["python-docs"]
        source.delete([next(source.scan()).id])
        with pytest.raises(StoreDamaged, match="not equal"):
            move(engine, "python-docs", "milvus", nothing)
        assert len(engine.catalogue.get("python-docs")) == 399
        engine.catalogue.milvus.delete("python-docs")
        move(engine, "python-docs", "milvus", nothing)
        move(engine, "python-docs", "embedded", nothing)
        assert not engine.catalogue.damaged


@pytest.mark.parametrize("consistency", ["strong", "bounded"])
def test_searches_have_the_consistency_that_is_set(lite: str, data_dir: Path, consistency: Any) -> None:
    """Lite knows one only, so what is asked of Milvus is looked at; everything but searches is read strongly."""
    with Engine(Settings(data_dir=data_dir, milvus_uri=lite, milvus_consistency=consistency)) as engine:
        milvus = engine.catalogue.milvus
        assert milvus is not None
        collection = milvus.fill(replace(engine.catalogue.get("vectors").config, name=f"read-{consistency}"), [ITEM])
        there, asked = milvus.connection, []

        def noted(method: str, *args: Any, **options: Any) -> Any:
            asked.append((method, options.get("consistency_level")))
            return Connection.call(there, method, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(there, "call", noted)
            page = collection.search(np.zeros(4, np.uint8), k=1, codes=True)
            assert [hit.id for hit in page.hits] == ["a"]
            level = consistency.capitalize()
            assert {("search", level), ("query", level)} <= set(asked)
            asked.clear()
            collection.put([ITEM])
            assert ("query", "Strong") in asked
            assert not {"Bounded"} & {level for _, level in asked}
        milvus.delete(collection.name)


ITEM = Item("a", b"\0\0\0\0")


def test_what_milvus_may_not_be_asked_for_is_refused() -> None:
    for bad in ({"milvus_timeout_s": 0}, {"milvus_consistency": "eventually"}, {"default_backend": "elsewhere"}):
        with pytest.raises(ValidationError):
            Settings(**bad)


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [("http://127.0.0.1:1", "pymilvus", "milvus"), ("./milvus.db", "milvus_lite", "milvus-lite")],
)
def test_a_start_without_the_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, package: str, extra: str
) -> None:
    there = connection.find_spec
    monkeypatch.setattr(connection, "find_spec", lambda name: None if name == package else there(name))
    with pytest.raises(DataDirectoryError, match=rf"hammingbird\[{extra}\]"):
        Engine(Settings(data_dir=tmp_path, milvus_uri=uri))
    with Engine(Settings(data_dir=tmp_path)):  # the directory is free again
        pass
