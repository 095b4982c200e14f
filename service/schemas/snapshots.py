"""Snapshots and what is restored from them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .base import ModelInfo, Strict
from .catalogue import CollectionInfo, DamagedInfo


class SnapshotInfo(BaseModel):
    name: str
    size: int = Field(description="bytes of the file")
    checksum: str = Field(description="SHA-256 of the file, hexadecimal")
    created_at: str
    items: int
    model: ModelInfo | None = Field(description="that made the codes it answers with; it is in the file")


class SnapshotList(BaseModel):
    snapshots: list[SnapshotInfo] = Field(description="newest first")
    damaged: list[DamagedInfo]


class RestoreRequest(Strict):
    snapshot: str = Field(min_length=1, description="its name")
    source: str | None = Field(
        None, min_length=1, description="the collection that it is a snapshot of, where that is not the one in the URL"
    )
    replace: bool = Field(
        False, description="the collection of this name, where there is one: it serves until the restored one does"
    )


class RestoredModelInfo(ModelInfo):
    added: bool = Field(description="false where a model of this fingerprint was here already")
    archived_as: str = Field(description="its name and version where the snapshot was made")


class RestoreReply(BaseModel):
    collections: list[CollectionInfo]
    replaced: list[str] = Field(description="collections that were there and have been replaced")
    models: list[RestoredModelInfo] = Field(
        description="in the place they had, or as the next version of their name where that place was taken"
    )
