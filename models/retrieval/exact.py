"""Ranking by the float input itself, exactly: the neighbours that codes should find, the ceiling of the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from ..measure import blocks
from ..preprocessing import InputSpec
from ..readers import Items
from .ranking import DEEPEST, Floats, kernel

Features = Any
"""`(n, size)` numbers: an array of float32, or a sparse matrix where they rest so."""

_AT_ONCE = 1 << 21
"""Distances computed at a time: with what sorting them takes, about fifty megabytes."""
_FARTHEST = np.int64(2**63 - 1)


def features(input: InputSpec, items: Items) -> Features:
    """Items `(n, size)` as a user has them: pixels from 0 to 1, vectors as they are, tf-idf of texts, decibels."""
    data: Any = input.rest(items)
    if issparse(data):
        return data
    flat = data.reshape(len(data), -1)
    out: NDArray[np.float32] = flat.astype(np.float32) / 255 if flat.dtype == np.uint8 else np.asarray(flat, np.float32)
    return out


@dataclass(frozen=True)
class Exact:
    """The answers to q queries by one distance: the nearest items `(q, neighbours)` in order, relevant items among
    the first of each of `cutoffs` `(q, cutoffs)`, all relevant ones and the average precisions `(q,)`.
    """

    nearest: NDArray[np.int64]
    found: NDArray[np.int64]
    relevant: NDArray[np.int64]
    average_first: Floats
    average_all: Floats


def rank(
    queries: Features,
    database: Features,
    relevant: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    cutoffs: Sequence[int],
    neighbours: int,
    leave_out: NDArray[np.int64] | None,
) -> tuple[Exact, Exact]:
    """The answers by Euclidean distance and by the cosine, a block of queries in memory at a time.

    relevant: the numbers of the labels of queries `(q,)` and database `(n,)`; None: nothing is relevant. leave_out:
    `(q,)`, the place in the database of each query itself, which does not count.
    """
    squares = np.asarray(database.multiply(database).sum(1)).ravel() if issparse(database) else _squares(database)
    lengths = np.sqrt(np.maximum(squares, 1e-12))
    places = np.arange(database.shape[0], dtype=np.int64) << 1
    parts: tuple[list[Exact], list[Exact]] = ([], [])
    for block in blocks(queries.shape[0], database.shape[0], _AT_ONCE):
        products = queries[block] @ database.T
        dense = np.asarray(products.toarray() if issparse(products) else products, np.float32)
        low = places if relevant is None else places | (relevant[0][block][:, None] == relevant[1][None, :])
        for distances, into in zip((squares - 2 * dense, -dense / lengths), parts, strict=True):
            keys = _sortable(distances) << 32 | low
            if leave_out is not None:
                keys[np.arange(len(keys)), leave_out[block]] = _FARTHEST
            keys.sort(axis=1)
            ranked = keys if leave_out is None else keys[:, :-1]
            near = (ranked[:, :neighbours] & 0xFFFFFFFF) >> 1
            into.append(Exact(near, *_judge(ranked, np.array(cutoffs, np.int64), DEEPEST)))
    fields = ("nearest", "found", "relevant", "average_first", "average_all")
    euclid, cosine = (
        Exact(*(np.concatenate([getattr(part, field) for part in all_of]) for field in fields)) for all_of in parts
    )
    return euclid, cosine


def _sortable(x: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers in the order of `x`, from the bits of a float: with the place below them one sort ranks it all."""
    bits = (x.astype(np.float32) + np.float32(0)).view(np.int32)  # which makes -0 the 0 that it equals
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)


@kernel
def _judge(keys, cutoffs, deepest):  # type: ignore[no-untyped-def]  # numba types it
    """Of ranked keys `(q, n)` whose lowest bit says relevant: relevant items within each cutoff and in all, and the
    average precision of the first `deepest` and of all.
    """
    queries, items = keys.shape
    found = np.zeros((queries, len(cutoffs)), np.int64)
    relevant = np.zeros(queries, np.int64)
    first, whole = np.zeros(queries), np.zeros(queries)
    for q in range(queries):
        hits, among_first, cutoff = 0, 0, 0
        for i in range(items):
            if keys[q, i] & 1:
                hits += 1
                whole[q] += hits / (i + 1)
                if i < deepest:
                    first[q] += hits / (i + 1)
                    among_first += 1
            while cutoff < len(cutoffs) and cutoffs[cutoff] <= i + 1:
                found[q, cutoff] = hits
                cutoff += 1
        found[q, cutoff:] = hits
        relevant[q] = hits
        whole[q] /= max(hits, 1)
        first[q] /= max(among_first, 1)
    return found, relevant, first, whole


def _squares(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))
