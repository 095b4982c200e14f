"""Exact search by comparing with every code, at the speed of memory.

Codes are taken in blocks that stay in the nearest cache. The least distance in a block is found with vector
instructions alone, and only a block, and in it a stretch, that holds something near enough is looked at code by code.
For many queries each block is read once from memory and compared with all of them, two at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .words import Query, Words, kernel, popcount, query_at

BLOCK = 2048
"""Codes a block: 16 KiB at 64 bits, half of a first-level cache."""
STRETCH = 64
"""Codes a stretch: eight vectors, few enough to look at one by one when one of them is near."""

KEY_BITS = 48
"""What is found is one uint64, the distance above and the key (while searching: the place) below; so it sorts."""
KEY_MASK = (1 << KEY_BITS) - 1

Found = NDArray[np.uint64]
Keys = NDArray[Any]
"""The key of each place, less the first key."""
Bitmap = NDArray[np.uint8]
"""A bit a place, least significant first; of length 0 where every place counts."""


@kernel
def distance_at(codes: Words, place: int, query: Query) -> Any:
    """Hamming distance of `query` from the code at `place`."""
    words = len(query)
    distance = np.int64(0)
    for w in range(words):
        distance += popcount(codes[place * words + w] ^ query[w])
    return distance


@kernel
def counts(bitmap: Bitmap, place: int) -> Any:
    """Whether the bit of `place` is set, or there is no bitmap."""
    return len(bitmap) == 0 or (bitmap[place >> 3] >> (place & 7)) & 1 != 0


@kernel
def grown(found: Found, count: int) -> Any:
    """The first `count` of `found`, in an array of twice the size."""
    larger = np.empty(2 * len(found), np.uint64)
    larger[:count] = found[:count]
    return larger


@kernel
def packed(distance: int, key: int) -> Any:
    """What is found, as one number."""
    return (np.uint64(distance) << np.uint64(KEY_BITS)) | np.uint64(key)


@kernel
def tighten(histogram: Any, distance: int, limit: int, k: int) -> Any:
    """Count a found `distance`; returns the distance of the k-th best so far, at most `limit`.

    histogram: `(bits + 2,)`, how many were found at each distance; its last entry, how many within `limit`.
    """
    histogram[distance] += 1
    histogram[-1] += 1
    while histogram[-1] - histogram[limit] >= k:
        histogram[-1] -= histogram[limit]
        limit -= 1
    return limit


@kernel
def finished(found: Found, count: int, limit: int, keys: Keys, first: int) -> Any:
    """The first `count` of `found` less those beyond `limit`, with keys in place of places."""
    kept = 0
    for i in range(count):
        distance = np.int64(found[i] >> np.uint64(KEY_BITS))
        if distance <= limit:
            place = np.int64(found[i] & np.uint64(KEY_MASK))
            found[kept] = packed(distance, first + np.int64(keys[place]))
            kept += 1
    return found[:kept]


@kernel
def least(block: Words, query: Query) -> Any:
    """The least distance of `query` from any code of a block."""
    words = len(query)
    nearest = np.int64(1 << 30)
    for i in range(len(block) // words):
        distance = np.int64(0)
        for w in range(words):
            distance += popcount(block[i * words + w] ^ query[w])
        nearest = min(nearest, distance)
    return nearest


@kernel
def _least_of_two(columns: Words, a: Query, b: Query) -> Any:
    """As `least`, for two queries, of a block whose codes stand in columns: all their first words, then all second."""
    words = len(a)
    size = len(columns) // words
    least_a = np.int64(1 << 30)
    least_b = least_a
    for i in range(size):
        to_a, to_b = np.int64(0), np.int64(0)
        for w in range(words):
            word = columns[w * size + i]
            to_a += popcount(word ^ a[w])
            to_b += popcount(word ^ b[w])
        least_a, least_b = min(least_a, to_a), min(least_b, to_b)
    return least_a, least_b


@kernel
def _in_columns(block: Words, words: int, columns: Words) -> Any:
    """The block with its codes in columns, in the memory of `columns`; itself, where a code is one word."""
    if words == 1:
        return block
    size = len(block) // words
    for w in range(words):
        for i in range(size):
            columns[w * size + i] = block[i * words + w]
    return columns[: len(block)]


@kernel
def _collect(
    block: Words, start: int, query: Query, alive: Bitmap, k: int, limit: int, histogram: Any, found: Found, count: int
) -> Any:
    """Keep what is within `limit` in the block that begins at place `start`; `found` has room. Returns count, limit."""
    words = len(query)
    size = len(block) // words
    for at in range(0, size, STRETCH):
        end = min(at + STRETCH, size)
        if least(block[at * words : end * words], query) > limit:
            continue
        for i in range(at, end):
            distance = distance_at(block, i, query)
            if distance <= limit and counts(alive, start + i):
                found[count] = packed(distance, start + i)
                count += 1
                if k > 0:
                    limit = tighten(histogram, distance, limit, k)
    return count, limit


@kernel
def scan(codes: Words, keys: Keys, first: int, query: Query, alive: Bitmap, radius: int, k: int) -> Any:
    """Everything within `radius`; with `k` > 0 only the k nearest of it and what ties with the k-th. Unordered.

    codes: flat words of n codes. keys: of their places, less `first`. alive: which places count. Returns uint64, see
    `KEY_BITS`.
    """
    words = len(query)
    items = len(codes) // words
    found, count, limit = np.empty(2 * BLOCK, np.uint64), 0, radius
    histogram = np.zeros(radius + 2, np.int64)
    for start in range(0, items, BLOCK):
        block = codes[start * words : min(start + BLOCK, items) * words]
        if least(block, query) <= limit:
            if count + BLOCK > len(found):
                found = grown(found, count)
            count, limit = _collect(block, start, query, alive, k, limit, histogram, found, count)
    return finished(found, count, limit, keys, first)


@kernel
def scan_many(
    codes: Words, keys: Keys, first: int, queries: Words, like: Query, alive: Bitmap, radius: int, k: int
) -> Any:
    """As `scan`, for several queries `(q, words)`; `like` is one of them. Returns the results end to end, and ends."""
    words = len(like)
    items, asked = len(codes) // words, len(queries)
    found = [np.empty(2 * BLOCK, np.uint64) for _ in range(asked)]
    count, limit = np.zeros(asked, np.int64), np.full(asked, radius, np.int64)
    histogram = np.zeros((asked, radius + 2), np.int64)
    nearest = np.empty(asked, np.int64)
    room = np.empty(BLOCK * words if words > 1 else 0, codes.dtype)
    for start in range(0, items, BLOCK):
        block = codes[start * words : min(start + BLOCK, items) * words]
        columns = _in_columns(block, words, room)
        for q in range(0, asked - 1, 2):
            nearest[q], nearest[q + 1] = _least_of_two(
                columns, query_at(queries, q, like), query_at(queries, q + 1, like)
            )
        if asked % 2:
            last = query_at(queries, asked - 1, like)
            nearest[asked - 1], _ = _least_of_two(columns, last, last)
        for q in range(asked):
            if nearest[q] <= limit[q]:
                if count[q] + BLOCK > len(found[q]):
                    found[q] = grown(found[q], count[q])
                count[q], limit[q] = _collect(
                    block,
                    start,
                    query_at(queries, q, like),
                    alive,
                    k,
                    limit[q],
                    histogram[q],
                    found[q],
                    count[q],
                )
    ends = np.empty(asked, np.int64)
    total = 0
    for q in range(asked):
        found[q] = finished(found[q], count[q], limit[q], keys, first)
        total += len(found[q])
        ends[q] = total
    everything = np.empty(total, np.uint64)
    for q in range(asked):
        everything[ends[q] - len(found[q]) : ends[q]] = found[q]
    return everything, ends


@kernel
def visit(codes: Words, keys: Keys, first: int, places: Any, query: Query, radius: int, k: int) -> Any:
    """As `scan`, of the codes at `places` alone."""
    found, count, limit = np.empty(max(len(places), 1), np.uint64), 0, radius
    histogram = np.zeros(radius + 2, np.int64)
    for i in range(len(places)):
        distance = distance_at(codes, np.int64(places[i]), query)
        if distance <= limit:
            found[count] = packed(distance, np.int64(places[i]))
            count += 1
            if k > 0:
                limit = tighten(histogram, distance, limit, k)
    return finished(found, count, limit, keys, first)


@kernel
def places_where(keys: Keys, first: int, alive: Bitmap, selected: Bitmap, selected_first: int) -> Any:
    """The bitmap of the places that are alive and whose keys are in the bitmap `selected`, and how many they are."""
    chosen = np.zeros((len(keys) + 7) >> 3, np.uint8)
    count = 0
    for place in range(len(keys)):
        at = first + np.int64(keys[place]) - selected_first
        if at >= 0 and at >> 3 < len(selected) and (selected[at >> 3] >> (at & 7)) & 1 and counts(alive, place):
            chosen[place >> 3] |= np.uint8(1 << (place & 7))
            count += 1
    return chosen, count
