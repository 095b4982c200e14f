"""Every Hamming index equals the brute force: ids, distances, order and ties. (reliability.md S1, S2)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index import BruteIndex, FlatIndex, Hits, MultiHashIndex, Plan, bits, hamming, multihash, pack, to_hex, unpack
from index.delta import Delta
from index.errors import InvalidCode
from index.multihash import KeyBitmap
from index.snapshot import Snapshot
from index.transaction import Change

WIDTHS = [8, 16, 24, 32, 40, 64, 72, 128, 192, 256, 512, 1024]
SHAPES = ["random", "equal", "zero", "complement", "clustered", "skewed"]


def codes_of(shape: str, n: int, width: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`n` codes whose distances are of a certain kind."""
    size = width // 8
    random = rng.integers(0, 256, (n, size)).astype(np.uint8)
    one = rng.integers(0, 256, (1, size)).astype(np.uint8)
    if shape == "equal":
        return np.repeat(one, n, axis=0)
    if shape == "zero":
        return np.zeros((n, size), np.uint8)
    if shape == "complement":
        return np.where(rng.random((n, 1)) < 0.5, one, ~one)
    if shape == "clustered":
        centres = rng.integers(0, 256, (4, size)).astype(np.uint8)
        noise = np.packbits(rng.random((n, width)) < 0.05, axis=1)
        return centres[rng.integers(0, 4, n)] ^ noise
    if shape == "skewed":
        return random[np.minimum(rng.zipf(1.5, n) - 1, max(n - 1, 0))] if n else random
    return random


def grown(width: int, keys: Any, codes: Any, inline_bytes: int, rng: np.random.Generator) -> Snapshot:
    """A snapshot that came about by writes, deletes and merges, some of them made of an earlier state."""
    base = MultiHashIndex.build(width, *nothing(width), inline_bytes=inline_bytes, hashed_from=0)
    snapshot = Snapshot(0, base, Delta.empty(width))
    # A doomed twin of every item goes in first, somewhere on the way it is taken out again.
    doomed, twins = np.arange(1, len(keys) + 1, dtype=np.int64), ~codes
    snapshot = snapshot.after(change(width, added=doomed, codes=twins))
    earlier = snapshot
    for part in np.array_split(np.arange(len(keys)), 5):
        snapshot = snapshot.after(change(width, keys[part], codes[part], doomed[part], twins[part]))
        if rng.random() < 0.5:
            merged = MultiHashIndex.build(width, *earlier.contents(), inline_bytes=inline_bytes, hashed_from=0)
            snapshot = earlier = snapshot.rebased(earlier, merged)
    return snapshot


def nothing(width: int) -> Any:
    return np.empty(0, np.int64), np.empty((0, width // 8), np.uint8)


def change(width: int, added: Any, codes: Any, removed: Any = None, removed_codes: Any = None) -> Change:
    no_keys, no_codes = nothing(width)
    return Change(1, added, codes, *((no_keys, no_codes) if removed is None else (removed, removed_codes)))


def build(kind: str, width: int, keys: Any, codes: Any, rng: np.random.Generator) -> Any:
    """An index of `kind` over the items."""
    if kind == "faiss":
        return FlatIndex.build(width, keys, codes)
    if kind == "snapshot":
        return grown(width, keys, codes, 0, rng)
    if kind == "snapshot inline":
        return grown(width, keys, codes, 1 << 30, rng)
    inline_bytes = 1 << 30 if kind == "inline" else 0
    hashed_from = 1 << 30 if kind == "scan" else 0
    return MultiHashIndex.build(width, keys, codes, inline_bytes=inline_bytes, hashed_from=hashed_from)


KINDS = ["faiss", "scan", "buckets", "inline", "snapshot", "snapshot inline"]


def equal(a: Hits, b: Hits) -> bool:
    return np.array_equal(a.keys, b.keys) and np.array_equal(a.distances, b.distances)


@pytest.fixture(params=["planned", "never scan"])
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the planner as it is, small indexes are always scanned; without a budget, buckets answer everything."""
    if request.param == "never scan":
        monkeypatch.setattr(multihash, "PRICES", np.zeros(3))


@pytest.mark.usefixtures("budget")
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_index_equals_the_brute_force(kind: str, data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    n = data.draw(st.sampled_from([0, 1, 2, 3, 17, 200]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    codes = codes_of(data.draw(st.sampled_from(SHAPES)), n, width, rng)
    keys = np.sort(rng.choice(5000, n, replace=False)).astype(np.int64) + 1000
    query = codes[0] if n and rng.random() < 0.5 else rng.integers(0, 256, width // 8).astype(np.uint8)
    oracle, index = BruteIndex.build(width, keys, codes), build(kind, width, keys, codes, rng)
    assert len(index) == len(oracle) == n
    for k in {1, 2, 10, n, n + 1} - {0}:
        assert equal(index.search(query, k), oracle.search(query, k)), k
    # Where chunks are wide for so few items, all their buckets cannot be visited in the time of a test.
    radii = {0, 1, 2, 3, data.draw(st.integers(0, width)), width} if width <= 64 else {0, 1, 2, 5, width}
    for radius in sorted(radii):
        assert equal(index.within(query, radius), oracle.within(query, radius)), radius


@pytest.mark.usefixtures("budget")
@pytest.mark.parametrize("kind", ["scan", "buckets", "inline", "snapshot"])
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_deleted_or_not_selected_is_not_found(kind: str, data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    n = data.draw(st.sampled_from([1, 9, 200, 700]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    codes, keys = codes_of(data.draw(st.sampled_from(SHAPES)), n, width, rng), np.arange(n, dtype=np.int64) + 5007
    index = build(kind, width, keys, codes, rng)
    stays = rng.random(n) < data.draw(st.sampled_from([0, 0.001, 0.5, 1]))
    if kind == "snapshot":
        index = index.after(change(width, *nothing(width), keys[~stays], codes[~stays]))
    else:
        index = index.without(keys[~stays], codes[~stays])
        index = index.without(keys[~stays][:2], codes[~stays][:2])  # again, which changes nothing
    check_all(index, BruteIndex.build(width, keys[stays], codes[stays]), codes[0])
    selected = rng.random(n) < data.draw(st.sampled_from([0, 0.01, 0.5, 1]))
    chosen = KeyBitmap(5000, np.packbits(np.concatenate([np.ones(7, bool), selected]), bitorder="little"))
    parts = [index.base, index.delta] if kind == "snapshot" else [index]
    index = Snapshot(0, parts[0].only(chosen), parts[1].only(chosen)) if kind == "snapshot" else index.only(chosen)
    check_all(index, BruteIndex.build(width, keys[stays & selected], codes[stays & selected]), codes[0])


def check_all(index: Any, oracle: BruteIndex, query: Any) -> None:
    assert len(index) == len(oracle)
    for k in (1, 10, 1000):
        assert equal(index.search(query, k), oracle.search(query, k)), k
    for radius in (0, 2, oracle.bits):
        assert equal(index.within(query, radius), oracle.within(query, radius)), radius


@pytest.mark.parametrize("inline_bytes", [0, 1 << 30])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [8, 16, 32, 64, 256, 1024])
def test_a_hundred_thousand_items(shape: str, width: int, inline_bytes: int) -> None:
    rng = np.random.default_rng(7)
    n = 100_000 if width <= 256 else 20_000
    codes = codes_of(shape, n, width, rng)
    keys = np.arange(1, n + 1, dtype=np.int64)
    index = MultiHashIndex.build(width, keys, codes, inline_bytes=inline_bytes)
    index = index.without(keys[::7], codes[::7])
    oracle = BruteIndex.build(width, np.delete(keys, slice(None, None, 7)), np.delete(codes, slice(None, None, 7), 0))
    for query in (codes[3], ~codes[3], codes[3] ^ np.uint8(1)):
        for k in (1, 10, 5000):
            assert equal(index.search(query, k), oracle.search(query, k))
        for radius in (0, 3, 8, width // 3):
            assert equal(index.within(query, radius), oracle.within(query, radius))
            both = oracle.within(query, radius).nearest(7)
            assert equal(index.search(query, 7, radius), both)
    queries = codes[rng.integers(0, n, 9)]
    for query, hits in zip(queries, index.many(queries, width, 10), strict=True):
        assert equal(hits, oracle.search(query, 10))
    for query, hits in zip(queries, index.many(queries, 4, 0), strict=True):
        assert equal(hits, oracle.within(query, 4))


@pytest.mark.parametrize("kind", ["buckets", "inline"])
def test_every_radius_up_to_the_width(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    codes, keys = codes_of("clustered", 3000, 64, rng), np.arange(3000, dtype=np.int64)
    oracle, index = BruteIndex.build(64, keys, codes), build(kind, 64, keys, codes, rng)
    monkeypatch.setattr(multihash, "PRICES", np.zeros(3))
    for radius in range(65):
        assert equal(index.within(codes[5], radius), oracle.within(codes[5], radius))
    assert len(index.within(codes[5], 64)) == 3000


def test_the_planner_says_what_it_did() -> None:
    rng = np.random.default_rng(1)
    codes, keys = codes_of("random", 200_000, 64, rng), np.arange(200_000, dtype=np.int64)
    index = MultiHashIndex.build(64, keys, codes)
    assert index.within(codes[0], 0).plan.method == "bucket"
    assert index.within(codes[0], 5).plan.method == "multi-index-hash"
    assert 0 < index.within(codes[0], 5).plan.candidates < 10_000
    assert index.within(codes[0], 30).plan == Plan("scan", 200_000)
    assert index.search(codes[0], 300_000).plan.method == "scan"
    # All codes equal: every bucket that matters holds everything, which the planner sees before it touches them.
    index = MultiHashIndex.build(64, keys, np.repeat(codes[:1], 200_000, axis=0))
    assert index.within(codes[0], 3).plan.method == "scan"


def test_keys_far_apart() -> None:
    rng = np.random.default_rng(2)
    codes = codes_of("random", 1000, 64, rng)
    keys = np.arange(1000, dtype=np.int64) * 2**33
    oracle = BruteIndex.build(64, keys, codes)
    for index in (build("buckets", 64, keys, codes, rng), build("snapshot", 64, keys + 1000, codes, rng)):
        hits = index.within(codes[1], 30)
        assert np.array_equal(hits.keys % 2**33 % 1000, oracle.within(codes[1], 30).keys % 2**33)


def test_memory_at_ten_million_items() -> None:
    """The promise of 24 bytes an item, by what the layout adds up to; `hammingbird bench index` measures it."""
    items = 10_000_000
    buckets = multihash.Buckets.layout(items, 64)
    assert (8 + 4) * items + buckets.places.nbytes + buckets.offsets.nbytes + items / 8 < 24 * items


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_codes_are_packed_bits_and_hamming_is_a_metric(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = rng.normal(size=(3, width))
    logits[0, 0] = 0.0  # a logit of exactly zero is bit 0
    a, b, c = codes = pack(logits)
    assert codes.shape == (3, width // 8)
    assert np.array_equal(unpack(codes), (logits > 0).astype(np.uint8))
    assert unpack(a)[0] == 0
    numbers = [int(to_hex(code), 16) for code in codes]
    assert int(hamming(a, b)) == (numbers[0] ^ numbers[1]).bit_count() == int(hamming(b, a))
    assert hamming(a, c) <= hamming(a, b) + hamming(b, c)
    assert hamming(a, a) == 0
    text = to_hex(a)
    assert len(text) == width // 4
    assert text == text.lower()
    assert np.array_equal(bits.from_hex(text, width), a)
    assert np.array_equal(bits.from_hex(text.upper(), width), a)


def test_bit_zero_is_the_most_significant_bit_of_byte_zero() -> None:
    logits = -np.ones(16)
    logits[0] = 1
    assert to_hex(pack(logits[None])[0]) == "8000"


@pytest.mark.parametrize("width", [0, 7, 12, 1032, -8])
def test_widths_that_are_refused(width: int) -> None:
    with pytest.raises(InvalidCode, match="multiple of 8"):
        bits.check_width(width)


@pytest.mark.parametrize("text", ["", "00", "0" * 17, "g" * 16, " " * 16, "0x" + "0" * 14])
def test_text_that_is_no_code(text: str) -> None:
    with pytest.raises(InvalidCode):
        bits.from_hex(text, 64)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_has_no_code(bad: float) -> None:
    with pytest.raises(InvalidCode, match="not finite"):
        pack(np.array([[bad] * 8]))
