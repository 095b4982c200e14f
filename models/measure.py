"""How good codes are: retrieval with ties counted honestly, and the health of the bits.

Hamming ranks are full of ties. `precision_at_k` is the expectation over every way of breaking them: where g items
share the distance of the k-th place and m of them fit, each counts with probability m / g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_QUERIES = 256
"""Queries compared with the database at a time, to bound memory."""


def distances(queries: NDArray[np.uint8], database: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Hamming distances `(q, n)` between packed codes `(q, bits / 8)` and `(n, bits / 8)`."""
    bits = np.unpackbits(queries, axis=1).astype(np.float32), np.unpackbits(database, axis=1).astype(np.float32)
    a, b = bits
    products = a @ b.T  # exact in float32: whole numbers up to 1024
    out: NDArray[np.int16] = (a.sum(1)[:, None] + b.sum(1)[None, :] - 2 * products).astype(np.int16)
    return out


def precision_at_k(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    relevant: NDArray[np.bool_],
    k: int,
    *,
    leave_out: NDArray[np.int64] | None = None,
) -> float:
    """Mean share of relevant items among the `k` nearest, in expectation over ties.

    relevant: `(q, n)`. leave_out: `(q,)`, for each query the place in the database of the query itself.
    """
    total = 0.0
    for start in range(0, len(queries), _QUERIES):
        part = slice(start, start + _QUERIES)
        d = distances(queries[part], database).astype(np.int32)
        if leave_out is not None:
            d[np.arange(len(d)), leave_out[part]] = np.iinfo(np.int32).max
        total += float(_expected(d, relevant[part], k).sum())
    return total / len(queries)


def _expected(d: NDArray[np.int32], relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    k = min(k, d.shape[1])
    edge = np.partition(d, k - 1, axis=1)[:, k - 1 : k]  # (q, 1) distance of the k-th place
    inside, tied = d < edge, d == edge
    places = k - inside.sum(1)
    found = (inside & relevant).sum(1) + places * (tied & relevant).sum(1) / tied.sum(1)
    return np.asarray(found / k)


def same_label(queries: NDArray[np.str_], database: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Relevance `(q, n)`: equal labels."""
    return np.asarray(queries[:, None] == database[None, :])


@dataclass(frozen=True)
class BitHealth:
    """Balance: mean over bits of min(p, 1 - p) / 0.5, 1 at best. Distinct: share of items with a code of their
    own kind, the number of distinct codes over the number of items. Correlation: mean |r| between pairs of bits.
    """

    balance: float
    distinct: float
    correlation: float


def bit_health(codes: NDArray[np.uint8]) -> BitHealth:
    """Health of packed codes `(n, bits / 8)`."""
    bits = np.unpackbits(codes, axis=1).astype(np.float32)
    share = bits.mean(0)
    balance = float(np.minimum(share, 1 - share).mean() * 2)
    centred = bits - share
    spread = np.sqrt(np.square(centred).mean(0))
    alive = spread > 0
    if alive.sum() < 2:
        return BitHealth(balance, len(np.unique(codes, axis=0)) / len(codes), 1.0)
    normed = centred[:, alive] / spread[alive]
    r = np.abs(normed.T @ normed) / len(bits)
    pairs = alive.sum() * (alive.sum() - 1)
    correlation = float((r.sum() - np.trace(r)) / pairs)
    return BitHealth(balance, len(np.unique(codes, axis=0)) / len(codes), correlation)
