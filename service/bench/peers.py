"""What a benchmark asks of an index, and the indexes of others that can be asked.

A peer answers with ids only: the row numbers of the codes it was built from. Whether they are right, and how far
away they are, is for `measure` to find out. A peer declares what it can do by having the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from index.bits import Codes
from index.protocol import HammingIndex, Hits

from .faisses import MultiHash, layouts
from .libraries import LanceDB, SqliteVec, USearch
from .plain import Numpy


class Peer(Protocol):
    """An index that is built and ready."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def exact(self) -> bool:
        """Whether it claims that every answer is the right one."""

    def close(self) -> None:
        """Let go of its memory and files."""


@runtime_checkable
class Nearest(Protocol):
    def nearest(self, code: Codes, k: int) -> Any:
        """Ids `(k,)`, integers, of `k` nearest to `code` `(bits / 8,)`, in any order; k <= the number of codes."""


@runtime_checkable
class Within(Protocol):
    def within(self, code: Codes, radius: int) -> Any:
        """Ids `(n,)`, integers, of all codes at distance <= `radius` of `code` `(bits / 8,)`, in any order."""


@runtime_checkable
class Batches(Protocol):
    def batch(self, codes: Codes, k: int) -> Any:
        """Ids `(q, k)` of `k` nearest to each of `codes` `(q, bits / 8)`, on one core."""


Maker = Callable[[int, Codes], Peer]
"""Builds a peer over codes of so many bits. Raises `ImportError` where its library is not installed."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A peer that is still to be built."""

    make: Maker
    most_items: int | None = None  # where building or asking more would take too long


PEERS: dict[str, Callable[[int], list[Entrant]]] = {
    "faiss-multihash": lambda bits: [Entrant(partial(MultiHash, layout)) for layout in layouts(bits)],
    "numpy": lambda bits: [Entrant(Numpy)],
    "usearch": lambda bits: [Entrant(USearch, 250_000)],
    "sqlite-vec": lambda bits: [Entrant(SqliteVec, 1_000_000)],
    "lancedb": lambda bits: [Entrant(LanceDB, 1_000_000)],
}
"""By name, the entrants for codes of so many bits. FAISS Flat is not among them: all are measured against it."""


class IndexPeer:
    """An index of ours as a peer: `IndexPeer.maker(FlatIndex.build, "flat")` is a `Maker`.

    Where the index has `many(codes, radius, k)`, the peer has batches.
    """

    exact = True

    def __init__(self, name: str, index: HammingIndex) -> None:
        self.name = name
        self._index = index
        many: Callable[[Codes, int, int], Sequence[Hits]] | None = getattr(index, "many", None)
        if many is not None:
            self.batch = lambda codes, k: [hits.keys[:k] for hits in many(codes, index.bits, k)]

    @classmethod
    def maker(cls, build: Callable[[int, NDArray[np.int64], Codes], HammingIndex], name: str) -> Maker:
        return lambda bits, codes: cls(name, build(bits, np.arange(len(codes)), codes))

    def nearest(self, code: Codes, k: int) -> Any:
        return self._index.search(code, k).keys[:k]

    def within(self, code: Codes, radius: int) -> Any:
        return self._index.within(code, radius).keys

    def close(self) -> None:
        vars(self).pop("batch", None)
        del self._index
