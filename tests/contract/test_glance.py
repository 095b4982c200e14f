"""Answers short enough for an event loop: the same as those that take their time, or none."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from index import Catalogue, CollectionConfig, EmbeddedCollection, Item
from index.answer import Hit
from index.glance import MOST
from index.multihash import MultiHashIndex
from service.bench.codes import clustered

SEED = 11


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCollection]:
    """40,000 codes of 64 bits, hashed, and as many again of the delta: some replaced, some deleted, many equal."""
    catalogue = Catalogue(tmp_path_factory.mktemp("glance"))
    made = catalogue.create(CollectionConfig("a", 64, None, False, "2026-01-01T00:00:00Z"))
    codes, _ = clustered(50_000, 64, 1, seed=SEED)
    codes[::7] = codes[0]
    made.put([Item(f"i{n:05d}", codes[n].tobytes(), {"n": n} if n % 3 else None) for n in range(40_000)])
    made.merge()
    made.put([Item(f"i{n:05d}", codes[n].tobytes(), {"later": n}) for n in range(35_000, 50_000, 5)])
    made.delete([f"i{n:05d}" for n in range(0, 50_000, 9)])
    yield made
    catalogue.close()


def shown(hits: object) -> list[tuple[object, ...]]:
    assert isinstance(hits, list | tuple)
    return [(hit.id, hit.distance, hit.payload, hit.code) for hit in hits if isinstance(hit, Hit)]


@pytest.mark.parametrize("count_only", [False, True])
@pytest.mark.parametrize(("payloads", "codes"), [(True, False), (False, True)])
def test_a_glance_is_the_search(collection: EmbeddedCollection, payloads: bool, codes: bool, count_only: bool) -> None:
    """H8: exact and complete, ties by id, whichever way it was answered."""
    _, queries = clustered(1, 64, 60, seed=SEED)
    answered = 0
    for place, query in enumerate(queries):
        for k, radius in ((1, None), (10, None), (10, 12), (None, 0), (None, 6), (None, 10), (100, None)):
            page = collection.glance(
                query, k=k, radius=radius, limit=40, payloads=payloads, codes=codes, count_only=count_only
            )
            if page is None:
                continue
            answered += 1
            full = collection.search(
                query, k=k, radius=radius, limit=40, payloads=payloads, codes=codes, count_only=count_only
            )
            assert shown(page.hits) == shown(full.hits), (SEED, place, k, radius)
            assert (page.total, page.cursor, page.plan) == (full.total, full.cursor, full.plan)
    assert answered > 200, "most of them are short"


def test_what_is_not_short_is_left_to_the_search(collection: EmbeddedCollection) -> None:
    code = np.zeros(8, np.uint8)

    def glance(code: np.ndarray[tuple[int], np.dtype[np.uint8]], k: int | None, radius: int | None, limit: int = 1000):  # type: ignore[no-untyped-def]
        return collection.glance(code, k=k, radius=radius, limit=limit, payloads=True, codes=False, count_only=False)

    assert glance(code, MOST + 1, None) is None, "more rows than it looks up"
    tied = collection.search(np.frombuffer(collection.get("i00007").code, np.uint8), radius=0).total
    assert tied > MOST
    assert glance(np.frombuffer(collection.get("i00007").code, np.uint8), None, 0) is None, "more hits than that"
    for wrong in ((code[:4], 1, None), (code, None, None), (code, None, 65), (code, None, -1), (code, 0, None)):
        assert glance(*wrong) is None, "what is wrong with it, the search says"


def test_a_glance_waits_for_nobody(collection: EmbeddedCollection) -> None:
    """While another glance reads there is none for what is not known yet, and the search answers."""
    query = clustered(1, 64, 1, seed=SEED)[1][0]
    with collection._live.glance._busy:
        assert collection.glance(query, k=3, codes=True) is None
    assert len(collection.search(query, k=3).hits) == 3


def test_kept_rows_have_a_limit_and_are_never_wrong(
    collection: EmbeddedCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few rows are kept, and whatever was written since: the answer is that of the search."""
    monkeypatch.setattr("index.glance.KEPT_BYTES", 20_000)
    _, queries = clustered(1, 64, 200, seed=SEED + 1)
    for place, query in enumerate(queries):
        if place % 20 == 0:
            collection.put([Item("moved", query.tobytes(), {"at": place})])
        page = collection.glance(query, k=10)
        assert page is not None
        assert shown(page.hits) == shown(collection.search(query, k=10).hits), (SEED, place)
    kept = collection._live.glance
    assert kept._size <= 20_000
    assert kept._size == sum(130 + len(id) + len(payload or "") for id, payload, _ in kept._known.values())


def test_prices_foretell_time() -> None:
    """What is within an allowance takes about that long at most; what is refused costs little to refuse."""
    codes, queries = clustered(300_000, 64, 200, seed=SEED)
    index = MultiHashIndex.build(64, np.arange(len(codes)), codes)
    took: dict[float, list[float]] = {}
    for allowance in (0.0, 10_000.0, 1e9):
        for query in queries:
            started = time.perf_counter()
            found = index.within_allowance(query, 10, None, allowance)
            seconds = time.perf_counter() - started
            assert (found is None) == (allowance == 0) or allowance == 10_000
            took.setdefault(allowance, []).append(seconds)
            if found is not None:
                assert np.array_equal(found.packed, index.search(query, 10).packed)
    cheap, dear = float(np.median(took[10_000.0])), float(np.median(took[1e9]))
    assert cheap < dear, "an allowance of a ninth of a scan saves most of it"
    radii = [index.within_allowance(query, None, 24, 1000.0) for query in queries]
    assert all(found is None for found in radii)
