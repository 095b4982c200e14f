"""`hammingbird ingest --workers`: the same codes from several processes, one writer, what was stored stays."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models.data import load
from models.images import encode_png
from service.bulk.pool import Pool, WorkerDied, _Worker
from service.bulk.task import Spec, Task
from service.bulk.worker import Maker
from service.cli import app
from service.cli.base import open_engine
from service.cli.ingest import ingest_dataset
from service.cli.local import Local
from service.cli.workers import ingest_by_workers

NOWHERE = dict.fromkeys(("HAMMINGBIRD_URL", "HAMMINGBIRD_DATA_DIR", "HAMMINGBIRD_API_KEY"))


def run(*arguments: object, **environment: str) -> Any:
    words = [str(argument) for argument in arguments]
    return CliRunner(env=NOWHERE).invoke(app, words, catch_exceptions=False, env=environment)


def as_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def stored(root: Path, collection: str) -> list[tuple[Any, ...]]:
    """Every row of the store in the order in which it was written: ids, codes, payloads, kept inputs."""
    with closing(sqlite3.connect(root / "collections" / collection / "items.db")) as db:
        return db.execute("SELECT * FROM items ORDER BY key").fetchall()


class Here:
    """Stands for the pool: one worker, in this process; what it is told and says goes through pickle all the same."""

    def __init__(self, size: int, spec: Spec) -> None:
        self._make = Maker(pickle.loads(pickle.dumps(spec)))

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def ordered(self, tasks: Iterable[tuple[Any, Task]]) -> Iterator[Any]:
        for beside, task in tasks:
            yield beside, pickle.loads(pickle.dumps(self._make(pickle.loads(pickle.dumps(task)))))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.workers.Pool", Here)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures, as files of several sizes."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(60):
        shape = (*rng.integers(8, 40, size=2), rng.choice([1, 3]))
        (tmp_path / "pictures" / f"{number:03d}.png").write_bytes(
            encode_png(rng.integers(0, 256, shape, dtype=np.uint8))
        )
    return tmp_path / "pictures"


def _pictures(folder: Path) -> tuple[str, str]:
    images = load("digits").items[:90]
    np.save(folder / "p.npy", images)
    return str(folder / "p.npy"), "digits-hash"


def _texts(folder: Path) -> tuple[str, str]:
    lines = [{"id": f"t{n}", "text": f"sentence {n} about files ü", "label": str(n % 3), "n": n} for n in range(70)]
    (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "t.jsonl"), "docs-hash"


def _vectors(folder: Path) -> tuple[str, str]:
    np.save(folder / "v.npy", np.random.default_rng(0).normal(size=(333, 24)).astype(np.float32))
    return str(folder / "v.npy"), "vectors-itq"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", [_pictures, _texts, _vectors])
def test_every_kind_is_the_same_as_with_one(prepared: Path, tmp_path: Path, kind: Any) -> None:
    data, model = kind(tmp_path)
    ways = {}
    for workers in (1, 3):
        root = shutil.copytree(prepared, tmp_path / str(workers))
        into = ["ingest", "--data", data, "--collection", "new", "--model", model, "--data-dir", root]
        first = as_json(*into, "--workers", workers)
        again = as_json(*into, "--workers", workers)
        near = [*into[:4], "near", *into[5:], "--on-duplicate", "reject", "--radius", "6"]
        ways[workers] = first, again, as_json(*near, "--workers", workers), stored(root, "new"), stored(root, "near")
    assert ways[1] == ways[3]
    assert ways[1][0]["created"] == ways[1][1]["unchanged"] == len(load(data))


def test_two_processes_are_the_same_as_one(prepared: Path, tmp_path: Path, pictures: Path) -> None:
    """Also what cannot be stored, and what is stored already."""
    (pictures / "017.png").write_bytes(b"not a picture")
    ways = {}
    for workers in (1, 2):
        root = shutil.copytree(prepared, tmp_path / str(workers))
        into = ["ingest", "--data", pictures, "--collection", "p", "--model", "digits-hash", "--data-dir", root]
        done = run(*into, "--skip-bad", "--json", "--workers", workers)
        left_out = [line for line in done.stderr.splitlines() if line.startswith("left out")]
        ways[workers] = json.loads(done.stdout), left_out, stored(root, "p")
    assert ways[1] == ways[2]
    assert ways[1][0]["created"] == 59
    assert ways[1][1] == ["left out 017.png: the bytes are not a PNG, JPEG or WebP image"]


@pytest.mark.usefixtures("here")
def test_what_goes_over_to_another_model_gets_both_codes(prepared: Path, tmp_path: Path) -> None:
    images = load("digits")
    ways = {}
    for workers in (1, 2):
        root = shutil.copytree(prepared, tmp_path / str(workers))
        with open_engine(root) as engine:
            collection = engine.catalogue.get("digits")
            engine.begin_generation(collection, engine.registry.get("digits-vae"))
            if workers == 1:
                ingest_dataset(engine, images, "digits", None)
            else:
                ingest_by_workers(Local(engine), images, "digits", None, workers)
            with closing(sqlite3.connect(root / "collections" / "digits" / "items.db")) as db:
                tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                ways[workers] = {
                    name: db.execute(f"SELECT * FROM {name}").fetchall() for name in tables if "codes" in name
                }
    assert ways[1] == ways[2]
    assert [len(rows) for rows in ways[1].values()] == [1497]  # but for what was unchanged, which a job goes over


@pytest.mark.usefixtures("here")
def test_a_payload_that_is_no_json_is_the_fault_of_its_item(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "one"}\n{"text": "two", "x": NaN}\n{"text": "half \\ud800"}\n')
    options = ["--data", tmp_path / "t.jsonl", "--collection", "c", "--model", "docs-hash", "--data-dir", data_dir]
    for _ in range(2):
        done = run("ingest", *options, "--skip-bad", "--workers", "2")
        assert "left out 000001: a payload holds JSON only" in done.stderr
        assert "left out 000002: a text must be valid Unicode" in done.stderr
    assert done.stdout == "c: 0 created, 0 updated, 1 unchanged\n"


class Echo:
    """Stands for a worker process: says the places of its items again, the slower the fewer they are."""

    pid = 7

    def __init__(self) -> None:
        self.ours, self._theirs = Pipe()
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, task = self._theirs.recv()
                if task.kind == "deadly":
                    self._theirs.close()
                time.sleep(0.03 if number % 3 == 0 else 0)
                self._theirs.send((number, list(task.items)))

    def kill(self) -> None:
        self._theirs.close()

    def wait(self) -> int:
        return -9


def test_answers_come_in_order_and_few_are_begun_before_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(spec: object) -> Any:
        echo = Echo()
        return _Worker(echo, echo.ours)  # type: ignore[arg-type]

    monkeypatch.setattr("service.bulk.pool._started", start)
    taken = []

    def tasks(kind: str) -> Iterator[tuple[int, Task]]:
        for number in range(40):
            taken.append(number)
            yield number, Task(kind if number == 20 else "text", [str(number)])

    with Pool(2, None) as pool:  # type: ignore[arg-type]
        for number, (beside, told) in enumerate(pool.ordered(tasks("text"))):
            assert (beside, told) == (number, [str(number)])
            assert len(taken) <= number + 1 + 3 * 2
        assert number == 39
    died = pytest.raises(WorkerDied, match=r"worker process 7 ended with signal 9 \(SIGKILL\)")
    with Pool(2, None) as pool, died:  # type: ignore[arg-type]
        list(pool.ordered(tasks("deadly")))


# -- processes that end ---------------------------------------------------------------------------------------------


@contextmanager
def ingesting(folder: Path, data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A command that is in the middle of 60,000 vectors, and its two workers."""
    np.save(folder / "v.npy", np.random.default_rng(0).normal(size=(60_000, 24)).astype(np.float32))
    options = ["--data", folder / "v.npy", "--collection", "many", "--model", "vectors-itq", "--data-dir", data_dir]
    command = [sys.executable, "-m", "service", "ingest", *map(str, options), "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "ingesting into many 10%" in line:
                break
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(workers) == 2
        yield process, [int(worker) for worker in workers]
    finally:
        process.kill()
        process.communicate()


def _all_end(workers: Iterable[int]) -> None:
    until = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["a worker is killed", "Ctrl-C"])
def test_what_was_stored_stays_and_the_same_command_goes_on(data_dir: Path, tmp_path: Path, end: str) -> None:
    with ingesting(tmp_path, data_dir) as (process, workers):
        if end == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            os.kill(workers[1], signal.SIGKILL)
        out, said = process.communicate(timeout=60)
        assert process.returncode == (130 if end == "Ctrl-C" else 1)
    assert out == ""
    assert "Traceback" not in said
    _all_end(workers)
    found = re.search(r"([\d,]+) of 60,000 items are stored", said)
    assert found is not None
    count = int(found[1].replace(",", ""))
    assert ("ended with signal 9 (SIGKILL)" in said) == (end != "Ctrl-C")
    assert 6_000 <= count < 60_000
    assert len(stored(data_dir, "many")) == count
    options = ["--data", tmp_path / "v.npy", "--collection", "many", "--data-dir", data_dir, "--workers", "2"]
    assert as_json("ingest", *options) == {
        "collection": "many", "created": 60_000 - count, "updated": 0, "unchanged": count,
    }  # fmt: skip
    as_json("ingest", *[*options[:3], "one", "--model", "vectors-itq", *options[4:6]])
    assert stored(data_dir, "many") == stored(data_dir, "one")


@pytest.mark.slow
def test_workers_end_with_the_command_however_it_ends(data_dir: Path, tmp_path: Path) -> None:
    with ingesting(tmp_path, data_dir) as (process, workers):
        process.kill()
        process.communicate()
        _all_end(workers)
