"""Counting over all the codes of a collection at the speed of memory: bits, pairs of bits, buckets, distances.

How often two bits are set together is counted for 64 items with one popcount: blocks of codes are turned on their side,
so that a word holds one bit of 64 items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .probe import chunk_at
from .scan import BLOCK, distance_at
from .words import Words, as_query, as_words, kernel, padded, popcount, query_at, words_of

Counts = NDArray[np.int64]

_GROUPS = 64
"""Words a column of a block: 4,096 items, whose columns stay in the second-level cache at any width."""
_LANES = 4
"""Histograms kept beside each other, so that equal distances in a row need not wait for one another."""


def _wide(codes: Codes) -> NDArray[np.uint64]:
    """Codes `(n, bits / 8)` as `(n, words)` of 64 bits, zeros behind."""
    words = -(-codes.shape[1] // 8)
    wide = np.zeros((len(codes), words * 8), np.uint8)
    wide[:, : codes.shape[1]] = codes
    return wide.view(np.uint64)


def _columns_of(bits: int) -> Counts:
    """`(bits,)`, the column in which each bit of a code ends up, whatever the machine's byte order."""
    alone = _wide(np.packbits(np.eye(bits, dtype=np.uint8), axis=1))  # (bits, words)
    word = np.argmax(alone != 0, axis=1)
    places: Counts = 64 * word + np.log2(alone.max(axis=1)).astype(np.int64)
    return places


@kernel
def _turn(block: NDArray[np.uint64]) -> None:
    """Transpose 64 words of 64 bits in place: halves are exchanged, then quarters, down to single bits."""
    size = 32
    mask = np.uint64(0xFFFFFFFF)
    while size > 0:
        for low in range(64):
            if low & size == 0:
                high = low + size
                apart = ((block[low] >> np.uint64(size)) ^ block[high]) & mask
                block[low] ^= apart << np.uint64(size)
                block[high] ^= apart
        size >>= 1
        mask ^= mask << np.uint64(size)


@kernel
def _fill_columns(codes: NDArray[np.uint64], start: int, columns: NDArray[np.uint64]) -> Any:
    """Columns `(64 * words, _GROUPS)` of the items from `start`; returns how many words of a column were filled."""
    items, words = codes.shape
    block = np.empty(64, np.uint64)
    groups = min(_GROUPS, (items - start + 63) // 64)
    for group in range(groups):
        first = start + group * 64
        for w in range(words):
            for i in range(64):
                block[i] = codes[first + i, w] if first + i < items else np.uint64(0)
            _turn(block)
            for i in range(64):
                columns[w * 64 + i, group] = block[i]
    return groups


@kernel
def _count_bits(codes: NDArray[np.uint64]) -> Any:
    from_each = 64 * codes.shape[1]
    counts = np.zeros(from_each, np.int64)
    columns = np.empty((from_each, _GROUPS), np.uint64)
    for start in range(0, len(codes), 64 * _GROUPS):
        groups = _fill_columns(codes, start, columns)
        for a in range(from_each):
            for group in range(groups):
                counts[a] += popcount(columns[a, group])
    return counts


@kernel
def _count_pairs(codes: NDArray[np.uint64]) -> Any:
    from_each = 64 * codes.shape[1]
    counts = np.zeros((from_each, from_each), np.int64)
    columns = np.empty((from_each, _GROUPS), np.uint64)
    for start in range(0, len(codes), 64 * _GROUPS):
        groups = _fill_columns(codes, start, columns)
        for a in range(from_each):
            for b in range(a, from_each):
                together = np.int64(0)
                for group in range(groups):
                    together += popcount(columns[a, group] & columns[b, group])
                counts[a, b] += together
    return counts


def count_bits(codes: Codes) -> Counts:
    """`(bits,)`: in how many of the codes `(n, bits / 8)` each bit is 1."""
    places = _columns_of(codes.shape[1] * 8)
    counts: Counts = _count_bits(_wide(codes))[places]
    return counts


def count_pairs(codes: Codes) -> Counts:
    """`(bits, bits)`: in how many of the codes both bits are 1; on the diagonal, each alone."""
    places = _columns_of(codes.shape[1] * 8)
    upper = _count_pairs(_wide(codes))
    both: Counts = (upper + np.triu(upper, 1).T)[np.ix_(places, places)]
    return both


@kernel
def _count_chunk(codes: Words, words: int, shift: int, width: int) -> Any:
    counts = np.zeros(1 << width, np.uint32)
    for place in range(len(codes) // words):
        counts[chunk_at(codes, place, words, shift, width)] += np.uint32(1)
    return counts


def count_chunk(codes: Codes, shift: int, width: int) -> NDArray[np.uint32]:
    """`(2**width,)`: how many codes have each value of the chunk of `width` bits at `shift` (see `probe`)."""
    bits = codes.shape[1] * 8
    counts: NDArray[np.uint32] = _count_chunk(as_words(padded(codes, bits), bits), words_of(bits), shift, width)
    return counts


@kernel
def _count_distances(codes: Words, queries: Words, like: Any, most: int) -> Any:
    words = len(like)
    items, asked = len(codes) // words, len(queries)
    counts = np.zeros((asked, _LANES, most + 1), np.int64)
    distances = np.empty(BLOCK, np.uint16)
    for start in range(0, items, BLOCK):
        block = codes[start * words : min(start + BLOCK, items) * words]
        size = len(block) // words
        for q in range(asked):
            query = query_at(queries, q, like)
            for i in range(size):
                distances[i] = distance_at(block, i, query)
            for i in range(size):
                counts[q, i & (_LANES - 1), distances[i]] += 1
    return counts.sum(axis=1)


def count_distances(codes: Codes, queries: Codes) -> Counts:
    """`(q, bits + 1)`: for each query, how many of the codes are at each distance. Exact."""
    bits = codes.shape[1] * 8
    if len(queries) == 0:
        return np.zeros((0, bits + 1), np.int64)
    rows = as_words(padded(queries, bits), bits).reshape(len(queries), -1)
    counts: Counts = _count_distances(as_words(padded(codes, bits), bits), rows, as_query(queries[0], bits), bits)
    return counts


@kernel
def _digests(codes: NDArray[np.uint64]) -> Any:
    items, words = codes.shape
    digests = np.empty(items, np.uint64)
    for i in range(items):
        value = np.uint64(0x9E3779B97F4A7C15)
        for w in range(words):
            value = (value ^ codes[i, w]) * np.uint64(0xD6E8FEB86659FD93)
            value ^= value >> np.uint64(32)
        digests[i] = value
    return digests


def groups_of_equals(codes: Codes) -> tuple[Counts, Counts]:
    """`(distinct,)` twice: a place of each distinct code, and how many items have it."""
    if len(codes) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    wide = _wide(codes)
    # One word sorts by itself; more are brought together by a digest, and told apart by comparing them.
    digests = wide[:, 0] if wide.shape[1] == 1 else _digests(wide)
    order = np.argsort(digests, kind="stable")
    ranked = digests[order]
    changes = ranked[1:] != ranked[:-1]
    if wide.shape[1] > 1 and (~changes & (wide[order[1:]] != wide[order[:-1]]).any(axis=1)).any():
        # Two codes of one digest: by chance not once in a billion collections, but then the slow way is right.
        _, places, sizes = np.unique(wide, axis=0, return_index=True, return_counts=True)
        return places.astype(np.int64), sizes.astype(np.int64)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    return order[starts], np.diff(np.append(starts, len(order)))
