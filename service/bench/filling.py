"""Fill a collection, as a stage of `bench scale`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from index import Codes, Collection, CollectionConfig, EmbeddedCollection, Item
from index.milvus import MilvusCollection
from index.warm import compile_kernels

from .codes import clustered, in_parts
from .machine import peak_bytes, resident_bytes, written_bytes
from .workload import COUNTED, LABELS, Filled, Work, connected, opened_catalogue

_KINDS = 1 << 40  # of ids: ten hexadecimal digits
_STRIDE = 0x9E3779B97F | 1  # odd, so that no two multiples are the same id


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
        before, written, seconds, cpu, done = resident_bytes(), written_bytes(), 0.0, 0.0, 0
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
        elif isinstance(collection, MilvusCollection):
            _sealed(work, collection)
        merging = time.perf_counter() - started
        cpu += time.process_time() - spent
        grown = peak_bytes() - before
        return Filled(seconds + merging, cpu, merging, grown, written_bytes() - written, counts.tolist())


def _sealed(work: Work, collection: MilvusCollection) -> None:
    """Have a server put what was stored where searches are quick; by itself it does so when it has rested for long."""
    with closing(connected(work.milvus_uri or "")) as connection:
        if not connection.lite:
            connection.call("flush", collection.look().serving.physical)


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


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
