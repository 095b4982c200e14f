"""The kept inputs of a collection as a data set, read without disturbing the process that owns it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from index.store import read_only
from models.data import Dataset
from models.errors import DataError

from .codecs import from_bytes
from .settings import Settings


def dataset_of(store: Path, name: str) -> Dataset:
    """Every kept input in the store file of the collection `name`; its label is the payload's `label`.

    Raises `DataError` where inputs were not kept or are of different kinds.
    """
    # Stored inputs passed the limits when they came in; those of today need not apply to them.
    limits = Settings(max_image_pixels=10**9, max_text_chars=10**9, max_vector_dim=10**9)
    items: list[Any] = []
    ids: list[str] = []
    labels: list[str | None] = []
    kinds = set()
    with read_only(store) as reader:
        for item in reader.items():
            if item.input is None or item.kind is None:
                continue
            kinds.add(item.kind)
            items.append(from_bytes(item.input, item.kind, limits).item)
            ids.append(item.id)
            label = (item.payload or {}).get("label")
            labels.append(None if label is None else str(label))
    if not items:
        raise DataError(f"collection {name!r} keeps no inputs to train on; ingest items rather than ready-made codes")
    if len(kinds) > 1:
        raise DataError(f"collection {name!r} holds inputs of several kinds ({', '.join(sorted(kinds))})")
    known = [label for label in labels if label is not None]
    return Dataset(name, kinds.pop(), items, ids, known if len(known) == len(items) else None)
