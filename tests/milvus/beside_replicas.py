"""Two services over one server: what one writes the other finds, and each goes on where the other is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filling import fill
from milvus_server import MilvusServer, code_of, until
from support import MODELS, server, vectors
from wire import Reply, Served


class Replicas:
    """Two services with data directories of their own."""

    def __init__(self, root: Path, milvus: MilvusServer) -> None:
        self._root, self._milvus, self._stack = root, milvus, ExitStack()
        fill(root / "trained", {"vectors": vectors()}, [one for one in MODELS if one[3] == "vectors"], ())
        self.both = [self.start("first"), self.start("second")]

    def start(self, name: str) -> Served:
        settings = {
            "HAMMINGBIRD_MILVUS_URI": self._milvus.uri,
            "HAMMINGBIRD_DEFAULT_BACKEND": "milvus",
            "HAMMINGBIRD_MODELS_DIR": str(self._root / "trained" / "models"),
        }
        address, process = self._stack.enter_context(server(self._root / name, **settings))
        return Served(int(address.rsplit(":", 1)[1]), process.pid, self._root / name)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def replicas(tmp_path: Path, milvus: MilvusServer) -> Iterator[Replicas]:
    made = Replicas(tmp_path, milvus)
    try:
        yield made
    finally:
        made.close()


def done(reply: Reply) -> Any:
    assert reply.status_code in (200, 201, 204), reply.text
    return reply.json() if reply.content else None


def ids_near(served: Served, collection: str, id: str) -> list[str]:
    """The ids of what has exactly the code of `id`."""
    body = {"collection": collection, "query": {"code": code_of(id)}, "radius": 0}
    return [hit["id"] for hit in done(served.post("/search", body))["hits"]]


@pytest.mark.timeout(600)
def test_what_one_writes_the_other_finds_at_once(replicas: Replicas) -> None:
    """R3"""
    for one, other in (replicas.both, replicas.both[::-1]):
        name = "of-first" if one is replicas.both[0] else "of-second"
        done(one.post("/collections", {"name": name, "bits": 64}))
        assert done(other.get(f"/collections/{name}"))["backend"] == "milvus"
        for number in range(20):
            id = f"item-{number}"
            item = {"id": id, "code": code_of(id), "payload": {"n": number}}
            done(one.post("/ingest", {"collection": name, "items": [item]}))
            assert ids_near(other, name, id) == [id]
            assert done(other.get(f"/collections/{name}/items/{id}"))["payload"] == {"n": number}
            done(other.post("/ingest", {"collection": name, "items": [{**item, "code": code_of("moved" + id)}]}))
            assert ids_near(one, name, id) == []
            assert ids_near(one, name, "moved" + id) == [id]
            if number % 2:
                done(other.send("DELETE", f"/collections/{name}/items/{id}"))
                assert ids_near(one, name, "moved" + id) == []
            assert done(one.get(f"/collections/{name}"))["items"] == done(other.get(f"/collections/{name}"))["items"]
        done(other.send("DELETE", f"/collections/{name}"))
        assert one.get(f"/collections/{name}").status_code == 404
        assert one.post("/ingest", {"collection": name, "items": [item]}).status_code == 404


@pytest.mark.timeout(600)
def test_both_encode_by_the_models_that_they_share(replicas: Replicas) -> None:
    """R3"""
    one, other = replicas.both
    data = vectors()
    assert data.ids is not None
    done(one.post("/collections", {"name": "vectors", "model": "vectors-itq"}))
    items = [{"id": id, "vector": row.tolist()} for id, row in zip(data.ids, data.items, strict=True)]
    for place in range(0, len(items), 60):
        served = replicas.both[place // 60 % 2]
        done(
            served.post(
                "/ingest", {"collection": "vectors", "model": "vectors-itq", "items": items[place : place + 60]}
            )
        )
    for item in items[::30]:
        body = {"collection": "vectors", "query": {"vector": item["vector"]}, "k": 20}
        answers = [done(served.post("/search", body)) for served in (one, other)]
        assert answers[0]["hits"] == answers[1]["hits"]
        assert item["id"] in [hit["id"] for hit in answers[0]["hits"] if hit["distance"] == 0]


class Load(threading.Thread):
    """Writes batches by one replica and looks for each by the other, until it is told to end or its replica is gone."""

    def __init__(self, writer: Served, reader: Callable[[], Served], name: str) -> None:
        super().__init__()
        self._writer, self._reader, self.label = writer, reader, name
        self._over = threading.Event()
        self.acknowledged: list[str] = []
        self.gone, self.fault = False, None  # type: tuple[bool, BaseException | None]

    def run(self) -> None:
        number = 0
        try:
            while not self._over.is_set():
                ids = [f"{self.label}-{number}-{place}" for place in range(20)]
                items = [{"id": id, "code": code_of(id), "payload": {"by": self.label}} for id in ids]
                try:
                    done(self._writer.post("/ingest", {"collection": "load", "items": items}))
                except OSError:
                    self.gone = True
                    return
                self.acknowledged += ids
                number += 1
                reader = self._reader()
                assert ids_near(reader, "load", ids[7]) == [ids[7]], "what one wrote the other does not find"
        except BaseException as fault:
            self.fault = fault

    def end(self) -> None:
        self._over.set()
        self.join(60)
        assert not self.is_alive()
        if self.fault is not None:
            raise self.fault


@pytest.mark.timeout(600)
def test_both_under_load_and_one_killed(replicas: Replicas) -> None:
    """R4"""
    first, second = replicas.both
    done(first.post("/collections", {"name": "load", "bits": 64}))
    dying = threading.Event()
    loads = [
        # What the first writes the second is asked for; what the second writes, the first as long as it is there.
        *[Load(first, lambda: second, f"first{place}") for place in range(2)],
        *[Load(second, lambda: second if dying.is_set() else first, f"second{place}") for place in range(2)],
    ]
    for load in loads:
        load.start()
    until(lambda: _all_have(loads, 200), "work by both", 120)
    dying.set()
    time.sleep(1)  # whoever still asks the first has its answer
    os.kill(first.pid, signal.SIGKILL)
    for load in loads[:2]:
        load.join(60)
        assert load.fault is None, load.fault
        assert load.gone
    goal = [len(load.acknowledged) + 200 for load in loads[2:]]
    until(lambda: _all_have(loads[2:], *goal), "work by the one that is left", 120)
    for load in loads:
        load.end()
    acknowledged = [id for load in loads for id in load.acknowledged]
    again = replicas.start("first")
    for served in (second, again):
        everything = {"collection": "load", "query": {"code": "0" * 16}, "radius": 64, "limit": 1, "count_only": True}
        total = done(served.post("/search", everything))["total"]
        assert len(acknowledged) <= total <= len(acknowledged) + 2 * 20, "at most what was in flight is there besides"
        for id in acknowledged[::37]:
            assert ids_near(served, "load", id) == [id]
    print("acknowledged", len(acknowledged))  # noqa: T201


def _all_have(loads: list[Load], *least: int) -> bool:
    for load in loads:
        if load.fault is not None:
            raise load.fault
    return all(len(load.acknowledged) >= (least[place % len(least)]) for place, load in enumerate(loads))
