"""How many of the nearest items in input space are among the candidates that codes propose.

The commonest use of binary codes is a first stage: fetch m times as many as are wanted by their codes, then rescore
those with the floats. What the first stage misses is lost. With the query's own logits at hand the candidates can be
put in a finer order before: a bit that the model was sure of weighs more than one it nearly tossed a coin for (the
asymmetric distance of Gordo, Perronnin, Gong and Lazebnik, TPAMI 2014, as the service's soft rerank has it).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ranking import Floats, Ranking, nearest

NEIGHBOURS = 10
"""Nearest items in input space that are looked for."""
FACTORS = (1, 2, 4, 10)
"""Candidates fetched, as multiples of the neighbours."""
POOL = 10
"""Candidates that a soft rerank chooses from, as multiples of those it leaves."""


def by_hamming(ranking: Ranking, distances: NDArray[np.int16], near: NDArray[np.int64], factor: int) -> Floats:
    """Share `(q,)` of the neighbours `near` `(q, j)` among the `factor` j nearest codes, in expectation over ties.

    distances: `(q, n)` between the codes.
    """
    own = np.take_along_axis(distances, near, axis=1)
    return np.asarray(ranking.chance(own, factor * near.shape[1]).mean(1))


def by_soft_rerank(
    logits: NDArray[np.float32],
    signs: NDArray[np.int8],
    distances: NDArray[np.int16],
    near: NDArray[np.int64],
    leave_out: NDArray[np.int64],
) -> dict[int, Floats]:
    """For each of `FACTORS` the share `(q,)` of the neighbours `near` `(q, j)` among the candidates that are left when
    the nearest codes, ten times as many, are put in the order of their soft distance.

    logits: `(q, bits)` of the queries. signs: `(n, bits)` of -1 and 1. distances: `(q, n)`. leave_out: `(q,)`, -1 for
    none. Ties in either distance stand in the order of the n.
    """
    wanted, items = near.shape[1], len(signs) - int((leave_out >= 0).any())
    deepest = min(items, POOL * max(FACTORS) * wanted)
    candidates = nearest(distances, leave_out, logits.shape[1], deepest)  # (q, deepest)
    out = {factor: np.empty(len(logits)) for factor in FACTORS}
    for q, (row, own) in enumerate(zip(candidates, logits, strict=True)):
        # The soft distance is half of the sum of |logit| less this product: it falls as the product grows.
        soft = -(signs[row].astype(np.float32) @ own)
        hit = (row[:, None] == near[q]).any(1)
        for factor, found in out.items():
            order = np.argsort(soft[: POOL * factor * wanted], kind="stable")
            found[q] = hit[order[: factor * wanted]].sum() / wanted
    return out
