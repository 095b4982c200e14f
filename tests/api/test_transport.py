"""What raw clients do to a real server. (reliability.md H4, H5, H9, O1)"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import server


@pytest.fixture(scope="module")
def address(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("transport") / "data"))
    with server(root, HAMMINGBIRD_BODY_TIMEOUT_S="1.5", HAMMINGBIRD_MAX_BODY_BYTES="100000") as (url, _):
        yield "127.0.0.1", int(url.rsplit(":", 1)[1])


def exchange(address: tuple[str, int], *parts: bytes, pause_s: float = 0.0, timeout_s: float = 10.0) -> bytes:
    """Send the parts one after another, then read until the server closes or nothing comes for a second."""
    with socket.create_connection(address, timeout=timeout_s) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause_s)
        received = b""
        connection.settimeout(4)
        while True:
            try:
                chunk = connection.recv(65536)
            except (TimeoutError, ConnectionResetError):
                return received
            if not chunk:
                return received
            received += chunk


def problem(reply: bytes) -> dict[str, object]:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"x-request-id" in head
    found: dict[str, object] = json.loads(body)
    return found


HEAD = b"POST /search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def test_half_a_body_is_answered_after_the_deadline(address: tuple[str, int]) -> None:
    started = time.monotonic()
    reply = exchange(address, HEAD + b"content-length: 100\r\n\r\n{", pause_s=0.1)
    assert problem(reply)["status"] == 408
    assert 1 < time.monotonic() - started < 4


def test_a_body_that_drips_is_answered_after_the_deadline(address: tuple[str, int]) -> None:
    started = time.monotonic()
    reply = exchange(address, HEAD + b"content-length: 100\r\n\r\n", *[b" "] * 20, pause_s=0.1)
    assert problem(reply)["status"] == 408
    assert time.monotonic() - started < 4


def test_a_body_over_the_limit_is_refused_whether_declared_or_not(address: tuple[str, int]) -> None:
    declared = exchange(address, HEAD + b"content-length: 100001\r\n\r\n", pause_s=0.1)
    assert problem(declared)["status"] == 413
    chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
    chunked = exchange(address, HEAD + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 12, pause_s=0.01)
    assert problem(chunked)["status"] == 413


@pytest.mark.parametrize(
    "target",
    [
        b"/collections/../../etc/passwd",
        b"/collections/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        b"/collections/..",
        b"/models/..%2f..%2fetc",
        b"/collections/\xff",
        b"/collections/digits/items/..%2f..%2f..%2fetc%2fpasswd",
    ],
)
def test_paths_that_try_to_leave(address: tuple[str, int], target: bytes) -> None:
    """H9"""
    reply = exchange(address, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    status = int(reply.split()[1])
    assert status in (400, 404)
    assert b"root:" not in reply


def test_the_server_still_answers(address: tuple[str, int]) -> None:
    assert b" 200 OK" in exchange(address, b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")


def test_nothing_connects_outwards_and_no_model_hub_is_asked(tmp_path: Path) -> None:
    """O1: importing and running everything works where every outward connection fails, and none is tried."""
    script = """
import socket
def refuse(*args):
    raise AssertionError(f"tried to connect: {args[1:]}")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
import sys
from pathlib import Path
from service.engine import Engine
from service.settings import Settings
from service.training import Training, train
from service.cli.ingest import ingest_dataset
from models.data import load
with Engine(Settings(data_dir=Path(sys.argv[1]))) as engine:
    draft = engine.registry.draft("a")
    for _ in train(Training("a", "itq", 32, {}), load("digits"), draft):
        pass
    engine.registry.add("a", draft)
    print(ingest_dataset(engine, load("digits"), "a", "a"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'created': 1797" in done.stdout
