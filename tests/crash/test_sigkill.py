"""A real server is killed while written to; what it acknowledged is there. (reliability.md C1, C3, D1, D6)"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support import server

from index import EmbeddedCollection
from index.catalogue import STORE_FILE


def post(address: str, path: str, body: Any, timeout: float = 30) -> Any:
    request = urllib.request.Request(
        f"{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return json.load(response)


def code_of(id: str) -> str:
    """A code that only this id has."""
    return f"{abs(hash_of(id)):016x}"


def hash_of(id: str) -> int:
    import zlib

    return zlib.crc32(id.encode()) << 32 | zlib.adler32(id.encode())


class Writer(threading.Thread):
    """Ingests batches until the server is gone; remembers what it asked for and what was acknowledged."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__()
        self.address, self.label = address, name
        self.asked: list[list[str]] = []
        self.acknowledged: list[list[str]] = []

    def run(self) -> None:
        for number in range(100_000):
            ids = [f"{self.label}-{number}-{place}" for place in range(1 + number % 9)]
            self.asked.append(ids)
            items = [{"id": id, "code": code_of(id)} for id in ids]
            try:
                post(self.address, "/ingest", {"collection": "codes", "items": items})
            except (OSError, http.client.HTTPException):  # no reply, or half of one: unknown
                return
            self.acknowledged.append(ids)


@pytest.mark.parametrize(
    "rounds", [pytest.param(2, id="two rounds"), pytest.param(100, id="a hundred", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(1200)
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, rounds: int) -> None:
    """C1: kill at a random moment of an ingest; then every acknowledged batch is there and every batch whole."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    rng = random.Random(seed)
    root = tmp_path / "data"
    batches: list[list[str]] = []
    expected: set[str] = set()
    for round_ in range(rounds):
        with server(root) as (address, process):
            if round_ == 0:
                post(address, "/collections", {"name": "codes", "bits": 64})
            writers = [Writer(address, f"{round_}{letter}") for letter in "ab"]
            for writer in writers:
                writer.start()
            time.sleep(rng.uniform(0.05, 0.6))
            process.kill()
            for writer in writers:
                writer.join()
            process.wait()
        batches += [ids for writer in writers for ids in writer.asked]
        expected |= {id for writer in writers for ids in writer.acknowledged for id in ids}
    assert len(expected) > 20 * rounds
    with server(root) as (address, _):
        reply = post(address, "/search", {"collection": "codes", "query": {"code": "0" * 16}, "radius": 64, "limit": 1})
        total = reply["total"]
        for id in rng.sample(sorted(expected), 20):
            found = post(address, "/search", {"collection": "codes", "query": {"code": code_of(id)}, "radius": 0})
            assert id in [hit["id"] for hit in found["hits"]]
    collection = EmbeddedCollection(root / "collections" / "codes" / STORE_FILE)
    assert collection.check().faults == ()
    present = {item.id: item.code.hex() for item in collection.scan()}
    collection.close()
    assert len(present) == total
    assert expected <= set(present), "something acknowledged is gone"
    for ids in batches:
        assert len(set(ids) & set(present)) in (0, len(ids)), "a batch is half there"
    assert all(code == code_of(id) for id, code in present.items())
    assert set(present) <= {id for ids in batches for id in ids}, "something nobody sent is there"


def test_a_start_that_is_killed_again_and_again_does_no_harm(data_dir: Path) -> None:
    """C3"""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--data-dir", str(data_dir)]
    for pause in (0.4, 1.5, 2.5):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(pause)
        process.kill()
        process.wait()
    with server(data_dir) as (address, _):
        reply = post(address, "/search", {"collection": "digits", "query": {"id": "digit-0000"}, "k": 300})
        assert reply["total"] == 300


def test_a_second_process_is_refused_and_names_the_first(data_dir: Path) -> None:
    """D6"""
    with server(data_dir) as (_, process):
        command = [sys.executable, "-m", "service", "check", "--data-dir", str(data_dir)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert f"in use by process {process.pid}" in second.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.slow
def test_a_full_disk_refuses_writes_and_goes_on_searching(prepared: Path, tmp_path: Path) -> None:
    """D1, for ingest"""
    mount, started = tmp_path / "small", time.monotonic()
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount], check=True)
    try:
        root = Path(shutil.copytree(prepared, mount / "data"))
        with server(root, HAMMINGBIRD_MIN_FREE_BYTES="0") as (address, _):
            statuses = []
            for number in range(200):
                items = [
                    {"id": f"f{number}-{place}", "code": os.urandom(8).hex(), "payload": {"x": os.urandom(2000).hex()}}
                    for place in range(50)
                ]
                try:
                    post(address, "/ingest", {"collection": "digits", "items": items})
                    statuses.append(200)
                except urllib.error.HTTPError as error:
                    body = json.load(error)
                    statuses.append(error.code)
                    assert body["type"] == "urn:hammingbird:problem:disk-full", body
                    break
            assert statuses[-1] == 507
            reply = post(
                address, "/search", {"collection": "digits", "query": {"id": "digit-0000"}, "radius": 64, "limit": 1}
            )
            assert reply["total"] == 300 + 50 * statuses.count(200)
            request = urllib.request.Request(f"{address}/collections/python-docs", method="DELETE")
            urllib.request.urlopen(request, timeout=10).close()
            post(address, "/ingest", {"collection": "digits", "items": [{"id": "room-again", "code": "00" * 8}]})
    finally:
        # The kernel may hold a mapped file of the ended process a little longer.
        while subprocess.run(["umount", mount], check=False).returncode and time.monotonic() - started < 120:
            time.sleep(0.2)
        assert not os.path.ismount(mount)
