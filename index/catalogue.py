"""The collections of one data directory: create, open, list, delete.

Layout: `<root>/<name>/items.db`, a folder a collection. A collection is created under a temporary name and
renamed, and renamed before it is deleted, so a crash leaves either all of it or none. Names that start with a
dot are ours; unknown files are reported and left alone. A collection that fails its checks is listed as damaged
and does not keep the others from being served.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .collection import Collection
from .errors import CollectionExists, HammingIndexError, InvalidQuery, StoreDamaged, UnknownCollection
from .records import CollectionConfig

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
STORE_FILE = "items.db"


def check_name(name: str) -> None:
    """Raise `InvalidQuery` unless `name` can name a collection."""
    if not NAME.fullmatch(name):
        raise InvalidQuery(
            "a collection's name has 1 to 63 characters: lower-case letters, digits, '-' and '_', "
            "starting with a letter or digit"
        )


class Catalogue:
    """Every collection under `root`. Safe to use from many threads."""

    def __init__(self, root: Path, **tuning: Any) -> None:
        """tuning: of every collection's index and upkeep, see `Live`."""
        self._root = root
        self._tuning = tuning
        self._lock = threading.Lock()
        self._open: dict[str, Collection] = {}
        self.damaged: dict[str, str] = {}
        self.unknown: list[str] = []
        root.mkdir(parents=True, exist_ok=True)
        for entry in sorted(root.iterdir()):
            if entry.name.startswith((".new-", ".gone-")) and entry.is_dir():
                shutil.rmtree(entry)  # what a crash left half-made or half-deleted
            elif not NAME.fullmatch(entry.name) or not (entry / STORE_FILE).is_file():
                self.unknown.append(entry.name)
            else:
                try:
                    self._open[entry.name] = Collection(entry / STORE_FILE, **tuning)
                except HammingIndexError as error:
                    self.damaged[entry.name] = str(error)

    def close(self) -> None:
        for collection in self._open.values():
            collection.close()

    def all(self) -> Mapping[str, Collection]:
        """Every collection that can be used, by name."""
        return dict(sorted(self._open.items()))

    def get(self, name: str) -> Collection:
        """The collection `name`. Raises `UnknownCollection`, `StoreDamaged`."""
        collection = self._open.get(name)
        if collection is not None:
            return collection
        if name in self.damaged:
            raise StoreDamaged(f"collection {name!r} is damaged: {self.damaged[name]}")
        known = ", ".join(sorted(self._open)[:20]) or "none"
        raise UnknownCollection(f"there is no collection {name[:64]!r}; there are: {known}")

    def create(self, config: CollectionConfig) -> Collection:
        """Make an empty collection. Raises `CollectionExists`, `InvalidQuery`, `InvalidCode`, `StoreFull`."""
        check_name(config.name)
        with self._lock:
            target = self._root / config.name
            if target.exists():
                raise CollectionExists(f"there is already a collection {config.name!r}")
            draft = self._root / f".new-{uuid.uuid4().hex}"
            draft.mkdir()
            try:
                Collection.create(draft / STORE_FILE, config)
                os.rename(draft, target)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            _sync(self._root)
            try:
                self._open[config.name] = Collection(target / STORE_FILE, **self._tuning)
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
            return self._open[config.name]

    def delete(self, name: str) -> None:
        """Delete the collection `name`, damaged or not. Raises `UnknownCollection`."""
        with self._lock:
            collection = self._open.get(name)
            if collection is None and name not in self.damaged:
                self.get(name)
            gone = self._root / f".gone-{uuid.uuid4().hex}"
            os.rename(self._root / name, gone)
            _sync(self._root)
            self._open.pop(name, None)
            self.damaged.pop(name, None)
            if collection is not None:
                collection.close(keep_copy=False)
            shutil.rmtree(gone)


def _sync(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
