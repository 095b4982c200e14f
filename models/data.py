"""Data sets: items of one kind with ids, and labels where there are some.

`load` takes a built-in name or a path; what each file format may hold is said in `readers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import builtin, readers
from .errors import DataError, InvalidInput


@dataclass(frozen=True)
class Dataset:
    """Items of one kind. `items`, `ids` and, where known, `labels` and `payloads` have equal lengths.

    some_labels: one an item, None where it has none, where some have one and others have not.
    """

    name: str
    kind: str
    items: readers.Items
    ids: Sequence[str]
    labels: Sequence[str] | None = None
    payloads: Sequence[Mapping[str, Any]] | None = None
    some_labels: Sequence[str | None] | None = None

    @property
    def known_labels(self) -> Sequence[str | None] | None:
        """The label of each item, None where it has none; None where no item has one."""
        return self.labels if self.labels is not None else self.some_labels

    def __len__(self) -> int:
        return len(self.items)

    def describe(self) -> str:
        """What was understood of the source, in a line."""
        shape = f" of {len(self.items[0])} numbers" if self.kind == "vector" else ""
        known = [label for label in self.known_labels or () if label is not None]
        labels = sorted(set(known))
        shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
        some = f" on {len(known):,} of them" if len(known) < len(self) else ""
        return f"{self.name}: {len(self):,} {'sound' if self.kind == 'audio' else self.kind}s{shape}, " + (
            f"{len(labels)} labels{some} ({shown})" if labels else "no labels"
        )

    def payload(self, place: int) -> dict[str, Any] | None:
        """What to store beside the item at `place`: its own payload and its label."""
        payload = dict(self.payloads[place]) if self.payloads is not None else {}
        if self.known_labels is not None and self.known_labels[place] is not None:
            payload.setdefault("label", self.known_labels[place])
        return payload or None


def part(data: Dataset, places: NDArray[np.int64]) -> Dataset:
    """The items of `data` at `places`."""

    def pick(values: Sequence[Any] | None) -> list[Any] | None:
        return None if values is None else [values[place] for place in places]

    items: readers.Items
    if isinstance(data.items, np.ndarray):
        items = data.items[places]
    elif isinstance(data.items, readers.Files):
        items = data.items.only(places.tolist())
    else:
        items = [data.items[place] for place in places]
    rest = pick(data.labels), pick(data.payloads), pick(data.some_labels)
    return Dataset(data.name, data.kind, items, pick(data.ids) or [], *rest)


def readable(data: Dataset) -> tuple[Dataset, dict[str, str]]:
    """The items of `data` that can be read, and the ids of the others with the reason. Raises `DataError` for none."""
    bad: dict[str, str] = {}
    if isinstance(data.items, readers.Files):
        for place, id in enumerate(data.ids):
            try:
                data.items[place]
            except (InvalidInput, DataError) as error:
                bad[id] = str(error)
    elif data.kind == "vector":
        finite = np.isfinite(np.asarray(data.items)).all(axis=1)
        bad = {data.ids[place]: "holds numbers that are not finite" for place in np.flatnonzero(~finite).tolist()}
    elif data.kind == "text":
        bad = {id: "the text is empty" for id, text in zip(data.ids, data.items, strict=True) if not text.strip()}
    if not bad:
        return data, bad
    if len(bad) == len(data):
        raise DataError(f"{data.name}: no item can be read; the first: {next(iter(bad.values()))}")
    return part(data, np.array([place for place, id in enumerate(data.ids) if id not in bad])), bad


def load(source: str) -> Dataset:
    """The data set that `source` names: a built-in name, a file or a folder. Raises `DataError`."""
    if source in builtin.BUILTIN:
        found = builtin.BUILTIN[source]()
    else:
        path = Path(source)
        if not path.exists():
            raise DataError(f"{source!r} is neither a file or folder nor one of {', '.join(builtin.BUILTIN)}")
        found = readers.read(path)
    if not len(found.items):
        raise DataError(f"{source!r} holds no items")
    if found.ids is not None and len(set(found.ids)) != len(found.ids):
        twice = next(id for id, count in Counter(found.ids).items() if count > 1)
        raise DataError(f"{source!r} holds the id {twice[:64]!r} more than once; one would overwrite the other")
    name = source if source in builtin.BUILTIN else Path(source).resolve().name
    ids = found.ids or [f"{place:06d}" for place in range(len(found.items))]
    return Dataset(name, found.kind, found.items, ids, found.labels, found.payloads, found.some_labels)
