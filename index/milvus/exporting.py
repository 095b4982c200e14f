"""A collection as a store file: for a snapshot, for another process to work on, for the way back to one machine."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ..catalogue import STORE_FILE
from ..collection import EmbeddedCollection
from ..filters import index_statements
from ..items import Item
from ..records import CollectionConfig, ModelKey
from ..store import Store

_BATCH = 2_000
PREFIX = ".lent-"


def export(
    path: Path,
    config: CollectionConfig,
    items: Iterable[Item],
    fields: Iterable[str] = (),
    notes: Mapping[str, Mapping[str, Any]] | None = None,
    other: tuple[ModelKey, int] | None = None,
) -> int:
    """Write items to the new store file `path`; returns the number of the generation `other`, or 0.

    other: a second model and its bits, of whose codes there are none yet. Raises `StoreFull`.
    """
    EmbeddedCollection.create(path, config)
    waiting = iter(items)
    with closing(Store(path)) as store:
        while chunk := list(islice(waiting, _BATCH)):
            with store.transaction() as transaction:
                transaction.insert(chunk, [item.code for item in chunk])
        with store.transaction() as transaction:
            for field in fields:
                transaction.declare(field, index_statements(field, f"field_{field.encode().hex()}"))
            for name, value in (notes or {}).items():
                transaction.note(f"note/{name}", json.dumps(value))
            if other is None:
                return 0
            return transaction.begin(*other, datetime.now(UTC).isoformat(timespec="milliseconds"))


@contextmanager
def borrowed(scratch: Path) -> Iterator[Path]:
    """The path of a store file in a new folder of `scratch`, which is removed after the block."""
    folder = scratch / f"{PREFIX}{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder / STORE_FILE
    finally:
        shutil.rmtree(folder, ignore_errors=True)
