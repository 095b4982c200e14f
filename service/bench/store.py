"""The benchmark of a whole collection: how fast it stores, starts and groups, beside SQLite as it comes.

Everything that can be is measured in turns within one run and given as a ratio; the disk of the folder is part of it.
"""

from __future__ import annotations

import http.client
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from index import Catalogue, Codes, CollectionConfig, EmbeddedCollection, Item

from . import machine
from .codes import clustered
from .table import table

BATCH = 1_000
ROUNDS, ROUND = 5, 100_000  # items stored in each round by each contestant
WRITERS = 32
_NAME = "bench"


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing measured: the value, what it is compared with, and how they compare where more is better."""

    what: str
    value: str
    beside: str = ""
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What was measured, in order."""

    facts: dict[str, str]
    measures: Sequence[Measure]

    def as_dict(self) -> dict[str, Any]:
        return {"facts": self.facts, "measures": [asdict(measure) for measure in self.measures]}

    def markdown(self) -> list[str]:
        lines = [f"- {name}: {value}" for name, value in self.facts.items()]
        rows = [(m.what, m.value, m.beside, "" if m.ratio is None else f"{m.ratio:.2f}x") for m in self.measures]
        return [*lines, "", *table("what | measured | beside | ratio", rows)]


def store_benchmark(
    *, items: int, bits: int, radius: int, seed: int, folder: Path | None = None, say: Callable[[str], None]
) -> StoreReport:
    """Measure storing, starting and grouping `items` codes in a folder of its own under `folder`, then remove it."""
    facts = {**machine.facts(["numpy", "numba", "faiss-cpu"]), "SQLite": sqlite3.sqlite_version}
    facts["codes"] = f"{items:,} x {bits} bits, clustered, seed {seed}"
    codes, _ = clustered(items, bits, 1, seed)
    measures: list[Measure] = []

    def note(measure: Measure) -> None:
        measures.append(measure)
        say(f"{measure.what}: {measure.value} {measure.beside}")

    with TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        note(_ingest(root, bits, codes))
        for measure in (*_writers(root, bits), _stream(root, bits, codes)):
            note(measure)
        for measure in _start(root, bits, codes, radius):
            note(measure)
    return StoreReport(facts, measures)


def _config(bits: int) -> CollectionConfig:
    return CollectionConfig(_NAME, bits, None, False, "2026-01-01T00:00:00Z")


# -- storing -------------------------------------------------------------------------------------------------------


def _ingest(root: Path, bits: int, codes: Codes) -> Measure:
    """Durable batches: ours, and the plainest table of SQLite with the same guarantees, round by round in turns."""
    ids = [f"item-{number:09d}" for number in range(ROUND)]
    part = np.resize(codes, (ROUND, bits // 8))
    ours, raw = [], []
    for number in range(ROUNDS):
        with closing(Catalogue(root / f"ours-{number}")) as catalogue:
            collection = catalogue.create(_config(bits))
            ours.append(_timed(lambda at, c=collection: c.put_codes(ids[at : at + BATCH], part[at : at + BATCH])))  # type: ignore[misc]
        with closing(sqlite3.connect(root / f"raw-{number}.db", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("CREATE TABLE items (id TEXT PRIMARY KEY, code BLOB NOT NULL)")
            raw.append(_timed(lambda at, db=db: _insert(db, ids[at : at + BATCH], part[at : at + BATCH])))  # type: ignore[misc]
    mine, theirs = statistics.median(ours), statistics.median(raw)
    return Measure(
        f"codes stored durably, in process, {BATCH:,} a batch",
        f"{mine:,.0f} a second",
        f"raw SQLite, WAL, synchronous FULL: {theirs:,.0f}",
        statistics.median(a / b for a, b in zip(ours, raw, strict=True)),
    )


def _timed(batch: Callable[[int], object]) -> float:
    """Items a second."""
    started = time.perf_counter()
    for at in range(0, ROUND, BATCH):
        batch(at)
    return ROUND / (time.perf_counter() - started)


def _insert(db: sqlite3.Connection, ids: Sequence[str], codes: Codes) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany(
        "INSERT INTO items VALUES (?, ?)", [(id, code.tobytes()) for id, code in zip(ids, codes, strict=True)]
    )
    db.execute("COMMIT")


def _writers(root: Path, bits: int) -> Iterator[Measure]:
    """Writers of one item each: alone, and many at a time, who share their fsyncs."""
    rates = []
    for writers in (1, WRITERS):
        with closing(Catalogue(root / f"writers-{writers}")) as catalogue:
            collection = catalogue.create(_config(bits))
            each = 640 // writers

            def write(writer: int, collection: EmbeddedCollection = collection, each: int = each) -> None:
                for number in range(each):
                    collection.put([Item(f"{writer}-{number}", bytes(bits // 8))])

            threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
            started = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rates.append(640 / (time.perf_counter() - started))
    yield Measure(
        f"single items stored durably by {WRITERS} writers",
        f"{rates[1]:,.0f} a second",
        f"by one writer: {rates[0]:,.0f}",
        rates[1] / rates[0],
    )


# -- over HTTP -----------------------------------------------------------------------------------------------------


def _stream(root: Path, bits: int, codes: Codes) -> Measure:
    """Ready-made codes as lines of JSON to a server of its own."""
    count = min(len(codes), 500_000)
    lines = b"".join(
        b'{"id":"item-%09d","code":"%s"}\n' % (number, code.tobytes().hex().encode())
        for number, code in enumerate(codes[:count])
    )
    with _server(root / "served") as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        connection.request("POST", "/collections", f'{{"name": "{_NAME}", "bits": {bits}}}', _JSON)
        connection.getresponse().read()
        spent, started = machine.cpu_seconds(process.pid), time.perf_counter()
        connection.request("POST", f"/ingest?collection={_NAME}", lines, {"content-type": "application/x-ndjson"})
        reply = connection.getresponse()
        said = reply.read()
        took, used = time.perf_counter() - started, machine.cpu_seconds(process.pid) - spent
        connection.close()
    if reply.status != 200:
        raise RuntimeError(f"the stream was refused: {said[:500].decode()}")
    return Measure(
        "codes stored durably over HTTP, application/x-ndjson",
        f"{count / took:,.0f} a second",
        f"{1e6 * used / count:.1f} us of the server's processor each",
    )


_JSON = {"content-type": "application/json"}


@contextmanager
def _server(data_dir: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A service over `data_dir` on a free loopback port, ready."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _until_ready(port, process)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def _until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with code {process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    raise RuntimeError("the service was not ready in time")


# -- starting and grouping -----------------------------------------------------------------------------------------


def _start(root: Path, bits: int, codes: Codes, radius: int) -> Iterator[Measure]:
    """A start with everything there: from the copy of the codes, and without it; then all groups within a radius."""
    data = root / "large"
    items, batch = len(codes), 20_000
    with closing(Catalogue(data / "collections")) as catalogue:
        collection = catalogue.create(_config(bits))
        started = time.perf_counter()
        for at in range(0, items, batch):
            part = codes[at : at + batch]
            collection.put_codes([f"{number:010d}" for number in range(at, at + len(part))], part)
        yield Measure(
            f"{items:,} codes stored, {batch:,} a batch", f"{items / (time.perf_counter() - started):,.0f} a second"
        )
        collection.merge()
        yield Measure("memory of the index", f"{collection.nbytes / items:.1f} bytes an item")
    quick = _opened(data)
    started = time.perf_counter()
    with _server(data):
        ready = time.perf_counter() - started
    empty = time.perf_counter()
    with _server(root / "empty"):
        nothing = time.perf_counter() - empty
    yield Measure(f"service ready with {items:,} items", f"{ready:.2f} s", f"an empty one: {nothing:.2f} s")
    (data / "collections" / _NAME / "codes.copy").unlink()
    slow = _opened(data)
    yield Measure(
        f"collection of {items:,} items opened",
        f"{quick:.2f} s",
        f"without the copy of its codes: {slow:.2f} s",
        slow / quick,
    )
    with closing(Catalogue(data / "collections")) as catalogue:
        started = time.perf_counter()
        _, pairs = catalogue.get(_NAME).all_pairs(radius)
        *_, groups = pairs.groups()
        took = time.perf_counter() - started
        found = len(groups.members())
        yield Measure(f"all groups within radius {radius} of {items:,} codes", f"{took:.1f} s", f"{found:,} groups")


def _opened(data: Path) -> float:
    """Seconds to open the collections, in a process of its own."""
    program = (
        "import sys, time; from pathlib import Path; from index import Catalogue\n"
        "from index.warm import WIDTHS, compile_kernels; [compile_kernels(bits) for bits in WIDTHS]\n"
        "started = time.perf_counter(); catalogue = Catalogue(Path(sys.argv[1]))\n"
        "print(time.perf_counter() - started); assert catalogue.all(); catalogue.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(data / "collections")], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
