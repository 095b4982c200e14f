"""What a user knows of items for a model to learn from: labels of some or all of them, or pairs.

Both come down to groups of items that belong together. Pairs besides say of some items that they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .errors import DataError

Pair = tuple[int, int, bool]
"""The places of two items, and whether they belong together."""

_ENOUGH = 2
"""Mates that an item should have in a batch, on average; where chance brings fewer, some are put in."""


@dataclass(frozen=True)
class Supervision:
    """groups: `(n,)`, a number for each item, -1 where none is known. apart: `(m, 2)`, places of items that do not
    belong together."""

    by: Literal["labels", "pairs"]
    groups: NDArray[np.int64]
    apart: NDArray[np.int64]

    @classmethod
    def from_labels(cls, labels: Sequence[str | None]) -> Supervision:
        """Items of one label belong together; None is an item without a label. Raises `DataError`."""
        numbers = {label: place for place, label in enumerate(sorted({label for label in labels if label is not None}))}
        groups = np.array([-1 if label is None else numbers[label] for label in labels], np.int64)
        if len(numbers) < 2:
            raise DataError(
                f"the {int((groups >= 0).sum())} labelled of {len(labels)} items have {len(numbers)} different labels; "
                "to learn from labels at least two are needed: give labels, or train without them"
            )
        if np.bincount(groups[groups >= 0]).max() < 2:
            raise DataError(
                f"no two of the {len(numbers)} labelled items have the same label, so nothing belongs together; "
                "name what several items have in common, or train without labels"
            )
        return cls("labels", groups, np.empty((0, 2), np.int64))

    @classmethod
    def from_pairs(cls, pairs: Sequence[Pair], items: int) -> Supervision:
        """What belongs together with the same item belongs together. Raises `DataError` where pairs contradict."""
        if not any(same for _, _, same in pairs):
            raise DataError(f"none of the {len(pairs)} pairs belong together; there is nothing to learn from them")
        same = np.array([pair[:2] for pair in pairs if pair[2]], np.int64).reshape(-1, 2)
        apart = np.array([pair[:2] for pair in pairs if not pair[2]], np.int64).reshape(-1, 2)
        graph = coo_matrix((np.ones(len(same)), (same[:, 0], same[:, 1])), shape=(items, items))
        groups = connected_components(graph, directed=False)[1].astype(np.int64)
        wrong = np.flatnonzero(groups[apart[:, 0]] == groups[apart[:, 1]])
        if len(wrong):
            number = [place for place, pair in enumerate(pairs) if not pair[2]][wrong[0]]
            raise DataError(
                f"pair {number} says that its items do not belong together, the other pairs that they do; "
                "leave one side of the contradiction out"
            )
        known = np.zeros(items, np.bool_)
        known[same] = known[apart] = True
        return cls("pairs", np.where(known, groups, -1), apart)

    def metrics(self) -> dict[str, str | int]:
        """What the metrics say, so that the figures of a model that learned from this are never taken for others."""
        return {"supervised": self.by, "labelled": int((self.groups >= 0).sum())}

    def subset(self, places: NDArray[np.int64]) -> Supervision:
        """The same of the items at `places`, in their order."""
        at = np.full(len(self.groups), -1, np.int64)
        at[places] = np.arange(len(places))
        apart = at[self.apart]
        return Supervision(self.by, self.groups[places], apart[(apart >= 0).all(axis=1)])


class Mates:
    """Items put into each batch, so that it holds some that belong together and some that do not."""

    def __init__(self, known: Supervision, batch: int) -> None:
        groups = known.groups
        self._known = known
        self._most = batch // 4
        self._order = np.argsort(groups, kind="stable")
        self._rank = np.argsort(self._order)
        values, first, size = np.unique(groups[self._order], return_index=True, return_counts=True)
        of = np.searchsorted(values, groups)
        self._first, self._size = first[of], size[of]  # of each item's group: where it begins in that order, how many
        self._anchors = np.flatnonzero((groups >= 0) & (self._size > 1))
        chance = (self._size[self._anchors] - 1).mean() * batch / len(groups) if len(self._anchors) else _ENOUGH
        if chance >= _ENOUGH:
            self._anchors = self._anchors[:0]

    def draw(self, order: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places to add to a batch, and which of them `(m, 2)` do not belong together, counted from the first added."""
        anchors = order.permutation(self._anchors)[: self._most]
        size, first = self._size[anchors], self._first[anchors]
        step = (1 + order.random(len(anchors)) * (size - 1)).astype(
            np.int64
        )  # to another of the group, never to itself
        mates = self._order[first + (self._rank[anchors] - first + step) % size]
        apart = self._known.apart[order.permutation(len(self._known.apart))[: self._most]]
        rows = 2 * len(anchors) + np.arange(2 * len(apart)).reshape(-1, 2)
        return np.concatenate([anchors, mates, apart.ravel()]), rows
