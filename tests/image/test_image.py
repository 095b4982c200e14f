"""The container image, built and run for real: unprivileged, read-only root, one volume. (reliability.md O2)

Run with `pytest -m image -s` as root where buildah is, with IMAGE_BASE naming a base image that is there (see
tools/make-base-image) and IMAGE_BUILD_FLAGS what the build needs of this machine; or with IMAGE_BUILT naming an image
that is built already. With -s it prints what it measured.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import free_port, png, sounds, wait_ready

from models.sounds import encode_wav

ROOT = Path(__file__).resolve().parent.parent.parent
TAG = "localhost/hammingbird:test"
COMPILERS = ("cc", "gcc", "g++", "c++", "cpp", "clang", "as", "ld", "ld.gold", "tcc", "rustc", "go", "make", "pip")

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("buildah") is None, reason="needs buildah"),
    pytest.mark.skipif(not {"IMAGE_BASE", "IMAGE_BUILT"} & set(os.environ), reason="IMAGE_BASE names no base image"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting the image's root file system needs root"),
]
BUILDAH = ["buildah", *(["--storage-driver", os.environ["STORAGE_DRIVER"]] if "STORAGE_DRIVER" in os.environ else [])]


def say(text: str) -> None:
    """Seen with -s."""
    sys.stdout.write(f"{text}\n")


@pytest.fixture(scope="module")
def image() -> str:
    if built := os.environ.get("IMAGE_BUILT"):
        return built
    started = time.monotonic()
    subprocess.run(["make", "image", f"BASE={os.environ['IMAGE_BASE']}", f"IMAGE={TAG}"], cwd=ROOT, check=True)
    say(f"built in {time.monotonic() - started:.0f} s")
    return TAG


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder as an engine's volume is: the service's own."""
    path = tmp_path / "volume"
    path.mkdir(mode=0o750)
    os.chown(path, 10001, 10001)
    return path


@contextmanager
def container(image: str, volume: Path, **environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A container of the image over `volume` that is ready: its address and the process that runs it."""
    port = free_port()
    own = {"HAMMINGBIRD_HOST": "127.0.0.1", "HAMMINGBIRD_PORT": str(port), **environment}
    command = ["tools/run-image", image, str(volume), "serve"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_ready(address, process, timeout_s=180)
        yield address, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def reply(address: str, path: str, body: Any = None) -> tuple[str, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.headers["content-type"], response.read()


def call(address: str, path: str, body: Any = None) -> Any:
    return json.loads(reply(address, path, body)[1])


def train(address: str, name: str, family: str, data: dict[str, str], **params: Any) -> None:
    job = call(address, "/train", {"name": name, "family": family, "data": data, "params": params})
    while job["state"] in ("queued", "running"):
        time.sleep(0.5)
        job = call(address, f"/jobs/{job['id']}")
    assert job["state"] == "succeeded", job


def config_of(image: str) -> dict[str, Any]:
    done = subprocess.run([*BUILDAH, "inspect", "--type", "image", image], capture_output=True, check=True)
    return dict(json.loads(done.stdout)["Docker"]["config"])


@contextmanager
def root_of(image: str) -> Iterator[Path]:
    """The image's files, mounted."""
    made = subprocess.run([*BUILDAH, "from", "--pull-never", image], capture_output=True, text=True, check=True)
    name = made.stdout.strip()
    try:
        done = subprocess.run([*BUILDAH, "mount", name], capture_output=True, text=True, check=True)
        yield Path(done.stdout.strip())
    finally:
        subprocess.run([*BUILDAH, "rm", name], capture_output=True, check=True)


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


def healthy(image: str, pid: int, port: str) -> bool:
    """Whether the image's own check says so, run where the service is, as an engine does."""
    test = config_of(image)["Healthcheck"]["Test"]
    assert test[0] == "CMD"
    path = next(line for line in config_of(image)["Env"] if line.startswith("PATH="))
    inside = ["nsenter", f"--target={pid}", "--mount", "--pid", "--root", "env", "-i", path, f"HAMMINGBIRD_PORT={port}"]
    return subprocess.run([*inside, *test[1:]], capture_output=True, check=False).returncode == 0


def test_the_image_serves_unprivileged_and_keeps_its_volume(image: str, volume: Path) -> None:
    picture = png(np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype(np.uint8))
    with container(image, volume) as (address, process):
        pid = service_pid(volume)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        mounts = Path(f"/proc/{pid}/mounts").read_text()
        assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts.splitlines())
        assert healthy(image, pid, address.rpartition(":")[2])
        assert not healthy(image, pid, str(free_port()))
        train(address, "digits-hash", "binary-autoencoder", {"dataset": "digits"}, epochs=2)
        train(address, "digits-vae", "vae", {"dataset": "digits"}, epochs=2)
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


def test_sounds_the_page_and_the_reference_work_within(image: str, volume: Path) -> None:
    """What a package might have left out: a library for WAV, the page's files, those of Swagger UI."""
    notes = sounds(40)
    items = [
        {"id": id, "audio": base64.b64encode(encode_wav(note)).decode(), "payload": {"label": label}}
        for id, note, label in zip(notes.ids, notes.items, notes.labels or (), strict=True)
    ]
    with container(image, volume) as (address, _):
        train(address, "tones-hash", "binary-autoencoder", {"dataset": "tones"}, epochs=2)
        made = call(address, "/ingest", {"collection": "notes", "model": "tones-hash", "items": items})
        assert made["created"] == 40
        found = call(address, "/search", {"collection": "notes", "query": {"audio": items[3]["audio"]}, "k": 1})
        assert found["hits"][0]["distance"] == 0
        for path in ("/", "/docs"):
            kind, body = reply(address, path)
            assert kind.startswith("text/html")
            linked = re.findall(r'(?:src|href)="(/[^"#]+|[\w./-]+\.(?:js|css))"', body.decode())
            files = [file for file in linked if file.endswith((".js", ".css"))]
            assert files, body[:2000]
            for file in files:
                assert reply(address, "/" + file.lstrip("/"))[1], file


def test_the_kernels_come_with_the_image(image: str, volume: Path) -> None:
    """A first start compiles nothing; where none are brought for this processor, it compiles them, once."""
    seconds, compiled = {}, {}
    codes = [{"id": str(number), "code": f"{number:016x}"} for number in range(100)]
    for name, environment in (("brought", {}), ("compiled", {"HAMMINGBIRD_KERNELS": ""})):
        for start in ("first", "second"):
            wall, began = time.time(), time.monotonic()
            with container(image, volume, **environment) as (address, _):
                ready = time.monotonic() - began
                if start == "first":
                    call(address, "/collections", {"name": name, "bits": 64})
                    call(address, "/ingest", {"collection": name, "items": codes})
                found = call(address, "/search", {"collection": name, "query": {"code": "0" * 16}, "radius": 1})
                assert found["total"] == 8
                seconds[name, start] = (ready, time.monotonic() - began)
            files = list((volume / ".kernels").rglob("*.nb?"))
            assert len(files) > 100
            compiled[name, start] = sum(path.stat().st_mtime >= wall for path in files)
    for (name, start), (ready, found) in seconds.items():
        say(f"kernels {name}, {start} start: ready after {ready:.1f} s, an answer after {found:.1f} s")
    assert compiled["brought", "first"] == compiled["brought", "second"] == compiled["compiled", "second"] == 0
    assert compiled["compiled", "first"] > 20


def test_the_image_does_not_listen_for_everybody_without_a_key(image: str, volume: Path) -> None:
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
    config = config_of(image)
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["Volumes"]) == ["/data"]
    assert "/readyz" in " ".join(config["Healthcheck"]["Test"])
    assert {"OMP_NUM_THREADS=1", "OMP_WAIT_POLICY=passive", "PYTHONSAFEPATH=1"} <= set(config["Env"])
    for label in ("title", "description", "version", "revision", "created", "base.name"):
        assert config["Labels"][f"org.opencontainers.image.{label}"], label


def test_the_image_has_no_compiler_and_nothing_of_the_builder(image: str) -> None:
    with root_of(image) as root:
        bins = [root / path for path in ("usr/bin", "usr/local/bin", "usr/sbin", "opt/venv/bin", "opt/hammingbird/bin")]
        found = {file.name for folder in bins if folder.is_dir() for file in folder.iterdir()}
        assert {"python3", "hammingbird"} <= found
        assert not found & set(COMPILERS)
        assert not [path for path in (root / "opt").rglob("*") if path.name in ("pip", "nvidia", "triton")]
        assert not list((root / "tmp").iterdir())
        assert not (root / "src").exists()
        assert not (root / "etc/pip.conf").exists()
    table = subprocess.run(["tools/image-size", image], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    say(table)
    total = int(table.splitlines()[-1].split("|")[2])
    assert total < 1500, "a gigabyte and a half is a lot; see docs/deploy.md for what it is made of"
