"""What lies at each Hamming distance from a query, and the measures of retrieval that follow from it.

Few distances for many items: Hamming rankings are full of ties, and what stands at rank k is mostly a matter of how
they are broken. Where a measure can be had as its expectation over every way of breaking them, it is (McSherry and
Najork, ECIR 2008), and the unluckiest and the luckiest way stand beside it. Average precision, which the literature
computes on one order, is taken on one too: that of the database as it is given, which the caller has shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

DEEPEST = 1000
"""mAP@1000 is what the literature on images reports."""

Floats = NDArray[np.float64]


def kernel(function: Callable[..., Any]) -> Any:
    """Compiled when it is first called, and kept on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside the source, nor in the user's cache, nor in NUMBA_CACHE_DIR
        return njit(nogil=True)(function)


@dataclass(frozen=True)
class Ranking:
    """The answers to q queries: how many items lie at each distance from 0 to the number of bits, `(q, bits + 1)`,
    how many of them are relevant, and the average precision of the first thousand and of all, `(q,)`.
    """

    counts: NDArray[np.int32]
    hits: NDArray[np.int32]
    average_first: Floats
    average_all: Floats

    @classmethod
    def of(
        cls, distances: NDArray[np.int16], relevant: NDArray[np.bool_], bits: int, leave_out: NDArray[np.int64] | None
    ) -> Ranking:
        """distances, relevant: `(q, n)`. leave_out: `(q,)`, the place of the query itself among the n, not counted.

        Average precision is the mean, over the relevant items that are found, of the precision at the rank of each;
        0 where none is found. Ties stand in the order of the n.
        """
        out = np.full(len(distances), -1, np.int64) if leave_out is None else leave_out
        return cls(*_rank(distances, relevant, out, bits, DEEPEST))

    @classmethod
    def joined(cls, parts: Sequence[Ranking]) -> Ranking:
        """The answers to the queries of all `parts`, which have equal bits."""
        fields = ("counts", "hits", "average_first", "average_all")
        return cls(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))

    def precision(self, k: int) -> tuple[Floats, Floats, Floats]:
        """Share of relevant items among the `k` nearest, `(q,)` each: expected over ties, at worst and at best.

        Where g items share the distance of the k-th place and p of them fit, each counts with probability p / g.
        """
        found, worst, best, k = self._found(k)
        return found / k, worst / k, best / k

    def curve(self, cutoffs: Sequence[int]) -> tuple[list[float], list[float]]:
        """Mean precision and mean recall, in expectation over ties, among the nearest 1st, ... of `cutoffs`."""
        relevant = np.maximum(self.hits.sum(1), 1)
        pairs = [(found / k, found / relevant) for found, _, _, k in map(self._found, cutoffs)]
        return [float(precision.mean()) for precision, _ in pairs], [float(recall.mean()) for _, recall in pairs]

    def within(self, radius: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Of the items within `radius`, inclusive, `(q,)` each: the share of relevant ones, 0 where the answer is
        empty; the share of all relevant items that they are, 0 where there is none; whether the answer is empty.
        """
        inside, found = self.counts[:, : radius + 1].sum(1), self.hits[:, : radius + 1].sum(1)
        return found / np.maximum(inside, 1), found / np.maximum(self.hits.sum(1), 1), inside == 0

    def chance(self, distances: NDArray[np.int16], k: int) -> Floats:
        """The probability `(q, j)` that an item at each of `distances` `(q, j)` is among the `k` nearest."""
        upto = self.counts.cumsum(1, dtype=np.int64)
        at = np.take_along_axis(self.counts, distances.astype(np.int64), axis=1)
        before = np.take_along_axis(upto, distances.astype(np.int64), axis=1) - at
        return np.asarray(np.clip((k - before) / np.maximum(at, 1), 0, 1))

    def _found(self, k: int) -> tuple[Floats, Floats, Floats, int]:
        """Relevant items among the `k` nearest, or among all where they are fewer: expected, at worst, at best."""
        upto, rows = self.counts.cumsum(1, dtype=np.int64), np.arange(len(self.counts))
        k = min(k, int(upto[0, -1]))
        edge = (upto < k).sum(1)  # the distance of the k-th place
        tied, tied_hits = self.counts[rows, edge].astype(np.int64), self.hits[rows, edge].astype(np.int64)
        sure = self.hits.cumsum(1, dtype=np.int64)[rows, edge] - tied_hits
        places = k - (upto[rows, edge] - tied)
        expected = sure + places * tied_hits / tied
        worst, best = sure + np.maximum(0, places - (tied - tied_hits)), sure + np.minimum(places, tied_hits)
        return expected, worst.astype(np.float64), best.astype(np.float64), k


@kernel
def _rank(distances, relevant, leave_out, bits, deepest):  # type: ignore[no-untyped-def]  # numba types it
    """Counts and hits at each distance, then average precision without sorting: the rank of an item is the number of
    nearer ones and of those before it at its own distance.
    """
    queries, items = distances.shape
    counts = np.zeros((queries, bits + 1), np.int32)
    hits = np.zeros((queries, bits + 1), np.int32)
    first, whole = np.zeros(queries), np.zeros(queries)
    for q in range(queries):
        for i in range(items):
            if i != leave_out[q]:
                counts[q, distances[q, i]] += 1
                hits[q, distances[q, i]] += relevant[q, i]
        rank, found = np.zeros(bits + 1, np.int64), np.zeros(bits + 1, np.int64)
        for d in range(bits):
            rank[d + 1] = rank[d] + counts[q, d]
            found[d + 1] = found[d] + hits[q, d]
        relevant_items, among_first = found[bits] + hits[q, bits], 0
        for i in range(items):
            if i == leave_out[q]:
                continue
            d = distances[q, i]
            rank[d] += 1
            if relevant[q, i]:
                found[d] += 1
                precision = found[d] / rank[d]
                whole[q] += precision
                if rank[d] <= deepest:
                    first[q] += precision
                    among_first += 1
        whole[q] /= max(relevant_items, 1)
        first[q] /= max(among_first, 1)
    return counts, hits, first, whole


@kernel
def nearest(distances, leave_out, bits, k):  # type: ignore[no-untyped-def]  # numba types it
    """Places `(q, k)` of the `k` nearest by `distances` `(q, n)`, in order, ties in the order of the n.

    leave_out: `(q,)`, the place that does not count, -1 for none. There must be `k` others.
    """
    queries, items = distances.shape
    out = np.empty((queries, k), np.int64)
    for q in range(queries):
        counts = np.zeros(bits + 2, np.int64)
        for i in range(items):
            if i != leave_out[q]:
                counts[distances[q, i] + 1] += 1
        place = counts.cumsum()  # where the first at each distance goes
        edge = 0
        while place[edge + 1] < k:
            edge += 1
        for i in range(items):
            d = distances[q, i]
            if d <= edge and i != leave_out[q]:
                if place[d] < k:
                    out[q, place[d]] = i
                place[d] += 1
    return out
