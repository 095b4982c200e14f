"""The collections of one data directory: create, open, list, delete.

Layout: `<root>/<name>/items.db`, a folder a collection. A collection is created under a temporary name and
renamed, and renamed before it is deleted, so a crash leaves either all of it or none. One that is replaced has the
name `.replaced-<name>` until the other has its own. Names that start with a dot are ours; unknown files are reported
and left alone. A collection that fails its checks is listed as damaged
and does not keep the others from being served.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .collection import EmbeddedCollection
from .errors import CollectionExists, HammingIndexError, InvalidQuery, StoreDamaged, UnknownCollection
from .records import CollectionConfig

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
STORE_FILE = "items.db"
_REPLACED = ".replaced-"


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
        self._open: dict[str, EmbeddedCollection] = {}
        self.damaged: dict[str, str] = {}
        self.unknown: list[str] = []
        root.mkdir(parents=True, exist_ok=True)
        for entry in root.glob(f"{_REPLACED}*"):
            name = entry.name.removeprefix(_REPLACED)
            os.rename(entry, root / (f".gone-{uuid.uuid4().hex}" if (root / name).exists() else name))
        for entry in sorted(root.iterdir()):
            if entry.name.startswith((".new-", ".gone-")) and entry.is_dir():
                shutil.rmtree(entry)  # what a crash left half-made or half-deleted
            elif not NAME.fullmatch(entry.name) or not (entry / STORE_FILE).is_file():
                self.unknown.append(entry.name)
            else:
                try:
                    self._open[entry.name] = EmbeddedCollection(entry / STORE_FILE, **tuning)
                except HammingIndexError as error:
                    self.damaged[entry.name] = str(error)

    def close(self) -> None:
        for collection in self._open.values():
            collection.close()

    def all(self) -> Mapping[str, EmbeddedCollection]:
        """Every collection that can be used, by name."""
        return dict(sorted(self._open.items()))

    def each(self, ask: Callable[[EmbeddedCollection], T]) -> dict[str, T]:
        """What `ask` says of every collection that can be used, by name; of one deleted meanwhile, nothing."""
        found = {}
        for name, collection in self.all().items():
            asked: EmbeddedCollection | None = collection
            while asked is not None:
                try:
                    found[name] = ask(asked)
                    break
                except UnknownCollection:
                    now = self._open.get(name)  # another, where it was replaced
                    if now is asked:
                        raise
                    asked = now
        return found

    def get(self, name: str) -> EmbeddedCollection:
        """The collection `name`. Raises `UnknownCollection`, `StoreDamaged`."""
        collection = self._open.get(name)
        if collection is not None:
            return collection
        if name in self.damaged:
            raise StoreDamaged(f"collection {name!r} is damaged: {self.damaged[name]}")
        known = ", ".join(sorted(self._open)[:20]) or "none"
        raise UnknownCollection(f"there is no collection {name[:64]!r}; there are: {known}")

    def create(self, config: CollectionConfig) -> EmbeddedCollection:
        """Make an empty collection. Raises `CollectionExists`, `InvalidQuery`, `InvalidCode`, `StoreFull`."""
        check_name(config.name)
        with self._lock:
            target = self._root / config.name
            if target.exists():
                raise CollectionExists(f"there is already a collection {config.name!r}")
            draft = self._root / f".new-{uuid.uuid4().hex}"
            draft.mkdir()
            try:
                EmbeddedCollection.create(draft / STORE_FILE, config)
                os.rename(draft, target)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            _sync(self._root)
            try:
                self._open[config.name] = EmbeddedCollection(target / STORE_FILE, **self._tuning)
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
            return self._open[config.name]

    def draft(self) -> Path:
        """A folder that does not exist yet, for `adopt` to take in."""
        return self._root / f".new-{uuid.uuid4().hex}"

    def check_free(self, name: str) -> None:
        """Raise `CollectionExists` where there is a collection `name`, and `InvalidQuery` where there cannot be."""
        check_name(name)
        if (self._root / name).exists():
            raise CollectionExists(f"there is already a collection {name!r}")

    def adopt(self, draft: Path, name: str, *, replace: bool = False) -> Callable[[], None]:
        """Make the store in the folder `draft`, whose config has this name, the collection `name`.

        replace: whatever has that name. It serves until the other does; what is given back closes it and removes its
        files, to be called when those who still use it are done. Raises `CollectionExists`, `StoreDamaged`.
        """
        check_name(name)
        with self._lock:
            if not replace:
                self.check_free(name)
            target, aside = self._root / name, self._root / f"{_REPLACED}{name}"
            old = self._open.get(name)
            there = target.exists()
            if there:
                _move(old, target, aside)
            try:
                os.rename(draft, target)
                _sync(self._root)
                collection = EmbeddedCollection(target / STORE_FILE, **self._tuning)
            except BaseException:
                if target.exists():
                    os.rename(target, draft)
                if there:
                    _move(old, aside, target)
                _sync(self._root)
                raise
            self._open[name] = collection
            self.damaged.pop(name, None)
            if not there:
                return lambda: None
            gone = self._root / f".gone-{uuid.uuid4().hex}"
            _move(old, aside, gone)
            _sync(self._root)

        def retire() -> None:
            if old is not None:
                old.close(keep_copy=False)
            shutil.rmtree(gone)

        return retire

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


def _move(collection: EmbeddedCollection | None, folder: Path, target: Path) -> None:
    """Rename a collection's folder, under which it may be open."""
    if collection is None:
        os.rename(folder, target)
    else:
        collection.move(target)


def _sync(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
