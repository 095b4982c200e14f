"""What `bench scale` has a process of its own do, so that its memory is that of the collection: fill one, and ask it.

Run as `python -m service.bench.stages fill|ask`, with the arguments as JSON on standard input; says what it measured
as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import Catalogue, Codes, Collection, CollectionConfig, EmbeddedCollection, Item
from index.catalogue import STORE_FILE
from index.milvus import Connection, MilvusCatalogue
from index.warm import compile_kernels

from .codes import clustered, in_parts
from .machine import peak_bytes, resident_bytes

TOKEN = "HAMMINGBIRD_MILVUS_TOKEN"
RADIUS = 3
K = 10
QUERIES = 20_000
LABELS = 10
COUNTED = 20
"""Queries whose distances to every code are counted while these are made, to check the answers by."""

_MILVUS_TIMEOUT_S = 120
_KINDS = 1 << 40  # of ids: ten hexadecimal digits
_STRIDE = 0x9E3779B97F | 1  # odd, so that no two multiples are the same id


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage is told."""

    folder: str  # of the collections
    name: str  # of the collection
    items: int
    bits: int
    seed: int
    seconds: float  # for each question
    payloads: bool
    shuffled: bool  # ids come in no order
    milvus_uri: str | None  # where the collection is, if not in the folder

    @property
    def threads(self) -> tuple[int, ...]:
        """How many ask at a time: in one process they share the interpreter, before Milvus most of the time is spent
        on waiting."""
        return (1, 2) if self.milvus_uri is None else (1, 8)


def opened_catalogue(work: Work) -> AbstractContextManager[Catalogue | MilvusCatalogue]:
    """The catalogue that the collection is in."""
    if work.milvus_uri is None:
        return closing(Catalogue(Path(work.folder)))
    connection = Connection(work.milvus_uri, os.environ.get(TOKEN, ""), timeout_s=_MILVUS_TIMEOUT_S)
    return closing(MilvusCatalogue(connection, owner=work.name))


@dataclass(frozen=True, slots=True)
class Filled:
    """What it took to store the items; the codes and ids were made outside of the time."""

    seconds: float
    cpu_seconds: float  # of the processor, upkeep included
    merge_seconds: float  # until what was written last was merged, of `seconds`
    peak_bytes: int  # by which the process had grown at the most
    distances: list[list[int]]  # for each counted query, how many codes are at each distance


@dataclass(slots=True)
class Asked:
    """How one kind of question was answered; times in microseconds."""

    what: str
    threads: int
    per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float
    found: float | None  # items in all, of which an answer shows at most a page; None over HTTP


@dataclass(slots=True)
class Opened:
    """What a process needs to open the collection, and how it then answers."""

    seconds: float
    grown_bytes: int  # resident memory beside that of the same process before
    peak_bytes: int  # the same at the most
    index_bytes: int | None  # where it is in this process
    first_filter_seconds: float | None
    asked: list[Asked] = field(default_factory=list)
    wrong: int = 0  # of COUNTED answers to each of two questions


# -- filling ---------------------------------------------------------------------------------------------------------


def ids_of(start: int, count: int, shuffled: bool) -> list[str]:
    """Ids of ten characters, in ascending order or in none."""
    if not shuffled:
        return [f"{number:010d}" for number in range(start, start + count)]
    return [f"{number * _STRIDE % _KINDS:010x}" for number in range(start, start + count)]


def label_of(number: int) -> int:
    return number % LABELS


def fill(work: Work) -> Filled:
    """Store the items, a part of the codes in each transaction."""
    _, queries = clustered(1, work.bits, COUNTED, work.seed)
    counts = np.zeros((COUNTED, work.bits + 1), np.int64)
    compile_kernels(work.bits)
    with opened_catalogue(work) as catalogue:
        collection = catalogue.create(CollectionConfig(work.name, work.bits, None, False, "2026-01-01T00:00:00Z"))
        if work.payloads:
            collection.index_field("label")
        before, seconds, cpu, done = resident_bytes(), 0.0, 0.0, 0
        for codes in in_parts(work.items, work.bits, work.seed):
            _count(queries, codes, counts)
            put = _prepared(collection, done, codes, work)
            started, spent = time.perf_counter(), time.process_time()
            put()
            seconds += time.perf_counter() - started
            cpu += time.process_time() - spent
            done += len(codes)
            if done // 10_000_000 > (done - len(codes)) // 10_000_000:
                _say(f"{done:,} stored, {done / seconds:,.0f} a second")
        started, spent = time.perf_counter(), time.process_time()
        if isinstance(collection, EmbeddedCollection):
            collection.merge()
        merging = time.perf_counter() - started
        cpu += time.process_time() - spent
        return Filled(seconds + merging, cpu, merging, peak_bytes() - before, counts.tolist())


def _prepared(collection: Collection, start: int, codes: Codes, work: Work) -> Callable[[], object]:
    ids = ids_of(start, len(codes), work.shuffled)
    if not work.payloads:
        return lambda: collection.put_codes(ids, codes)
    numbered = enumerate(zip(ids, codes, strict=True), start)
    items = [Item(id, code.tobytes(), {"label": label_of(number)}) for number, (id, code) in numbered]
    return lambda: collection.put(items)


def _count(queries: Codes, codes: Codes, counts: NDArray[np.int64]) -> None:
    """Add to `counts` `(queries, bits + 1)` how many of `codes` are at each distance, by plain comparison."""
    word = np.uint64 if codes.shape[1] % 8 == 0 else np.uint8
    words = np.ascontiguousarray(codes).view(word)
    for query, row in zip(queries.view(word), counts, strict=True):
        distances = np.bitwise_count(words ^ query).sum(1, dtype=np.int64)
        row += np.bincount(distances, minlength=len(row))


# -- asking ----------------------------------------------------------------------------------------------------------


def ask(work: Work, distances: Sequence[Sequence[int]], cold: bool) -> Opened:
    """Open the collection and ask it. cold: with neither of its files in memory, and then one question only."""
    _, queries = clustered(1, work.bits, QUERIES, work.seed)
    compile_kernels(work.bits)
    if cold:
        for file in (Path(work.folder) / work.name).iterdir():
            forget(file)
    before, started = resident_bytes(), time.perf_counter()
    with opened_catalogue(work) as catalogue:
        collection: Collection = catalogue.get(work.name)
        seconds = time.perf_counter() - started
        found = Opened(seconds, 0, peak_bytes() - before, collection.nbytes, None)
        found.grown_bytes = resident_bytes() - before
        if cold:
            forget(Path(work.folder) / work.name / STORE_FILE)
            (what, question), *_ = questions(collection, False).items()
            found.asked.append(_asked(f"{what}, store read from disk", question, queries, 1, work.seconds))
            return found
        found.wrong = _wrong(collection, queries, distances)
        if work.payloads:
            started = time.perf_counter()
            collection.search(queries[0], k=10 * K, filter={"label": 3})  # more than what is near and matches
            found.first_filter_seconds = time.perf_counter() - started
        for threads in work.threads:
            found.asked += [
                _asked(what, question, queries, threads, work.seconds)
                for what, question in questions(collection, work.payloads).items()
            ]
        return found


def questions(collection: Collection, payloads: bool) -> dict[str, Callable[[Codes], int]]:
    """What is asked, each with the number of items found."""
    wanted: dict[str, dict[str, Any]] = {f"{K} nearest": {"k": K}, f"within {RADIUS}": {"radius": RADIUS}}
    if payloads:
        for what, arguments in list(wanted.items()):
            wanted[f"{what}, filtered"] = {**arguments, "filter": {"label": 3}}

    def question(arguments: dict[str, Any]) -> Callable[[Codes], int]:
        return lambda code: collection.search(code, **arguments).total

    return {what: question(arguments) for what, arguments in wanted.items()}


def _asked(what: str, question: Callable[[Codes], int], queries: Codes, threads: int, seconds: float) -> Asked:
    """Ask again and again for so long, in each thread other queries."""
    latencies: list[list[float]] = [[] for _ in range(threads)]
    found = [0] * threads

    def client(number: int) -> None:
        at, now = number * len(queries) // threads, time.perf_counter()
        while now < until:
            began = now
            found[number] += question(queries[at % len(queries)])
            now = time.perf_counter()
            latencies[number].append(now - began)
            at += 1

    others = [threading.Thread(target=client, args=(number,)) for number in range(1, threads)]
    started, spent = time.perf_counter(), time.process_time()
    until = started + seconds
    for other in others:
        other.start()
    client(0)
    for other in others:
        other.join()
    took, cpu = time.perf_counter() - started, time.process_time() - spent
    taken = np.concatenate(latencies) * 1e6
    p50, p99 = np.percentile(taken, [50, 99]).tolist()
    return Asked(what, threads, len(taken) / took, p50, p99, 1e6 * cpu / len(taken), sum(found) / len(taken))


def _wrong(collection: Collection, queries: Codes, distances: Sequence[Sequence[int]]) -> int:
    """How many answers to the counted queries are not what a plain comparison with every code counted."""
    wrong = 0
    for code, counts in zip(queries, distances, strict=False):
        upto = np.cumsum(counts)
        nearest = [hit.distance for hit in collection.search(code, k=K).hits]
        wrong += nearest != np.searchsorted(upto, np.arange(min(K, int(upto[-1]))), side="right").tolist()
        wrong += collection.search(code, radius=RADIUS, count_only=True).total != int(upto[RADIUS])
    return wrong


def forget(file: Path) -> None:
    """Have the system read `file` from the disk the next time."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # what is not written yet cannot be forgotten
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> None:
    stage, told = sys.argv[1], json.load(sys.stdin)
    work = Work(**told.pop("work"))
    done = fill(work) if stage == "fill" else ask(work, **told)
    sys.stdout.write(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
