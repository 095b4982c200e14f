"""Batches of training items, with what a family asks for besides: neighbours, augmented views, what is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import neighbours
from .base import Batch, Model
from .inputs import Rows
from .supervision import Mates, Supervision

_MOST_RANKED = 20_000
"""Items that a ranking is learned from: pixels of Fashion-MNIST at 64 bits, recall@10 at 4x oversampling .585 from so
many, .560 from all 54,000 in as many steps of an earlier version. Their neighbours are found in half a minute."""


class Batches:
    """One shuffled pass over the rows after another."""

    def __init__(
        self, model: Model, rows: Rows, known: Supervision | None, size: int, order: np.random.Generator
    ) -> None:
        """known: what is learned of the rows besides, None for nothing. order: draws all that is drawn."""
        self.rows = rows
        self._model, self._known, self._order = model, known, order
        # Ranking is learned as well from a part, and what it costs does not grow with the data; labels are used up.
        part = known is None and model.pool > 0 and len(rows) > _MOST_RANKED
        self._among = np.sort(order.permutation(len(rows))[:_MOST_RANKED]) if part else np.arange(len(rows))
        self.items = len(self._among)
        """How many of the rows one pass goes through."""
        self._near: NDArray[np.int64] | None = None
        if model.neighbours:
            near = self._neighbours(rows.subset(self._among))
            self._near = np.full((len(rows), near.shape[1]), -1) if part else self._among[near]
            self._near[self._among] = self._among[near]
        self._mates = None if known is None else Mates(known, size)
        self._count = max(1, self.items // size)

    def _neighbours(self, rows: Rows) -> NDArray[np.int64]:
        model = self._model
        by_features = model.likeness(rows.take(np.arange(1)).to(model.device)) is not None

        def features(places: NDArray[np.int64]) -> NDArray[np.float32]:
            found = model.likeness(rows.take(places).to(model.device))
            assert found is not None
            out: NDArray[np.float32] = found.cpu().numpy()
            return out

        return neighbours.table(
            rows, model.neighbours, self._order, features=features if by_features else None, mutual=model.agreeing
        )

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        for places in np.array_split(self._among[self._order.permutation(self.items)], self._count):
            yield self._batch(places)

    def _batch(self, places: NDArray[np.int64]) -> Batch:
        rows, near, labels, apart = self.rows, None, None, None
        if self._known is not None and self._mates is not None:
            added, rows_apart = self._mates.draw(self._order)
            apart = torch.from_numpy(rows_apart + len(places))
            places = np.concatenate([places, added])
            labels = torch.from_numpy(self._known.groups[places])
        if self._near is not None:
            beside = self._near[places, self._order.integers(self._near.shape[1], size=len(places))]
            near = rows.take(beside)
        views = rows.views(places) if self._model.views else None
        if views is not None and self._near is not None and self._model.kindred:
            kindred = np.flatnonzero(self._order.random(len(places)) < self._model.kindred)
            views[1][torch.from_numpy(kindred)] = rows.views(beside[kindred])[0]
        pool, own = self._pool(places) if self._model.pool else (None, None)
        return Batch(rows.take(places), near, views, labels, apart, pool, own)

    def _pool(self, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Half of the pool are near the items at `places`, where so many are known; the others are drawn from all."""
        size = self._model.pool
        chosen = self._among
        if self.items > size:
            near = np.empty(0, np.int64)
            if self._near is not None:
                column = self._order.integers(self._near.shape[1], size=(len(places), max(1, size // 2 // len(places))))
                near = np.take_along_axis(self._near[places], column, axis=1).ravel()[: size // 2]
            others = self._order.integers(self.items, size=size - len(near))
            chosen = np.unique(np.concatenate([near, self._among[others]]))
        at = np.searchsorted(chosen, places).clip(max=len(chosen) - 1)
        own = np.where(chosen[at] == places, at, -1)
        return self.rows.take(chosen), torch.from_numpy(own)
