"""Exact scan over codes held by a FAISS `IndexBinaryFlat`, with deleted items left out.

Three habits of FAISS are dealt with here and nowhere else: its radius is exclusive (we ask for radius + 1),
answers for k beyond the number of items are padded with key -1 (we never ask beyond), and an index must not be
changed while it is searched (this one never changes; `without` returns another that shares its codes).
"""

from __future__ import annotations

from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from .bits import Codes, check_width
from .protocol import Hits


class FlatIndex:
    """`HammingIndex` over FAISS's flat binary index."""

    def __init__(
        self, bits: int, keys: NDArray[np.int64], flat: Any, codes: Codes, alive: NDArray[np.bool_] | None
    ) -> None:
        self.bits = bits
        self._keys = keys  # (n,) ascending
        self._flat = flat
        self._codes = codes  # (n, bits / 8), a view of the memory that `flat` owns
        self._alive = alive  # (n,) or None when nothing was removed
        self._count = len(keys) if alive is None else int(alive.sum())
        self._parameters = None
        if alive is not None:
            # The selector points into the bitmap without owning it, so the bitmap is kept beside it.
            self._bitmap = np.packbits(alive, bitorder="little")
            self._selector = faiss.IDSelectorBitmap(self._bitmap)
            self._parameters = faiss.SearchParameters(sel=self._selector)

    @classmethod
    def build(cls, bits: int, keys: NDArray[np.int64], codes: Codes) -> Self:
        check_width(bits)
        flat = faiss.IndexBinaryFlat(bits)
        if len(codes) == 0:
            return cls(bits, keys, flat, codes, None)
        flat.add(np.ascontiguousarray(codes))
        own = faiss.rev_swig_ptr(flat.xb.data(), codes.size).reshape(codes.shape)
        return cls(bits, keys, flat, own, None)

    def __len__(self) -> int:
        return self._count

    def without(self, keys: NDArray[np.int64]) -> Self:
        """The same index less `keys`; keys that it does not hold are ignored. The codes are shared."""
        places = np.searchsorted(self._keys, keys)
        places = places[places < len(self._keys)]
        places = places[np.isin(self._keys[places], keys)]
        if len(places) == 0:
            return self
        alive = np.ones(len(self._keys), np.bool_) if self._alive is None else self._alive.copy()
        alive[places] = False
        return type(self)(self.bits, self._keys, self._flat, self._codes, alive)

    def contents(self) -> tuple[NDArray[np.int64], Codes]:
        """Keys `(n,)` ascending and codes `(n, bits / 8)` of the items that can be found.

        The codes may be a view of this index's own memory: copy them if they are to outlive it.
        """
        if self._alive is None:
            return self._keys, self._codes
        return self._keys[self._alive], self._codes[self._alive]

    def search(self, code: Codes, k: int) -> Hits:
        k = min(k, self._count)
        if k == 0:
            return self._none()
        distances, _ = self._flat.search(code[None, :], k, params=self._parameters)
        # FAISS drops some of the items tied at the last place; asking by radius brings them all.
        return self.within(code, int(distances[0, -1]))

    def within(self, code: Codes, radius: int) -> Hits:
        if self._count == 0:
            return self._none()
        _, distances, places = self._flat.range_search(code[None, :], radius + 1, params=self._parameters)
        return Hits.ordered(self._keys[places], distances.astype(np.int32, copy=False))

    @staticmethod
    def _none() -> Hits:
        return Hits(np.empty(0, np.int64), np.empty(0, np.int32))
