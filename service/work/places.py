"""Where jobs find a collection, and leave what they make beside it.

A child process reads a store file. An embedded collection has one, which may be read at any time; of one in Milvus a
copy is made for the job.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from index.milvus.exporting import PREFIX

if TYPE_CHECKING:  # a child needs no engine, and no models
    from ..engine import Engine
    from ..settings import Settings

_MILVUS = "milvus"


def scratch_of(settings: Settings) -> Path:
    """The folder for copies of collections in Milvus, and for what jobs find in those."""
    return settings.data_dir / _MILVUS


def folder_of(engine: Engine, collection: str) -> Path:
    """The folder of a collection, which may have been deleted; of one in Milvus, the one for what jobs find in it."""
    embedded = engine.settings.data_dir / "collections" / collection
    if embedded.exists() or engine.catalogue.milvus is None:
        return embedded.resolve()
    folder = scratch_of(engine.settings) / collection
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def tidy(settings: Settings) -> None:
    """Remove the copies that jobs of an earlier process left."""
    for left in scratch_of(settings).glob(f"{PREFIX}*"):
        shutil.rmtree(left)
