"""Every limit of the settings: beyond it a problem that names it, at it an answer. (reliability.md H4, H8)"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from service.app import create_app
from service.deadlines import in_thread
from service.errors import Overloaded
from service.settings import Settings

TESTS = Path(__file__).resolve().parent.parent
CODE = {"code": "00" * 8}


def ingest(*items: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "/ingest", {"collection": "digits", "items": list(items)}


def search(collection: str = "digits", query: dict[str, Any] = CODE, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/search", {"collection": collection, "query": query, **more}


def batch(*ks: int) -> tuple[str, dict[str, Any]]:
    return "/search/batch", {"searches": [search(k=k)[1] for k in ks]}


def picture(side: int) -> dict[str, Any]:
    return {"image": png(np.full((side, side, 1), 99, np.uint8))}


def duplicates(groups: int) -> tuple[str, dict[str, Any]]:
    return "/collections/digits/duplicates", {"radius": 0, "max_groups": groups}


def calibrated(queries: int) -> tuple[str, dict[str, Any]]:
    return "/collections/digits/calibrate", {"by": "labels", "queries": queries}


def repaired(steps: int) -> tuple[str, dict[str, Any]]:
    return "/denoise", {"model": "digits-denoise", "input": picture(8), "steps": steps}


# The limit, what is at it, and what is beyond it.
LIMITS: dict[str, tuple[int, tuple[str, Any], tuple[str, Any]]] = {
    "max_body_bytes": (20_000, search(), search(query={"text": "x" * 20_000})),
    "max_items": (3, ingest(*[CODE] * 3), ingest(*[CODE] * 4)),
    "max_image_pixels": (100, search(query=picture(10)), search(query=picture(11))),
    "max_request_pixels": (200, ingest(picture(8), picture(8)), ingest(picture(10), picture(10), picture(3))),
    "max_text_chars": (50, search("python-docs", {"text": "a" * 50}), search("python-docs", {"text": "a" * 51})),
    "max_vector_dim": (24, search("vectors", {"vector": [0.5] * 24}), search("vectors", {"vector": [0.5] * 25})),
    "max_payload_bytes": (
        99,
        ingest({**CODE, "payload": {"a": "x" * 80}}),
        ingest({**CODE, "payload": {"a": "x" * 99}}),
    ),
    "max_k": (20, search(k=20), search(k=21)),
    "max_limit": (1500, search(radius=3, limit=1500), search(radius=3, limit=1501)),
    "max_searches": (3, batch(1, 1, 1), batch(1, 1, 1, 1)),
    "max_batch_hits": (30, batch(15, 15), batch(16, 15)),
    "max_generate": (4, ("/generate", {"model": "digits-vae", "n": 4}), ("/generate", {"model": "digits-vae", "n": 5})),
    "max_groups": (5, duplicates(5), duplicates(6)),
    "max_calibration_queries": (50, calibrated(50), calibrated(51)),
    "max_denoise_steps": (2, repaired(2), repaired(3)),
}


@pytest.fixture(scope="module")
def limited(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with all these limits."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("limited") / "data"))
    settings = Settings(data_dir=root, **{name: limit for name, (limit, *_) in LIMITS.items()})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def test_every_limit_has_a_test() -> None:
    """Here, or, where it needs more than a request, in another file that names it."""
    limits = {name for name in Settings.model_fields if name.startswith("max_")}
    others = [path.read_text().lower() for path in TESTS.rglob("test_*.py") if path != Path(__file__).resolve()]
    below = {"max_jobs_running", "max_search_waiting"}
    cut = {"max_group_ids"}  # not refused but cut, and said so: test_duplicates_job.py
    for name in limits - LIMITS.keys() - below - cut:
        assert any(name in text for text in others), name


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_at_a_limit_is_answered_and_what_is_beyond_it_is_told_which(limited: TestClient, name: str) -> None:
    limit, at, beyond = LIMITS[name]
    fine = limited.post(at[0], json=at[1])
    assert fine.status_code in (200, 202), fine.text
    refused = limited.post(beyond[0], json=beyond[1])
    assert refused.status_code in (413, 422)
    problem = assert_problem(refused, refused.status_code)
    assert f"({name})" in problem["detail"], problem
    assert f"{limit}" in problem["detail"].replace(",", ""), problem


def test_no_more_jobs_run_than_may(data_dir: Path) -> None:
    """max_jobs_running: the third of three waits until one of them ends."""
    long = {"epochs": 10**5, "patience": 10**5}
    body = {"name": "x", "family": "vae", "data": {"dataset": "digits"}, "params": long}
    with TestClient(create_app(Settings(data_dir=data_dir, max_jobs_running=2))) as client:
        ids = [client.post("/train", json=body).json()["id"] for _ in range(3)]

        def become(*expected: str) -> None:
            started = time.monotonic()
            while [client.get(f"/jobs/{id}").json()["state"] for id in ids] != list(expected):
                assert time.monotonic() - started < 20
                time.sleep(0.05)

        become("running", "running", "queued")
        client.delete(f"/jobs/{ids[0]}")
        become("cancelled", "running", "running")


def test_no_more_searches_wait_for_a_thread_than_may() -> None:
    """max_search_waiting: one thread works, one search waits, the next is refused at once; then all is as before."""

    async def crowd() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        go_on = threading.Event()
        working, waiting = (asyncio.create_task(in_thread(20, 1, go_on.wait, 20)) for _ in range(2))
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded, match=re.escape("the limit is 1 (max_search_waiting)")):
            await in_thread(20, 1, go_on.wait, 20)
        go_on.set()
        assert await working
        assert await waiting
        assert await in_thread(20, 1, go_on.wait, 20)

    asyncio.run(crowd())
