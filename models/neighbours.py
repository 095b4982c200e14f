"""Nearest items in input space: what retrieval without labels is held against, and what some losses learn from.

Exact, by blocks, so that memory stays bounded; sparse rows are never made dense as a whole.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse

from .inputs import Rows

_QUERIES = 256
_MOST_DATABASE = 20_000
"""Neighbours are looked for among so many items: enough to find near ones, and the work stays linear in the data."""


def nearest(queries: Rows, database: Rows, k: int, *, themselves: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Places in `database` of the `k` items nearest by Euclidean distance to each of `queries`, `(q, k)`, unordered.

    themselves: `(q,)`, the place in the database of each query itself (-1: not there), which is left out.
    """
    k = min(k, len(database) - (themselves is not None))
    out = np.empty((len(queries), k), np.int64)
    flat = _flat(database, np.arange(len(database)))
    norms = np.square(flat).sum(1) if isinstance(flat, np.ndarray) else flat.multiply(flat).sum(1).A1
    for start in range(0, len(queries), _QUERIES):
        places = np.arange(start, min(start + _QUERIES, len(queries)))
        products = _flat(queries, places) @ flat.T
        d = norms[None, :] - 2 * (products if isinstance(products, np.ndarray) else products.toarray())
        if themselves is not None:
            own = themselves[places]
            d[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
        out[places] = np.argpartition(d, k - 1, axis=1)[:, :k]
    return out


def table(rows: Rows, k: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The places of the `k` nearest of each of `rows`, `(n, k)`, looked for in a random part where there are many."""
    chosen = np.sort(generator.permutation(len(rows))[:_MOST_DATABASE])
    themselves = np.full(len(rows), -1, np.int64)
    themselves[chosen] = np.arange(len(chosen))
    found: NDArray[np.int64] = chosen[nearest(rows, rows.subset(chosen), k, themselves=themselves)]
    return found


def mutual(
    features: Callable[[NDArray[np.int64]], NDArray[np.float32]], count: int, k: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """For each of `count` items those of its `k` nearest that have it among theirs, `(count, k)`, over and over.

    features: of the items at some places, rows of unit length. An item that nothing has among its nearest stands for
    itself, and so do all but a random part where there are many. That both agree makes neighbours more alike: of
    CIFAR's by dictionary features .44 are of one class, of all twenty nearest .34.
    """
    chosen = np.sort(generator.permutation(count)[:_MOST_DATABASE])
    k = min(k, len(chosen) - 1)
    rows = np.concatenate([features(chosen[at : at + _QUERIES]) for at in range(0, len(chosen), _QUERIES)])
    near = np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), _QUERIES):
        like = rows[start : start + _QUERIES] @ rows.T
        like[np.arange(len(like)), np.arange(start, start + len(like))] = -np.inf
        near[start : start + _QUERIES] = np.argpartition(-like, k - 1, axis=1)[:, :k]
    agreed = (near[near] == np.arange(len(near))[:, None, None]).any(2)
    first = np.take_along_axis(near, np.argsort(~agreed, axis=1, kind="stable"), axis=1)
    many = agreed.sum(1, keepdims=True)
    again = np.take_along_axis(first, np.arange(k)[None] % np.maximum(many, 1), axis=1)
    out = np.repeat(np.arange(count)[:, None], k, axis=1)
    out[chosen] = chosen[np.where(many > 0, again, np.arange(len(near))[:, None])]
    return out


def _flat(rows: Rows, places: NDArray[np.int64]) -> NDArray[np.float32] | csr_matrix:
    """The rows at `places` as a matrix, sparse where they rest so."""
    if issparse(rows.data):
        return rows.data[places]
    flat: NDArray[np.float32] = rows.take(places).flatten(1).numpy()
    return flat
