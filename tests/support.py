"""What tests share besides fixtures: small data, the shape of every error, real servers."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.data import Dataset
from models.images import encode_png
from models.sounds import Sound

# Small, quickly trained stand-ins with the names of the demo, so that its examples can be run against them.
MODELS = (
    ("digits-hash", "binary-autoencoder", 64, "digits", {"epochs": 5, "hidden": 64}),
    ("digits-vae", "vae", 64, "digits", {"epochs": 5, "hidden": 64}),
    ("digits-denoise", "denoising-autoencoder", 64, "digits", {"epochs": 5, "hidden": 64}),
    ("docs-hash", "binary-autoencoder", 128, "python-docs", {"epochs": 2, "hidden": 32}),
    ("vectors-itq", "itq", 32, "vectors", {}),
)
COLLECTIONS = (("digits", "digits-hash"), ("python-docs", "docs-hash"), ("vectors", "vectors-itq"))


def part_of(data: Dataset, size: int) -> Dataset:
    """Every nth item of `data`, `size` in all."""
    return _only(data, np.linspace(0, len(data) - 1, size).astype(int))


def _only(data: Dataset, places: Any) -> Dataset:
    def pick(values: Any) -> Any:
        return None if values is None else [values[place] for place in places]

    items = data.items[places] if isinstance(data.items, np.ndarray) else pick(data.items)
    return replace(data, items=items, ids=pick(data.ids), labels=pick(data.labels), payloads=pick(data.payloads))


def topics(data: Dataset, most: int, each: int) -> Dataset:
    """`each` items of the `most` commonest labels."""
    assert data.labels is not None
    labels = np.array(data.labels)
    names, counts = np.unique(labels, return_counts=True)
    common = names[np.argsort(-counts)[:most]]
    return _only(data, np.concatenate([np.flatnonzero(labels == name)[:each] for name in common]))


def vectors(n: int = 300, dim: int = 24, seed: int = 0) -> Dataset:
    """Clustered vectors with the cluster as label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, n)
    centres = rng.normal(size=(6, dim)) * 3
    items = (centres[labels] + rng.normal(size=(n, dim))).astype(np.float32)
    return Dataset("vectors", "vector", items, [f"v{place}" for place in range(n)], [str(label) for label in labels])


def sounds(n: int = 100, seed: int = 0) -> Dataset:
    """Short notes of six pitches, each with its own phase, loudness and noise; the pitch is the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, n)
    time = np.arange(512) / 4000
    items = []
    for label in labels:
        pitch = (300 + 220 * label) * rng.uniform(0.94, 1.06)
        wave = sum(np.sin(2 * np.pi * pitch * h * time + rng.uniform(0, 6)) / h for h in (1, 2))
        items.append(Sound((rng.uniform(0.2, 0.4) * (wave + rng.normal(size=512) * 0.1)).astype(np.float32), 4000))
    return Dataset("sounds", "audio", items, [f"s{place}" for place in range(n)], [str(label) for label in labels])


def png(array: np.ndarray[Any, Any]) -> str:
    """A picture as base64 PNG."""
    return base64.b64encode(encode_png(array)).decode()


def assert_problem(response: Any, status: int, slug: str | None = None) -> dict[str, Any]:
    """The one shape that every error has (RFC 9457, and our promises about it)."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= set(body) <= {"type", "title", "status", "detail", "errors"}
    assert body["status"] == status
    assert body["type"].startswith("urn:hammingbird:problem:")
    assert body["title"]
    assert body["detail"]
    for fault in body.get("errors", []):
        assert set(fault) == {"pointer", "detail"}
        assert fault["pointer"] == "" or fault["pointer"].startswith("/")
    if slug is not None:
        assert body["type"] == f"urn:hammingbird:problem:{slug}"
    return body


@contextmanager
def server(
    data_dir: Path, *arguments: str, probe: str = "/readyz", **environment: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real service in a process group of its own on a free loopback port: its address and process.

    probe: what answers with 200 before the service is given out.
    """
    port = free_port()
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--data-dir", str(data_dir), *arguments]
    log = (data_dir.parent / f"server-{port}.log").open("wb")
    process = subprocess.Popen(command, stderr=log, env={**os.environ, **environment}, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_ready(address, process, probe=probe)
        yield address, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        log.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_ready(
    address: str, process: subprocess.Popen[bytes], timeout_s: float = 60, *, probe: str = "/readyz"
) -> None:
    """Return once the service is ready; fail at once where it has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the service ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(f"{address}{probe}", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service was not ready in time")
