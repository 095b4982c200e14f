"""compose.yaml, started for real: `pytest -m image tests/image/test_compose.py` where there is an engine and the image.

COMPOSE is the command, `docker compose` unless it says else (`podman-compose`). The replicas over Milvus are tried
where COMPOSE_MILVUS is set, since their images are two gigabytes to fetch.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = os.environ.get("COMPOSE", "docker compose").split()
ADDRESS = "http://127.0.0.1:8000"


pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


def answers(*command: str) -> bool:
    there = shutil.which(command[0]) is not None
    return there and subprocess.run(command, capture_output=True, check=False).returncode == 0


def compose(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [*COMPOSE, "-p", "hammingbird-test", "--profile", "milvus", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done


@pytest.fixture(autouse=True)
def gone() -> Iterator[None]:
    """Nothing of another run, and nothing left."""
    program = "podman" if COMPOSE[0].startswith("podman") else "docker"
    if not answers(*COMPOSE, "version") or not answers(program, "info"):
        pytest.skip(f"`{' '.join(COMPOSE)}` or its engine is not here")
    compose("down", "-v", check=False)
    yield
    compose("down", "-v", check=False)


def key_made_by(*run: str) -> str:
    done = compose("run", "--rm", *run, "keys", "create", "me", "--scope", "admin")
    (key,) = set(re.findall(r"hb_[0-9a-f]{64}", done.stdout + done.stderr))
    return str(key)


def ask(path: str, key: str = "", body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADDRESS + path, data, {"content-type": "application/json", "x-api-key": key})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_ready(timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if ask("/readyz")[0] == 200:
                return
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.5)
    raise AssertionError(compose("logs", check=False).stdout[-3000:])


ITEMS = [{"id": "a", "code": "0000000000000001"}, {"id": "b", "code": "00000000000000ff"}]
SEARCH = {"collection": "c", "query": {"code": "0" * 16}, "radius": 8}
FOUND = [{"id": "a", "distance": 1}, {"id": "b", "distance": 8}]


def fill_and_search(key: str) -> None:
    assert ask("/collections", key, {"name": "c", "bits": 64})[0] == 201
    assert ask("/ingest", key, {"collection": "c", "items": ITEMS})[1]["created"] == 2
    for _ in range(4):
        assert ask("/search", key, SEARCH)[1]["hits"] == FOUND


def test_the_service_alone_starts_with_a_key_and_keeps_its_volume() -> None:
    refused = compose("run", "--rm", "hammingbird", check=False)
    assert refused.returncode != 0
    assert "keys create" in refused.stdout + refused.stderr
    key = key_made_by("hammingbird")
    compose("up", "-d", "hammingbird")
    wait_ready(60)
    assert ask("/models")[0] == 401
    fill_and_search(key)
    compose("stop")
    compose("up", "-d", "hammingbird")
    wait_ready(60)
    assert ask("/search", key, SEARCH)[1]["hits"] == FOUND


@pytest.mark.skipif("COMPOSE_MILVUS" not in os.environ, reason="COMPOSE_MILVUS is not set")
def test_two_replicas_over_milvus_answer_alike_and_one_is_enough() -> None:
    key = key_made_by("--no-deps", "replica-1")
    compose("up", "-d", "gateway")
    wait_ready(300)
    fill_and_search(key)
    assert ask("/collections/c", key)[1]["backend"] == "milvus"
    status, job = ask("/train", key, {"name": "m", "family": "lsh", "data": {"dataset": "digits"}})
    assert status == 202
    while job["state"] in ("queued", "running"):
        time.sleep(0.5)
        job = ask(f"/jobs/{job['id']}", key)[1]
    assert job["state"] == "succeeded"
    for _ in range(4):
        assert [model["name"] for model in ask("/models", key)[1]["models"]] == ["m"], "whichever replica answers"
    compose("kill", "replica-2")
    for _ in range(10):
        assert ask("/search", key, SEARCH)[1]["hits"] == FOUND
