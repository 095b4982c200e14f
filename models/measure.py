"""How good codes are: distances, precision with ties counted honestly, and the health of the bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .retrieval.ranking import Ranking

_DISTANCES = 1 << 22
"""Distances computed at a time, to bound memory."""


def distances(queries: NDArray[np.uint8], database: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Hamming distances `(q, n)` between packed codes `(q, bits / 8)` and `(n, bits / 8)`."""
    out = np.zeros((len(queries), len(database)), np.int16)
    for a, b in zip(_words(queries), _words(database), strict=True):
        out += np.bitwise_count(a[:, None] ^ b[None, :])
    return out


def _words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Codes `(n, bytes)` as 64-bit words `(words, n)`; the bits added are zero in all and change no distance."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
    return np.ascontiguousarray(np.ascontiguousarray(padded).view(np.uint64).T)


def blocks(queries: int, items: int, distances: int = _DISTANCES) -> Iterator[slice]:
    """Queries so many at a time that a block holds about `distances` distances to `items` items."""
    size = max(1, distances // max(items, 1))
    return (slice(start, min(start + size, queries)) for start in range(0, queries, size))


def precision_at_k(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    relevant: NDArray[np.bool_],
    k: int,
    *,
    leave_out: NDArray[np.int64] | None = None,
) -> float:
    """Mean share of relevant items among the `k` nearest, in expectation over ties (see `retrieval.ranking`).

    relevant: `(q, n)`. leave_out: `(q,)`, for each query the place in the database of the query itself.
    """
    total = 0.0
    for block in blocks(len(queries), len(database)):
        found = Ranking.of(
            distances(queries[block], database),
            relevant[block],
            8 * database.shape[1],
            None if leave_out is None else leave_out[block],
        )
        total += float(found.precision(k)[0].sum())
    return total / len(queries)


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
