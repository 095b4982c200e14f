"""Clustered codes: what a learned hash makes of a collection that has large groups and small ones.

20,000 random centres are chosen with probability proportional to 1 / (rank + 5). An item is a centre with each bit
flipped with probability p, where p is drawn for the item from 0.06 to 0.12; one item in ten is uniform noise.

For one seed the codes are the same on every machine; those of fewer items or of fewer bits are a prefix of the
larger, and the queries do not depend on the number of items. To that end every 64-bit word of every block of items
has a random stream of its own, of which only the raw output is used: numpy promises that to stay as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from index.bits import Codes, check_width

CENTRES = 20_000
FLIPPED = 0.06, 0.12
NOISE = 0.1
PART = 16_384  # items made at a time: their words and the random ones stay in the cache

Words = NDArray[np.uint64]

_PRECISION = 16  # binary digits of p
_ITEMS, _QUERIES, _CENTRES = range(3)  # which stream
_CHOICE, _RATE, _KIND, _CODE = range(4)  # what is drawn for a block; word w of the code is _CODE + w


def clustered(items: int, bits: int, queries: int, seed: int) -> tuple[Codes, Codes]:
    """Codes `(items, bits / 8)` and held-out items of the same clusters to ask for `(queries, bits / 8)`."""
    wanted = (_ITEMS, items), (_QUERIES, queries)
    codes, asked = (_all(_stream(count, bits, seed, stream), count, bits) for stream, count in wanted)
    return codes, asked


def in_parts(items: int, bits: int, seed: int) -> Iterator[Codes]:
    """The codes of `clustered` in parts `(n, bits / 8)`, of at most `PART` items, which need not fit into memory."""
    return _stream(items, bits, seed, _ITEMS)


def _all(parts: Iterator[Codes], count: int, bits: int) -> Codes:
    codes, filled = np.empty((count, bits // 8), np.uint8), 0
    for part in parts:
        codes[filled : filled + len(part)] = part
        filled += len(part)
    return codes


def _stream(count: int, bits: int, seed: int, stream: int) -> Iterator[Codes]:
    check_width(bits)
    centres = np.stack([_raw(CENTRES, seed, _CENTRES, 0, word) for word in range(-(-bits // 64))])  # (words, CENTRES)
    sizes = 1 / (np.arange(CENTRES) + 5)
    until = np.cumsum(sizes) / sizes.sum()
    for block, start in enumerate(range(0, count, PART)):
        made = _block(centres, until, (seed, stream, block))  # (PART, words)
        yield made.view(np.uint8)[: count - start, : bits // 8]


def _block(centres: Words, until: NDArray[np.float64], key: tuple[int, int, int]) -> Words:
    """A whole block `(PART, words)`, even where the stream ends inside it, so that a shorter one is its prefix."""
    chosen = np.searchsorted(until, _uniform(key, _CHOICE)).clip(max=CENTRES - 1)
    low, high = FLIPPED
    rates = (low + (high - low) * _uniform(key, _RATE)) * (1 << _PRECISION)
    noise = _uniform(key, _KIND) < NOISE
    made = np.empty((PART, len(centres)), np.uint64)
    for word, centre in enumerate(centres):
        random = _raw(PART * (_PRECISION + 1), *key, _CODE + word).reshape(_PRECISION + 1, PART)
        made[:, word] = np.where(noise, random[0], centre[chosen] ^ _bernoulli(rates.astype(np.uint64), random[1:]))
    return made


def _bernoulli(rates: Words, random: Words) -> Words:
    """Words whose bits are 1 with probability `rates` / 2**_PRECISION, from fair ones `(_PRECISION, n)`.

    From the last binary digit of the rate to the first: a 1 means OR with a fair bit, which turns the probability q
    into (1 + q) / 2, a 0 means AND, which makes it q / 2.
    """
    words = np.zeros_like(rates)
    for digit, fair in enumerate(random):
        one = -((rates >> np.uint64(digit)) & np.uint64(1))  # all bits set where the digit is 1
        words = (words & fair) | (one & (words ^ fair))
    return words


def _uniform(key: tuple[int, int, int], what: int) -> NDArray[np.float64]:
    return (_raw(PART, *key, what) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _raw(count: int, *key: int) -> Words:
    return np.random.SFC64(np.random.SeedSequence(key)).random_raw(count)
