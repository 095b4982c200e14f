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
_AT_ONCE = 1 << 22
"""Neighbours of neighbours that are looked at in one piece: of a thousand each they would fill any memory."""
_MOST_DATABASE = 20_000
_MOST_BY_FEATURES = 60_000
"""Neighbours are looked for among so many items: enough to find near ones, and the work stays linear in the data. Of
the ten nearest of a picture of Fashion-MNIST .77 are of its class by pixels among 20,000, .79 among 60,000, .80 by the
cosine of 128 principal components, which takes no longer; of twenty nearest .85 of those that agree, among 20,000."""


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


Features = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Of the items at some places, rows of unit length `(n, d)` whose products say how alike items are."""


def table(
    rows: Rows, k: int, generator: np.random.Generator, *, features: Features | None = None, mutual: bool = False
) -> NDArray[np.int64]:
    """The places of the `k` nearest of each of `rows`, `(n, k)`, looked for in a random part where there are many.

    features: what items are alike by, in place of distance in input space. mutual: only those count that have the item
    among their own nearest, see `agreed`; an item outside of the part keeps all of its nearest.
    """
    most = _MOST_DATABASE if features is None else _MOST_BY_FEATURES
    chosen = np.sort(generator.permutation(len(rows))[:most])
    themselves = np.full(len(rows), -1, np.int64)
    themselves[chosen] = np.arange(len(chosen))
    if features is None:
        near = nearest(rows, rows.subset(chosen), k, themselves=themselves)
    else:
        near = _alike(features, chosen, themselves, k)
    found: NDArray[np.int64] = chosen[near]
    if mutual:
        found[chosen] = chosen[agreed(near[chosen])]
    return found


def agreed(near: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of the places of the `k` nearest of each of n items, `(n, k)`, those that have the item among theirs, repeated.

    An item that nothing has among its nearest stands for itself. Neighbours that both agree on are more often of one
    class: of CIFAR by dictionary features .44 are, of all twenty nearest .34; of Fashion-MNIST .85 and .78; of texts of
    20 Newsgroups .74, of all ten nearest .66. Reciprocal neighbours: Qin et al., "Hello neighbor", CVPR 2011.
    """
    both, places = np.empty(near.shape, np.bool_), np.arange(len(near))
    step = max(1, _AT_ONCE // near.shape[1] ** 2)
    for start in range(0, len(near), step):
        rows = slice(start, start + step)
        both[rows] = (near[near[rows]] == places[rows, None, None]).any(2)
    first = np.take_along_axis(near, np.argsort(~both, axis=1, kind="stable"), axis=1)
    many = both.sum(1, keepdims=True)
    again = np.take_along_axis(first, np.arange(near.shape[1])[None] % np.maximum(many, 1), axis=1)
    return np.where(many > 0, again, np.arange(len(near))[:, None])


def _alike(features: Features, chosen: NDArray[np.int64], themselves: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """As `nearest`, by features, of every item."""
    database = np.concatenate([features(chosen[at : at + _QUERIES]) for at in range(0, len(chosen), _QUERIES)]).T
    k = min(k, len(chosen) - 1)
    near = np.empty((len(themselves), k), np.int64)
    for start in range(0, len(themselves), _QUERIES):
        places = np.arange(start, min(start + _QUERIES, len(themselves)))
        like = features(places) @ database
        own = themselves[places]
        like[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        near[places] = np.argpartition(-like, k - 1, axis=1)[:, :k]
    return near


def _flat(rows: Rows, places: NDArray[np.int64]) -> NDArray[np.float32] | csr_matrix:
    """The rows at `places` as a matrix, sparse where they rest so."""
    if issparse(rows.data):
        return rows.data[places]
    flat: NDArray[np.float32] = rows.take(places).flatten(1).numpy()
    return flat
