"""`HammingIndex` by FAISS: an exact scan with `IndexBinaryFlat`, the oracle beside the brute force.

Two habits of FAISS are dealt with here: its radius is exclusive (we ask for radius + 1), and answers for k beyond the
number of items are padded with key -1 (we never ask beyond).
"""

from __future__ import annotations

from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from .bits import Codes, check_width
from .protocol import Hits, Plan


class FlatIndex:
    """Exact scan by FAISS."""

    def __init__(self, bits: int, keys: NDArray[np.int64], flat: Any) -> None:
        self.bits = bits
        self._keys = keys  # (n,) ascending
        self._flat = flat

    @classmethod
    def build(cls, bits: int, keys: NDArray[np.int64], codes: Codes) -> Self:
        check_width(bits)
        flat = faiss.IndexBinaryFlat(bits)
        if len(codes):
            flat.add(np.ascontiguousarray(codes))
        return cls(bits, keys, flat)

    def __len__(self) -> int:
        return len(self._keys)

    def search(self, code: Codes, k: int) -> Hits:
        k = min(k, len(self))
        if k == 0:
            return self.within(code, 0)
        distances, _ = self._flat.search(code[None, :], k)
        # FAISS drops some of the items tied at the last place; asking by radius brings them all.
        return self.within(code, int(distances[0, -1]))

    def within(self, code: Codes, radius: int) -> Hits:
        plan = Plan("scan", len(self))
        if len(self) == 0:
            return Hits.ordered(np.empty(0, np.int64), np.empty(0, np.int32), plan)
        _, distances, places = self._flat.range_search(code[None, :], radius + 1)
        return Hits.ordered(self._keys[places], distances.astype(np.int32, copy=False), plan)
