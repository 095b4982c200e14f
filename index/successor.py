"""The snapshot of a generation that is about to serve, brought up to date with what is written until it does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .errors import NoSuchGeneration
from .multihash import INLINE_BYTES
from .reader import Reader
from .snapshot import Snapshot


class Successor:
    """Codes of one generation in memory. Used by one thread."""

    def __init__(self, reader: Reader, generation: int, bits: int, inline_bytes: int = INLINE_BYTES) -> None:
        """Load the state that `reader` sees. Raises `NoSuchGeneration` where an item has no code in it yet."""
        self.generation = generation
        own = reader.of(generation)
        if own.count != reader.count:
            raise NoSuchGeneration(f"generation {generation} has codes for {own.count:,} of {reader.count:,} items")
        self._keys, self._codes = own.codes(bits)
        self.snapshot = Snapshot.of(
            reader.sequence, bits, self._keys, self._codes, generation=generation, inline_bytes=inline_bytes
        )
        self._last_key = reader.last_key
        self.behind = 0
        """How much the last `catch_up` had to bring."""

    def catch_up(self, reader: Reader, serving: Snapshot, earlier: Snapshot | None = None) -> None:
        """Bring in what was written and removed since. `reader` and `serving` are of the same state.

        earlier: what served when this was last up to date, if `serving` came from it by changes alone.
        """
        if earlier is None:
            gone = np.setdiff1d(self.snapshot.contents()[0], serving.contents()[0], assume_unique=True)
        else:
            gone = serving.lost_since(earlier)
        snapshot, self.behind = self.snapshot, len(gone)
        if len(gone):
            snapshot = replace(
                snapshot,
                base=snapshot.base.without(gone, self._codes_of(gone)),
                delta=snapshot.delta.without(gone),
            )
        if reader.last_key > self._last_key:
            keys, codes = reader.of(self.generation).codes_above(self._last_key, snapshot.bits)
            self.behind += len(keys)
            if len(keys):
                snapshot = replace(snapshot, delta=snapshot.delta.extended(keys, codes))
        self.snapshot, self._last_key = replace(snapshot, sequence=reader.sequence), reader.last_key

    def _codes_of(self, keys: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The codes of those of `keys` that were there from the start; of the others, which are in no base, any."""
        if len(self._keys) == 0:
            return np.zeros((len(keys), self.snapshot.bits // 8), np.uint8)
        return self._codes[np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)]

    def published(self, sequence: int) -> Snapshot:
        """The snapshot that serves from the change `sequence` on."""
        return replace(self.snapshot, sequence=sequence)
