"""Where a collection lies on disk, for a child process that reads it beside the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from index.catalogue import STORE_FILE

if TYPE_CHECKING:  # a child needs no engine, and no models
    from ..engine import Engine


def folder_of(engine: Engine, collection: str) -> Path:
    """The folder of a collection, which may have been deleted."""
    return (engine.settings.data_dir / "collections" / collection).resolve()


def store_of(engine: Engine, collection: str) -> Path:
    """The store of a collection. Raises `UnknownCollection`."""
    return folder_of(engine, engine.catalogue.get(collection).name) / STORE_FILE
