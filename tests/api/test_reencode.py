"""A collection goes over to another model while it serves, and back. (reliability.md S3)"""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, vectors

from index import EmbeddedCollection
from models.data import Dataset
from service import comparison
from service.app import create_app
from service.cli.ingest import ingest_dataset
from service.engine import Engine
from service.runner import Runner
from service.settings import Settings
from service.training import Training, train
from service.work import CHILDREN, Task, Work
from service.work.reencode import Reencode

DATA = vectors(400)
ANY = None
"""A gate that lets everything pass."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of the same vectors: two that agree and one of another width; and a collection of the first."""
    root = tmp_path_factory.mktemp("made")
    with Engine(Settings(data_dir=root)) as engine:
        for name, family, bits in (("old", "itq", 32), ("new", "pca-sign", 32), ("wide", "lsh", 64)):
            draft = engine.registry.draft(name)
            list(train(Training(name, family, bits, {}), DATA, draft))
            engine.registry.add(name, draft)
        texts = Dataset("texts", "text", ["one two three", "two three four"] * 20, [str(n) for n in range(40)], None)
        draft = engine.registry.draft("texts")
        list(train(Training("texts", "lsh", 32, {}), texts, draft))
        engine.registry.add("texts", draft)
        ingest_dataset(engine, DATA, "things", "old")
    return root


def in_process(self: Runner, id: str, work: Work, task: Task) -> Mapping[str, Any]:
    """What a child process would do, without the seconds that it takes to start."""
    for line in import_module(CHILDREN[work.kind]).run(json.loads(json.dumps(work.spec()))):
        task.go_on()
        if "result" in line:
            return dict(line["result"])
        if "progress" not in line:
            work.take(json.loads(json.dumps(line)), task)
    raise AssertionError("no result")


@pytest.fixture
def service(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Iterator[TestClient]:
    """A client; jobs run in a child process of their own only where the test asks for it."""
    if getattr(request, "param", "") != "child":
        monkeypatch.setattr(Runner, "_child", in_process)
        monkeypatch.setattr(os, "nice", lambda by: by)
    root = Path(shutil.copytree(made, tmp_path / "data"))
    with TestClient(create_app(Settings(data_dir=root)), raise_server_exceptions=False) as client:
        yield client


def wait(client: TestClient, id: str, *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (job := client.get(f"/jobs/{id}").json())["state"] not in states:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return dict(job)


def reencode(client: TestClient, model: str, *, state: str = "succeeded", **body: Any) -> dict[str, Any]:
    """The job of a change of model, when it has ended."""
    response = client.post("/collections/things/reencode", json={"model": model, "gate": ANY, **body})
    assert response.status_code == 202, response.text
    job = wait(client, response.json()["id"], "succeeded", "failed", "cancelled")
    assert job["state"] == state, job
    return job


def codes_by(client: TestClient, model: str, items: Any) -> list[str]:
    inputs = [{"vector": np.asarray(item).tolist()} for item in items]
    found: list[str] = client.post("/encode", json={"model": model, "inputs": inputs}).json()["codes"]
    return found


def info(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/collections/things").json()
    return found


def states(client: TestClient) -> dict[str, str]:
    return {one["model"]["name"]: one["state"] for one in info(client)["generations"]}


def assert_serves(client: TestClient, model: str, items: dict[str, Any]) -> None:
    """Every item has the code of `model`, and searches say so and answer as the brute force does."""
    ids = sorted(items)
    codes = dict(zip(ids, codes_by(client, model, [items[id] for id in ids]), strict=True))
    stored = client.get("/collections/things/items", params={"limit": 1000}).json()["items"]
    assert {item["id"]: item["code"] for item in stored} == codes
    for query in (items[ids[0]], items[ids[-1]], np.ones(24)):
        code = codes_by(client, model, [query])[0]
        body = {"collection": "things", "query": {"vector": np.asarray(query).tolist()}, "include": ["code"], "k": 10}
        reply = client.post("/search", json=body).json()
        assert (reply["model"]["name"], reply["code"]) == (model, code)
        want = sorted(((int(code, 16) ^ int(codes[id], 16)).bit_count(), id) for id in ids)[:10]
        assert [(hit["distance"], hit["id"]) for hit in reply["hits"]] == want
        assert all(hit["code"] == codes[hit["id"]] for hit in reply["hits"])
    by_id = client.post("/search", json={"collection": "things", "query": {"id": ids[0]}, "k": 1}).json()
    assert by_id["code"] == codes[ids[0]]
    assert info(client)["model"]["name"] == model
    assert info(client)["bits"] == 4 * len(codes[ids[0]])


def by_id(data: Dataset = DATA) -> dict[str, Any]:
    assert data.ids is not None
    return dict(zip(data.ids, data.items, strict=True))


@pytest.mark.parametrize("service", ["child"], indirect=True)
def test_another_model_and_back(service: TestClient) -> None:
    """The whole way: over, back, forward again, and the old model given up; of another width, too."""
    items = by_id()
    job = reencode(service, "wide")
    assert job["kind"] == "reencode"
    assert job["progress"]["stage"] == "flipping"
    assert job["progress"]["done"] == job["progress"]["total"] == 400
    assert job["result"]["flipped"] is True
    assert job["result"]["encoded"] == 400
    assert states(service) == {"old": "kept", "wide": "serving"}
    assert_serves(service, "wide", items)
    new = {"id": "later", "vector": [0.25] * 24, "payload": {"label": "x"}}
    reply = service.post("/ingest", json={"collection": "things", "items": [new]}).json()
    assert (reply["created"], reply["model"]["name"]) == (1, "wide")
    assert service.post("/ingest", json={"collection": "things", "items": [new]}).json()["unchanged"] == 1
    assert service.delete("/collections/things/items/v7").json() == {"deleted": 1}
    items = {**items, "later": np.full(24, 0.25)}
    del items["v7"]
    assert_problem(service.delete("/models/old:1"), 409, "in-use")
    for model in ("old", "wide", "old"):
        assert service.post("/collections/things/rollback").json()["model"]["name"] == model
        assert_serves(service, model, items)
    assert service.delete("/collections/things/standby").status_code == 200
    assert states(service) == {"old": "serving"}
    assert_problem(service.post("/collections/things/rollback"), 409, "no-second-model")
    assert_problem(service.delete("/collections/things/standby"), 409, "no-second-model")
    assert service.delete("/models/wide").status_code in (200, 204)
    assert_serves(service, "old", items)


def test_a_second_change_gives_up_what_the_first_kept(service: TestClient) -> None:
    reencode(service, "new")
    reencode(service, "wide")
    assert states(service) == {"new": "kept", "wide": "serving"}
    assert service.delete("/models/old").status_code in (200, 204)
    service.post("/collections/things/rollback")
    assert_serves(service, "new", by_id())


def test_a_ready_generation_waits_for_its_flip(service: TestClient) -> None:
    job = reencode(service, "new", flip=False)
    assert job["result"]["flipped"] is False
    assert states(service) == {"old": "serving", "new": "ready"}
    assert_problem(service.post("/collections/things/rollback"), 409, "no-second-model")
    again = service.post("/collections/things/reencode", json={"model": "wide"})
    assert "going over to another model already" in assert_problem(again, 409, "no-second-model")["detail"]
    assert_serves(service, "old", by_id())
    assert service.post("/collections/things/flip").json()["model"]["name"] == "new"
    assert_serves(service, "new", by_id())
    assert_problem(service.post("/collections/things/flip"), 409, "no-second-model")


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_what_cannot_go_over_is_refused_at_once(service: TestClient) -> None:
    """S3 and its neighbours: another kind of input, no kept inputs, no model, the same model, no such thing."""

    def refused(collection: str, model: str, status: int, slug: str) -> str:
        response = service.post(f"/collections/{collection}/reencode", json={"model": model})
        return str(assert_problem(response, status, slug)["detail"])

    assert "holds vector items" in refused("things", "texts", 422, "invalid-request")
    assert "already has the codes of old:1" in refused("things", "old", 409, "model-mismatch")
    refused("things", "nobody", 404, "unknown-model")
    refused("nobody", "old", 404, "unknown-collection")
    service.post("/collections", json={"name": "bare", "bits": 32})
    assert "has no model" in refused("bare", "old", 422, "invalid-request")
    service.post("/collections", json={"name": "forgetful", "model": "old", "keep_inputs": False})
    service.post("/ingest", json={"collection": "forgetful", "items": [{"id": "a", "vector": [1.0] * 24}]})
    assert "1 of 1 items" in refused("forgetful", "new", 409, "inputs-missing")
    service.post("/ingest", json={"collection": "things", "items": [{"id": "a", "code": "00" * 4}]})
    assert "1 of 401 items" in refused("things", "new", 409, "inputs-missing")
    assert states(service) == {"old": "serving"}


def test_the_wrong_model_is_refused_while_there_are_two(service: TestClient) -> None:
    """S3: naming any model but the one that serves is a 409, also the one that is kept; and so is a bare code."""
    reencode(service, "new")
    for model in ("old", "wide"):
        body = {"collection": "things", "model": model, "items": [{"id": "x", "vector": [1.0] * 24}]}
        assert_problem(service.post("/ingest", json=body), 409, "model-mismatch")
    good = {"id": "y", "vector": [1.0] * 24}
    for items in ([{"id": "x", "code": "00" * 4}], [good, {"id": "x", "code": "00" * 4, "payload": {"n": 1}}]):
        body = {"collection": "things", "items": items}
        assert (
            "codes of two models" in assert_problem(service.post("/ingest", json=body), 409, "inputs-missing")["detail"]
        )
    lines = b'{"id": "x", "code": "00000000"}\n{"id": "y", "code": "00000001"}\n'
    streamed = service.post(
        "/ingest?collection=things", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    assert_problem(streamed, 409, "inputs-missing")
    assert_serves(service, "new", by_id())
    service.delete("/collections/things/standby")
    assert service.post("/ingest", json={"collection": "things", "items": [{"id": "x", "code": "00" * 4}]}).is_success


def test_a_bad_item_is_told_from_the_good_while_there_are_two(service: TestClient) -> None:
    reencode(service, "new")
    body = {"collection": "things", "items": [{"id": "x", "vector": [1.0] * 24}, {"id": "z", "vector": [1.0] * 3}]}
    assert assert_problem(service.post("/ingest", json=body), 422)["errors"][0]["pointer"] == "/items/1"
    reply = service.post("/ingest?on_error=skip", json=body).json()
    assert (reply["created"], [error["position"] for error in reply["errors"]]) == (1, [1])
    assert_serves(service, "new", {**by_id(), "x": np.ones(24)})
    lines = b"".join(b'{"id": "s%d", "vector": %s}\n' % (n, str([n / 10] * 24).encode()) for n in range(30))
    reply = service.post(
        "/ingest?collection=things", content=lines, headers={"content-type": "application/x-ndjson"}
    ).json()
    assert reply["created"] == 30
    service.post("/collections/things/rollback")
    assert_serves(service, "old", {**by_id(), "x": np.ones(24), **{f"s{n}": np.full(24, n / 10) for n in range(30)}})


def test_a_gate_that_is_not_passed(service: TestClient) -> None:
    """The job fails with a problem that names what was measured and the limit; nothing of the new codes stays."""
    for query in DATA.items[:30]:
        service.post("/search", json={"collection": "things", "query": {"vector": query.tolist()}})
    for number in range(5):
        service.post("/search", json={"collection": "things", "query": {"id": f"v{number}"}})
    service.post("/search", json={"collection": "things", "query": {"code": "00" * 4}})  # which nothing can encode
    job = reencode(service, "new", state="failed", gate={"min_overlap": 1.0, "queries": 50})
    assert job["error"]["type"].endswith("gate-refused")
    report = job["result"]["report"]
    assert f"overlap {report['overlap']:.3f} is below min_overlap 1" in job["error"]["detail"]
    assert report["queries"] == {"recent": 35, "stored": 15}
    assert 10 / 400 < report["overlap"] < 1
    assert all(0 < report["precision"][which] <= 1 for which in ("old", "new"))
    assert states(service) == {"old": "serving"}
    assert_serves(service, "old", by_id())
    job = reencode(service, "new", gate={"queries": 50, "max_slowdown": 1000})
    assert job["result"]["report"]["queries"] == {"recent": 39, "stored": 11}, "those of assert_serves as well"
    assert_serves(service, "new", by_id())


def test_each_limit_of_the_gate_can_refuse(service: TestClient) -> None:
    for gate, why in (
        ({"max_slowdown": 1e-6}, "times"),
        ({"min_overlap": 1.0}, "overlap"),
    ):
        job = reencode(service, "wide", state="failed", gate={"queries": 5, **gate})
        assert why in job["error"]["detail"]
    for gate in ({"min_overlap": 2.0}, {"queries": 0}, {"max_dead_bits": -1.0}, {"nonsense": 1}):
        response = service.post("/collections/things/reencode", json={"model": "new", "gate": gate})
        assert_problem(response, 422, "invalid-request")


def test_an_empty_collection_goes_over(service: TestClient) -> None:
    service.post("/collections", json={"name": "empty", "model": "old"})
    job = service.post("/collections/empty/reencode", json={"model": "wide"}).json()
    assert wait(service, job["id"], "succeeded", "failed")["result"]["report"]["overlap"] is None
    assert service.get("/collections/empty").json()["bits"] == 64


# -- cancelling --------------------------------------------------------------------------------------------------------


@contextmanager
def halted(target: Any, name: str) -> Iterator[Callable[[], None]]:
    """The first call of a function waits; what is given waits until it has begun."""
    reached, go_on, original = threading.Event(), threading.Event(), getattr(target, name)

    def halting(*args: Any, **kwargs: Any) -> Any:
        if not reached.is_set():
            reached.set()
            assert go_on.wait(60)
        return original(*args, **kwargs)

    def begun() -> None:
        assert reached.wait(60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, halting)
        try:
            yield begun
        finally:
            go_on.set()


@pytest.mark.parametrize(
    "stage", [(Reencode, "take"), (comparison, "queries_for"), (comparison, "check")], ids=lambda stage: stage[1]
)
def test_a_cancelled_change_leaves_the_old_model(service: TestClient, stage: tuple[Any, str]) -> None:
    with halted(*stage) as begun:
        job = service.post("/collections/things/reencode", json={"model": "new", "gate": {"queries": 10}}).json()
        begun()
        assert states(service) == {"old": "serving", "new": "filling"}
        body = {"collection": "things", "items": [{"id": "x", "vector": [1.0] * 24}]}
        assert service.post("/ingest", json=body).json()["created"] == 1
        assert service.delete(f"/jobs/{job['id']}").json()["state"] == "cancelled"
    deadline = time.monotonic() + 30
    while states(service) != {"old": "serving"}:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    items = {**by_id(), "x": np.ones(24)}
    assert_serves(service, "old", items)
    reencode(service, "new")
    assert_serves(service, "new", items)


def test_a_change_that_is_cancelled_while_it_waits_does_nothing(service: TestClient) -> None:
    service.post("/collections", json={"name": "empty", "model": "old"})
    with halted(comparison, "queries_for") as begun:
        first = service.post("/collections/empty/reencode", json={"model": "wide"}).json()
        begun()
        second = service.post("/collections/things/reencode", json={"model": "new"}).json()
        assert second["state"] == "queued"
        assert states(service) == {"old": "serving"}
        assert service.delete(f"/jobs/{second['id']}").json()["state"] == "cancelled"
    wait(service, first["id"], "succeeded")
    reencode(service, "wide")
    assert states(service) == {"old": "kept", "wide": "serving"}


def test_a_collection_deleted_meanwhile_ends_the_job(service: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Reencode.take

    def deleting(self: Any, line: Any, task: Any) -> None:
        service.delete("/collections/things")
        take(self, line, task)

    monkeypatch.setattr(Reencode, "take", deleting)
    job = reencode(service, "new", state="failed")
    assert job["error"]["type"].endswith("unknown-collection")
    assert service.get("/readyz").is_success


# -- searches that a flip meets in the middle --------------------------------------------------------------------------


def test_a_query_encoded_by_the_old_model_is_encoded_again(service: TestClient) -> None:
    """A flip between the encoding and the search: the answer is of the new model, code and hits."""
    reencode(service, "wide", flip=False)
    search, flips = EmbeddedCollection.search, []

    def flipping(self: EmbeddedCollection, *args: Any, **options: Any) -> Any:
        if not flips:
            flips.append(self.generations.flip(self.generations.beside("ready", "kept").number))
        return search(self, *args, **options)

    picture = base64.b64encode(np.asarray(DATA.items[5], "<f4").tobytes()).decode()
    for query, soft in (({"vector_b64": picture}, "none"), ({"id": "v5"}, "none"), ({"id": "v5"}, "soft")):
        flips.clear()
        before = info(service)["model"]["name"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EmbeddedCollection, "search", flipping)
            body = {"collection": "things", "query": query, "rerank": soft, "k": 3}
            reply = service.post("/search", json=body).json()
        after = info(service)["model"]["name"]
        assert flips
        assert before != after
        assert reply["model"]["name"] == after
        assert reply["code"] == codes_by(service, after, [DATA.items[5]])[0]
        assert reply["hits"][0]["id"] == "v5"


def test_a_cursor_of_the_old_model_is_refused(service: TestClient) -> None:
    body = {"collection": "things", "query": {"id": "v1"}, "radius": 16, "limit": 5}
    cursor = service.post("/search", json=body).json()["cursor"]
    reencode(service, "new")
    response = service.post("/search", json={**body, "cursor": cursor})
    assert "gone over to another model" in assert_problem(response, 422, "invalid-request")["detail"]
