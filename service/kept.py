"""The kept inputs of a collection as a data set, read without disturbing the process that owns it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, overload

from index.reader import Reader
from index.store import read_only
from models.data import Dataset
from models.errors import DataError

from .codecs import FILE_KINDS, from_bytes
from .settings import Settings


@cache
def unlimited() -> Settings:
    """For what is stored: it passed the limits when it came in; those of today need not apply to it."""
    return Settings(max_image_pixels=10**9, max_audio_seconds=10**9, max_text_chars=10**9, max_vector_dim=10**9)


class KeptItems(Sequence[Any]):
    """Stored inputs, decoded when asked for, so that a large collection of pictures need not fit in memory."""

    def __init__(self, reader: Reader, ids: Sequence[str]) -> None:
        self._reader = reader
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> KeptItems: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return KeptItems(self._reader, self._ids[place])
        item = self._reader.get(self._ids[place])
        assert item is not None  # the reader sees the very state that the ids were read from
        assert item.kind is not None
        assert item.input is not None
        return from_bytes(item.input, item.kind, unlimited()).item


@contextmanager
def dataset_of(store: Path, name: str, field: str = "label") -> Iterator[Dataset]:
    """Every kept input in the store file of the collection `name`, as it is now.

    field: the payload field of the labels, dots reach into objects. Raises `DataError` where inputs were not kept, are
    of different kinds or have a label that is no string, number or truth value.
    """
    ids: list[str] = []
    labels: list[str | None] = []
    kinds = set()
    with read_only(store) as reader:
        for item in reader.items():
            if item.input is None or item.kind is None:
                continue
            kinds.add(item.kind)
            ids.append(item.id)
            labels.append(_label(item.id, item.payload, field))
        if not ids:
            raise DataError(
                f"collection {name!r} keeps no inputs to train on; ingest items rather than ready-made codes"
            )
        if len(kinds) > 1:
            raise DataError(f"collection {name!r} holds inputs of several kinds ({', '.join(sorted(kinds))})")
        kind = kinds.pop()
        items: Sequence[Any] = KeptItems(reader, ids)
        known = [label for label in labels if label is not None]
        everywhere = len(known) == len(ids)
        yield Dataset(
            name,
            kind,
            items if kind in FILE_KINDS else list(items),
            ids,
            known if everywhere else None,
            some_labels=labels if known and not everywhere else None,
        )


def _label(id: str, payload: Any, field: str) -> str | None:
    for name in field.split("."):
        payload = payload.get(name) if isinstance(payload, Mapping) else None
    if payload is None:
        return None
    if isinstance(payload, Mapping | Sequence) and not isinstance(payload, str):
        raise DataError(
            f"the payload field {field[:100]!r} of item {id[:100]!r} holds a list or an object; a label is a string, a "
            "number or a truth value: name a field inside it, or another one"
        )
    return str(payload)
