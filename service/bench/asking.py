"""Open a collection and ask it, as a stage of `bench scale`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from index import Codes, Collection
from index.catalogue import STORE_FILE
from index.milvus import MilvusCatalogue
from index.warm import compile_kernels

from .codes import clustered
from .machine import cpu_seconds, peak_bytes, resident_bytes, resident_of
from .workload import QUERIES, RADIUS, Asked, K, Opened, Work, opened_catalogue


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
            found.asked.append(_asked(f"{what}, store read from disk", question, queries, 1, work))
            return found
        found.wrong = _wrong(collection, queries, distances)
        if work.payloads:
            started = time.perf_counter()
            collection.search(queries[0], k=10 * K, filter={"label": 3})  # more than what is near and matches
            found.first_filter_seconds = time.perf_counter() - started
        for threads in work.threads:
            found.asked += [
                _asked(what, question, queries, threads, work)
                for what, question in questions(collection, work.payloads).items()
            ]
        if isinstance(catalogue, MilvusCatalogue):
            with opened_catalogue(work, "bounded") as other:
                question = questions(other.get(work.name), False)[f"{K} nearest"]
                found.asked.append(_asked(f"{K} nearest, bounded", question, queries, 1, work))
        found.server_bytes = None if work.milvus_pid is None else resident_of(work.milvus_pid)
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


def _asked(what: str, question: Callable[[Codes], int], queries: Codes, threads: int, work: Work) -> Asked:
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
    pid = work.milvus_pid
    server = 0.0 if pid is None else cpu_seconds(pid)
    started, spent = time.perf_counter(), time.process_time()
    until = started + work.seconds
    for other in others:
        other.start()
    client(0)
    for other in others:
        other.join()
    took, cpu = time.perf_counter() - started, time.process_time() - spent
    taken = np.concatenate(latencies) * 1e6
    p50, p99 = np.percentile(taken, [50, 99]).tolist()
    asked = Asked(what, threads, len(taken) / took, p50, p99, 1e6 * cpu / len(taken), sum(found) / len(taken))
    if pid is not None:
        asked.server_us = 1e6 * (cpu_seconds(pid) - server) / len(taken)
    return asked


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
