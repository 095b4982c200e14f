"""The container image, built and run for real: unprivileged, read-only root, one volume. (reliability.md O2)

Run with `pytest -m image` as root where buildah is, with IMAGE_BASE naming a base image that is there (see
tools/make-base-image) and IMAGE_BUILD_FLAGS what the build needs of this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import free_port, png, wait_ready

ROOT = Path(__file__).resolve().parent.parent.parent
TAG = "localhost/hammingbird:test"

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("buildah") is None, reason="needs buildah"),
    pytest.mark.skipif("IMAGE_BASE" not in os.environ, reason="IMAGE_BASE names no base image"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting the image's root file system needs root"),
]


@pytest.fixture(scope="module")
def image() -> str:
    subprocess.run(["make", "image", f"BASE={os.environ['IMAGE_BASE']}", f"IMAGE={TAG}"], cwd=ROOT, check=True)
    return TAG


@contextmanager
def container(image: str, volume: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    command = ["tools/run-image", image, str(volume), "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_ready(address, process, timeout_s=180)
        yield address, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def call(address: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def service_pid(volume: Path) -> int:
    """The service writes its pid into the lock; inside its own pid namespace that is 1, so look it up outside."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
                status = (entry / "status").read_text()
            except OSError:
                continue
            if b"hammingbird\0serve" in command and "Uid:\t10001" in status:
                return int(entry.name)
    raise AssertionError("no process of the image runs as uid 10001")


def test_the_image_serves_unprivileged_and_keeps_its_volume(image: str, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o750)
    os.chown(volume, 10001, 10001)
    picture = png(np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype(np.uint8))
    with container(image, volume) as (address, process):
        pid = service_pid(volume)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        mounts = Path(f"/proc/{pid}/mounts").read_text()
        assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts.splitlines())
        for name, family in (("digits-hash", "binary-autoencoder"), ("digits-vae", "vae")):
            job = call(
                address,
                "/train",
                {"name": name, "family": family, "data": {"dataset": "digits"}, "params": {"epochs": 2}},
            )
            while job["state"] in ("queued", "running"):
                time.sleep(0.5)
                job = call(address, f"/jobs/{job['id']}")
            assert job["state"] == "succeeded", job
        items = [{"id": f"i{number}", "image": picture} for number in range(3)]
        assert call(address, "/ingest", {"collection": "c", "model": "digits-hash", "items": items})["created"] == 3
        assert len(call(address, "/generate", {"model": "digits-vae", "n": 2})["items"]) == 2
        before = call(address, "/search", {"collection": "c", "query": {"image": picture}})["hits"]
        assert [hit["distance"] for hit in before] == [0, 0, 0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert {path.owner() if path.stat().st_uid == 0 else path.stat().st_uid for path in volume.rglob("*")} == {10001}
    with container(image, volume) as (address, _):
        assert call(address, "/search", {"collection": "c", "query": {"image": picture}})["hits"] == before


def test_the_image_does_not_listen_for_everybody_without_a_key(image: str, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o750)
    os.chown(volume, 10001, 10001)
    run = ["tools/run-image", image, str(volume)]
    refused = subprocess.run([*run, "serve"], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert refused.returncode == 1
    assert "hammingbird keys create" in refused.stderr
    made = subprocess.run(
        [*run, "keys", "create", "me", "--scope", "admin"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with container(image, volume) as (address, _):
        for key, status in ((made.stdout.strip(), "200"), ("hb_" + "0" * 64, "401")):
            curl = ["curl", "-so", "/dev/null", "-w", "%{http_code}", "-H", f"x-api-key: {key}", f"{address}/models"]
            assert subprocess.run(curl, capture_output=True, text=True, check=True).stdout == status


def test_the_image_says_how_it_is_to_be_run(image: str) -> None:
    store = ["buildah", *(["--storage-driver", os.environ["STORAGE_DRIVER"]] if "STORAGE_DRIVER" in os.environ else [])]
    done = subprocess.run([*store, "inspect", "--type", "image", image], capture_output=True, check=True)
    config = json.loads(done.stdout)["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert "/data" in config["Volumes"]
    assert "readyz" in " ".join(config["Healthcheck"]["Test"])
    assert {"OMP_WAIT_POLICY=passive", "PYTHONSAFEPATH=1"} <= set(config["Env"])
