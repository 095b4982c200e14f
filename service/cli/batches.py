"""The items of a data set as requests take them, so many at a time as one request may hold."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.data import Dataset

_MOST_ITEMS = 500
_MOST = {"bytes": 16 << 20, "pixels": 1e9, "seconds": 5e3}
"""Of one batch: a half or a quarter of what one request may have of each (see docs/settings.md)."""


@dataclass
class Batch:
    """Items to be sent together, and those that cannot be sent at all, with the reason."""

    items: list[dict[str, Any]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    size: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_MOST, 0.0))
    end: int = 0

    def has_room_for(self, size: dict[str, float]) -> bool:
        return len(self.items) < _MOST_ITEMS and all(self.size[unit] + size[unit] <= _MOST[unit] for unit in _MOST)

    def add(self, item: dict[str, Any], size: dict[str, float]) -> None:
        self.items.append(item)
        self.size = {unit: self.size[unit] + size[unit] for unit in _MOST}


def batches(data: Dataset) -> Iterator[Batch]:
    """The items of `data` in their order, so many at a time as one request may hold."""
    batch = Batch()
    for place in range(len(data)):
        try:
            given, size = _given(data, place)
        except OSError as error:  # a file that is gone since the folder was listed, or may not be read
            batch.faults.append((data.ids[place], f"cannot be read: {error.strerror}"))
            continue
        if not batch.has_room_for(size) and batch.items:
            batch.end = place
            yield batch
            batch = Batch()
        batch.add({"id": data.ids[place], "payload": data.payload(place), **given}, size)
    batch.end = len(data)
    yield batch


def _given(data: Dataset, place: int) -> tuple[dict[str, Any], dict[str, float]]:
    """An item as the API takes it, and how much of a request it takes."""
    from models.images import image_size
    from models.sounds import sound_seconds

    from ..bulk.reading import kept_of

    size = dict.fromkeys(_MOST, 0.0)
    if data.kind == "text":
        given = {"text": data.items[place]}
    else:
        raw = kept_of(data.kind, data.items, place)
        if data.kind == "image":
            across, down = image_size(raw)
            size["pixels"] = across * down
        elif data.kind == "audio":
            size["seconds"] = sound_seconds(raw)
        name = "vector_b64" if data.kind == "vector" else data.kind
        given = {name: base64.b64encode(raw).decode()}
    size["bytes"] = len(next(iter(given.values())))
    return given, size
