"""The contract of every Hamming index.

An index is immutable once built: `build`, `search`, `within`, nothing that changes it. A writer makes a new
one and swaps the reference, so a reader never sees an index being changed. Items are known here by an integer
`key`; the collection maps keys to ids and, because ties are broken by id, `search` never cuts through a group
of equal distances: it returns the k nearest and every further item at the k-th distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .scan import KEY_BITS, KEY_MASK

_KEY, _SHIFT = np.uint64(KEY_MASK), np.uint64(KEY_BITS)


class Plan(NamedTuple):
    """How a search was run: "scan", "bucket" or "multi-index-hash", and how many codes it compared."""

    method: str
    candidates: int


@dataclass(slots=True)  # not frozen: that would take a tenth of the time of a search
class Hits:
    """Found items, by ascending distance, then ascending key."""

    packed: NDArray[np.uint64]  # (n,) ascending: the distance above, the key in the lower 48 bits
    plan: Plan

    @classmethod
    def ordered(cls, keys: NDArray[np.int64], distances: NDArray[np.int32], plan: Plan) -> Self:
        """Hits in the order the protocol promises, from any order."""
        packed = distances.astype(np.uint64) << np.uint64(KEY_BITS) | keys.astype(np.uint64)
        packed.sort()
        return cls(packed, plan)

    @property
    def keys(self) -> NDArray[np.int64]:
        """`(n,)`"""
        return (self.packed & _KEY).view(np.int64)

    @property
    def distances(self) -> NDArray[np.int32]:
        """`(n,)`"""
        return (self.packed >> _SHIFT).astype(np.int32)

    def nearest(self, k: int) -> Hits:
        """The first `k` and what ties with the k-th."""
        if len(self) <= k:
            return self
        last = self.packed[k - 1] | np.uint64(KEY_MASK)
        return Hits(self.packed[: int(np.searchsorted(self.packed, last, side="right"))], self.plan)

    def __len__(self) -> int:
        return len(self.packed)


class HammingIndex(Protocol):
    """Exact Hamming search over codes of one width."""

    @property
    def bits(self) -> int:
        """Width of every code."""

    def __len__(self) -> int:
        """How many items a search can find."""

    @classmethod
    def build(cls, bits: int, keys: NDArray[np.int64], codes: Codes) -> Self:
        """An index over `codes` `(n, bits / 8)`, known by distinct ascending `keys` `(n,)`, 0 to 2**48 - 1."""

    def search(self, code: Codes, k: int) -> Hits:
        """The `k` nearest to `code` `(bits / 8,)` and every further item at the k-th distance; k >= 1."""

    def within(self, code: Codes, radius: int) -> Hits:
        """Every item at Hamming distance <= `radius` of `code` `(bits / 8,)`."""
