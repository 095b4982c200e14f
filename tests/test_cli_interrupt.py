"""Ctrl-C, for real: a command ends at once with 130, says what it leaves, and leaves nothing half-done."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

SOON_S = 60
"""For a process to end, on a machine that does other things."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "service", *map(str, arguments)]


def interrupted(arguments: list[str], after: str, sig: int = signal.SIGINT, **environment: str) -> tuple[int, str]:
    """Send `sig` once a line of standard error matches `after`: the exit code, and all that was said there."""
    said = []
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if re.search(after, line):
                    process.send_signal(sig)
                    break
            out, rest = process.communicate(timeout=SOON_S)
        finally:
            process.kill()
    assert "Traceback" not in rest
    assert out == ""
    return process.returncode, "".join(said) + rest


def files_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("sig", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_train(tmp_path: Path, sig: int, code: int) -> None:
    options = ["--data", "digits", "--name", "x", "--set", "epochs=5000", "--data-dir", tmp_path / "data"]
    ended, _ = interrupted(command("train", *options), "training x 0%", sig)
    assert ended == code
    assert files_in(tmp_path / "data") == {"lock"}
    assert list((tmp_path / "data" / "models").iterdir()) == []


@pytest.mark.slow
def test_train_for_a_service(tmp_path: Path) -> None:
    """What was to be sent is gone too."""
    (tmp_path / "temporary").mkdir()
    with _willing() as address:
        options = ["--data", "digits", "--name", "x", "--set", "epochs=5000", "--url", address]
        ended, _ = interrupted(command("train", *options), "training x 0%", TMPDIR=str(tmp_path / "temporary"))
    assert ended == 130
    assert files_in(tmp_path) == set()


@pytest.mark.slow
def test_ingest(data_dir: Path, tmp_path: Path) -> None:
    """It stops between two batches, says how many are stored, and goes on from there when it is run again."""
    vectors = np.random.default_rng(0).normal(size=(40_000, 24)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    options = ["--data", tmp_path / "v.npy", "--collection", "many", "--model", "vectors-itq", "--data-dir", data_dir]
    ended, said = interrupted(command("ingest", *options), "ingesting into many 10%")
    assert ended == 130
    found = re.search(r"([\d,]+) of 40,000 items are stored; run the same command again", said)
    assert found is not None
    stored = int(found[1].replace(",", ""))
    assert 4_000 <= stored < 40_000
    listed = subprocess.run(
        command("collections", "--json", "--data-dir", data_dir), capture_output=True, text=True, check=True
    )
    assert {row["name"]: row["items"] for row in json.loads(listed.stdout)}["many"] == stored
    subprocess.run(command("check", "--data-dir", data_dir), check=True, capture_output=True)


def test_evaluate(tmp_path: Path) -> None:
    options = ["--data", "digits", "--family", "binary-autoencoder", "--set", "epochs=5000", "--plots", tmp_path / "p"]
    ended, _ = interrupted(command("evaluate", *options, "--seeds", "1"), " 0%")
    assert ended == 130
    assert files_in(tmp_path) == set()


@pytest.mark.slow
def test_evaluate_of_all_families(tmp_path: Path) -> None:
    """Its processes end with it, also where only the first is told."""
    known = subprocess.run(command("evaluate", "--suite", "families", "--only", "none"), capture_output=True, text=True)
    names = known.stderr.split("known are ")[1].split(", ")
    options = ["--suite", "families", "--only", names[0], "--only", names[1], "--seeds", "2"]
    process = subprocess.Popen(command("evaluate", *options), stderr=subprocess.PIPE, text=True)
    time.sleep(20)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SOON_S)
    assert process.returncode == 130
    deadline = time.monotonic() + SOON_S
    while left := [child for child in children if Path(f"/proc/{child}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_a_second_interrupt_does_not_wait() -> None:
    script = """
import time
from service.cli.interrupts import whole
try:
    with whole():
        print("in", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("out", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=SOON_S)[0] == "out\n"


def test_a_terminal_sees_a_bar_with_rate_and_time_left(prepared: Path, tmp_path: Path) -> None:
    data_dir = shutil.copytree(prepared, tmp_path / "data")
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(3_000, 24)).astype(np.float32))
    options = ["--data", tmp_path / "v.npy", "--collection", "vectors", "--data-dir", data_dir, "--json"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "140", "TERM": "xterm-256color"}
    process = subprocess.Popen(command("ingest", *options), stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    said = b"".join(iter(lambda: _read(ours), b"")).decode()
    os.close(ours)
    out, _ = process.communicate(timeout=SOON_S)
    assert process.returncode == 0
    assert json.loads(out)["created"] == 3_000
    assert "━" in said
    assert re.search(r"3000/3000", said)
    assert re.search(r"[\d,]+ items/s", said)
    assert re.search(r"\d:\d\d:\d\d", said)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side is closed
        return b""


@contextmanager
def _willing() -> Iterator[str]:
    """Something that answers as a service does to a key that may add a model."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b'{"detail": "the file ends", "status": 422}'
            self.send_response(422)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
