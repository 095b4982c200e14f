"""Where collections of tests are kept: on this machine, or in Milvus, with the same questions to both.

Milvus is the server that `HAMMINGBIRD_TEST_MILVUS_URI` names, or else Milvus Lite on a file in a temporary folder. It
takes half a second to create a collection there, so one that a test is done with is emptied and given to the next.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

from index import Catalogue, Collection, CollectionConfig, EmbeddedCollection, ModelKey
from index.milvus import Connection, MilvusCatalogue, MilvusCollection

URI = "HAMMINGBIRD_TEST_MILVUS_URI"
TUNING = {"merge_at": 3, "copy_from": 0, "quiet_s": 0.001}
"""Merges and copies at every turn, so that few items meet all that many would."""
BITS = 16
CREATED = "2026-01-01T00:00:00Z"


def config(name: str = "things", model: ModelKey | None = None, bits: int = BITS) -> CollectionConfig:
    return CollectionConfig(name, bits, model, True, CREATED)


class Catalogued(Protocol):
    """What both catalogues do."""

    def create(self, config: CollectionConfig) -> Collection: ...
    def get(self, name: str) -> Collection: ...
    def delete(self, name: str) -> None: ...
    def all(self) -> Any: ...


class Place(Protocol):
    """Where collections are kept."""

    def make(self, bits: int = BITS, model: ModelKey | None = None, **tuning: Any) -> Collection:
        """An empty collection. tuning: of an embedded one, see `Live`."""

    def again(self, collection: Any, *, keep_copy: bool = True) -> Collection:
        """The collection after a restart of the service."""

    def done(self, collection: Any) -> None:
        """The collection is not needed any more."""

    def catalogue(self) -> Catalogued:
        """The catalogue of a service that has just started, in place of the one given before."""

    def named(self, name: str) -> str:
        """The name for a collection that no other test has, in that catalogue."""

    def close(self) -> None:
        """Nothing is needed any more."""


class Embedded:
    """In files of a temporary folder."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="hammingbird-place-"))
        self._tunings: dict[str, dict[str, Any]] = {}
        self._catalogue: Catalogue | None = None

    def make(self, bits: int = BITS, model: ModelKey | None = None, **tuning: Any) -> EmbeddedCollection:
        folder = self._root / uuid.uuid4().hex / "things"
        folder.mkdir(parents=True)
        EmbeddedCollection.create(folder / "items.db", config("things", model, bits))
        self._tunings[str(folder)] = {**TUNING, **tuning}
        return EmbeddedCollection(folder / "items.db", **self._tunings[str(folder)])

    def path(self, collection: EmbeddedCollection) -> Path:
        """Its store file."""
        return collection._live.path

    def again(self, collection: Any, *, keep_copy: bool = True) -> EmbeddedCollection:
        collection.close(keep_copy=keep_copy)
        path = self.path(collection)
        return EmbeddedCollection(path, **self._tunings[str(path.parent)])

    def done(self, collection: Any) -> None:
        collection.close(keep_copy=False)
        shutil.rmtree(self.path(collection).parent.parent)

    def catalogue(self) -> Catalogued:
        if self._catalogue is not None:
            self._catalogue.close()
        self._catalogue = Catalogue(self._root / "catalogue", **TUNING)
        return self._catalogue

    def named(self, name: str) -> str:
        return name

    def close(self) -> None:
        if self._catalogue is not None:
            self._catalogue.close()
        shutil.rmtree(self._root)


class InMilvus:
    """In one Milvus, for the whole session."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hammingbird-milvus-"))
        self.uri = os.environ.get(URI) or str(self.folder / "lite.db")
        self.connection = Connection(self.uri)
        self._prefix = f"t{uuid.uuid4().hex[:8]}"
        self._made = 0
        self._idle: list[MilvusCollection] = []

    def make(self, bits: int = BITS, model: ModelKey | None = None, **tuning: Any) -> MilvusCollection:
        for place, collection in enumerate(self._idle):
            if (collection.bits, collection.config.model) == (bits, model):
                return self._idle.pop(place)
        self._made += 1
        return self.opened().create(config(self.named(f"-{self._made}"), model, bits))

    def opened(self, owner: str = "a test") -> MilvusCatalogue:
        """A catalogue that knows nothing yet, as that of a process which has just begun."""
        return MilvusCatalogue(self.connection, owner=owner)

    def again(self, collection: Any, *, keep_copy: bool = True) -> MilvusCollection:
        collection.close(keep_copy=keep_copy)
        return self.opened().get(collection.name)

    def done(self, collection: Any) -> None:
        serving = next(one for one in collection.generations.all() if one.state == "serving")
        if serving.number or not collection.check().sound:  # it has gone over to another model, or was damaged
            self.opened().delete(collection.name)
            return
        for generation in collection.generations.all():
            if generation.state != "serving":
                collection.generations.drop(generation.number)
        collection.delete_where({})
        collection._notes.forget()
        self._idle.append(self.again(collection))

    def catalogue(self) -> Catalogued:
        return self.opened()

    def named(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def close(self) -> None:
        catalogue = self.opened()
        for name in catalogue._layouts.names():
            if name.startswith(self._prefix):
                catalogue.delete(name)
        self.connection.close()
        shutil.rmtree(self.folder)


@cache
def embedded() -> Embedded:
    return Embedded()


@cache
def milvus() -> InMilvus:
    return InMilvus()


def close() -> None:
    """End what was used in this process."""
    for place in (embedded, milvus):
        if place.cache_info().currsize:
            place().close()
            place.cache_clear()


in_milvus = pytest.mark.xdist_group("milvus")
"""In one process of all that run tests."""
ALL: list[Any] = [
    pytest.param(embedded, id="embedded"),
    pytest.param(milvus, id="milvus", marks=in_milvus),
]
Make = Callable[..., Any]
