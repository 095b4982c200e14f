"""on_duplicate at /ingest: what is a duplicate, what becomes of it in each form of the call, and in a race."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from service import stream

ZERO = "00" * 8
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
def codes(client: TestClient) -> TestClient:
    """A client of a service with an empty collection of ready-made 64-bit codes, `codes`."""
    assert client.post("/collections", json={"name": "codes", "bits": 64}).status_code == 201
    return client


def code(*ones: int) -> str:
    """A code with these bits set."""
    return f"{sum(1 << bit for bit in ones):016x}"


def send(client: TestClient, *items: dict[str, Any], how: str = "reject", radius: int | None = 2, **rest: Any) -> Any:
    params = {"on_duplicate": how, "radius": radius}
    chosen = {name: value for name, value in params.items() if value is not None}
    return client.post("/ingest", params=chosen, json={"collection": "codes", "items": list(items)}, **rest)


def count(client: TestClient) -> int:
    return int(client.get("/collections/codes").json()["items"])


def payload(client: TestClient, id: str) -> Any:
    return client.get(f"/collections/codes/items/{id}").json()["payload"]


def test_a_duplicate_is_not_stored_and_listed(codes: TestClient) -> None:
    """Of what is stored, and of what comes earlier in the call; the radius is inclusive; the rest is stored."""
    send(codes, {"id": "old", "code": ZERO})
    reply = send(
        codes,
        {"id": "a", "code": code(0, 1)},  # 2 from old
        {"id": "b", "code": code(0, 1, 2)},  # 3 from old, 1 from a, which is not stored
        {"id": "c", "code": code(0, 1, 2, 3)},  # 1 from b
        {"id": "d", "code": code(40, 41, 42, 43)},
        {"code": code(40, 41, 42)},
    ).json()
    assert reply["duplicates"] == [
        {"position": 0, "id": "a", "of": "old", "distance": 2},
        {"position": 2, "id": "c", "of": "b", "distance": 1},
        {"position": 4, "id": None, "of": "d", "distance": 1},
    ]
    assert reply["duplicates_total"] == 3
    assert (reply["created"], reply["updated"], reply["unchanged"], reply["ids"]) == (2, 0, 0, ["b", "d"])
    assert count(codes) == 3
    assert_problem(codes.get("/collections/codes/items/a"), 404, "unknown-item")
    everything = send(codes, {"id": "a", "code": code(0)}).json()
    assert (everything["created"], everything["ids"], everything["duplicates_total"]) == (0, [], 1)


def test_a_tagged_duplicate_is_stored_listed_and_found_by_a_filter(codes: TestClient) -> None:
    items = [
        {"id": "a", "code": ZERO, "payload": {"label": 1}},
        {"id": "b", "code": code(0), "payload": {"label": 2}},
        {"id": "c", "code": code(60, 61, 62)},
        {"id": "d", "code": code(0, 1)},  # 1 from b, 2 from a: the nearest counts
    ]
    reply = send(codes, *items, how="tag").json()
    expected = [
        {"position": 1, "id": "b", "of": "a", "distance": 1},
        {"position": 3, "id": "d", "of": "b", "distance": 1},
    ]
    assert (reply["created"], reply["ids"], reply["duplicates"]) == (4, ["a", "b", "c", "d"], expected)
    assert payload(codes, "b") == {"label": 2, "duplicate_of": "a"}
    assert (payload(codes, "a"), payload(codes, "c"), payload(codes, "d")) == (
        {"label": 1},
        None,
        {"duplicate_of": "b"},
    )
    body = {"collection": "codes", "query": {"code": ZERO}, "k": 9, "filter": {"duplicate_of": {"$exists": True}}}
    assert [hit["id"] for hit in codes.post("/search", json=body).json()["hits"]] == ["b", "d"]
    again = send(codes, *items, how="tag").json()
    assert (again["created"], again["updated"], again["unchanged"], again["duplicates"]) == (0, 0, 4, expected)


def test_the_mark_is_the_services_own(codes: TestClient) -> None:
    send(codes, {"id": "a", "code": ZERO})
    foreign = {"duplicate_of": "somebody", "label": 1}
    send(
        codes,
        {"id": "b", "code": code(0), "payload": foreign},
        {"id": "c", "code": code(9, 10, 11), "payload": foreign},
        how="tag",
    )
    assert payload(codes, "b") == {"label": 1, "duplicate_of": "a"}
    assert payload(codes, "c") == {"label": 1}
    codes.post("/ingest", json={"collection": "codes", "items": [{"id": "d", "code": ZERO, "payload": foreign}]})
    assert payload(codes, "d") == foreign, "allow leaves payloads alone"


def test_an_item_is_no_duplicate_of_itself_nor_of_what_came_after(codes: TestClient) -> None:
    first = send(codes, {"id": "a", "code": ZERO}).json()
    assert first["duplicates"] == []
    moved = send(codes, {"id": "a", "code": code(0)}).json()
    assert (moved["updated"], moved["duplicates"]) == (1, [])
    send(codes, {"id": "z", "code": code(0, 1)}, how="allow", radius=None)
    same = send(codes, {"id": "a", "code": code(0), "payload": {"new": True}}).json()
    assert (same["updated"], same["duplicates"]) == (1, []), "the code stays, so nothing has come near"
    closer = send(codes, {"id": "a", "code": code(0, 1, 2)}).json()
    assert (closer["updated"], closer["duplicates"][0]["of"]) == (0, "z"), "a new code is judged as a new item"
    twice = send(codes, {"id": "q", "code": code(30, 31, 32)}, {"id": "q", "code": code(30, 31, 33)}).json()
    assert (twice["created"], twice["duplicates"]) == (1, [])


def test_a_call_sent_again_is_told_the_same(codes: TestClient) -> None:
    items = [{"id": "a", "code": ZERO}, {"id": "b", "code": code(0)}]
    key = {"idempotency-key": "k1"}
    first = send(codes, *items, headers=key).json()
    assert first["duplicates"][0]["of"] == "a"
    assert send(codes, *items, headers=key).json() == first
    assert_problem(send(codes, *items, how="tag", headers=key), 409, "key-reused")
    assert_problem(send(codes, *items, radius=3, headers=key), 409, "key-reused")
    unkeyed = send(codes, *items).json()
    assert (unkeyed["unchanged"], unkeyed["duplicates"]) == (1, first["duplicates"])


def test_one_bad_item_still_refuses_the_call(codes: TestClient) -> None:
    bad = {"id": "bad", "code": "00"}
    assert_problem(send(codes, {"id": "a", "code": ZERO}, {"id": "b", "code": ZERO}, bad), 422, "invalid-request")
    assert count(codes) == 0
    body = {"collection": "codes", "items": [bad, {"id": "a", "code": ZERO}, {"id": "b", "code": ZERO}]}
    reply = codes.post("/ingest?on_error=skip&on_duplicate=reject&radius=0", json=body).json()
    assert [error["position"] for error in reply["errors"]] == [0]
    assert [(one["position"], one["id"]) for one in reply["duplicates"]] == [(2, "b")]
    assert reply["ids"] == ["a"]


@pytest.mark.parametrize(
    ("how", "radius", "words"),
    [
        ("reject", None, "needs a radius"),
        ("tag", None, "needs a radius"),
        ("allow", 3, "on_duplicate=reject or tag"),
        ("reject", 65, "0 to 64"),
        ("reject", -1, ""),
        ("refuse", 1, ""),
    ],
)
def test_what_cannot_be_meant(codes: TestClient, how: str, radius: int | None, words: str) -> None:
    problem = assert_problem(send(codes, {"id": "a", "code": ZERO}, how=how, radius=radius), 422, "invalid-request")
    assert words in problem["detail"]
    assert count(codes) == 0
    assert_problem(
        codes.post("/ingest?radius=2", json={"collection": "codes", "items": [{"code": ZERO}]}), 422, "invalid-request"
    )
    line = json.dumps({"id": "a", "code": ZERO})
    params = {"collection": "codes", "on_duplicate": how} | ({} if radius is None else {"radius": radius})
    assert_problem(codes.post("/ingest", params=params, content=line, headers=NDJSON), 422, "invalid-request")


def test_a_stream_of_lines(codes: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Duplicates of lines of an earlier batch too; the list is cut where the stream is long, the number is not."""
    monkeypatch.setattr(stream, "BATCH_LINES", 50)
    monkeypatch.setattr(stream, "MOST", 60)
    rng = np.random.default_rng(1)
    fresh = [f"{value:016x}" for value in rng.integers(0, 1 << 63, 100).tolist()]
    lines = [{"id": f"a{place}", "code": text} for place, text in enumerate(fresh)]
    lines += [{"id": f"b{place}", "code": f"{int(text, 16) ^ 1:016x}"} for place, text in enumerate(fresh)]
    body = "\n\n".join(map(json.dumps, lines)).encode()
    params: dict[str, str | int] = {"collection": "codes", "on_duplicate": "reject", "radius": 1}
    reply = codes.post("/ingest", params=params, content=body, headers=NDJSON).json()
    assert (reply["created"], reply["duplicates_total"], len(reply["duplicates"])) == (100, 100, 60)
    assert reply["duplicates"][0] == {"position": 200, "id": "b0", "of": "a0", "distance": 1}
    assert reply["duplicates"][59] == {"position": 318, "id": "b59", "of": "a59", "distance": 1}
    only = codes.post("/ingest", params=params, content=json.dumps(lines[-1]), headers=NDJSON).json()
    assert (only["created"], only["duplicates_total"], only["ids"]) == (0, 1, [])


def test_files_and_a_collection_that_the_call_makes(client: TestClient) -> None:
    pictures = np.random.default_rng(2).integers(0, 255, (2, 8, 8, 1)).astype(np.uint8)
    files = [("files", (name, base64_of(pictures[at]), "image/png")) for name, at in (("x", 0), ("y", 0), ("z", 1))]
    reply = client.post(
        "/ingest?on_duplicate=reject&radius=0", data={"collection": "new", "model": "digits-hash"}, files=files
    ).json()
    assert reply["duplicates"][0] == {"position": 1, "id": "y", "of": "x", "distance": 0}
    wide = {"collection": "never", "model": "digits-hash", "items": [{"image": png(pictures[0])}]}
    assert_problem(client.post("/ingest?on_duplicate=tag&radius=65", json=wide), 422, "invalid-request")
    assert_problem(client.get("/collections/never"), 404)


def base64_of(picture: Any) -> bytes:
    import base64

    return base64.b64decode(png(picture))


def test_of_near_items_that_come_at_once_one_is_stored(codes: TestClient) -> None:
    """Through the whole service: eight clients at a time, each with its own id and a code near all the others'."""
    clients, rounds = 8, 12
    ready = threading.Barrier(clients)
    replies: list[list[Any]] = [[] for _ in range(clients)]

    def run(number: int) -> None:
        for at in range(rounds):
            item = {"id": f"r{at}-c{number}", "code": f"{at << 40 | at << 20 | 1 << number:016x}"}
            ready.wait()
            reply = codes.post(
                "/ingest?on_duplicate=reject&radius=2", json={"collection": f"race{at}", "items": [item]}
            )
            replies[number].append(reply.json())

    for at in range(rounds):
        codes.post("/collections", json={"name": f"race{at}", "bits": 64})
    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(rounds):
        stored = [reply[at]["ids"] for reply in replies if reply[at]["created"]]
        assert len(stored) == 1, replies
        told = [reply[at]["duplicates"][0]["of"] for reply in replies if not reply[at]["created"]]
        assert told == stored[0] * (clients - 1)


def test_a_byte_order_mark_is_passed_over_at_the_beginning_only(codes: TestClient) -> None:
    mark = b"\xef\xbb\xbf"
    body = json.dumps({"collection": "codes", "items": [{"id": "a", "code": ZERO}]}).encode()
    reply = codes.post("/ingest", content=mark + body, headers={"content-type": "application/json"})
    assert reply.json()["created"] == 1
    line = json.dumps({"id": "b", "code": code(9)}).encode()
    params = {"collection": "codes"}
    assert codes.post("/ingest", params=params, content=mark + line, headers=NDJSON).json()["ids"] == ["b"]
    later = codes.post("/ingest", params=params, content=line + b"\n" + mark + line, headers=NDJSON)
    assert "line 2" in assert_problem(later, 422, "invalid-request")["detail"]


def test_what_is_stored_just_so_is_not_encoded_again(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    engine = client.app.state.engine  # type: ignore[attr-defined]
    each = engine.encode_each
    monkeypatch.setattr(engine, "encode_each", lambda model, items: (encoded.append(len(items)), each(model, items))[1])
    pictures = np.random.default_rng(3).integers(0, 255, (3, 8, 8, 1)).astype(np.uint8)
    items = [{"id": f"p{at}", "image": png(pictures[at]), "payload": {"at": at}} for at in range(3)]
    body = {"collection": "digits", "items": items}
    assert client.post("/ingest", json=body).json()["created"] == 3
    assert client.post("/ingest", json=body).json()["unchanged"] == 3
    items[1]["payload"] = {"at": "changed"}
    items[2]["image"] = items[0]["image"]
    reply = client.post("/ingest", json=body).json()
    assert (reply["unchanged"], reply["updated"], encoded) == (1, 2, [3, 2])
    code_of = {id: client.get(f"/collections/digits/items/{id}").json()["code"] for id in ("p0", "p2")}
    assert code_of["p0"] == code_of["p2"]
    client.post("/collections", json={"name": "bare", "model": "digits-hash", "keep_inputs": False})
    for picture in pictures[:2]:  # without the input nothing says that it is another one
        client.post("/ingest", json={"collection": "bare", "items": [{"id": "p", "image": png(picture)}]})
    hit = client.post("/search", json={"collection": "bare", "query": {"image": png(pictures[1])}}).json()["hits"][0]
    assert hit["distance"] == 0
