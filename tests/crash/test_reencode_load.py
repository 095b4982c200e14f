"""A real server goes over to another model and back under load, and is killed at every stage of it.

Searchers and writers see nothing but 2xx, and every answer is that of one model: its code of the query, its codes of
the hits, complete by brute force over what was acknowledged. (reliability.md S3, C1, C3)
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import threading
import time
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import server, vectors

from index import EmbeddedCollection, from_hex, hamming
from index.catalogue import STORE_FILE
from models.artefact import load_model
from models.base import Model
from service.cli.ingest import ingest_dataset
from service.engine import Engine
from service.settings import Settings
from service.training import Training, train

DIM = 24
MODELS = {"old": ("itq", 32), "new": ("pca-sign", 64)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of different widths, and a collection of the first."""
    root = tmp_path_factory.mktemp("made") / "data"
    data = vectors(400)
    with Engine(Settings(data_dir=root)) as engine:
        for name, (family, bits) in MODELS.items():
            draft = engine.registry.draft(name)
            list(train(Training(name, family, bits, {}), data, draft))
            engine.registry.add(name, draft)
        ingest_dataset(engine, data, "things", "old")
    return root


class Oracle:
    """The codes that both models give, worked out in this process."""

    def __init__(self, root: Path) -> None:
        self.models: dict[str, Model] = {
            name: load_model(next((root / "models" / name).glob("[0-9]*"))) for name in MODELS
        }
        self._lock = threading.Lock()
        self.vectors = {f"v{place}": item for place, item in enumerate(vectors(400).items)}

    def vector(self, id: str) -> Any:
        """Of an item of the collection as it was made, or of one that a writer made up."""
        if id in self.vectors:
            return self.vectors[id]
        return np.random.default_rng(zlib.crc32(id.encode())).normal(size=DIM).astype(np.float32) * 3

    @lru_cache(maxsize=100_000)  # noqa: B019
    def code(self, model: str, id: str) -> bytes:
        return self.code_of(model, self.vector(id))

    def code_of(self, model: str, vector: Any) -> bytes:
        with self._lock:
            logits = self.models[model].logits([vector])
        return np.packbits(logits[0] > 0).tobytes()

    def nearest(self, model: str, query: bytes, ids: Any) -> dict[str, int]:
        names = list(ids)
        codes = np.frombuffer(b"".join(self.code(model, id) for id in names), np.uint8).reshape(len(names), len(query))
        distances = np.bitwise_count(codes ^ np.frombuffer(query, np.uint8)).sum(axis=1, dtype=int)
        return dict(zip(names, distances.tolist(), strict=True))


class Client:
    """One connection that is kept open; anything but a 2xx is a failure."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"content-type": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self._connection.getresponse()
        data = response.read()
        assert 200 <= response.status < 300, (method, path, response.status, data[:2000])
        return json.loads(data) if data else None

    def close(self) -> None:
        self._connection.close()


class Load:
    """Searchers and a writer on a running server, until stopped; `failures` holds what went wrong."""

    def __init__(self, address: str, oracle: Oracle, seed: int, *, writes: bool = True) -> None:
        self.oracle, self._address = oracle, address
        self.acknowledged = set(oracle.vectors)
        self.asked = set(oracle.vectors)
        self.failures: list[BaseException] = []
        self.answered: dict[str, int] = dict.fromkeys(MODELS, 0)
        self.written = 0
        self.took: list[float] = []
        self._stop = threading.Event()
        works: list[Callable[[Client, random.Random], None]] = [self._search, self._search]
        works += [self._write] if writes else []
        self._threads = [
            threading.Thread(target=self._run, args=(work, seed + place)) for place, work in enumerate(works)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[Client, random.Random], None], seed: int) -> None:
        client, rng = Client(self._address), random.Random(seed)
        try:
            while not self._stop.is_set():
                work(client, rng)
        except BaseException as error:
            self.failures.append(error)
        finally:
            client.close()

    def wait_for_answers(self, model: str, count: int) -> None:
        """Return when `model` has answered so many searches more."""
        enough, deadline = self.answered[model] + count, time.monotonic() + 60
        while self.answered[model] < enough and not self.failures:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _write(self, client: Client, rng: random.Random) -> None:
        ids = [f"w{self.written}-{place}" for place in range(rng.randint(1, 8))]
        self.asked |= set(ids)
        items = [{"id": id, "vector": [float(x) for x in self.oracle.vector(id)]} for id in ids]
        reply = client("POST", "/ingest", {"collection": "things", "items": items})
        assert reply["created"] == len(ids)
        assert reply["model"]["name"] in MODELS
        self.acknowledged |= set(ids)
        self.written += 1

    def _search(self, client: Client, rng: random.Random) -> None:
        sure = set(self.acknowledged)
        body: dict[str, Any] = {"collection": "things", "include": ["code"]}
        if rng.random() < 0.3:
            id = rng.choice(sorted(self.oracle.vectors))
            vector = self.oracle.vector(id)
            body["query"] = {"id": id}
        else:  # no two searches are the same
            vector = np.float32([rng.gauss(0, 3) for _ in range(DIM)])
            body["query"] = {"vector": [float(x) for x in vector]}
        body |= {"k": 10} if rng.random() < 0.5 else {"radius": rng.randint(2, 12), "limit": 10_000}
        started = time.perf_counter()
        reply = client("POST", "/search", body)
        self.took.append(time.perf_counter() - started)
        self.check(reply, vector, body, sure)

    def check(self, reply: Any, vector: Any, body: Any, sure: set[str]) -> None:
        """The answer is that of the model it names, whole, and of no other."""
        model, oracle = reply["model"]["name"], self.oracle
        query = oracle.code_of(model, vector)
        assert reply["code"] == query.hex(), "the query was encoded by another model"
        found = {hit["id"]: hit["distance"] for hit in reply["hits"]}
        assert set(found) <= self.asked
        assert {hit["id"]: hit["code"] for hit in reply["hits"]} == {id: oracle.code(model, id).hex() for id in found}
        assert found == oracle.nearest(model, query, found)
        near = oracle.nearest(model, query, sure)
        if "k" in body:
            assert len(found) == 10
            reach = max(found.values())
            missed = {id for id, distance in near.items() if distance < reach and id not in found}
        else:
            missed = {id for id, distance in near.items() if distance <= body["radius"] and id not in found}
        assert not missed, f"{len(missed)} items that were acknowledged are missing"
        self.answered[model] += 1


def ended(client: Client, job: dict[str, Any], load: Load | None = None) -> dict[str, Any]:
    while job["state"] in ("queued", "running"):
        assert load is None or not load.failures, load.failures
        time.sleep(0.05)
        job = client("GET", f"/jobs/{job['id']}")
    return job


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_a_change_of_model_under_load(made: Path, tmp_path: Path, seconds: float) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    root = Path(shutil.copytree(made, tmp_path / "data"))
    oracle = Oracle(root)
    with server(root, HAMMINGBIRD_SHUTDOWN_GRACE_S="5") as (address, _):
        client, started, rounds = Client(address), time.monotonic(), 0
        with Load(address, oracle, seed) as load:
            while (time.monotonic() - started < seconds or rounds == 0) and not load.failures:
                serving = client("GET", "/collections/things")["model"]["name"]
                other = next(name for name in MODELS if name != serving)
                body = {"model": other, "gate": {"queries": 50, "max_slowdown": 1000, "min_overlap": 0.02}}
                job = ended(client, client("POST", "/collections/things/reencode", body), load)
                assert job["state"] == "succeeded", job
                load.wait_for_answers(other, 10)
                for model in (serving, other, serving)[: 2 + rounds % 2]:
                    assert client("POST", "/collections/things/rollback")["model"]["name"] == model
                    load.wait_for_answers(model, 10)
                if rounds % 2:
                    client("DELETE", "/collections/things/standby")
                rounds += 1
        client.close()
        assert not load.failures, load.failures
        took = np.sort(load.took) * 1000
        print(  # noqa: T201
            f"{rounds} changes, {len(took)} searches {load.answered}, {load.written} writes; "
            f"p50 {took[len(took) // 2]:.1f} ms, p99 {took[int(len(took) * 0.99)]:.1f} ms, max {took[-1]:.1f} ms"
        )
        assert min(load.answered.values()) >= 20
        assert load.written > 10
    collection = EmbeddedCollection(root / "collections" / "things" / STORE_FILE)
    assert collection.check().faults == ()
    assert {item.id for item in collection.scan()} == load.acknowledged
    collection.close()


STAGES = ["encoding", "comparing", "flipping", "any time", "any time", "after"]


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [5])
@pytest.mark.timeout(1200)
def test_a_kill_at_every_stage_leaves_a_serving_collection(made: Path, tmp_path: Path, rounds: int) -> None:
    """After each kill: what was acknowledged is there, one model serves it all, and the next change succeeds."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    rng = random.Random(seed)
    root = Path(shutil.copytree(made, tmp_path / "data"))
    oracle = Oracle(root)
    acknowledged, asked, lasted = set(oracle.vectors), set(oracle.vectors), 3.0
    for number, stage in enumerate(STAGES * rounds):
        with server(root) as (address, process):
            client = Client(address)
            assert_whole(client, oracle, acknowledged, asked)
            serving = client("GET", "/collections/things")["model"]["name"]
            other = next(name for name in MODELS if name != serving)
            load = Load(address, oracle, seed + 10 * number)
            load.written = 1_000_000 * (number + 1)
            load.asked, load.acknowledged = set(asked), set(acknowledged)
            with load:
                body = {"model": other, "gate": {"queries": 1000, "max_slowdown": 1000, "min_overlap": 0.0}}
                started = time.monotonic()
                job = client("POST", "/collections/things/reencode", body)
                deadline = started + rng.uniform(0, 1.2 * lasted)
                while time.monotonic() < deadline or stage != "any time":
                    job = client("GET", f"/jobs/{job['id']}")
                    if job["progress"].get("stage") == stage or job["state"] not in ("queued", "running"):
                        break
                    time.sleep(0.002)
                if stage == "after":
                    client("POST", "/collections/things/rollback")
                lasted = max(lasted, time.monotonic() - started)
                process.kill()
            process.wait()
            client.close()
            assert all(isinstance(failure, OSError | http.client.HTTPException) for failure in load.failures), (
                load.failures
            )
            acknowledged, asked = load.acknowledged, load.asked
    with server(root) as (address, _):
        client = Client(address)
        assert_whole(client, oracle, acknowledged, asked)
        serving = client("GET", "/collections/things")["model"]["name"]
        body = {"model": next(name for name in MODELS if name != serving), "gate": None}
        assert ended(client, client("POST", "/collections/things/reencode", body))["state"] == "succeeded"
        assert_whole(client, oracle, acknowledged, asked)
        client.close()
    collection = EmbeddedCollection(root / "collections" / "things" / STORE_FILE)
    assert collection.check().faults == ()
    collection.close()


def assert_whole(client: Client, oracle: Oracle, acknowledged: set[str], asked: set[str]) -> None:
    """The collection holds what was acknowledged, all of it with the codes of the one model that serves."""
    found = client("GET", "/collections/things")
    model = found["model"]["name"]
    assert [one["state"] for one in found["generations"] if one["state"] not in ("kept", "serving")] == []
    code = "00" * (found["bits"] // 8)
    body = {"collection": "things", "query": {"code": code}, "radius": found["bits"], "limit": 10_000}
    hits, cursor, total = [], None, None
    while total is None or cursor is not None:
        page = client("POST", "/search", {**body, "include": ["code"], "cursor": cursor})
        hits += page["hits"]
        cursor, total = page["cursor"], page["total"]
    assert len(hits) == total == found["items"]
    assert acknowledged <= {hit["id"] for hit in hits} <= asked
    for hit in hits:
        assert bytes.fromhex(hit["code"]) == oracle.code(model, hit["id"])
        assert hit["distance"] == int(hamming(from_hex(hit["code"], found["bits"]), from_hex(code, found["bits"])))
