"""Encoding in batches, and what happens where a model fails, hangs or is asked too much (reliability.md X6, X7, X9)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem

from models.data import Dataset
from models.errors import InvalidInput
from service.app import create_app
from service.batching import Encoder
from service.engine import Engine
from service.settings import Settings

POISON = 1e6
"""An item that begins with this number makes the model do what the test wants."""


def model_of(client: TestClient, collection: str = "vectors") -> Any:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine.model_of(engine.catalogue.get(collection))[1]


def poisoned(monkeypatch: pytest.MonkeyPatch, model: Any, deed: Callable[[Any], Any]) -> list[int]:
    """Let `deed` happen to a batch with a poisoned item in it; returns the sizes of the batches that were encoded."""
    logits, sizes = type(model).logits, []

    def changed(self: Any, items: Sequence[Any]) -> Any:
        sizes.append(len(items))
        bad = [place for place, item in enumerate(items) if np.asarray(item).flat[0] == POISON]
        found = logits(self, items)
        if bad:
            what = deed(found[bad[0]])
            if what is not None:
                found[bad] = what
        return found

    monkeypatch.setattr(type(model), "logits", changed)
    return sizes


def vector(seed: int, first: float = 0.5) -> list[float]:
    made = np.random.default_rng(seed).normal(size=24)
    made[0] = first
    return [round(float(value), 6) for value in made]


def body(values: list[float], **options: Any) -> dict[str, Any]:
    return {"collection": "vectors", "query": {"vector": values}, "k": 3, **options}


@pytest.fixture
def small(prepared: Path, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Makes a client of the service with given settings."""
    import shutil

    opened: list[TestClient] = []

    def make(**settings: Any) -> TestClient:
        root = Path(shutil.copytree(prepared, tmp_path / f"data{len(opened)}"))
        client = TestClient(create_app(Settings(data_dir=root, **settings)), raise_server_exceptions=False)
        opened.append(client.__enter__())
        engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
        for encoder in engine.encoders.all():
            encoder.quick = False  # these are about the queue, which models take that cannot encode at once
        return opened[-1]

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def raises(error: Exception) -> Callable[[Any], Any]:
    def deed(row: Any) -> Any:
        raise error

    return deed


DEEDS: list[tuple[str, Callable[[Any], Any], int]] = [
    ("refused", raises(InvalidInput("the marker is not an item")), 422),
    ("broken", raises(ZeroDivisionError("secret")), 500),
    ("out of memory", raises(MemoryError("secret")), 500),
    ("not a number", lambda row: np.full_like(row, np.nan), 422),
]


@pytest.mark.parametrize(("what", "deed", "status"), DEEDS, ids=[name for name, *_ in DEEDS])
def test_a_poisoned_item_fails_alone(
    small: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, what: str, deed: Any, status: int
) -> None:
    """X6: of 32 in one batch 31 are answered as alone, one is told; the next thousand are normal, and it is ready."""
    client = small()
    model = model_of(client)
    wanted = {seed: client.post("/search", json=body(vector(seed))).json()["code"] for seed in range(31)}
    sizes = poisoned(monkeypatch, model, deed)
    gate = threading.Event()
    logits = type(model).logits

    def held(self: Any, items: Sequence[Any]) -> Any:
        gate.wait(20)  # until all 32 are there
        return logits(self, items)

    monkeypatch.setattr(type(model), "logits", held)
    with ThreadPoolExecutor(33) as pool:
        first = pool.submit(client.post, "/search", json=body(vector(99)))
        time.sleep(0.2)
        asked = {seed: pool.submit(client.post, "/search", json=body(vector(seed))) for seed in range(31)}
        bad = pool.submit(client.post, "/search", json=body(vector(50, POISON)))
        engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
        until(lambda: len(engine.encoders.of(model)._single) == 32)
        gate.set()
        assert first.result().status_code == 200
        for seed, reply in asked.items():
            assert reply.result().json()["code"] == wanted[seed], seed
        problem = assert_problem(bad.result(), status)
    assert "secret" not in str(problem)
    assert 32 in sizes, "they were one batch"
    assert client.get("/readyz").status_code == 200
    for seed in range(1000 if what == "broken" else 50):
        reply = client.post("/search", json=body(vector(seed % 31)))
        assert reply.json()["code"] == wanted[seed % 31]


def until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def test_a_model_that_hangs(small: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """X7: 503 at the deadline, and for what waited behind it; not ready, then ready again; the thread is replaced."""
    client = small(request_timeout_s=1.0)
    model = model_of(client)
    wanted = client.post("/search", json=body(vector(1))).json()["code"]
    back = threading.Event()
    poisoned(monkeypatch, model, lambda row: back.wait(30) and None)
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    encoder = engine.encoders.of(model)
    before = threading.active_count()
    started = time.monotonic()
    problem = assert_problem(client.post("/search", json=body(vector(2, POISON))), 503, "timeout")
    assert 0.9 < time.monotonic() - started < 3
    assert "request_timeout_s" in problem["detail"]
    assert encoder._stuck == 1
    assert client.post("/search", json=body(vector(1))).json()["code"] == wanted, "another thread goes on"
    assert client.get("/readyz").status_code == 200

    # Now it hangs at everything.
    monkeypatch.setattr(type(model.input), "example", lambda self: np.full(24, POISON, np.float32))
    time.sleep(1.1)  # the last canary's word holds for a second
    reply = client.get("/readyz")
    assert reply.headers["retry-after"]
    assert "vectors-itq:1 hangs" in assert_problem(reply, 503, "not-ready")["detail"]
    assert client.get("/livez").status_code == 200
    assert client.post("/search", json={"collection": "digits", "query": {"id": "digit-0000"}}).status_code == 200
    back.set()
    until(lambda: encoder._stuck == 0)
    time.sleep(1.1)
    assert client.get("/readyz").status_code == 200
    assert client.post("/search", json=body(vector(1))).json()["code"] == wanted
    assert threading.active_count() <= before + 1


def test_a_model_that_keeps_hanging_is_given_no_more_threads(
    small: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """X7: a few threads may hang, then requests are refused at once."""
    client = small(request_timeout_s=0.3)
    model = model_of(client)
    client.post("/search", json=body(vector(1)))
    back = threading.Event()
    poisoned(monkeypatch, model, lambda row: back.wait(30) and None)
    for _ in range(3):
        assert_problem(client.post("/search", json=body(vector(2, POISON))), 503, "timeout")
    started = time.monotonic()
    assert "have not come back" in assert_problem(client.post("/search", json=body(vector(1))), 503)["detail"]
    assert time.monotonic() - started < 0.2
    back.set()
    encoder = client.app.state.engine.encoders.of(model)  # type: ignore[attr-defined]
    until(lambda: encoder._stuck == 0)
    assert client.post("/search", json=body(vector(1))).status_code == 200


def test_a_full_queue_refuses_at_once(small: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """X9: 429 with Retry-After in less than 50 ms, and whoever waits is answered; ten times the capacity."""
    client = small(max_encode_waiting=8)
    model = model_of(client)
    client.post("/search", json=body(vector(1)))
    back = threading.Event()
    poisoned(monkeypatch, model, lambda row: back.wait(30) and None)
    encoder = client.app.state.engine.encoders.of(model)  # type: ignore[attr-defined]
    with ThreadPoolExecutor(10) as pool:
        held = pool.submit(client.post, "/search", json=body(vector(2, POISON)))
        until(lambda: encoder._worker is not None and bool(encoder._worker.batch))
        waiting = [pool.submit(client.post, "/search", json=body(vector(seed))) for seed in range(8)]
        until(lambda: len(encoder._single) == 8)
        took = []
        for seed in range(80):
            started = time.perf_counter()
            reply = client.post("/search", json=body(vector(seed)))
            took.append(time.perf_counter() - started)
            problem = assert_problem(reply, 429, "overloaded")
            assert reply.headers["retry-after"]
        assert "max_encode_waiting" in problem["detail"]
        assert np.median(took) < 0.05
        assert len(encoder._single) == 8
        assert client.get("/readyz").status_code == 200, "busy is not broken"
        back.set()
        assert held.result().status_code == 200
        assert {one.result().status_code for one in waiting} == {200}


def test_a_search_is_never_behind_a_large_request(
    small: Callable[..., TestClient], datasets: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices of an ingest take turns with searches."""
    client = small()
    model = model_of(client)
    order: list[int] = []
    logits = type(model).logits

    def slow(self: Any, items: Sequence[Any]) -> Any:
        order.append(len(items))
        time.sleep(0.01)
        return logits(self, items)

    monkeypatch.setattr(type(model), "logits", slow)
    items = [{"id": f"n{place}", "vector": vector(place)} for place in range(2000)]
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(client.post, "/ingest", json={"collection": "vectors", "items": items})
        until(lambda: len(order) > 2)
        took = []
        while not large.done():
            started = time.perf_counter()
            assert client.post("/search", json=body(vector(7))).status_code == 200
            took.append(time.perf_counter() - started)
        assert large.result().json()["created"] == 2000
    assert max(order) <= 256
    assert len(took) >= 3
    assert np.median(took) < 1.0, "a slice or two, not two thousand items"


def test_codes_are_the_same_alone_and_in_any_batch(
    prepared: Path, datasets: dict[str, Dataset], tmp_path: Path
) -> None:
    """M4: alone, together, in slices, from many threads: bit for bit."""
    import shutil

    with Engine(Settings(data_dir=Path(shutil.copytree(prepared, tmp_path / "data")))) as engine:
        for name in ("digits", "python-docs", "vectors"):
            _, model = engine.model_of(engine.catalogue.get(name))
            items = list(datasets[name].items[:120])
            encoder: Encoder = engine.encoders.of(model)
            alone = np.stack([encoder.logits_now(item, alone=True) > 0 for item in items])
            assert np.array_equal(np.unpackbits(engine.encode(model, items), axis=1).astype(bool), alone)
            with ThreadPoolExecutor(16) as pool:
                together = list(pool.map(encoder.logits_now, items))
            assert np.array_equal(np.stack(together) > 0, alone)


def test_a_quick_model_encodes_on_the_event_loop(
    client: TestClient, datasets: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """X6: with the same codes; a bad item is refused, a broken one is a 500, and the next are normal."""
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    model = model_of(client)
    encoder = engine.encoders.of(model)
    assert encoder.quick
    items = datasets["vectors"].items[:100]
    wanted = [code.tobytes().hex() for code in engine.encode(model, list(items))]
    monkeypatch.setattr(encoder, "_ask", None)  # nothing goes through the queue
    threads: list[int] = []
    logits = type(model).logits

    def watched(self: Any, items: Sequence[Any]) -> Any:
        threads.append(threading.get_ident())
        if items[0][0] == POISON:
            raise ZeroDivisionError("secret")
        return logits(self, items)

    monkeypatch.setattr(type(model), "logits", watched)
    for item, code in zip(items, wanted, strict=True):
        assert client.post("/search", json=body(item.tolist())).json()["code"] == code
    assert len(threads) == 100
    assert len(set(threads)) == 1
    assert_problem(client.post("/search", json=body([1.0] * 23)), 422, "invalid-input")
    assert "secret" not in assert_problem(client.post("/search", json=body(vector(1, POISON))), 500)["detail"]
    assert client.post("/search", json=body(items[0].tolist())).json()["code"] == wanted[0]


def test_a_client_that_leaves_makes_room(small: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """X4, X9: what nobody waits for any more is not encoded."""
    import asyncio

    client = small()
    model = model_of(client)
    back = threading.Event()
    sizes = poisoned(monkeypatch, model, lambda row: back.wait(30) and None)
    encoder = client.app.state.engine.encoders.of(model)  # type: ignore[attr-defined]

    async def leave() -> None:
        first = asyncio.ensure_future(encoder.logits(np.full(24, POISON, np.float32)))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(encoder.logits(np.ones(24, np.float32)))
        await asyncio.sleep(0.05)
        assert len(encoder._single) == 1
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not encoder._single
        back.set()
        await first

    asyncio.run(leave())
    assert sizes.count(1) == len(sizes)
