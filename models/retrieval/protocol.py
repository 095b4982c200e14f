"""What is searched for in what. Training sees the database and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset, part
from ..errors import DataError

SPLIT_SEED = 0
"""Of the permutation of `random`: one split for all, whatever the seed of the training."""


@dataclass(frozen=True)
class Protocol:
    """Queries and the database that they are searched in, which is also what models are trained on."""

    name: str
    description: str
    database: Dataset
    queries: Dataset
    leave_out: NDArray[np.int64] | None = None
    """`(q,)`, the place of each query itself in the database, where it does not count."""

    def limited(self, most: int) -> Protocol:
        """With at most `most` queries, spread evenly over all of them."""
        if most >= len(self.queries):
            return self
        places = np.linspace(0, len(self.queries) - 1, most).astype(np.int64)
        description = f"{self.description}; {most:,} queries spread evenly over {len(self.queries):,}"
        leave_out = None if self.leave_out is None else self.leave_out[places]
        return Protocol(self.name, description, self.database, part(self.queries, places), leave_out)


def all_against_all(data: Dataset) -> Protocol:
    """Every item is searched among all others, and trained on: how a collection is used that is there already."""
    text = "every item is trained on and searched among all others"
    return Protocol("all-against-all", text, data, data, np.arange(len(data), dtype=np.int64))


def held_out(data: Dataset, queries: Dataset) -> Protocol:
    """Items of another source, never trained on, are searched among those of `data`. Raises `DataError`."""
    if data.kind != queries.kind:
        raise DataError(f"the data are {data.kind} items, the queries {queries.kind} items; they must be alike")
    text = f"the items of {queries.name}, never trained on, are searched among those of {data.name}"
    return Protocol("queries", text, data, queries)


def random_split(data: Dataset) -> Protocol:
    """80 % database and training, 10 % that nothing sees, 10 % queries: the split of VDSH (Chaidaroon and Fang, SIGIR
    2017) in proportion, drawn by one permutation. Raises `DataError` where there are fewer than ten items.
    """
    if len(data) < 10:
        raise DataError(f"a random split needs at least 10 items; got {len(data)}")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(data))
    first, second = int(0.8 * len(data)), int(0.9 * len(data))
    text = f"permuted with seed {SPLIT_SEED}: the first 80 % are database and training, the last 10 % are queries"
    return Protocol("random 80/10/10", text, part(data, order[:first]), part(data, order[second:]))
