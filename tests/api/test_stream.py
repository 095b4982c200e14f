"""/ingest of application/x-ndjson: one item a line, any number of lines, stored as they come."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png, server
from wire import Stream

from models.data import Dataset
from service import stream
from service.app import create_app
from service.engine import Engine
from service.errors import InvalidRequest, TooLarge
from service.schemas import IngestReply
from service.settings import Settings

TYPE = {"content-type": "application/x-ndjson"}
DIGIT = png(np.arange(64, dtype=np.uint8).reshape(8, 8, 1))
ZERO = "00" * 8


def lines(*items: dict[str, Any] | str, end: str = "\n") -> bytes:
    return "".join((item if isinstance(item, str) else json.dumps(item)) + end for item in items).encode()


def numbered(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"n{place:06d}", "code": f"{place:016x}"} for place in range(first, first + count)]


def send(client: TestClient, body: bytes, collection: str | None = "digits", **rest: Any) -> Any:
    params = {"collection": collection, **rest}
    chosen = {name: value for name, value in params.items() if value is not None}
    return client.post("/ingest", content=body, params=chosen, headers=TYPE)


def count(client: TestClient, collection: str = "digits") -> int:
    return int(client.get(f"/collections/{collection}").json()["items"])


def counts(reply: Any) -> tuple[int, int, int]:
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return body["created"], body["updated"], body["unchanged"]


@pytest.fixture(scope="module")
def lasting_client(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client for tests that clean up after themselves."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("lasting") / "data"))
    with TestClient(create_app(Settings(data_dir=root)), raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with an empty collection of ready-made 64-bit codes, `codes`, and small bodies."""
    with Engine(Settings(data_dir=tmp_path / "data", max_body_bytes=5000)) as made:
        made.create_collection("codes", None, 64, True)
        yield made


def run(engine: Engine, body: bytes, size: int = 1 << 16, *, skip_bad: bool = False) -> IngestReply:
    """The reply to `body` in parts of `size`."""

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return asyncio.run(stream.LineIngest(engine, "codes", None, skip_bad=skip_bad).run(parts()))


# -- what is stored ------------------------------------------------------------------------------------------------


def test_a_line_is_an_item(client: TestClient) -> None:
    """As in `items` of a JSON body: created, updated, unchanged, ids in their order, the model that made the codes."""
    before = count(client)
    items = [{"id": "a", "code": ZERO}, {"id": "b", "image": DIGIT, "payload": {"label": 7}}, {"code": "ff" * 8}]
    reply = send(client, lines(*items)).json()
    assert (reply["collection"], reply["created"], reply["updated"], reply["unchanged"]) == ("digits", 3, 0, 0)
    assert reply["ids"][:2] == ["a", "b"]
    assert reply["model"]["name"] == "digits-hash"
    assert "errors" not in reply
    assert count(client) == before + 3
    assert client.get("/collections/digits/items/b").json()["payload"] == {"label": 7}
    assert client.get("/collections/digits/items/b").json()["input"] == {"image": DIGIT}
    again = send(client, lines({"id": "a", "code": ZERO}, {"id": "b", "code": ZERO}))
    assert counts(again) == (0, 1, 1)
    found = client.post("/search", json={"collection": "digits", "query": {"code": ZERO}, "k": 2}).json()
    assert [(hit["id"], hit["distance"]) for hit in found["hits"]] == [("a", 0), ("b", 0)]


@pytest.mark.parametrize(
    "body",
    [
        lines(*numbered(3)),
        lines(*numbered(3)).rstrip(b"\n"),
        lines(*numbered(3), end="\r\n"),
        lines("", *numbered(1), "", " \t", *numbered(2, first=1), "", "\r"),
        lines(*numbered(3), end="\n\n\r\n"),
        lines(*(f" {json.dumps(item, indent=None)}\t" for item in numbered(3))),
    ],
    ids=["lines", "no-end", "crlf", "empty", "double", "spaces"],
)
def test_how_lines_may_end(lasting_client: TestClient, body: bytes) -> None:
    """CRLF, empty lines, and a last line without its end."""
    ids = ["n000000", "n000001", "n000002"]
    assert send(lasting_client, body).json()["ids"] == ids
    assert lasting_client.post("/collections/digits/delete", json={"ids": ids}).json() == {"deleted": 3}


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000, 1 << 20])
def test_however_it_is_cut_into_parts(engine: Engine, size: int) -> None:
    body = lines(*numbered(40), "", {"id": "é€😀", "code": ZERO}, "{}", end="\r\n").rstrip()
    reply = run(engine, body, size, skip_bad=True)
    assert reply.ids == [f"n{place:06d}" for place in range(40)] + ["é€😀"]
    assert [fault.position for fault in reply.errors or ()] == [42]


def test_codes_alone_and_among_others_are_stored_the_same(client: TestClient) -> None:
    """The fast path for codes does what the other does, for the same ids whichever way they came first."""
    codes = [{"id": f"c{place}", "code": f"{place:016X}"} for place in range(30)]
    mixed = [codes[0] | {"payload": None}, *codes[1:]]
    for first, second in ((codes, mixed), (mixed, codes)):
        client.post("/collections", json={"name": "one", "bits": 64})
        assert counts(send(client, lines(*first), "one")) == (30, 0, 0)
        assert counts(send(client, lines(*second), "one")) == (0, 0, 30)
        stored = client.get("/collections/one/items").json()["items"]
        assert {item["id"]: item["code"] for item in stored} == {item["id"]: item["code"].lower() for item in codes}
        client.delete("/collections/one")


@pytest.mark.parametrize(("name", "field"), [("digits", "image"), ("python-docs", "text"), ("vectors", "vector")])
def test_whatever_the_model_takes(client: TestClient, datasets: dict[str, Dataset], name: str, field: str) -> None:
    """A stream gives an item the code that a JSON body gives it."""
    data = datasets[name]
    values = [data.items[place] for place in range(25)]
    shown = {"image": png, "text": str, "vector": lambda value: value.tolist()}[field]
    items = [{"id": f"s{place}", field: shown(value)} for place, value in enumerate(values)]
    model = client.get(f"/collections/{name}").json()["model"]["name"]
    made = send(client, lines(*items), "new", model=model)
    assert counts(made) == (25, 0, 0)
    assert made.json()["model"]["name"] == model
    for place in range(25):
        code = client.get(f"/collections/{name}/items/{data.ids[place]}").json()["code"]
        assert client.get(f"/collections/new/items/s{place}").json()["code"] == code


def test_an_id_that_comes_twice_is_stored_once(engine: Engine) -> None:
    """The last line with an id stands, within a batch and across batches."""
    turns = [{"id": f"d{place % 10}", "code": f"{place:016x}"} for place in range(stream.BATCH_LINES + 35)]
    run(engine, lines(*turns))
    collection = engine.catalogue.get("codes")
    assert len(collection) == 10
    want = {item["id"]: item["code"] for item in turns}
    assert {item.id: item.code.hex() for item in collection.items(limit=20)} == want


def test_a_stream_may_be_of_any_length(engine: Engine) -> None:
    """`max_body_bytes` is for a line, not for the stream; ids are listed for 10,000 items and no more."""
    body = lines(*numbered(10_000))
    assert len(body) > 50 * engine.settings.max_body_bytes
    assert len(run(engine, body).ids or []) == 10_000
    reply = run(engine, lines(*numbered(10_001)))
    assert (reply.created, reply.unchanged, reply.ids) == (1, 10_000, None)
    assert len(engine.catalogue.get("codes")) == 10_001


def test_a_search_meanwhile_sees_what_is_committed(engine: Engine) -> None:
    """Whole batches, in the order of the lines, and never what is still to come."""
    seen: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        for first in range(0, 20_000, 1000):
            found = engine.catalogue.get("codes").items(limit=20_001)
            assert [item.id for item in found] == [item["id"] for item in numbered(len(found))]
            seen.append(len(found))
            yield lines(*numbered(1000, first))

    asyncio.run(stream.LineIngest(engine, "codes", None, skip_bad=False).run(parts()))
    assert seen == sorted(seen)
    assert {0, stream.BATCH_LINES, 3 * stream.BATCH_LINES} <= set(seen)
    assert len(engine.catalogue.get("codes")) == 20_000


def test_what_comes_slowly_does_not_wait_for_a_full_batch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH_S", 0.0)
    seen = []

    async def parts() -> AsyncIterator[bytes]:
        for first in range(4):
            seen.append(len(engine.catalogue.get("codes")))
            yield lines(*numbered(1, first))

    asyncio.run(stream.LineIngest(engine, "codes", None, skip_bad=False).run(parts()))
    assert seen == [0, 1, 2, 3]


# -- what is refused -----------------------------------------------------------------------------------------------

NOT_JSON = "not valid JSON"
BAD_LINES: list[tuple[bytes, str]] = [
    (b'{"id": "x", "code": "0', NOT_JSON),
    (b'{"id": "x", "code": "\xff\xfe"}', NOT_JSON),
    (b'{"id": "\\ud800", "code": "%b"}' % ZERO.encode(), NOT_JSON),
    (b'\xef\xbb\xbf{"code": "%b"}' % ZERO.encode(), NOT_JSON),
    (bytes(byte for byte in range(256) if byte != 10), NOT_JSON),
    (b"[" * 100_000, NOT_JSON),
    (b'{"payload": ' + b'{"a":' * 40_000, NOT_JSON),
    (b'{"code": "%b", "payload": {"a": %b}}' % (ZERO.encode(), b"9" * 5000), NOT_JSON),
    (b'{"code": "%b"}{"code": "%b"}' % (ZERO.encode(), ZERO.encode()), NOT_JSON),
    (b'{"code": "%b"}, {"code": "%b"}' % (ZERO.encode(), ZERO.encode()), NOT_JSON),
    (b"[]", "object"),
    (b"null", "object"),
    (b"7", "object"),
    (b'"text"', "object"),
    (b"{}", "exactly one of"),
    (lines({"id": "x"}), "exactly one of"),
    (lines({"image": DIGIT, "code": ZERO}), "exactly one of"),
    (lines({"code": ZERO, "more": 1}), "/more: unknown field"),
    (lines({"code": ZERO, "payload": [1]}), "/payload: expected a JSON object"),
    (lines({"code": ZERO, "payload": {"a": float("nan")}}), "no NaN"),
    (lines({"vector": [float("inf")]}), "/vector/0"),
    (lines({"code": ZERO, "payload": {"a": "x" * 70_000}}), "max_payload_bytes"),
    (lines({"id": 7, "code": ZERO}), "/id"),
    (lines({"id": "", "code": ZERO}), "/id"),
    (lines({"id": "x" * 513, "code": ZERO}), "512 bytes"),
    (lines({"id": "a\0b", "code": ZERO}), "NUL"),
    (lines({"code": ZERO[2:]}), "16 hexadecimal digits; got 14"),
    (lines({"code": "zz" * 8}), "hexadecimal digits only"),
    (lines({"code": "00 0000000000 00"}), "hexadecimal digits only"),
    (lines({"text": "t"}), "takes image input; got text"),
    (lines({"vector": [1.0]}), "takes image input; got vector"),
    (lines({"image": "bad!"}), "not base64"),
    (lines({"image": base64.b64encode(b"GIF89a").decode()}), "not a PNG"),
]


@pytest.mark.parametrize(("bad", "why"), BAD_LINES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("others", [{"code": ZERO}, {"image": DIGIT}], ids=["codes", "images"])
def test_a_bad_line_is_named_and_what_came_before_is_stored(
    lasting_client: TestClient, bad: bytes, why: str, others: dict[str, Any]
) -> None:
    """The line counts from 1 in the text and from 0 in the pointer; nothing from it on is stored; nothing is echoed."""
    client = lasting_client
    good = [{"id": f"g{place}", **others} for place in range(4)]
    client.post("/collections/digits/delete", json={"ids": [item["id"] for item in good]})
    before = count(client)
    body = lines(good[0], "", good[1]) + bad.rstrip(b"\n") + b"\n" + lines(*good[2:])
    reply = send(client, body)
    problem = assert_problem(reply, 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/3"
    assert why in problem["errors"][0]["detail"]
    assert problem["detail"].startswith("line 4: ")
    assert "items stored before that: 2 (they stay" in problem["detail"]
    assert "on_error=skip" in problem["detail"]
    assert len(reply.text) < 1500
    assert count(client) == before + 2
    assert client.get("/collections/digits/items/g1").status_code == 200
    assert_problem(client.get("/collections/digits/items/g2"), 404, "unknown-item")


def test_on_error_skip_lists_every_bad_line(client: TestClient) -> None:
    before = count(client)
    body = b"".join(
        bad.rstrip(b"\n") + b"\n" + lines({"id": f"g{place}", "code": ZERO}) for place, (bad, _) in enumerate(BAD_LINES)
    )
    reply = send(client, body, on_error="skip").json()
    assert reply["ids"] == [f"g{place}" for place in range(len(BAD_LINES))]
    assert [fault["position"] for fault in reply["errors"]] == list(range(0, 2 * len(BAD_LINES), 2))
    for fault, (_, why) in zip(reply["errors"], BAD_LINES, strict=True):
        assert why in fault["detail"]
    assert count(client) == before + len(BAD_LINES)
    assert send(client, lines({"id": "a", "code": ZERO}), on_error="skip").json()["errors"] == []
    assert send(client, b"{}\n{}\n", on_error="skip").json()["created"] == 0


def test_the_first_bad_line_is_named_whatever_is_wrong_with_later_ones(client: TestClient) -> None:
    body = lines({"id": "a", "code": ZERO}, {"id": "b", "code": "00"}, {"id": "c", "image": "bad"}, "{")
    assert assert_problem(send(client, body), 422)["errors"][0]["pointer"] == "/1"


def test_a_bad_line_after_many_batches(engine: Engine) -> None:
    items: list[Any] = [*numbered(12_000), {"id": "bad", "code": "00"}, *numbered(10, first=12_000)]
    with pytest.raises(InvalidRequest, match=r"line 12001: .* items stored before that: 12,000 \(they stay") as refused:
        run(engine, lines(*items))
    assert refused.value.errors[0][0] == "/12000"
    assert len(engine.catalogue.get("codes")) == 12_000
    reply = run(engine, lines(*items), skip_bad=True)
    assert (reply.created, reply.unchanged) == (10, 12_000)


def test_more_bad_lines_than_a_reply_lists(engine: Engine) -> None:
    with pytest.raises(
        InvalidRequest, match="line 10002: more than 10,000 lines are bad; items stored before that: 1 "
    ):
        run(engine, lines({"id": "a", "code": ZERO}, *["{}"] * 10_001), skip_bad=True)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_a_line_is_at_most_as_long_as_a_body(engine: Engine, size: int) -> None:
    """`max_body_bytes`, here 5,000, whether the line ends or not."""
    longest = {"id": "a", "code": ZERO, "payload": {"a": ""}}
    longest["payload"] = {"a": "x" * (5000 - len(json.dumps(longest)))}
    assert run(engine, lines(longest, {"id": "b", "code": ZERO}), size).created == 2
    longer = json.dumps(longest) + " "
    for body in (lines(*numbered(9), longer, "{"), lines(*numbered(9)) + longer.encode(), lines(longer)):
        already = body.count(b'"n')
        with pytest.raises(TooLarge, match=rf"line {already + 1} is longer than 5,000 bytes \(max_body_bytes\)"):
            run(engine, body, size)
        assert len(engine.catalogue.get("codes")) == 11


def test_a_long_line_in_small_parts_is_cheap(tmp_path: Path) -> None:
    """H2: what has come of a line is not looked at again with every part."""
    with Engine(Settings(data_dir=tmp_path / "data")) as engine:
        engine.create_collection("codes", None, 64, True)
        body = b'{"code": "' + b"0" * (8 << 20)
        started = time.process_time()
        with pytest.raises(InvalidRequest, match=NOT_JSON):
            run(engine, body, 512)
        assert time.process_time() - started < 2


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n", b"\n\n \n\t\r\n"])
def test_nothing_but_empty_lines_is_refused(lasting_client: TestClient, body: bytes) -> None:
    problem = assert_problem(send(lasting_client, body), 422, "invalid-request")
    assert "the stream has no line" in problem["detail"]


@pytest.mark.parametrize(
    ("params", "status", "slug", "why"),
    [
        ({"collection": None}, 422, "invalid-request", "/ingest?collection="),
        ({"collection": "nobody"}, 404, "unknown-collection", "model=..."),
        ({"collection": "new", "model": "nobody"}, 404, "unknown-model", "digits-hash"),
        ({"collection": "../new", "model": "digits-hash"}, 422, "invalid-request", "lower-case"),
        ({"collection": "", "model": "digits-hash"}, 422, "invalid-request", "lower-case"),
        ({"model": "digits-vae"}, 409, "model-mismatch", "filled by digits-hash:1"),
        ({"collection": "codes", "model": "digits-hash"}, 409, "model-mismatch", "ready-made"),
        ({"on_error": "ignore"}, 422, "invalid-request", "'refuse' or 'skip'"),
    ],
    ids=str,
)
def test_streams_that_are_refused(
    lasting_client: TestClient, params: dict[str, str | None], status: int, slug: str, why: str
) -> None:
    client = lasting_client
    client.post("/collections", json={"name": "codes", "bits": 64})
    before = count(client)
    problem = assert_problem(send(client, lines({"code": ZERO}), **params), status, slug)
    assert why in problem["detail"]
    assert count(client) == before
    assert_problem(client.get("/collections/new"), 404, "unknown-collection")


def test_an_idempotency_key_is_refused_with_the_way_out(client: TestClient) -> None:
    headers = {**TYPE, "idempotency-key": "k"}
    response = client.post("/ingest?collection=digits", content=lines({"code": ZERO}), headers=headers)
    assert "give every line an id" in assert_problem(response, 422, "invalid-request")["detail"]


def test_a_collection_is_made_by_its_first_good_line(client: TestClient) -> None:
    """Not by bad ones, and however many of those come first, with `on_error=skip` the good ones are stored."""
    bad = [{"id": f"b{place}", "image": "bad"} for place in range(50)]
    good = {"id": "good", "image": DIGIT}
    new = {"collection": "new", "model": "digits-hash"}
    for skip in ({}, {"on_error": "skip"}):
        problem = assert_problem(send(client, lines("", *bad), **new, **skip), 422, "invalid-request")
        assert problem["detail"].startswith("line 2: image is not base64")
        assert problem["errors"][0]["pointer"] == "/1"
        assert_problem(client.get("/collections/new"), 404, "unknown-collection")
    assert_problem(send(client, lines(bad[0], good), **new), 422)
    assert_problem(client.get("/collections/new"), 404, "unknown-collection")
    reply = send(client, lines(*bad, good, "{"), **new, on_error="skip").json()
    assert (reply["created"], reply["ids"], len(reply["errors"])) == (1, ["good"], 51)
    assert reply["model"]["name"] == "digits-hash"
    assert_problem(send(client, lines(good, bad[0]), **new, on_error="refuse"), 422)
    assert count(client, "new") == 1


def test_a_collection_deleted_meanwhile_is_not_made_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a line of codes nor by others, though the model is named; nor is one of that name that is another."""
    monkeypatch.setattr(stream, "BATCH_LINES", 30)
    with Engine(Settings(data_dir=data_dir)) as engine:
        for item in ({"code": ZERO}, {"image": DIGIT}):
            for again in (False, True):

                async def parts(item: dict[str, Any] = item, again: bool = again) -> AsyncIterator[bytes]:
                    yield lines(*[item] * stream.BATCH_LINES)
                    engine.catalogue.delete("new")
                    if again:
                        engine.create_collection("new", "digits-vae", None, True)
                    yield lines(item)

                ingest = stream.LineIngest(engine, "new", "digits-hash", skip_bad=True)
                with pytest.raises(Exception, match=r"there is no collection|deleted") as gone:
                    asyncio.run(ingest.run(parts()))
                assert f"items stored before that: {stream.BATCH_LINES:,}" in str(gone.value)
                if again:
                    assert len(engine.catalogue.get("new")) == 0
                    engine.catalogue.delete("new")
                else:
                    assert "new" not in engine.catalogue.all()


def test_a_full_disk_is_told_with_what_is_stored(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier batches stay, and the reply says so."""
    from index.collection import EmbeddedCollection
    from index.errors import StoreFull

    put = EmbeddedCollection.put

    def full(self: EmbeddedCollection, items: Any, **options: Any) -> Any:
        if any(item.id == "g2" for item in items):
            raise StoreFull("the disk is full; nothing was stored")
        return put(self, items, **options)

    monkeypatch.setattr(EmbeddedCollection, "put", full)
    monkeypatch.setattr(stream, "BATCH_LINES", 2)
    body = lines(*({"id": f"g{place}", "image": DIGIT} for place in range(4)))
    assert "items stored before that: 2 (they stay" in assert_problem(send(client, body), 507, "disk-full")["detail"]


def test_the_limits_of_a_request_cut_a_stream_into_parts(data_dir: Path) -> None:
    """`max_items` and `max_request_pixels` say what one request may hold; a stream may hold any number."""
    settings = Settings(data_dir=data_dir, max_items=3, max_request_pixels=200, max_image_pixels=250)
    with TestClient(create_app(settings)) as client:
        before = count(client)
        pictures = [{"id": f"g{place}", "image": DIGIT} for place in range(10)]
        reply = send(client, lines(*pictures)).json()
        assert reply["ids"] == [item["id"] for item in pictures]
        assert counts(send(client, lines(*pictures))) == (0, 0, 10)
        large = {"id": "large", "image": png(np.zeros((15, 15, 1), np.uint8))}
        assert "max_request_pixels" in str(assert_problem(send(client, lines(*pictures, large)), 422))
        large["image"] = png(np.zeros((16, 16, 1), np.uint8))
        reply = send(client, lines(large, *pictures), on_error="skip").json()
        assert [fault["id"] for fault in reply["errors"]] == ["large"]
        assert count(client) == before + 10


def test_the_example_of_the_document_works(client: TestClient) -> None:
    spec = client.get("/openapi.json").json()["paths"]["/ingest"]["post"]
    body = spec["requestBody"]["content"]["application/x-ndjson"]
    assert "max_body_bytes" in body["schema"]["description"]
    assert {"collection", "model", "on_error", "idempotency-key"} <= {part["name"] for part in spec["parameters"]}
    assert counts(send(client, body["example"].encode())) == (2, 0, 0)


# -- what raw clients do to a real server --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    """Port and process of a service that waits a second and a half for more of a body, and its log."""
    root = tmp_path_factory.mktemp("streams") / "data"
    with server(root, HAMMINGBIRD_BODY_TIMEOUT_S="1.5", HAMMINGBIRD_MAX_BODY_BYTES="100000") as (url, process):
        port = int(url.rsplit(":", 1)[1])
        yield port, process.pid, root.parent / f"server-{port}.log"


def ask(port: int, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    import urllib.request

    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{target}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as reply:
        found: dict[str, Any] = json.loads(reply.read())
        return found


def made(port: int, name: str) -> str:
    ask(port, "POST", "/collections", {"name": name, "bits": 64})
    return f"/ingest?collection={name}"


def stored(port: int, name: str) -> list[str]:
    return [item["id"] for item in ask(port, "GET", f"/collections/{name}/items?limit=1000")["items"]]


def test_a_slow_stream_goes_on_and_a_stalled_one_is_cut_off(served: tuple[int, int, Path]) -> None:
    """H4: `body_timeout_s`, here 1.5 s, is the time between two parts, not that of the whole."""
    port = served[0]
    client = Stream.of_lines(f"http://127.0.0.1:{port}", made(port, "slow"))
    body = lines(*numbered(6))
    started = time.monotonic()
    for start in range(0, len(body), 50):  # not where lines end
        client.chunk(body[start : start + 50])
        time.sleep(0.6)
    assert time.monotonic() - started > 2 * 1.5
    client.end()
    status, reply = client.reply()
    assert (status, reply["created"]) == (200, 6)

    stalled = Stream.of_lines(f"http://127.0.0.1:{port}", made(port, "stalled"))
    stalled.chunk(lines(*numbered(3)) + b'{"id": "half')
    started = time.monotonic()
    status, reply = stalled.reply()
    assert 1 < time.monotonic() - started < 6
    assert (status, reply["type"]) == (408, "urn:hammingbird:problem:body-timeout")
    assert "body_timeout_s" in reply["detail"]
    assert "what was stored of it stays" in reply["detail"]


def test_a_client_that_stops_leaves_whole_batches_and_nothing_else(served: tuple[int, int, Path]) -> None:
    """X4: what was committed stays, nothing half a line; no descriptor is left, and no trace of a defect is logged."""
    port, pid, log = served
    target = made(port, "stopped")
    body = lines(*numbered(stream.BATCH_LINES + 500))

    def stop(place: int) -> None:
        client = Stream.of_lines(f"http://127.0.0.1:{port}", target)
        if place == 0:
            for start in range(0, len(body), 50_000):
                client.chunk(body[start : start + 50_000])
        client.chunk(b'{"id": "half", "code": "%b"}' % ZERO.encode())  # whole, but for the end of its line
        client.drop()

    def settled() -> int:
        time.sleep(0.3)
        return len(os.listdir(f"/proc/{pid}/fd"))

    stop(0)
    before = settled()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(stop, range(1, 60)))
    deadline = time.monotonic() + 20  # on a busy machine
    while (left := settled()) > before + 2:
        assert time.monotonic() < deadline, left
    assert len(os.listdir(f"/proc/{pid}/task")) < 60
    count = ask(port, "GET", "/collections/stopped")["items"]
    found = ask(
        port, "POST", "/search", {"collection": "stopped", "query": {"code": ZERO}, "radius": 64, "limit": 9999}
    )
    assert count == found["total"] >= stream.BATCH_LINES
    assert {hit["id"] for hit in found["hits"]} == {item["id"] for item in numbered(count)}
    text = log.read_text()
    assert "POST /ingest 499" in text
    assert "unexpected" not in text
    assert "Traceback" not in text


def test_two_streams_at_once_and_searches_meanwhile(served: tuple[int, int, Path]) -> None:
    """Each stores all of its lines; a search sees, of each, the first so many."""
    port = served[0]
    target = made(port, "both")

    def run_one(first: int) -> tuple[int, dict[str, Any]]:
        client = Stream.of_lines(f"http://127.0.0.1:{port}", target)
        body = lines(*numbered(20_000, first))
        for start in range(0, len(body), 30_000):
            client.chunk(body[start : start + 30_000])
        client.end()
        return client.reply()

    totals = [0]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run_one, first) for first in (0, 500_000)]
        while not all(one.done() for one in running):
            search = {"collection": "both", "query": {"code": ZERO}, "radius": 64, "count_only": True}
            totals.append(ask(port, "POST", "/search", search)["total"])
        for one in running:
            status, reply = one.result()
            assert (status, reply["created"]) == (200, 20_000)
    assert totals == sorted(totals)
    assert ask(port, "GET", "/collections/both")["items"] == 40_000


def test_only_a_stream_to_be_ingested_has_no_size(served: tuple[int, int, Path]) -> None:
    """H4: its type gives no other body leave to be larger than `max_body_bytes`, nor is one read as another type."""
    port = served[0]
    types = "content-type: application/x-ndjson"
    part = b'--x\r\ncontent-disposition: form-data; name="files"; filename="f"\r\n\r\n'
    for target, head, kind, first in (
        ("/search", (), "application/x-ndjson", b"{"),
        ("/collections", (), "application/x-ndjson", b"{"),
        ("/ingest?collection=digits", (types,), "application/json", b"{"),
        ("/ingest?collection=digits", (types,), "multipart/form-data; boundary=x", part),
    ):
        client = Stream.of_lines(f"http://127.0.0.1:{port}", target, *head, kind=kind)
        client.chunk(first)
        with suppress(OSError):  # the server need not listen to the end
            for _ in range(30):
                client.chunk(b" " * 10_000)
            client.end()
        status, reply = client.reply()
        assert (status, reply["type"]) == (413, "urn:hammingbird:problem:too-large")


def test_a_line_without_end_is_cut_off(served: tuple[int, int, Path]) -> None:
    port = served[0]
    client = Stream.of_lines(f"http://127.0.0.1:{port}", made(port, "endless"))
    client.chunk(lines(*numbered(2)))
    for _ in range(11):
        client.chunk(b" " * 10_000)
    status, reply = client.reply()
    assert (status, reply["type"]) == (413, "urn:hammingbird:problem:too-large")
    assert reply["detail"].startswith("line 3 is longer than 100,000 bytes (max_body_bytes)")
    assert stored(port, "endless") == ["n000000", "n000001"]
