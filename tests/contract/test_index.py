"""Every Hamming index equals the brute force: ids, distances, order and ties. (reliability.md S1, S2)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import BruteIndex, FlatIndex, Hits, bits, hamming, pack, to_hex, unpack
from index.errors import InvalidCode
from index.snapshot import Snapshot

WIDTHS = [8, 16, 32, 64, 128, 256, 512, 1024]
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


def build(kind: str, width: int, keys: Any, codes: Any) -> Any:
    """An index of `kind` over the same items: one built at once, or snapshots grown by writes and deletes."""
    if kind == "flat":
        return FlatIndex.build(width, keys, codes)
    # A doomed twin of every item goes in first and is taken out again, in an order that folds now and then.
    doomed = np.arange(1, len(keys) + 1, dtype=np.int64)
    snapshot = Snapshot.of(0, width, doomed, ~codes)
    for part in np.array_split(np.arange(len(keys)), 3):
        snapshot = snapshot.after(1, doomed[part], keys[part], codes[part], fold_at=3)
    return snapshot


def equal(a: Hits, b: Hits) -> bool:
    return np.array_equal(a.keys, b.keys) and np.array_equal(a.distances, b.distances)


@pytest.mark.parametrize("kind", ["flat", "snapshot"])
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_every_index_equals_the_brute_force(kind: str, data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    n = data.draw(st.sampled_from([0, 1, 2, 3, 17, 200]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    codes = codes_of(data.draw(st.sampled_from(SHAPES)), n, width, rng)
    keys = np.arange(1000, 1000 + n, dtype=np.int64)
    query = codes[0] if n and rng.random() < 0.5 else rng.integers(0, 256, width // 8).astype(np.uint8)
    oracle, index = BruteIndex.build(width, keys, codes), build(kind, width, keys, codes)
    assert len(index) == len(oracle) == n
    for k in {1, 2, 10, n, n + 1} - {0}:
        assert equal(index.search(query, k), oracle.search(query, k)), k
    for radius in sorted({0, 1, 2, data.draw(st.integers(0, width)), width}):
        assert equal(index.within(query, radius), oracle.within(query, radius)), radius


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [16, 64, 256])
def test_a_hundred_thousand_items(shape: str, width: int) -> None:
    rng = np.random.default_rng(7)
    codes = codes_of(shape, 100_000, width, rng)
    keys = np.arange(1, 100_001, dtype=np.int64)
    oracle, index = BruteIndex.build(width, keys, codes), FlatIndex.build(width, keys, codes)
    index = index.without(keys[::7])
    oracle = BruteIndex.build(width, np.delete(keys, slice(None, None, 7)), np.delete(codes, slice(None, None, 7), 0))
    for query in (codes[3], ~codes[3]):
        for k in (1, 10, 5000):
            assert equal(index.search(query, k), oracle.search(query, k))
        for radius in (0, 3, width // 3):
            assert equal(index.within(query, radius), oracle.within(query, radius))


def test_every_radius_up_to_the_width() -> None:
    rng = np.random.default_rng(1)
    codes, keys = codes_of("random", 500, 64, rng), np.arange(500, dtype=np.int64)
    oracle, index = BruteIndex.build(64, keys, codes), FlatIndex.build(64, keys, codes)
    for radius in range(65):
        assert equal(index.within(codes[5], radius), oracle.within(codes[5], radius))
    assert len(index.within(codes[5], 64)) == 500


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
