"""Held-out retrieval: how an epoch is chosen, and what is told of the model that was kept.

Items held out are searched by their codes in those of the training items. Without labels or pairs to be learned from,
right is what is near in input space; labels that are only there are looked at once, when training is over, so that a
figure by label is that of a model that saw none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from . import measure, neighbours
from .base import Batch, Model
from .inputs import Rows
from .supervision import Supervision

_MOST_QUERIES, _MOST_DATABASE = 1000, 20_000
_K, _AMONG = 10, 40
"""Of the nearest in input space 10 are looked for among the 40 nearest codes: among 10 alone what a code learns beyond
input space counts against it. Digits at 128 bits, held-out precision@10 by label of the epoch so chosen: .972 among 10,
.985 among 40, as of the best epoch by label; at 32 bits .985 and .983, on 20 Newsgroups .620 and .616."""
_FEWEST = 10
"""Held-out items of which something is known, under which a figure by that would be chance."""

_TOO_LITTLE = "the last one: too little is known of held-out items to choose"


class _Judge(Protocol):
    """How good codes are, more is better."""

    @property
    def name(self) -> str: ...
    def __call__(self, queries: NDArray[np.uint8], database: NDArray[np.uint8]) -> float: ...


@dataclass(frozen=True)
class _Precision:
    """By what is right among the searched items, for those of the held-out items that it says something of."""

    name: str
    queries: NDArray[np.int64]
    database: NDArray[np.int64]
    relevant: NDArray[np.bool_]
    among: int = _K
    """The nearest codes that are looked at; of these `_K` are to be right."""

    def __call__(self, queries: NDArray[np.uint8], database: NDArray[np.uint8]) -> float:
        among, right = (min(most, self.relevant.shape[1]) for most in (self.among, _K))
        found = measure.precision_at_k(queries[self.queries], database[self.database], self.relevant, among)
        return found * among / right


@dataclass(frozen=True)
class _Order:
    """By pairs `(m, 2)` of places, held out and searched, that belong together: too few are known for a precision."""

    pairs: NDArray[np.int64]
    name: str = "share of other items that lie further than what belongs together"

    def __call__(self, queries: NDArray[np.uint8], database: NDArray[np.uint8]) -> float:
        d = measure.distances(queries[self.pairs[:, 0]], database)
        own = d[np.arange(len(d)), self.pairs[:, 1]][:, None]
        return float(((d > own).mean(1) + ((d == own).sum(1) - 1) / (2 * d.shape[1])).mean())  # half of the ties


class Validation:
    """What held-out items find among the training items."""

    def __init__(
        self,
        rows: Rows,
        labels: Sequence[str | None] | None,
        known: Supervision | None,
        share: float,
        generator: np.random.Generator,
    ) -> None:
        """labels: one an item, None where it has none. known: what is learned from and so may choose the epoch."""
        order = generator.permutation(len(rows))
        held = np.sort(order[: max(1, min(_MOST_QUERIES, int(len(rows) * share)))])
        self.places = np.sort(order[len(held) :])
        """Of the training items among all."""
        self.train = rows.subset(self.places)
        database = np.sort(generator.permutation(self.places)[:_MOST_DATABASE])
        self._queries, self._database = rows.subset(held), rows.subset(database)
        by_label = None if labels is None else _by_label([labels[at] for at in held], [labels[at] for at in database])
        by_known: _Judge | None = None
        if known is not None:
            by_known = by_label if known.by == "labels" else _by_pairs(known.groups[held], known.groups[database])
        self._chosen_by = by_known or self._by_neighbours()
        self._told = by_label or self._chosen_by

        # What is near in input space must not choose where something else is learned: that would be the first epoch.
        self.decides = known is None or by_known is not None
        """Whether enough is known of held-out items to choose an epoch; else the last one is kept."""

    @property
    def chosen_by(self) -> str:
        """What chooses the epoch."""
        return self._chosen_by.name if self.decides else _TOO_LITTLE

    def _by_neighbours(self) -> _Precision:
        near = neighbours.nearest(self._queries, self._database, _K)
        relevant = np.zeros((len(self._queries), len(self._database)), np.bool_)
        np.put_along_axis(relevant, near, True, axis=1)
        name = f"share of the {_K} nearest in input space among the {_AMONG} nearest codes"
        return _Precision(name, np.arange(len(self._queries)), np.arange(len(self._database)), relevant, _AMONG)

    def loss(self, model: Model, roles: Sequence[str]) -> float:
        """The held-out loss of `roles` added up, with the same random draws every time."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            batch = Batch(self._queries.sample(len(self._queries))).to(model.device)
            return sum(float(model.loss(batch, role)[0]) for role in roles)

    def __call__(self, model: Model) -> tuple[float, measure.BitHealth]:
        """How good the epoch is, and the health of the bits."""
        queries, database = self._codes(model)
        return self._chosen_by(queries, database), measure.bit_health(database)

    def tell(self, model: Model) -> dict[str, float | str]:
        """The metrics of the model that was kept: by label where there are labels."""
        queries, database = self._codes(model)
        health = measure.bit_health(database)
        return {
            "retrieval": self._told(queries, database),
            "retrieval_measure": self._told.name,
            "bit_balance": health.balance,
            "distinct_codes": health.distinct,
            "bit_correlation": health.correlation,
        }

    def _codes(self, model: Model) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        queries, database = (np.packbits(_logits(model, part) > 0, axis=1) for part in (self._queries, self._database))
        return queries, database


def _by_label(queries: Sequence[str | None], database: Sequence[str | None]) -> _Precision | None:
    """Among the labelled items those of the same label are right; None where too few are labelled."""
    asked, there = (np.flatnonzero([label is not None for label in part]) for part in (queries, database))
    if not len(there) or len(asked) < min(_FEWEST, len(queries)):
        return None
    names = (np.array([label for label in part if label is not None]) for part in (queries, database))
    return _Precision(f"precision@{_K} by label", asked, there, measure.same_label(*names))


def _by_pairs(queries: NDArray[np.int64], database: NDArray[np.int64]) -> _Order | None:
    """Of groups, -1 for none, the pairs between both sides; None where they are too few."""
    pairs = np.argwhere((queries[:, None] == database[None, :]) & (queries >= 0)[:, None])
    return _Order(pairs) if len(np.unique(pairs[:, 0])) >= _FEWEST else None


@torch.no_grad()
def _logits(model: Model, rows: Rows) -> NDArray[np.float32]:
    starts = range(0, len(rows), 1024)
    parts = [model.logits_of(rows.take(np.arange(at, min(at + 1024, len(rows))))) for at in starts]
    return np.concatenate(parts)
