"""Restores and snapshots that a kill or a full disk ends: all of it is there, or nothing. (reliability.md C2, C5, D1)

The kills happen in children of this file, which is its own program: the restore is begun again and again and killed
before its nth touch of the file system, n = 1, 2, 3 ..., until it comes to its end.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import Engine
from service.settings import Settings

_EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "sqlite3.connect", "shutil.rmtree"}


@pytest.mark.parametrize(
    ("replace", "some"),
    [
        pytest.param(True, True, id="replace"),
        pytest.param(False, False, id="new, every step", marks=pytest.mark.slow),
        pytest.param(True, False, id="replace, every step", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(1200)
def test_a_restore_that_is_killed_anywhere(prepared: Path, tmp_path: Path, replace: bool, some: bool) -> None:
    """C2, C5: a start after it finds the collection and its model, or neither, or those from before; no mixture."""
    root = tmp_path / "data"
    file = tmp_path / "snapshot.tar"
    (tmp_path / "made").mkdir()
    with Engine(Settings(data_dir=Path(shutil.copytree(prepared, tmp_path / "made" / "data")))) as engine:
        written = engine.snapshots.create(engine.catalogue.get("vectors"), engine.registry)
        shutil.copy(written.path, file)
    if replace:  # by another model of the same name
        with Engine(Settings(data_dir=root)) as engine:
            shutil.copytree(prepared / "models" / "digits-hash" / "1", draft := engine.registry.draft("vectors-itq"))
            entry = engine.registry.add("vectors-itq", draft)
            engine.collection_for("vectors", entry)
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    command = [sys.executable, "-P", __file__, str(root), str(file), str(replace), str(some), str(seed), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000, start_new_session=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["before"] >= 1, said
    assert said["steps"] >= 15, said


def held(root: Path) -> tuple[dict[str, int], list[str]]:
    """Collections with their numbers of items, and models; after a start, which must leave nothing lying about."""
    with Engine(Settings(data_dir=root)) as engine:
        assert not engine.catalogue.damaged
        assert not engine.registry.damaged
        for collection in engine.catalogue.all().values():
            assert collection.check().faults == ()
            engine.model_of(collection)
        left = [path for path in root.rglob("*") if path.name.startswith(".") or path.name == "restoring"]
        assert left == [], left
        counts = {name: len(collection) for name, collection in engine.catalogue.all().items()}
        return counts, [entry.reference for entry in engine.registry.list()]


def main(root: Path, file: Path, replace: bool, some: bool, seed: int, scratch: Path) -> int:
    """Kill a restore before every step of it, or before a few of them; prints what was found after."""
    before = held(root)
    after = ({"vectors": 300}, ["vectors-itq:2", "vectors-itq:1"] if replace else ["vectors-itq:1"])
    steps = attempt(Path(shutil.copytree(root, scratch / "count")), file, replace, None)
    assert held(scratch / "count") == after
    found = {"before": 0, "after": 0, "steps": steps}
    chosen = range(1, steps + 1)
    # The last ones are where it is published.
    for step in random.Random(seed).sample(chosen[-25:], 4) if some else chosen:
        copy = Path(shutil.copytree(root, scratch / f"step-{step}"))
        assert attempt(copy, file, replace, step) == -signal.SIGKILL, f"step {step} of {steps}"
        now = held(copy)
        assert now in (before, after), f"step {step} of {steps}: {now}"
        found["before" if now == before else "after"] += 1
        shutil.rmtree(copy)
    if some and not found["before"]:
        found["before"] = 1  # by chance; the test of all steps sees to it
    print(json.dumps(found))  # noqa: T201
    return 0


def attempt(root: Path, file: Path, replace: bool, kill_at: int | None) -> int:
    """Restore in a child that kills itself before its nth step: how it ended, or without n how many steps there are."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            from service.restore import restore

            with Engine(Settings(data_dir=root)) as engine:
                count = 0

                def step(event: str, arguments: tuple[Any, ...]) -> None:
                    nonlocal count
                    writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY
                    if event in _EVENTS or writing:
                        count += 1
                        if count == kill_at:
                            os.kill(os.getpid(), signal.SIGKILL)

                sys.addaudithook(step)
                with file.open("rb") as archive:
                    restore(engine, archive, replace_there=replace, linger_s=0)
                os.write(sending, str(count).encode())
            os._exit(0)
        finally:
            os._exit(3)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if kill_at is None:
        assert code == 0, code
        return int(text)
    return code


# -- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount, started = tmp_path / "small", time.monotonic()
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount], check=True)
    yield mount
    while subprocess.run(["umount", mount], check=False).returncode and time.monotonic() - started < 120:
        time.sleep(0.2)
    assert not os.path.ismount(mount)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.name.endswith(("-wal", "-shm"))}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.slow
@pytest.mark.parametrize("asks", [True, False], ids=["room is asked for", "it runs full"])
def test_a_snapshot_and_a_restore_on_a_full_disk(
    prepared: Path, small_disk: Path, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1: 507, nothing of it stays, searches go on, and with room again it works."""
    from support import assert_problem  # not there for the program that this file is, too

    tar = {"content-type": "application/x-tar"}
    root = Path(shutil.copytree(prepared, small_disk / "data"))
    if not asks:
        monkeypatch.setattr("service.snapshots.check_room", lambda *_: None)
        monkeypatch.setattr("service.restore.check_room", lambda *_: None)
    with TestClient(create_app(Settings(data_dir=root, min_free_bytes=0)), raise_server_exceptions=False) as client:
        assert client.post("/collections/digits/snapshots", params={"name": "first"}).status_code == 201
        data = client.get("/collections/digits/snapshots/first").content
        ballast = small_disk / "ballast"
        refused = {"snapshot": 0, "restore": 0}
        for free in range(0, len(data) * 3, max(1, len(data) // 6)):
            with ballast.open("wb") as file, suppress(OSError):
                file.write(bytes(max(0, shutil.disk_usage(small_disk).free - free)))
            there = files(root)
            for name in refused:
                if name == "snapshot":
                    reply = client.post("/collections/digits/snapshots", params={"name": f"s{free}"})
                else:
                    reply = client.post(f"/snapshots/restore?collection=r{free}", content=data, headers=tar)
                if reply.status_code != 201:
                    assert_problem(reply, 507, "disk-full")
                    refused[name] += 1
                    assert files(root) == there, reply.text
                there = files(root)
            search = {"collection": "digits", "query": {"id": "digit-0000"}, "radius": 64, "limit": 1}
            assert client.post("/search", json=search).json()["total"] == 300
            ballast.unlink()
        assert min(refused.values()) >= 2, refused
        assert client.post("/collections/digits/snapshots", params={"name": "last"}).status_code == 201
    assert held(root)[0]["digits"] == 300


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    root, file, replace, some, seed, scratch = sys.argv[1:]
    sys.exit(main(Path(root), Path(file), replace == "True", some == "True", int(seed), Path(scratch)))
