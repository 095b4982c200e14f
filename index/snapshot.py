"""One state of a collection in memory: a large base, a small delta, and what was deleted from both.

A snapshot never changes. A write makes the next one, which shares the base with the last and copies the delta; once
the delta is more than a small part of the base, both are folded into a new base. So a write costs the delta's size and
a bit an item where something is deleted, and a fold all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .flat import FlatIndex
from .protocol import Hits

FOLD_AT = 4096
"""Fewest items for which a delta is folded: below it a write copies at most a few dozen kilobytes."""
FOLD_SHARE = 8
"""A delta is folded once it holds more than 1/8 of the base."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The items of a collection at one `sequence` number of its store."""

    sequence: int
    base: FlatIndex
    delta: FlatIndex

    @classmethod
    def of(cls, sequence: int, bits: int, keys: NDArray[np.int64], codes: Codes) -> Snapshot:
        """A snapshot of all the items at once; `keys` ascending."""
        return cls(sequence, FlatIndex.build(bits, keys, codes), _empty(bits))

    @property
    def bits(self) -> int:
        return self.base.bits

    def __len__(self) -> int:
        return len(self.base) + len(self.delta)

    def after(
        self,
        sequence: int,
        removed: NDArray[np.int64],
        keys: NDArray[np.int64],
        codes: Codes,
        *,
        fold_at: int = FOLD_AT,
    ) -> Snapshot:
        """The snapshot that follows a write.

        removed: keys that are gone. keys, codes: new items, with keys above every earlier one.
        """
        base, delta = self.base, self.delta
        if len(removed):
            base, delta = base.without(removed), delta.without(removed)
        if len(keys):
            delta = _joined(delta, FlatIndex.build(self.bits, keys, codes))
        if len(delta) > max(fold_at, len(base) // FOLD_SHARE):
            base, delta = _joined(base, delta), _empty(self.bits)
        return Snapshot(sequence, base, delta)

    def contents(self) -> tuple[NDArray[np.int64], Codes]:
        """Keys `(n,)` ascending and codes `(n, bits / 8)` of every item."""
        return _concatenated(self.base, self.delta)

    def search(self, code: Codes, k: int) -> Hits:
        """The `k` nearest and every further item at the k-th distance (see `protocol`)."""
        hits = _merged(self.base.search(code, k), self.delta.search(code, k))
        if len(hits) <= k:
            return hits
        keep = int(np.searchsorted(hits.distances, hits.distances[k - 1], side="right"))
        return Hits(hits.keys[:keep], hits.distances[:keep])

    def within(self, code: Codes, radius: int) -> Hits:
        """Every item at distance <= `radius`."""
        return _merged(self.base.within(code, radius), self.delta.within(code, radius))


def _empty(bits: int) -> FlatIndex:
    return FlatIndex.build(bits, np.empty(0, np.int64), np.empty((0, bits // 8), np.uint8))


def _concatenated(first: FlatIndex, second: FlatIndex) -> tuple[NDArray[np.int64], Codes]:
    (keys_a, codes_a), (keys_b, codes_b) = first.contents(), second.contents()
    return np.concatenate([keys_a, keys_b]), np.concatenate([codes_a, codes_b])


def _joined(first: FlatIndex, second: FlatIndex) -> FlatIndex:
    return FlatIndex.build(first.bits, *_concatenated(first, second))


def _merged(a: Hits, b: Hits) -> Hits:
    if len(b) == 0:
        return a
    if len(a) == 0:
        return b
    return Hits.ordered(np.concatenate([a.keys, b.keys]), np.concatenate([a.distances, b.distances]))
