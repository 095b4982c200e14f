"""One number for a set of keys and codes: the sum, modulo 2**64, of a hash of each pair.

A write adds what it stores and subtracts what it removes, so the store always knows the number of what it holds, and
a copy of the codes kept elsewhere can be told to be the same set, up to chance of 2**-64, by adding it up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .words import Words, as_words, kernel, padded, words_of


@kernel
def _mixed(value: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def _sum(keys: NDArray[np.int64], codes: Words, words: int) -> Any:
    total = np.uint64(0)
    for i in range(len(keys)):
        value = _mixed(np.uint64(keys[i]) + np.uint64(0x9E3779B97F4A7C15))
        for w in range(words):
            value = _mixed(value ^ np.uint64(codes[i * words + w]) + np.uint64(0x9E3779B97F4A7C15))
        total += value
    return total


def contents_of(keys: NDArray[np.int64], codes: Codes) -> int:
    """The number of the set of `keys` `(n,)` with `codes` `(n, bits / 8)`, 0 to 2**64 - 1."""
    bits = codes.shape[1] * 8
    return int(_sum(np.ascontiguousarray(keys), as_words(padded(codes, bits), bits), words_of(bits)))


def signed(number: int) -> int:
    """`number` modulo 2**64 as SQLite stores it."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number
