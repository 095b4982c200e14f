"""One state of a collection in memory: a large base, a small delta, and what was deleted from both.

A snapshot never changes. A write makes the next one, which shares the base and the buffer of the delta with the last;
it costs what it stores, and a bit an item where something is deleted. Now and then a new base is made of all of it, in
the background, and `rebased` brings what was written in the meantime on top of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .delta import Delta
from .multihash import INLINE_BYTES, MultiHashIndex
from .protocol import Hits, Plan
from .transaction import Change

MERGE_AT = 16_384
"""Fewest changes for which a new base is made; a scan of so many takes some microseconds."""
MERGE_SHARE = 8
"""A new base is made at once when more than 1/8 of the base has changed, and in a quiet moment for less."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The items of a collection at one `sequence` number of its store."""

    sequence: int
    base: MultiHashIndex
    delta: Delta
    generation: int = 0
    """Whose codes these are (see `generations`)."""

    @classmethod
    def of(
        cls,
        sequence: int,
        bits: int,
        keys: NDArray[np.int64],
        codes: Codes,
        *,
        generation: int = 0,
        inline_bytes: int = INLINE_BYTES,
    ) -> Snapshot:
        """A snapshot of all the items at once; `keys` ascending."""
        base = MultiHashIndex.build(bits, keys, codes, inline_bytes=inline_bytes)
        return cls(sequence, base, Delta.empty(bits), generation)

    @property
    def bits(self) -> int:
        return self.base.bits

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.base.nbytes + self.delta.nbytes

    @property
    def changed(self) -> int:
        """How much has changed since the base was made: items written and items of the base deleted."""
        return self.delta.size + self.base.gone

    def __len__(self) -> int:
        return len(self.base) + len(self.delta)

    def after(self, change: Change) -> Snapshot:
        """The snapshot that follows a change."""
        base, delta = self.base, self.delta
        if len(change.added):
            delta = delta.extended(change.added, change.codes)
        if len(change.removed):
            base = base.without(change.removed, change.removed_codes)
            delta = delta.without(change.removed)
        return Snapshot(change.sequence, base, delta, self.generation)

    def rebased(self, earlier: Snapshot, base: MultiHashIndex) -> Snapshot:
        """The same items on a new `base` made of `earlier`, from which this snapshot came by changes alone."""
        for keys, codes in (self.base.lost_since(earlier.base), self.delta.lost_since(earlier.delta)):
            base = base.without(keys, codes)
        return Snapshot(self.sequence, base, self.delta.since(earlier.delta.size), self.generation)

    def lost_since(self, earlier: Snapshot) -> NDArray[np.int64]:
        """Keys of what `earlier` still finds; this snapshot came from it by changes alone."""
        return np.concatenate([self.base.lost_since(earlier.base)[0], self.delta.lost_since(earlier.delta)[0]])

    def contents(self) -> tuple[NDArray[np.int64], Codes]:
        """Keys `(n,)` ascending and codes `(n, bits / 8)` of every item."""
        (keys_a, codes_a), (keys_b, codes_b) = self.base.contents(), self.delta.contents()
        return np.concatenate([keys_a, keys_b]), np.concatenate([codes_a, codes_b])

    def search(self, code: Codes, k: int, radius: int | None = None) -> Hits:
        """The `k` nearest (within `radius`) and every further item at the k-th distance."""
        radius = self.bits if radius is None else radius
        hits = self.base.search(code, k, radius)
        if self.delta.size == 0:
            return hits
        return _merged(hits, self.delta.find(code, radius, k)).nearest(k)

    def within(self, code: Codes, radius: int) -> Hits:
        """Every item at distance <= `radius`."""
        hits = self.base.within(code, radius)
        return hits if self.delta.size == 0 else _merged(hits, self.delta.find(code, radius, 0))

    def within_allowance(self, code: Codes, k: int | None, radius: int | None, nanoseconds: float) -> Hits | None:
        """As `search`, or without k as `within`; None where the planner's prices for it are above `nanoseconds`."""
        nanoseconds -= self.delta.scan_ns
        hits = None if nanoseconds < 0 else self.base.within_allowance(code, k, radius, nanoseconds)
        if hits is None or self.delta.size == 0:
            return hits
        hits = _merged(hits, self.delta.find(code, self.bits if radius is None else radius, k or 0))
        return hits if k is None else hits.nearest(k)


def _merged(base: Hits, delta: Hits) -> Hits:
    packed = np.concatenate([base.packed, delta.packed])
    packed.sort()
    return Hits(packed, Plan(base.plan.method, base.plan.candidates + delta.plan.candidates))
