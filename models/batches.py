"""Batches of training items, with what a family asks for besides: neighbours, augmented views, what is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from . import neighbours
from .base import Batch, Model
from .inputs import Rows
from .supervision import Mates, Supervision


class Batches:
    """One shuffled pass over the rows after another."""

    def __init__(
        self, model: Model, rows: Rows, known: Supervision | None, size: int, order: np.random.Generator
    ) -> None:
        """known: what is learned of the rows besides, None for nothing. order: draws all that is drawn."""
        self.rows = rows
        self._model, self._known, self._order = model, known, order
        self._near = neighbours.table(rows, model.neighbours, order) if model.neighbours else None
        self._mates = None if known is None else Mates(known, size)
        self._count = max(1, len(rows) // size)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        for places in np.array_split(self._order.permutation(len(self.rows)), self._count):
            yield self._batch(places)

    def _batch(self, places: NDArray[np.int64]) -> Batch:
        rows, near, labels, apart = self.rows, None, None, None
        if self._known is not None and self._mates is not None:
            added, rows_apart = self._mates.draw(self._order)
            apart = torch.from_numpy(rows_apart + len(places))
            places = np.concatenate([places, added])
            labels = torch.from_numpy(self._known.groups[places])
        if self._near is not None:
            near = rows.take(self._near[places, self._order.integers(self._near.shape[1], size=len(places))])
        views = rows.views(places) if self._model.views else None
        return Batch(rows.take(places), near, views, labels, apart)
