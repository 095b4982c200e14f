"""The server is killed and started again in the middle of ingest and of search: the service, which goes on, says so.

A request is answered with 200, or with a 503 that says when to come back; sent again, it is done. What was answered
with 200 is there for good.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from milvus_server import MilvusServer, code_of, until
from support import assert_problem, server
from wire import Reply, Served

LONGEST_S = 60
"""Of any request: a call to Milvus waits 10 s at most, and an ingest makes a handful of them, on a busy machine."""


@contextmanager
def service(root: Path, milvus: MilvusServer, **environment: str) -> Any:
    """A service of which nothing is restarted while Milvus is away."""
    settings = {"HAMMINGBIRD_MILVUS_URI": milvus.uri, **environment}
    with server(root, probe="/livez", **settings) as (address, process):
        yield Served(int(address.rsplit(":", 1)[1]), process.pid, root)
        assert process.poll() is None, "the service has ended"


class Client(threading.Thread):
    """Does one thing again and again; every reply is a 200, or a 503 that names Milvus and says when to come back."""

    def __init__(self, ask: Callable[[int], tuple[Reply, Callable[[Any], None]]]) -> None:
        super().__init__()
        self._ask, self._over = ask, threading.Event()
        self.done, self.refused, self.longest_s = 0, 0, 0.0
        self.fault: BaseException | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self._over.is_set():
                begun = time.monotonic()
                reply, judge = self._ask(number)
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                if reply.status_code == 200:
                    judge(reply.json())
                    number += 1
                    self.done = number
                else:
                    told = assert_problem(reply, 503, "backend-unavailable")
                    assert "Milvus" in told["detail"]
                    self.refused += 1
                    time.sleep(float(reply.headers["retry-after"]))
        except BaseException as fault:
            self.fault = fault

    def end(self) -> None:
        self._over.set()
        self.join(60)
        assert not self.is_alive()
        if self.fault is not None:
            raise self.fault
        assert self.longest_s < LONGEST_S


@pytest.mark.timeout(900)
def test_the_server_is_killed_in_the_middle_of_everything(tmp_path: Path, milvus: MilvusServer) -> None:
    """R1. Three times: nothing acknowledged is lost, nothing hangs, the service recovers by itself."""
    with service(tmp_path / "data", milvus) as served:
        assert served.post("/collections", {"name": "away", "bits": 64, "backend": "milvus"}).status_code == 201
        assert served.post("/collections", {"name": "here", "bits": 64}).status_code == 201
        item = {"id": "one", "code": code_of("one")}
        assert served.post("/ingest", {"collection": "here", "items": [item]}).status_code == 200
        acknowledged: list[list[str]] = []

        def write(name: str) -> Callable[[int], tuple[Reply, Callable[[Any], None]]]:
            def ask(number: int) -> tuple[Reply, Callable[[Any], None]]:
                ids = [f"{name}-{number}-{place}" for place in range(1 + number % 50)]
                items = [{"id": id, "code": code_of(id), "payload": {"n": number}} for id in ids]
                reply = served.post("/ingest", {"collection": "away", "items": items})
                return reply, lambda told: acknowledged.append(ids)

            return ask

        def search(number: int) -> tuple[Reply, Callable[[Any], None]]:
            known = acknowledged[number % len(acknowledged)] if acknowledged else []
            code = code_of(known[-1]) if known else "0" * 16
            reply = served.post("/search", {"collection": "away", "query": {"code": code}, "radius": 0})

            def judge(told: Any) -> None:
                assert [hit["id"] for hit in told["hits"]] == known[-1:], "something acknowledged is not found"

            return reply, judge

        writers, searchers = [Client(write("a")), Client(write("b"))], [Client(search), Client(search)]
        everybody = writers + searchers
        for client in everybody:
            client.start()
        for round_ in range(3):
            goal = [client.done + 5 for client in everybody]
            until(lambda goal=goal: _reached(everybody, goal), "work before the kill", 120)
            refused = [client.refused for client in everybody]
            milvus.kill()
            until(
                lambda refused=refused: all(
                    client.refused > before for client, before in zip(everybody, refused, strict=True)
                ),
                "a 503 to everybody",
                60,
            )
            # What is not in Milvus is served as before, and the service is alive.
            assert served.get("/livez").status_code == 200
            assert_problem(served.get("/readyz"), 503, "backend-unavailable")
            found = served.post("/search", {"collection": "here", "query": {"code": code_of("one")}, "k": 1})
            assert [hit["id"] for hit in found.json()["hits"]] == ["one"]
            milvus.start()
            goal = [client.done + 5 for client in everybody]
            took = milvus.wait() + until(lambda goal=goal: _reached(everybody, goal), "work after the restart", 120)
            print(f"round {round_}: served {took:.0f} s after the restart began")  # noqa: T201
        for client in everybody:
            client.end()
        expected = {id for ids in acknowledged for id in ids}
        assert len(expected) > 100
        present = _all_ids(served, "away")
        assert expected <= present, f"lost: {sorted(expected - present)[:20]}"
        asked = {id for id in present if int(id.split("-")[2]) <= int(id.split("-")[1]) % 50}
        assert asked == present, "something nobody sent is there"
        count = {"collection": "away", "query": {"code": "0" * 16}, "radius": 64, "count_only": True}
        assert served.post("/search", count).json()["total"] == len(present)
        print("acknowledged", len(expected), "longest request", max(client.longest_s for client in everybody))  # noqa: T201


def _reached(clients: list[Client], goal: list[int]) -> bool:
    for client in clients:
        if client.fault is not None:
            raise client.fault
    return all(client.done >= least for client, least in zip(clients, goal, strict=True))


def _all_ids(served: Served, collection: str) -> set[str]:
    """By pages of the collection's items."""
    found: set[str] = set()
    target = f"/collections/{collection}/items?limit=1000"
    after = ""
    while True:
        reply = served.get(target + after)
        assert reply.status_code == 200, reply.text
        page = reply.json()
        found |= {item["id"] for item in page["items"]}
        if not page.get("cursor"):
            return found
        after = f"&cursor={page['cursor']}"


def test_a_service_starts_while_the_server_is_away(tmp_path: Path, milvus: MilvusServer) -> None:
    """R2. It serves what it has, says 503 of the rest, and finds the rest once the server is there."""
    with service(tmp_path / "data", milvus) as served:
        assert served.post("/collections", {"name": "here", "bits": 64}).status_code == 201
        assert served.post("/collections", {"name": "late", "bits": 64, "backend": "milvus"}).status_code == 201
        items = [{"id": "one", "code": code_of("one")}]
        assert served.post("/ingest", {"collection": "late", "items": items}).status_code == 200
    milvus.kill()
    question = {"collection": "late", "query": {"code": code_of("one")}, "k": 1}
    with service(tmp_path / "data", milvus) as served:
        for method, target, body in (
            ("POST", "/search", question),
            ("POST", "/ingest", {"collection": "late", "items": items}),
            ("GET", "/collections/late", None),
            ("GET", "/collections/late/items/one", None),
            ("DELETE", "/collections/late/items/one", None),
            ("DELETE", "/collections/late", None),
            ("POST", "/collections", {"name": "new", "bits": 64, "backend": "milvus"}),
            ("POST", "/collections", {"name": "late", "bits": 64}),  # whose name may be taken there
        ):
            reply = served.post(target, body) if body is not None else served.send(method, target)
            assert_problem(reply, 503, "backend-unavailable")
            assert reply.headers["retry-after"] == "1", target
        assert served.post("/search", {**question, "collection": "here"}).json()["hits"] == []
        assert_problem(served.get("/readyz"), 503, "backend-unavailable")
        milvus.start()
        milvus.wait()
        until(lambda: served.post("/search", question).status_code == 200, "the search", 120)
        until(lambda: served.get("/readyz").status_code == 200, "readiness", 60)
        assert [hit["id"] for hit in served.post("/search", question).json()["hits"]] == ["one"]
