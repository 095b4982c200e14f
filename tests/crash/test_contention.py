"""Clients of a real server that are in each other's way. (reliability.md X2, X3, S4)"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import assert_problem, server
from wire import Reply, Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("contention") / "data"
    with server(root) as (url, process):
        yield Served(int(url.rsplit(":", 1)[1]), process.pid, root)


def made(served: Served, name: str) -> None:
    assert served.post("/collections", {"name": name, "bits": 64}).status_code == 201


def test_of_two_upserts_one_is_there_wholly(served: Served) -> None:
    """X2: two clients at a barrier put the same ids; each item is all of one of them, and both know what they did."""
    made(served, "both")
    ids = [f"i{place}" for place in range(20)]
    barrier = threading.Barrier(2)

    def put(who: int, round: int) -> dict[str, Any]:
        code = f"{who:08x}{round:08x}"
        items = [{"id": id, "code": code, "payload": {"who": who, "round": round}} for id in ids]
        barrier.wait()
        reply = served.post("/ingest", {"collection": "both", "items": items})
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    with ThreadPoolExecutor(2) as pool:
        for round in range(40):
            replies = list(pool.map(put, (1, 2), (round, round)))
            if round == 0:
                assert sorted(reply["created"] for reply in replies) == [0, 20]
            assert sum(reply["created"] + reply["updated"] for reply in replies) == 40
            items = served.get("/collections/both/items?limit=100").json()["items"]
            assert len(items) == 20
            won = {(item["code"], item["payload"]["who"], item["payload"]["round"]) for item in items}
            assert len(won) == 1, "a request is all or nothing, so one of the two won all of it"
            code, who, of = won.pop()
            assert (code, of) == (f"{who:08x}{round:08x}", round)
            body = {"collection": "both", "query": {"code": code}, "radius": 0, "count_only": True}
            assert served.post("/search", body).json()["total"] == 20


def test_a_collection_that_goes_while_it_is_searched_and_filled(served: Served) -> None:
    """X3: every answer is complete, or says that the collection is not there; none mixes an old one with a new one."""
    zero = "00" * 8
    stop = threading.Event()
    faults: list[str] = []
    done = {"search": 0, "ingest": 0, "gone": 0}
    generation = 0

    def checked(kind: str, reply: Reply) -> bool:
        if reply.status_code in (404, 409):
            assert_problem(reply, reply.status_code)
            done["gone"] += 1
            return False
        assert reply.status_code == 200, reply.text
        done[kind] += 1
        return True

    def search() -> None:
        body = {"collection": "going", "query": {"code": zero}, "radius": 64, "limit": 1000}
        while not stop.is_set():
            reply = served.post("/search", body)
            if checked("search", reply):
                found = reply.json()
                assert found["total"] == len(found["hits"])
                assert found["complete"]
                made_in = {hit["payload"]["generation"] for hit in found["hits"]}
                assert len(made_in) <= 1, made_in
                assert found["total"] % 10 == 0, "of a request all items or none"

    def watched(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            faults.append(repr(error)[:2_000])
            stop.set()

    threads = [threading.Thread(target=watched, args=(work,)) for work in (search, search)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and not faults:
        generation += 1
        assert served.post("/collections", {"name": "going", "bits": 64}).status_code == 201
        stop_filling = threading.Event()

        def fill(now: int = generation, ended: threading.Event = stop_filling) -> None:
            for number in range(10_000):
                items = [{"id": f"{number}-{n}", "code": zero, "payload": {"generation": now}} for n in range(10)]
                reply = served.post("/ingest", {"collection": "going", "items": items})
                if not checked("ingest", reply) or ended.is_set():
                    return

        filler = threading.Thread(target=watched, args=(fill,))
        filler.start()
        time.sleep(0.15)
        assert served.send("DELETE", "/collections/going").status_code == 204
        stop_filling.set()
        filler.join()
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults, faults
    assert all(done.values()), done
    assert_problem(served.get("/collections/going"), 404, "unknown-collection")
    assert served.get("/readyz").status_code == 200


def test_pages_of_what_stays_are_whole_while_others_come_and_go(served: Served) -> None:
    """S4: over HTTP, by /search and by the list of items: nothing that was there throughout is skipped or repeated."""
    made(served, "pages")
    stay = [{"id": f"stay-{number:04d}", "code": f"{number * 2654435761 % 2**64:016x}"} for number in range(400)]
    assert served.post("/ingest", {"collection": "pages", "items": stay}).status_code == 200
    wanted = {item["id"] for item in stay}
    stop = threading.Event()
    faults: list[str] = []

    def churn(who: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            ids = [f"{prefix}-{who}-{number}-{n}" for n, prefix in enumerate(("a", "m", "stay-0200x", "z"))]
            items = [{"id": id, "code": f"{hash(id) % 2**64:016x}"} for id in ids]
            for reply in (
                served.post("/ingest", {"collection": "pages", "items": items}),
                served.post("/collections/pages/delete", {"ids": ids[: 1 + number % 4]}),
            ):
                if reply.status_code != 200:
                    faults.append(reply.text)
                    return

    threads = [threading.Thread(target=churn, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    body = {"collection": "pages", "query": {"code": "00" * 8}, "radius": 64, "limit": 31}
    try:
        for _ in range(3):
            assert (
                walked(lambda cursor: served.get(f"/collections/pages/items?limit=29{after(cursor)}").json()) >= wanted
            )
            assert walked(lambda cursor: served.post("/search", {**body, "cursor": cursor}).json()) >= wanted
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not faults


def after(cursor: str | None) -> str:
    from urllib.parse import quote

    return f"&cursor={quote(cursor, safe='')}" if cursor else ""


def walked(page: Any) -> set[str]:
    """The ids of all pages, none of them twice."""
    seen: list[str] = []
    cursor = None
    while True:
        found = page(cursor)
        seen += [item["id"] for item in found.get("items", found.get("hits"))]
        cursor = found["cursor"]
        if cursor is None:
            assert len(seen) == len(set(seen)), json.dumps(sorted(seen))[:500]
            return set(seen)
