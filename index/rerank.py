"""Soft distance: how far stored bits are from the query's real-valued logits.

A bit that the model was sure of weighs more than one it nearly tossed a coin for: the distance of a code is the sum of
|logit| over the bits in which it differs from the query's own code. (The asymmetric distance of Gordo, Perronnin, Gong
and Lazebnik, TPAMI 2014.) It is looked up a byte at a time, in a table of the 256 values each byte can take.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes, unpack
from .errors import InvalidQuery

Logits = NDArray[np.floating[Any]]

_EVERY_BYTE = unpack(np.arange(256, dtype=np.uint8)[:, None]).astype(np.float64)  # (256, 8)


def check_logits(logits: Logits, bits: int) -> None:
    """Raise `InvalidQuery` unless `logits` is `(bits,)` and finite."""
    if logits.shape != (bits,) or not np.isfinite(logits).all():
        raise InvalidQuery(f"a soft rerank needs {bits} finite logits; got shape {logits.shape}")


def table_of(logits: Logits) -> NDArray[np.float64]:
    """`(bits / 8, 256)`: what each value of each byte of a code adds to its distance from `logits` `(bits,)`."""
    by_byte = logits.astype(np.float64).reshape(-1, 8)
    wrong = np.abs(_EVERY_BYTE[None] - (by_byte > 0)[:, None, :])  # (bits / 8, 256, 8)
    table: NDArray[np.float64] = (wrong * np.abs(by_byte)[:, None, :]).sum(-1)
    return table


def scores_of(logits: Logits, codes: Codes) -> NDArray[np.float64]:
    """How well each of `codes` `(n, bits / 8)` fits `logits` `(bits,)`: 1 where all bits agree, -1 where none does.

    It is 1 - 2 d / D for the soft distance d and the greatest possible one D, rounded to 12 decimals so that sums in
    another order cannot make a difference between equals.
    """
    most = float(np.abs(logits.astype(np.float64)).sum())
    if most == 0:
        return np.ones(len(codes))
    distances = table_of(logits)[np.arange(codes.shape[1]), codes].sum(axis=1)
    scores: NDArray[np.float64] = np.round(1 - 2 * distances / most, 12)
    return scores
