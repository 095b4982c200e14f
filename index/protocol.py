"""The contract of every Hamming index.

An index is immutable once built: `build`, `search`, `within`, nothing that changes it. A writer makes a new
one and swaps the reference, so a reader never sees an index being changed. Items are known here by an integer
`key`; the collection maps keys to ids and, because ties are broken by id, `search` never cuts through a group
of equal distances: it returns the k nearest and every further item at the k-th distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .bits import Codes


@dataclass(frozen=True, slots=True)
class Hits:
    """Found items, by ascending distance, then ascending key."""

    keys: NDArray[np.int64]  # (n,)
    distances: NDArray[np.int32]  # (n,)

    @classmethod
    def ordered(cls, keys: NDArray[np.int64], distances: NDArray[np.int32]) -> Self:
        """Hits in the order the protocol promises, from any order."""
        order = np.lexsort((keys, distances))
        return cls(keys[order], distances[order])

    def __len__(self) -> int:
        return len(self.keys)


class HammingIndex(Protocol):
    """Exact Hamming search over codes of one width."""

    @property
    def bits(self) -> int:
        """Width of every code."""

    def __len__(self) -> int:
        """How many items a search can find."""

    @classmethod
    def build(cls, bits: int, keys: NDArray[np.int64], codes: Codes) -> Self:
        """An index over `codes` `(n, bits / 8)`, known by distinct ascending `keys` `(n,)`."""

    def search(self, code: Codes, k: int) -> Hits:
        """The `k` nearest to `code` `(bits / 8,)` and every further item at the k-th distance; k >= 1."""

    def within(self, code: Codes, radius: int) -> Hits:
        """Every item at Hamming distance <= `radius` of `code` `(bits / 8,)`."""
