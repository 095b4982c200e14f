"""What one would write in numpy alone, as a peer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.bits import Codes


class Numpy:
    """A scan by `bitwise_count` over the widest words that fit into the code."""

    name = "numpy"
    exact = True

    def __init__(self, bits: int, codes: Codes) -> None:
        width = max(width for width in (1, 2, 4, 8) if bits % (8 * width) == 0)
        self._word = np.dtype(f"u{width}")
        # A word after the other: numpy is slow at summing along a short last axis.
        self._columns = np.ascontiguousarray(codes.view(self._word).T)  # (words, n)
        self._distance = np.min_scalar_type(bits)

    def nearest(self, code: Codes, k: int) -> Any:
        distances = self._distances(code)
        # Counting distances to find the k-th is five times as fast as numpy's argpartition of them.
        farthest = np.searchsorted(np.bincount(distances).cumsum(), k)
        found = np.flatnonzero(distances <= farthest)
        return found[np.argsort(distances[found], kind="stable")[:k]]

    def within(self, code: Codes, radius: int) -> Any:
        return np.flatnonzero(self._distances(code) <= radius)

    def close(self) -> None:
        del self._columns

    def _distances(self, code: Codes) -> NDArray[np.unsignedinteger[Any]]:
        distances = np.zeros(self._columns.shape[1], self._distance)
        for column, word in zip(self._columns, code.view(self._word), strict=True):
            distances += np.bitwise_count(column ^ word)
        return distances
