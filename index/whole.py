"""All codes of a store at once, for a process other than the one that owns it.

Nothing is held open in between: a long look at an old state would keep the store's log from being emptied. A key stands
for one content for ever, so what was found among keys can be named later, less what is gone by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import filters, sidecar
from .bits import Codes
from .reader import Reader
from .store import read_only

_NAMED = 10_000


@dataclass(frozen=True, slots=True)
class Whole:
    """One committed state of a collection: keys `(n,)` ascending and codes `(n, bits / 8)` of all items."""

    sequence: int
    fingerprint: str | None
    bits: int
    keys: NDArray[np.int64]
    codes: Codes
    classes: NDArray[np.int32] | None = None
    """`(n,)`, where a payload field was asked for: a number for each of its values, -1 where an item has none."""

    @classmethod
    def read(cls, store: Path, field: str | None = None) -> Whole:
        """The state of the store file `store` as it is now. Raises `StoreDamaged`, `InvalidQuery` for a bad field."""
        with read_only(store) as reader:
            serving = reader.serving()
            bits = serving.bits
            copy = sidecar.load(store.parent, reader, bits)
            keys, codes = (copy.keys, copy.codes) if copy else reader.codes(bits)
            classes = None if field is None else _classes(reader, field, keys)
            return cls(reader.sequence, serving.fingerprint, bits, keys, codes, classes)


def _classes(reader: Reader, field: str, keys: NDArray[np.int64]) -> NDArray[np.int32]:
    rows = reader.db.execute(f"SELECT key, {filters.value_of(field)} FROM items WHERE payload IS NOT NULL")
    numbers: dict[Any, int] = {}
    classes = np.full(len(keys), -1, np.int32)
    while part := rows.fetchmany(_NAMED):
        named = [(key, numbers.setdefault(value, len(numbers))) for key, value in part if value is not None]
        if named:
            places = np.searchsorted(keys, [key for key, _ in named])
            classes[places] = [number for _, number in named]
    return classes


def named(store: Path, groups: Iterable[Sequence[int]]) -> Iterator[tuple[list[str], bool]]:
    """The ids of groups of keys, in their order, less what is gone by now, and whether the group ends with them.

    A large group comes in parts; few things are held at a time. Raises `StoreDamaged`.
    """
    waiting: list[tuple[Sequence[int], bool]] = []
    size = 0
    for group in groups:
        for start in range(0, len(group), _NAMED):
            part = group[start : start + _NAMED]
            waiting.append((part, start + _NAMED >= len(group)))
            size += len(part)
            if size >= _NAMED:
                yield from _named(store, waiting)
                waiting, size = [], 0
    yield from _named(store, waiting)


def _named(store: Path, parts: Sequence[tuple[Sequence[int], bool]]) -> Iterator[tuple[list[str], bool]]:
    keys = [key for part, _ in parts for key in part]
    with read_only(store) as reader:
        known = {key: id for id, key in reader.ids(keys, after=None, limit=len(keys))}
    for part, ends in parts:
        yield [known[key] for key in part if key in known], ends
