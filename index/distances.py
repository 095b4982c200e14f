"""How many codes lie at each distance of a query: by comparing with every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .scan import distance_at
from .words import Query, Words, as_query, as_words, kernel, padded

PART = 64
"""Queries between one report and the next."""


@kernel
def _count(codes: Words, query: Query, classes: NDArray[np.int32], own: int, skip: int, counts: Any) -> None:
    """Add to `counts` `(3, bits + 1)`: all codes at each distance, those that have a class, those of class `own`."""
    for place in range(len(codes) // len(query)):
        if place == skip:
            continue
        distance = distance_at(codes, place, query)
        counts[0, distance] += 1
        if len(classes) > 0 and classes[place] >= 0:
            counts[1, distance] += 1
            if classes[place] == own:
                counts[2, distance] += 1


def counts_of(
    bits: int,
    codes: Codes,
    queries: Codes,
    *,
    skip: NDArray[np.int64],
    classes: NDArray[np.int32] | None = None,
    own: NDArray[np.int32] | None = None,
    threads: int = 2,
) -> Iterator[NDArray[np.int64]]:
    """`(part, 3, bits + 1)` for parts of the `queries` `(q, bits / 8)`, in their order: at each distance, how many of
    `codes` `(n, bits / 8)` there are, how many have a class (>= 0), and how many have the class `own` of the query.

    skip `(q,)`: the place of the code that does not count, as it is the query itself; -1 for none.
    """
    words = as_words(padded(codes, bits), bits)
    named = np.empty(0, np.int32) if classes is None else classes

    def one(place: int) -> NDArray[np.int64]:
        counts = np.zeros((3, bits + 1), np.int64)
        mine = -1 if own is None else int(own[place])
        _count(words, as_query(queries[place], bits), named, mine, int(skip[place]), counts)
        return counts

    with ThreadPoolExecutor(threads, thread_name_prefix="distances") as pool:
        for start in range(0, len(queries), PART):
            part: Sequence[int] = range(start, min(start + PART, len(queries)))
            yield np.stack(list(pool.map(one, part)))
