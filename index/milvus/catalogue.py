"""The collections in one Milvus: create, open, list, delete; seen by every process that shares it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from ..bits import check_width
from ..catalogue import check_name
from ..errors import BackendUnavailable, CollectionExists, UnknownCollection
from ..items import Item
from ..records import CollectionConfig
from .collection import MilvusCollection
from .connection import Connection
from .layout import Layer, Layout, Layouts
from .names import new_generation, new_inputs
from .notes import Notes
from .parts import Parts
from .records import Records
from .schema import create_items, drop
from .table import Rows
from .writing import store

_LISTED_S = 1.0
_BATCH = 2_000


class MilvusCatalogue:
    """Every collection in Milvus. Safe to use from many threads; Milvus may be away when it is made, and come back."""

    def __init__(self, connection: Connection, *, owner: str) -> None:
        """owner: of what this process begins to fill, the same after a restart; its data directory, say."""
        self._connection, self._owner = connection, owner
        self._records = Records(connection)
        self._layouts = Layouts(connection, self._records)
        self._lock = threading.Lock()
        self._open: dict[str, MilvusCollection] = {}
        self._listed = 0.0
        self.connection = connection

    def close(self) -> None:
        self._connection.close()

    def known(self, name: str) -> MilvusCollection | None:
        """The collection `name` where it was met before; waits for nothing."""
        return self._open.get(name)

    def met(self) -> list[str]:
        """The names of those met before; waits for nothing."""
        return list(self._open)

    def get(self, name: str) -> MilvusCollection:
        """The collection `name`. Raises `UnknownCollection`, `BackendUnavailable`."""
        found = self._open.get(name)
        return found if found is not None else self._opened(name)

    def _opened(self, name: str) -> MilvusCollection:
        with self._lock:
            found = self._open.get(name)
            if found is None:
                found = MilvusCollection(self._connection, self._records, self._layouts, name, owner=self._owner)
                self._open[name] = found
            return found

    def forget(self, name: str) -> None:
        """Look for the collection anew at the next question: it was deleted, here or by another process."""
        self._open.pop(name, None)

    def all(self) -> Mapping[str, MilvusCollection]:
        """Every collection, by name, as of a second ago at most. Raises `BackendUnavailable`."""
        if time.monotonic() - self._listed > _LISTED_S:
            names = self._layouts.names()
            for name in [name for name in self._open if name not in names]:
                self.forget(name)
            for name in names:
                try:
                    self.get(name).look(_LISTED_S)
                except UnknownCollection:
                    self.forget(name)
            self._listed = time.monotonic()
        return dict(sorted(self._open.items()))

    def create(self, config: CollectionConfig) -> MilvusCollection:
        """Make an empty collection. Raises `CollectionExists`, `InvalidQuery`, `InvalidCode`, `BackendUnavailable`."""
        return self.fill(config, ())

    def fill(
        self,
        config: CollectionConfig,
        items: Iterable[Item],
        fields: Iterable[str] = (),
        notes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> MilvusCollection:
        """Make a collection that holds `items`, with their codes, from the moment on at which it is there.

        fields, notes: those that are declared and kept. Raises as `create` does, and then there is none.
        """
        self._check_free(config)
        layer = Layer(
            new_generation(config.name, 0),
            config.name,
            0,
            config.bits,
            config.model,
            config.keep_inputs,
            config.created_at,
            config.created_at,
            new_inputs(config.name),
            self._owner,
        )
        kept = Notes(self._records, layer.inputs)
        try:
            self._fill(layer, items)
            for field in fields:
                kept.declare(field)
            for name, value in (notes or {}).items():
                kept.put(name, value)
            if not self._layouts.point(config.name, layer.physical, first=True):
                raise CollectionExists(f"there is already a collection {config.name!r} in Milvus: another was first")
        except BaseException:
            with suppress(BackendUnavailable):  # what is left then is no collection, and is not listed
                self._drop(layer)
            raise
        self.forget(config.name)
        return self._opened(config.name)

    def _check_free(self, config: CollectionConfig) -> None:
        check_name(config.name)
        check_width(config.bits)
        with suppress(UnknownCollection):
            self._layouts.of(config.name)
            raise CollectionExists(f"there is already a collection {config.name!r} in Milvus")

    def _fill(self, layer: Layer, items: Iterable[Item]) -> None:
        parts = Parts(self._connection, layer.inputs)
        parts.create()
        create_items(self._connection, layer.physical, layer.bits, layer.described())
        waiting, filled = iter(items), False
        while chunk := list(islice(waiting, _BATCH)):
            codes = [item.code for item in chunk]
            store(self._connection, Layout(layer, None), parts, list(enumerate(chunk)), [codes])
            filled = True
        if filled:
            Rows(self._connection, layer.physical).seal()

    def _drop(self, layer: Layer) -> None:
        drop(self._connection, layer.physical)
        drop(self._connection, layer.inputs)
        Notes(self._records, layer.inputs).forget()

    def delete(self, name: str) -> None:
        """Delete the collection `name`. Raises `UnknownCollection`, `BackendUnavailable`."""
        layout, strays = self._layouts.of(name), self._layouts.strays(name)
        self._layouts.unpoint(name)  # from here on it is gone, and another process may make a new one
        self.forget(name)
        for physical in [layer.physical for layer in layout.layers] + strays:
            drop(self._connection, physical)
        self._drop(layout.serving)
