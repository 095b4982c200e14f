"""Which items a filter selects, worked out once and kept.

A key stands for one content, so whether an item matches never changes: of a filter that was asked before, only what
was written since is looked at. Kept are a bit a key, and the restricted index that it leads to while that stands.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from .filters import Condition
from .multihash import KeyBitmap, MultiHashIndex
from .reader import Reader
from .snapshot import Snapshot

KEPT = 32
"""Filters kept for a collection: at ten million items each takes 1.25 MB, and as much again for the index."""
_READ_ROWS = 100_000


@dataclass(slots=True)
class _Selected:
    """What one filter selects, of the keys up to `last_key`, as seen at `sequence`."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    keys: KeyBitmap | None = None
    last_key: int = 0
    sequence: int = -1
    base: tuple[MultiHashIndex, MultiHashIndex] | None = None  # a base, and what is selected of it


class Selections:
    """The selections of one collection. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Selected] = OrderedDict()

    def known(self, condition: Condition) -> bool:
        """Whether this filter was worked out before."""
        with self._lock:
            return condition.text in self._kept

    def restrict(self, reader: Reader, snapshot: Snapshot, condition: Condition) -> Snapshot:
        """What `condition` selects of `snapshot`; `reader` sees the same state."""
        with self._lock:
            selected = self._kept.setdefault(condition.text, _Selected())
            self._kept.move_to_end(condition.text)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            for other in self._kept.values():
                # What is selected of a base keeps all of that base in memory, also one that a merge has replaced.
                if other.base is not None and other.base[0] is not snapshot.base:
                    other.base = None
        with selected.lock:
            if selected.sequence > reader.sequence:
                # Worked out for a later state, in which items that this one still has may be gone.
                selected = _Selected()
            keys = _bring_up(selected, reader, condition)
            base = selected.base
            if base is None or base[0] is not snapshot.base:
                base = selected.base = (snapshot.base, snapshot.base.only(keys))
            return Snapshot(snapshot.sequence, base[1], snapshot.delta.only(keys), snapshot.generation)


def _bring_up(selected: _Selected, reader: Reader, condition: Condition) -> KeyBitmap:
    """The selected keys, after a look at what was written since the last time."""
    if selected.keys is not None and selected.last_key >= reader.last_key:
        selected.sequence = reader.sequence
        return selected.keys
    where, values = condition.where()
    later = f"key > {selected.last_key} AND " if selected.last_key else ""
    rows = reader.db.execute(f"SELECT key FROM items WHERE {later}({where})", values)
    bits = np.zeros((reader.last_key + 8) >> 3, np.uint8)
    if selected.keys is not None:
        bits[: len(selected.keys.bits)] = selected.keys.bits
    while chunk := rows.fetchmany(_READ_ROWS):
        keys = np.array(chunk, np.int64)[:, 0]
        np.bitwise_or.at(bits, keys >> 3, (1 << (keys & 7)).astype(np.uint8))
    selected.keys = KeyBitmap(0, bits)
    selected.last_key, selected.sequence = reader.last_key, reader.sequence
    return selected.keys
