"""The oracle: Hamming search by comparing with every code, in numpy.

It is slow and obviously right. Every other index is tested for equality with it.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from .bits import Codes, check_width, hamming
from .protocol import Hits, Plan


class BruteIndex:
    """`HammingIndex` by definition."""

    def __init__(self, bits: int, keys: NDArray[np.int64], codes: Codes) -> None:
        check_width(bits)
        self.bits = bits
        self._keys = keys
        self._codes = codes

    @classmethod
    def build(cls, bits: int, keys: NDArray[np.int64], codes: Codes) -> Self:
        return cls(bits, keys, codes)

    def __len__(self) -> int:
        return len(self._keys)

    def search(self, code: Codes, k: int) -> Hits:
        distances = hamming(self._codes, code)
        if k < len(distances):
            return self._at_most(distances, int(np.sort(distances)[k - 1]))
        return Hits.ordered(self._keys, distances, Plan("scan", len(distances)))

    def within(self, code: Codes, radius: int) -> Hits:
        return self._at_most(hamming(self._codes, code), radius)

    def _at_most(self, distances: NDArray[np.int32], radius: int) -> Hits:
        found = distances <= radius
        return Hits.ordered(self._keys[found], distances[found], Plan("scan", len(distances)))
