"""What was written since the last base: codes in the order they came, searched by scan.

Appending is cheap and copies nothing: deltas that follow one another share a buffer, and each knows how much of it is
its own. Only the newest can append to it; what it writes lies beyond what any other looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .multihash import NO_BITMAP, SCAN_NS, KeyBitmap
from .protocol import Hits, Plan
from .scan import Bitmap, places_where, scan
from .words import Words, as_query, as_words, padded, unpadded, word_type, words_of

_ROOM = 1024


@dataclass(slots=True)
class _Buffer:
    """Room for items; `used` of it is taken."""

    first: int
    keys: NDArray[Any]  # less `first`
    codes: Words
    used: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """The first `size` items of a buffer, less those not `alive`."""

    bits: int
    size: int
    _buffer: _Buffer
    _alive: Bitmap
    _count: int

    @classmethod
    def empty(cls, bits: int) -> Delta:
        """A delta without items."""
        buffer = _Buffer(0, np.empty(0, np.uint32), np.empty(0, word_type(bits)))
        return cls(bits, 0, buffer, NO_BITMAP, 0)

    def __len__(self) -> int:
        return self._count

    @property
    def _keys(self) -> NDArray[np.int64]:
        return self._buffer.keys[: self.size].astype(np.int64) + self._buffer.first

    @property
    def _words(self) -> Words:
        return self._buffer.codes[: self.size * words_of(self.bits)]

    def _larger(self, size: int, first_new: int, last: int) -> _Buffer:
        """A buffer with what is here and room for as much again, for keys from `first_new` to `last`."""
        first = self._buffer.first if self.size else first_new
        kind = np.uint32 if last - first <= np.iinfo(np.uint32).max else np.int64
        room = max(_ROOM, 2 * size)
        buffer = _Buffer(first, np.empty(room, kind), np.empty(room * words_of(self.bits), word_type(self.bits)))
        buffer.keys[: self.size] = self._keys - first
        buffer.codes[: len(self._words)] = self._words
        return buffer

    def extended(self, keys: NDArray[np.int64], codes: Codes) -> Delta:
        """With more items, at least one, whose keys are above every earlier one."""
        words, size = words_of(self.bits), self.size + len(keys)
        buffer = self._buffer
        last = int(keys[-1])
        fits = size <= len(buffer.keys) and last - buffer.first <= np.iinfo(buffer.keys.dtype).max
        if buffer.used != self.size or not fits:
            buffer = self._larger(size, int(keys[0]), last)
        buffer.keys[self.size : size] = keys - buffer.first
        buffer.codes[self.size * words : size * words] = as_words(padded(codes, self.bits), self.bits)
        buffer.used = size
        alive = self._alive
        if len(alive):
            alive = np.full(-(-size // 8), 0xFF, np.uint8)
            alive[: len(self._alive)] = self._alive
        return replace(self, size=size, _buffer=buffer, _alive=alive, _count=self._count + len(keys))

    def without(self, keys: NDArray[np.int64]) -> Delta:
        """Less `keys`; those that it does not hold are ignored."""
        own = self._keys
        if len(own) == 0 or len(keys) == 0:
            return self
        at = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        places = np.unique(at[own[at] == keys])
        if len(places) == 0:
            return self
        # Bits beyond the last item stay set: an item that comes there is alive.
        alive = self._alive.copy() if len(self._alive) else np.full(-(-self.size // 8), 0xFF, np.uint8)
        standing = alive[places >> 3] >> (places & 7) & 1
        np.bitwise_and.at(alive, places >> 3, ~(1 << (places & 7)).astype(np.uint8))
        return replace(self, _alive=alive, _count=self._count - int(standing.sum()))

    def only(self, selected: KeyBitmap) -> Delta:
        """Of the selected items alone."""
        own = self._buffer
        alive, count = places_where(own.keys[: self.size], own.first, self._alive, selected.bits, selected.first)
        return replace(self, _alive=alive, _count=count)

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self._buffer.keys.nbytes + self._buffer.codes.nbytes + self._alive.nbytes

    def lost_since(self, earlier: Delta) -> tuple[NDArray[np.int64], Codes]:
        """Keys and codes of what `earlier` still finds; this delta came from it by changes alone."""
        lost = np.flatnonzero(earlier._standing() & ~self._standing()[: earlier.size])
        return self._keys[lost], self._packed_codes()[lost]

    def _packed_codes(self) -> Codes:
        return unpadded(self._words, self.bits)

    def since(self, size: int) -> Delta:
        """Only what came after the first `size` items."""
        own = self._keys
        rest = Delta.empty(self.bits)
        if size < self.size:
            rest = rest.extended(own[size:], self._packed_codes()[size:])
        return rest.without(own[size:][~self._standing()[size:]])

    def _standing(self) -> NDArray[np.bool_]:
        if len(self._alive) == 0:
            return np.ones(self.size, np.bool_)
        return np.unpackbits(self._alive, count=self.size, bitorder="little").view(np.bool_)

    def contents(self) -> tuple[NDArray[np.int64], Codes]:
        """Keys `(n,)` ascending and codes `(n, bits / 8)` of the items that can be found."""
        alive = self._standing()
        return self._keys[alive], self._packed_codes()[alive]

    @property
    def scan_ns(self) -> float:
        """What a search costs, in nanoseconds."""
        return SCAN_NS * len(self._words)

    def find(self, code: Codes, radius: int, k: int) -> Hits:
        """Everything within `radius`; with k > 0 only the k nearest of it, and what ties with the k-th."""
        own = self._buffer
        found: Any = scan(
            self._words, own.keys[: self.size], own.first, as_query(code, self.bits), self._alive, radius, k
        )
        found.sort()
        return Hits(found, Plan("scan", self.size))
