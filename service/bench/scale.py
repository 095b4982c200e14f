"""The benchmark of size: what a collection of so many items takes of one machine, and what it then answers.

A collection is filled in a data directory, closed, and opened by a process of its own that does nothing else, so that
what is said of memory is the collection's. Answers are compared with a plain comparison with every code. The same of a
collection in Milvus, whose disk and memory are its own affair.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from index.catalogue import STORE_FILE
from index.errors import UnknownCollection

from . import machine
from .codes import PART, clustered
from .drive import Load, drive, in_turn, post, serving
from .table import table
from .workload import COUNTED, QUERIES, RADIUS, Asked, Filled, K, Opened, Work, opened_catalogue

CONNECTIONS = 8
SETTLED_S = 20
"""For so long a Milvus server is busy with what was just stored; searches are measured afterwards."""

_PATIENCE_S = 1800


@dataclass(frozen=True, slots=True)
class Served:
    """What a service needs to start over the collection, and how it answers `CONNECTIONS` at a time."""

    seconds: float
    resident_bytes: int
    asked: Sequence[Asked]


@dataclass(frozen=True, slots=True)
class Embedded:
    """What only a collection in the data directory has."""

    store_bytes: int
    copy_bytes: int
    cold: Opened  # with neither file in memory


@dataclass(frozen=True, slots=True)
class Size:
    """One collection."""

    work: Work
    filled: Filled
    opened: Opened
    embedded: Embedded | None
    served: Served | None
    load: float  # of the machine, over the last five minutes, at the end

    @property
    def wrong(self) -> int:
        return self.opened.wrong

    def rows(self) -> dict[str, str]:
        """What was measured, by what it is."""
        items, filled, opened, embedded = self.work.items, self.filled, self.opened, self.embedded
        rows = {
            "stored a second": f"{items / filled.seconds:,.0f}",
            "processor us to store an item": f"{1e6 * filled.cpu_seconds / items:.1f}",
        }
        if embedded is not None:
            rows |= {
                "bytes written an item, while filling": f"{filled.written_bytes / items:,.0f}",
                "bytes on disk an item, store": f"{embedded.store_bytes / items:.1f}",
                "bytes on disk an item, copy of the codes": f"{embedded.copy_bytes / items:.1f}",
                "memory bytes an item, resident": f"{opened.grown_bytes / items:.1f}",
                "memory bytes an item, index": f"{(opened.index_bytes or 0) / items:.1f}",
                "most memory while filling": _size(filled.peak_bytes),
                "most memory while opening": _size(opened.peak_bytes),
                "opened, s": f"{opened.seconds:.2f}",
                "opened, files read from disk, s": f"{embedded.cold.seconds:.2f}",
            }
        if opened.first_filter_seconds is not None:
            rows["a filter's first answer, s"] = f"{opened.first_filter_seconds:.2f}"
        for asked in (*opened.asked, *(() if embedded is None else embedded.cold.asked)):
            rows |= _answers(f"{asked.what}, {asked.threads} thread{'s' * (asked.threads > 1)}", asked)
        if opened.server_bytes is not None:
            rows["Milvus's memory"] = _size(opened.server_bytes)
        if self.served is not None:
            rows["service ready, s"] = f"{self.served.seconds:.1f}"
            rows["service's memory"] = _size(self.served.resident_bytes)
            for asked in self.served.asked:
                rows |= _answers(f"{asked.what}, HTTP, {asked.threads} connections", asked)
        rows[f"answers compared, {2 * COUNTED}"] = f"**WRONG** {self.wrong}" if self.wrong else "all right"
        rows["load average at the end"] = f"{self.load:.1f}"
        return rows


@dataclass(frozen=True, slots=True)
class ScaleReport:
    """What was measured, by size."""

    facts: dict[str, str]
    sizes: Sequence[Size]

    @property
    def broken(self) -> bool:
        """Whether an answer was wrong."""
        return any(size.wrong for size in self.sizes)

    def as_dict(self) -> dict[str, Any]:
        return {"facts": self.facts, "sizes": [asdict(size) for size in self.sizes], "broken": self.broken}

    def markdown(self) -> list[str]:
        rows = [size.rows() for size in self.sizes]
        names = dict.fromkeys(name for row in rows for name in row)
        head = " | ".join(["", *(f"{size.work.items:,} x {size.work.bits} bits" for size in self.sizes)])
        lines = [f"- {name}: {value}" for name, value in self.facts.items()]
        return [*lines, "", *table(head, [(name, *(row.get(name, "") for row in rows)) for name in names])]


def scale_benchmark(
    *,
    items: Sequence[int],
    bits: int,
    payloads: bool,
    shuffled: bool,
    http: bool,
    seconds: float,
    seed: int,
    folder: Path | None,
    milvus_uri: str | None,
    milvus_pid: int | None,
    say: Callable[[str], None],
) -> ScaleReport:
    """Measure collections of so many items in folders of their own under `folder`, each removed before the next.

    seconds: for each question. payloads: with one field, which has an index. shuffled: ids come in no order.
    milvus_uri: where the collections are instead. milvus_pid: of its server, where that runs here.
    """
    facts = machine.facts(["numpy", "numba", "faiss-cpu", "pymilvus"])
    facts["codes"] = f"clustered, seed {seed}; {QUERIES:,} queries; {PART:,} items a transaction"
    facts["ids"] = f"ten characters, {'in no order' if shuffled else 'ascending'}"
    facts["payloads"] = "one number, with an index" if payloads else "none"
    facts["kept in"] = "the data directory" if milvus_uri is None else "Milvus"
    sizes = []
    for count in items:
        with TemporaryDirectory(dir=folder) as name:
            own = f"bench-{uuid.uuid4().hex[:8]}"  # a Milvus may be in use
            work = Work(
                f"{name}/collections", own, count, bits, seed, seconds, payloads, shuffled, milvus_uri, milvus_pid
            )
            try:
                sizes.append(_measured(Path(name), work, http, say))
            finally:
                if milvus_uri is not None:
                    _remove(work)
    return ScaleReport(facts, sizes)


def _measured(data: Path, work: Work, http: bool, say: Callable[[str], None]) -> Size:
    say(f"{work.items:,} items of {work.bits} bits: filling")
    filled = Filled(**_stage("fill", {"work": asdict(work)}))
    say(f"stored in {filled.seconds:.0f} s; opening")
    if "://" in (work.milvus_uri or ""):
        time.sleep(SETTLED_S)
    told = {"work": asdict(work), "distances": filled.distances}
    opened = _opened(_stage("ask", {**told, "cold": False}))
    embedded = None
    if work.milvus_uri is None:
        cold = _opened(_stage("ask", {**told, "cold": True}))
        files = {file.name: file.stat().st_size for file in (Path(work.folder) / work.name).iterdir()}
        store = sum(size for name, size in files.items() if name.startswith(STORE_FILE))
        embedded = Embedded(store, sum(files.values()) - store, cold)
    served = _served(data, work, say) if http else None
    return Size(work, filled, opened, embedded, served, os.getloadavg()[1])


def _remove(work: Work) -> None:
    with opened_catalogue(work) as catalogue, suppress(UnknownCollection):  # where filling failed early
        catalogue.delete(work.name)


def _stage(stage: str, told: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own measured. What it says on the way goes where our own words go."""
    command = [sys.executable, "-m", "service.bench.stages", stage]
    done = subprocess.run(command, input=json.dumps(told), stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the stage {stage!r} ended with code {done.returncode}; what it said is above")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _opened(measured: dict[str, Any]) -> Opened:
    return Opened(**{**measured, "asked": [Asked(**one) for one in measured["asked"]]})


def _served(data: Path, work: Work, say: Callable[[str], None]) -> Served:
    """Start a service over the data directory and ask it by code."""
    _, queries = clustered(1, work.bits, QUERIES, work.seed)
    started = time.perf_counter()
    command = ("serve", "--port", "{port}", "--data-dir", str(data))
    environment = {} if work.milvus_uri is None else {"HAMMINGBIRD_MILVUS_URI": work.milvus_uri}
    with serving("service", *command, ready="/readyz", patience_s=_PATIENCE_S, environment=environment) as server:
        ready = time.perf_counter() - started
        say(f"service ready in {ready:.1f} s")
        asked = []
        for what, arguments in ((f"{K} nearest", {"k": K}), (f"within {RADIUS}", {"radius": RADIUS})):
            bodies = [
                {"collection": work.name, "query": {"code": code.tobytes().hex()}, **arguments} for code in queries
            ]
            requests = in_turn([post("/search", json.dumps(body).encode()) for body in bodies])
            load = Load()
            drive(server, requests, CONNECTIONS, work.seconds, load)
            p50, p99 = (load.latency_us(percentile) for percentile in (50, 99))
            asked.append(Asked(what, CONNECTIONS, load.per_second, p50, p99, load.cpu_us))
        return Served(ready, server.resident_bytes(), asked)


def _answers(what: str, asked: Asked) -> dict[str, str]:
    found = "" if asked.found is None else f"; {asked.found:,.0f} found"
    server = "" if asked.server_us is None else f", Milvus's {_time(asked.server_us)}"
    times = f"p50 {_time(asked.p50_us)}, p99 {_time(asked.p99_us)}; processor {_time(asked.cpu_us)}{server}"
    return {what: f"{asked.per_second:,.0f}/s; {times}{found}"}


def _time(micros: float) -> str:
    return f"{micros:,.0f} us" if micros < 10_000 else f"{micros / 1000:,.0f} ms"


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB"
